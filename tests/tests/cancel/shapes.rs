//! Calls of each shape, dropped at every await of theirs.

use super::*;

#[test]
fn a_unary_call() {
    alone(async {
        let fixture = Fixture::start().await;
        fixture
            .dropped_at_every_await("unary", async |mut client: EchoClient<Channel>| {
                let reply = client.unary(troubled(message(0))).await?;
                assert_eq!(reply.into_inner().payload, message(0).payload);
                Ok(())
            })
            .await;
    });
}

#[test]
fn a_stream_of_requests() {
    alone(async {
        let fixture = Fixture::start().await;
        fixture
            .dropped_at_every_await("collect", async |mut client: EchoClient<Channel>| {
                // Each message makes whoever sends it wait once.
                let messages = tokio_stream::iter(0..3).then(async |_| {
                    tokio::task::yield_now().await;
                    message(0)
                });
                let reply = client.collect(troubled(Box::pin(messages))).await?;
                assert_eq!(reply.into_inner().payload.len(), 3 * 7);
                Ok(())
            })
            .await;
    });
}

#[test]
fn a_stream_of_replies() {
    alone(async {
        let fixture = Fixture::start().await;
        fixture
            .dropped_at_every_await("expand", async |mut client: EchoClient<Channel>| {
                let mut replies = client.expand(troubled(message(3))).await?.into_inner();
                let mut count = 0;
                while replies.message().await?.is_some() {
                    count += 1;
                }
                assert_eq!(count, 3);
                Ok(())
            })
            .await;
    });
}

#[test]
fn a_stream_both_ways() {
    alone(async {
        let fixture = Fixture::start().await;
        fixture
            .dropped_at_every_await("chat", async |mut client: EchoClient<Channel>| {
                let (say, words) = tokio::sync::mpsc::channel(1);
                let chat = client.chat(troubled(ReceiverStream::new(words)));
                let mut replies = chat.await?.into_inner();
                for _ in 0..3 {
                    say.send(message(0)).await.expect("the stream is open");
                    assert!(replies.message().await?.is_some());
                }
                drop(say);
                assert!(replies.message().await?.is_none());
                Ok(())
            })
            .await;
    });
}

#[test]
fn a_body_at_each_frame() {
    alone(async {
        let fixture = Fixture::start().await;
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(message(3).encoded_len() as u32);
        message(3).encode(&mut framed).expect("there is room");
        let framed = framed.freeze();
        for frames in 0.. {
            let what = format!("a body dropped after {frames} frames");
            let request = http::Request::post("/mesh.test.Echo/Expand")
                .header("te", "trailers")
                .header("content-type", "application/grpc")
                .body(tonic::body::Body::new(Full::new(framed.clone())))
                .expect("a valid request");
            let before = fixture.counts();
            let mut channel = fixture.channel.clone();
            let response = channel.call(request).await.expect("the server answers");
            assert_eq!(fixture.counts().in_flight(), 1, "{what}");
            let mut body = response.into_body();
            let mut ended = false;
            for _ in 0..frames {
                match body.frame().await {
                    Some(frame) => ended = frame.expect("a frame").is_trailers(),
                    None => panic!("the body has ended without trailers"),
                }
            }
            assert_eq!(fixture.counts().in_flight(), u64::from(!ended), "{what}");
            drop(body);
            let after = fixture.counts();
            let code = if ended { Code::Ok } else { Code::Cancelled };
            assert_eq!(after.code(code) - before.code(code), 1, "{what}");
            assert_eq!(after.in_flight(), 0, "{what}");
            fixture.all_is_given_back(&what).await;
            if ended {
                assert!(frames > 1, "data and trailers");
                break;
            }
        }
    });
}

#[test]
fn a_response_whose_request_goes_on() {
    alone(async {
        let fixture = Fixture::start().await;
        let (say, words) = tokio::sync::mpsc::channel(1);
        let chat = fixture.client().chat(ReceiverStream::new(words)).await;
        let mut replies = chat.expect("the stream opens").into_inner();
        say.send(message(0)).await.expect("the stream is open");
        assert!(replies.message().await.expect("a reply").is_some());
        drop(replies);
        // The request ends with it, though there is more to come.
        say.closed().await;
        fixture.all_is_given_back("a response is dropped").await;
        assert_eq!(fixture.counts().code(Code::Cancelled), 1);
    });
}
