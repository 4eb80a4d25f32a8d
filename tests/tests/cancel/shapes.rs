//! Calls of each shape, dropped at every await of theirs.

use super::*;

async fn a_unary_call(way: Way) {
    let fixture = Fixture::start(way).await;
    fixture
        .dropped_at_every_await("unary", async || fixture.ask(fixture.troubled()).await)
        .await;
}

async fn a_stream_both_ways(way: Way) {
    let fixture = Fixture::start(way).await;
    fixture
        .dropped_at_every_await("chat", async || {
            let opening = Chat::begin(&fixture.caller, fixture.troubled());
            let mut chat = opening.answered().await?;
            assert_eq!(chat.hear().await?.1, "payload");
            for _ in 0..3 {
                chat.say().await?;
            }
            chat.finish().await
        })
        .await;
}

async fn a_stream_after_each_word(way: Way) {
    const WORDS: usize = 3;
    let fixture = Fixture::start(way).await;
    for words in 0..=WORDS {
        let what = format!("a stream dropped after {words} words");
        let before = fixture.counts();
        let chat = Chat::open(&fixture.caller).await;
        let mut chat = chat.expect("the server answers");
        assert_eq!(fixture.counts().in_flight(), 1, "{what}");
        for _ in 0..words {
            chat.say().await.expect("the stream is open");
        }
        assert_eq!(fixture.counts().in_flight(), 1, "{what}");
        let code = match words {
            WORDS => {
                chat.finish().await.expect("the stream ends well");
                Code::Ok
            }
            _ => {
                drop(chat);
                Code::Cancelled
            }
        };
        let after = fixture.counts();
        assert_eq!(after.code(code) - before.code(code), 1, "{what}");
        assert_eq!(after.in_flight(), 0, "{what}");
        fixture.all_is_given_back(&what).await;
    }
}

async fn a_response_whose_request_goes_on(way: Way) {
    let fixture = Fixture::start(way).await;
    let chat = Chat::open(&fixture.caller).await;
    let mut chat = chat.expect("the stream opens");
    chat.say().await.expect("the stream is open");
    // The request ends with it, though there is more to come.
    chat.give_up().closed().await;
    fixture.all_is_given_back("a response is dropped").await;
    assert_eq!(fixture.counts().code(Code::Cancelled), 1);
}

#[test]
fn a_stream_of_requests() {
    alone(async {
        let fixture = Fixture::start(Way::Grpc).await;
        fixture
            .dropped_at_every_await("collect", async || {
                // Each message makes whoever sends it wait once.
                let messages = tokio_stream::iter(0..3).then(async |_| {
                    tokio::task::yield_now().await;
                    message(0)
                });
                let request = troubled(&fixture, Box::pin(messages));
                let reply = fixture.client().collect(request).await?;
                assert_eq!(reply.into_inner().payload.len(), 3 * 7);
                Ok(())
            })
            .await;
    });
}

#[test]
fn a_stream_of_replies() {
    alone(async {
        let fixture = Fixture::start(Way::Grpc).await;
        fixture
            .dropped_at_every_await("expand", async || {
                let request = troubled(&fixture, message(3));
                let mut replies = fixture.client().expand(request).await?.into_inner();
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
fn a_body_at_each_frame() {
    alone(async {
        let fixture = Fixture::start(Way::Grpc).await;
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
            let response = Service::call(&mut fixture.caller.grpc().clone(), request).await;
            let response = response.expect("the server answers");
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

every_way!(alone;
    a_unary_call,
    a_stream_both_ways,
    a_stream_after_each_word,
    a_response_whose_request_goes_on,
);
