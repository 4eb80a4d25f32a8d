use super::*;

#[tokio::test(start_paused = true)]
async fn messages_go_both_ways() {
    let mut network = Network::new();
    // Open before the server has said anything of the stream.
    let (mut messages, mut served) = network.open().await;
    let request = &served.request;
    assert_eq!(request.uri(), "http://10.0.0.1:80/pkg.Service/Method");
    assert_eq!(request.method(), http::Method::POST);
    assert_eq!(request.headers()["te"], "trailers");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert!(request.headers().contains_key("user-agent"));
    assert!(!request.headers().contains_key("authorization"));

    for message in ["first", "", "third"] {
        let message = Bytes::from_static(message.as_bytes());
        messages.send.send(message).await.expect("open");
    }
    let expected = [framed(b"first"), framed(b""), framed(b"third")].concat();
    let mut received = Vec::new();
    while received.len() < expected.len() {
        let data = served
            .request
            .body_mut()
            .data()
            .await
            .expect("more")
            .expect("no error");
        received.extend(data);
    }
    assert_eq!(received, expected);

    let mut body = served.start();
    body.send_data(framed(b"one"), false).expect("open");
    assert_eq!(
        messages.recv.recv().await,
        Some(Ok(Bytes::from_static(b"one")))
    );
    body.send_data([framed(b"two"), framed(b"")].concat().into(), false)
        .expect("open");
    assert_eq!(
        messages.recv.recv().await,
        Some(Ok(Bytes::from_static(b"two")))
    );
    assert_eq!(messages.recv.recv().await, Some(Ok(Bytes::new())));

    // Half-close, and a status of OK.
    drop(messages.send);
    while let Some(data) = served.request.body_mut().data().await {
        assert!(data.expect("no error").is_empty());
    }
    body.send_trailers(trailers("0", None)).expect("open");
    assert_eq!(messages.recv.recv().await, None);
    served.connection.await.expect("closed");
    assert_eq!(
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn statuses() {
    let mut network = Network::new();
    let ended = "the server ended the stream without a status";
    for (end, code, message) in [
        (
            Some(trailers("5", Some("no%20%C3%A9t%C3%A9%"))),
            Code::NotFound,
            "no été%",
        ),
        (Some(trailers("99", None)), Code::Unknown, ""),
        (
            Some(trailers("x", None)),
            Code::Unknown,
            "the server sent the invalid grpc-status \"x\"",
        ),
        (Some(http::HeaderMap::new()), Code::Unknown, ended),
        (None, Code::Unknown, ended),
    ] {
        let (mut messages, mut served) = network.open().await;
        let mut body = served.start();
        match end {
            Some(end) => body.send_trailers(end).expect("open"),
            None => body.send_data(Bytes::new(), true).expect("open"),
        }
        assert_eq!(messages.recv.recv().await, status(code, message));
        assert_eq!(messages.recv.recv().await, None);
    }
    let response = http::Response::builder;
    for (head, code, message) in [
        (
            response()
                .header("grpc-status", "7")
                .header("grpc-message", "go%20away"),
            Code::PermissionDenied,
            "go away",
        ),
        (
            response().status(503),
            Code::Unavailable,
            "the server answered with HTTP status 503 Service Unavailable",
        ),
        (
            response().status(404).header("grpc-status", "16"),
            Code::Unauthenticated,
            "",
        ),
        (
            response(),
            Code::Unknown,
            "the server answered without a content-type: is it a gRPC server?",
        ),
        (
            response().header("content-type", "text/html"),
            Code::Unknown,
            "the server answered with content-type \"text/html\", not gRPC",
        ),
    ] {
        let (mut messages, mut served) = network.open().await;
        served.refuse(head);
        assert_eq!(messages.recv.recv().await, status(code, message));
    }

    let (mut messages, mut served) = network.open().await;
    served.respond.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
    let Some(Err(reset)) = messages.recv.recv().await else {
        panic!("no status")
    };
    assert_eq!(reset.code, Code::ResourceExhausted);

    let (mut messages, served) = network.open().await;
    served.connection.abort();
    let Some(Err(cut)) = messages.recv.recv().await else {
        panic!("no status")
    };
    assert_eq!(cut.code, Code::Unavailable);
    messages.send.closed().await;
}

#[tokio::test(start_paused = true)]
async fn bad_messages_end_the_stream() {
    let mut network = Network::new();
    let limit = "the server sent a message of 1001 bytes, more than the limit of 1000 bytes";
    let mut compressed = framed(b"x").to_vec();
    compressed[0] = 1;
    // Only the prefix of what is too long: the rest is not waited for.
    let mut long = framed(&[0; 1001]);
    long.truncate(5);
    for (bytes, code, message) in [
        (long, Code::ResourceExhausted, limit),
        (
            compressed.into(),
            Code::Internal,
            "the server compressed a message, which it was not asked to",
        ),
    ] {
        let (mut messages, mut served) = network.open().await;
        let mut body = served.start();
        body.send_data(framed(&[1; 1000]), false).expect("open");
        body.send_data(bytes, false).expect("open");
        let first = messages
            .recv
            .recv()
            .await
            .expect("open")
            .expect("within the limit");
        assert_eq!(first.len(), 1000);
        assert_eq!(messages.recv.recv().await, status(code, message));
    }
    let (mut messages, mut served) = network.open().await;
    let mut body = served.start();
    body.send_data(framed(b"whole").slice(..7), false)
        .expect("open");
    body.send_trailers(trailers("0", None)).expect("open");
    let message = "the server ended the stream in the middle of a message";
    assert_eq!(messages.recv.recv().await, status(Code::Internal, message));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_that_nobody_takes() {
    let mut network = Network::new();
    let (mut messages, mut served) = network.open().await;
    let mut body = served.start();
    let message = framed(&[7; 1000]);
    let total = 20_000;
    let sender = tokio::spawn(async move {
        for sent in 0..total {
            body.reserve_capacity(message.len());
            while body.capacity() < message.len() {
                match std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
                    Some(Ok(_)) => {}
                    other => panic!("{other:?} after {sent}"),
                }
            }
            body.send_data(message.clone(), false).expect("open");
        }
        body.send_trailers(trailers("0", None)).expect("open");
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!sender.is_finished(), "20 MB do not fit a window of 2 MiB");
    let mut received = 0;
    while let Some(message) = messages.recv.recv().await {
        assert_eq!(message.expect("no error").len(), 1000);
        received += 1;
    }
    assert_eq!(received, total);
    sender.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn sending_waits_for_the_server() {
    let mut network = Network::new();
    let (messages, mut served) = network.open().await;
    let message = Bytes::from(vec![1; 100_000]);
    let mut sent = 0;
    while timeout(Duration::from_secs(60), messages.send.send(message.clone()))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 100, "10 MB wait in memory");
    }
    // The window opens as the server reads.
    let body = served.request.body_mut();
    let mut read = 0;
    while read < 200_000 {
        let data = body.data().await.expect("open").expect("no error");
        read += data.len();
        body.flow_control()
            .release_capacity(data.len())
            .expect("received");
    }
    messages.send.send(message).await.expect("open");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_receiver_closes_the_connection() {
    let mut network = Network::new();
    let (Messages { send, recv }, mut served) = network.open().await;
    let mut body = served.start();
    drop(recv);
    let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
    assert_eq!(reset.expect("a reset"), h2::Reason::CANCEL);
    served.connection.await.expect("closed");
    send.closed().await;
    assert_eq!(
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn keepalive_notices_a_dead_server() {
    let mut network = Network::new();
    let start = Instant::now();
    let call = network.call("10.0.0.1:80");
    let (opened, io) = tokio::join!(call.open(), async {
        use tokio::io::AsyncWriteExt;
        let mut io = network.accept.recv().await.expect("the network is here");
        io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .expect("open");
        io
    });
    let mut messages = opened.expect("SETTINGS came");
    let Some(Err(dead)) = messages.recv.recv().await else {
        panic!("no status")
    };
    assert_eq!(dead.code, Code::Unavailable);
    assert!(dead.message.contains("keep-alive"), "{dead}");
    let elapsed = start.elapsed().as_secs();
    assert!((20..=51).contains(&elapsed), "{elapsed} s");
    drop(io);
}
