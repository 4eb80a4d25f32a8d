use std::time::Duration;

use bytes::Bytes;
use mesh_core::{
    Code,
    balance::Connectivity::{Idle, Ready},
};

use super::harness::*;
use crate::{
    body::Outgoing,
    conn::{Fate, NetOptions, code_of},
};

#[tokio::test(start_paused = true)]
async fn a_request_and_its_response() {
    let mut fixture = fixture(Config::default());
    assert!(fixture.pool().try_send(get("/")).is_err(), "not connected");
    let mut server = fixture.server(None).await;
    let (body, _) = Outgoing::new(http_body_util::Full::new(Bytes::from_static(b"hello")));
    let sent = fixture.pool().try_send(request("/a?b", body));
    let sent = tokio::spawn(sent.expect("connected"));
    let (mut call, respond) = server.next().await;
    assert_eq!(call.uri(), "http://greeter.shop/a?b");
    let data = call
        .body_mut()
        .data()
        .await
        .expect("data")
        .expect("no error");
    assert_eq!(data, "hello");
    answer((call, respond), "world");
    assert_eq!(text(sent.await.expect("no panic")).await, "world");
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_calls_wait_in_order() {
    let mut fixture = fixture(Config::default());
    let mut server = fixture.server(Some(1)).await;
    let calls: Vec<_> = (0..5)
        .map(|call| fixture.call(&format!("/{call}")))
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        let incoming = server.next().await;
        assert_eq!(incoming.0.uri().path(), format!("/{number}"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(server.calls.try_recv().is_err(), "one at a time");
        answer(incoming, "done");
        text(call.await.expect("no panic")).await;
    }
    assert_eq!(fixture.dials(), 1, "the cap is 1");
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_more_connections_are_opened_up_to_the_cap() {
    let mut fixture = fixture(Config {
        cap: Some(3),
        ..Config::default()
    });
    let mut servers = vec![fixture.server(Some(1)).await];
    let mut replies = vec![fixture.call("/0")];
    let mut open = vec![servers[0].next().await];
    for number in 1..3 {
        replies.push(fixture.call(&format!("/{number}")));
        let mut server = Server::start(fixture.accept().await, Some(1));
        open.push(server.next().await);
        servers.push(server);
    }
    // The fourth and fifth wait for whichever stream ends.
    replies.push(fixture.call("/3"));
    replies.push(fixture.call("/4"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.dials(), 3);
    assert_eq!(fixture.pool().connections(), 3);

    answer(open.remove(1), "done");
    text(replies.remove(1).await.expect("no panic")).await;
    let fourth = servers[1].next().await;
    assert_eq!(fourth.0.uri().path(), "/3");

    // One of three connections ends: the link stays ready, its room is opened anew on demand.
    servers.remove(0);
    let error = replies
        .remove(0)
        .await
        .expect("no panic")
        .expect_err("cut off");
    assert_eq!(
        (error.code(), error.fate()),
        (Code::Unavailable, Fate::Unknown)
    );
    assert_eq!(fixture.link.connectivity(), Ready);
    replies.push(fixture.call("/5"));
    let mut server = Server::start(fixture.accept().await, Some(1));
    assert_eq!(server.next().await.0.uri().path(), "/4");
    assert_eq!(fixture.dials(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_cap_of_the_options_is_the_default_and_ten_is_the_most() {
    let mut fixture = fixture(Config {
        cap: Some(50),
        options: NetOptions {
            max_connections: 2,
            ..NetOptions::default()
        },
        ..Config::default()
    });
    let mut servers = vec![fixture.server(Some(1)).await];
    let mut calls = Vec::new();
    for _ in 1..10 {
        calls.push(fixture.call("/"));
        calls.push(fixture.call("/"));
        servers.push(Server::start(fixture.accept().await, Some(1)));
        while fixture.pool().connections() < servers.len() {
            tokio::task::yield_now().await;
        }
    }
    calls.push(fixture.call("/"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.dials(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_that_rises_lets_calls_go() {
    let mut fixture = fixture(Config::default());
    fixture.connect();
    let mut raw = Raw::accept(fixture.accept().await).await;
    raw.limit(0).await;
    fixture.log.until(Ready).await;
    let call = fixture.call("/");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!call.is_finished());
    raw.limit(1).await;
    raw.until(Raw::HEADERS).await;
    call.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_given_back_when_its_connection_ends() {
    let mut fixture = fixture(Config::default());
    let mut server = fixture.server(Some(1)).await;
    let first = fixture.call("/first");
    let second = fixture.call("/second");
    let third = fixture.call("/third");
    let open = server.next().await;
    // Given up while it waits: the place goes to the next.
    second.abort();
    server.goaway();
    let mut error = third.await.expect("no panic").expect_err("no stream");
    assert_eq!(
        (error.code(), error.fate()),
        (Code::Unavailable, Fate::Unsent)
    );
    let request = error.take_request().expect("given back");
    assert_eq!(request.uri().path(), "/third");
    assert!(
        error
            .to_string()
            .starts_with("request to 10.0.0.1:80 was not sent")
    );
    answer(open, "fine");
    assert_eq!(text(first.await.expect("no panic")).await, "fine");
}

#[tokio::test(start_paused = true)]
async fn a_request_on_a_connection_that_is_gone_comes_back() {
    let mut fixture = fixture(Config::default());
    let mut server = fixture.server(None).await;
    let open = fixture.call("/open");
    let call = server.next().await;
    // The peer's end is closed, and the driver has not seen it yet.
    drop(call);
    drop(server);
    while fixture.pool().connections() > 0 {
        let (body, keeper) = Outgoing::new(http_body_util::Full::new(Bytes::from_static(b"hello")));
        let Ok(sent) = fixture.pool().try_send(request("/late", body)) else {
            break;
        };
        if let Err(mut error) = sent.await {
            assert_eq!(error.fate(), Fate::Unsent, "{error:?}");
            let request = error.take_request().expect("given back");
            assert_eq!(request.uri().path(), "/late");
            assert!(keeper.is_untouched());
        }
    }
    assert!(open.await.expect("no panic").is_err());
    fixture.log.until(Idle).await;
}

#[tokio::test(start_paused = true)]
async fn goaway_that_leaves_a_stream_out_says_unprocessed() {
    let mut fixture = fixture(Config::default());
    fixture.connect();
    let mut raw = Raw::accept(fixture.accept().await).await;
    raw.send(Raw::SETTINGS, &[]).await;
    fixture.log.until(Ready).await;
    let call = fixture.call("/");
    raw.until(Raw::HEADERS).await;
    // Last stream 0, ENHANCE_YOUR_CALM.
    raw.send(Raw::GOAWAY, &[0, 0, 0, 0, 0, 0, 0, 11]).await;
    let mut error = call.await.expect("no panic").expect_err("left out");
    assert_eq!(
        (error.code(), error.fate()),
        (Code::Unavailable, Fate::Unprocessed)
    );
    assert!(error.is_unprocessed());
    assert!(error.take_request().is_none(), "it was sent");
    fixture.log.until(Idle).await;
    let error = fixture.last_error();
    assert!(error.contains("10.0.0.1:80"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn resets_map_to_codes() {
    use h2::Reason;

    let mut fixture = fixture(Config::default());
    let mut server = fixture.server(None).await;
    for (reason, code, fate) in [
        (Reason::REFUSED_STREAM, Code::Unavailable, Fate::Unprocessed),
        (Reason::CANCEL, Code::Cancelled, Fate::Unknown),
        (Reason::INTERNAL_ERROR, Code::Internal, Fate::Unknown),
        (Reason::NO_ERROR, Code::Internal, Fate::Unknown),
        (
            Reason::ENHANCE_YOUR_CALM,
            Code::ResourceExhausted,
            Fate::Unknown,
        ),
        (
            Reason::INADEQUATE_SECURITY,
            Code::PermissionDenied,
            Fate::Unknown,
        ),
        (Reason::HTTP_1_1_REQUIRED, Code::Unknown, Fate::Unknown),
    ] {
        let call = fixture.call("/");
        let (_request, mut respond) = server.next().await;
        respond.send_reset(reason);
        let error = call.await.expect("no panic").expect_err("reset");
        assert_eq!((error.code(), error.fate()), (code, fate), "{reason:?}");
        assert!(error.to_string().contains("10.0.0.1:80"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_cut_off_has_a_code() {
    use http_body_util::BodyExt;

    let mut fixture = fixture(Config::default());
    let mut server = fixture.server(None).await;
    let call = fixture.call("/");
    let (_request, mut respond) = server.next().await;
    let mut body = respond
        .send_response(http::Response::new(()), false)
        .expect("open");
    let (response, _guard) = call.await.expect("no panic").expect("headers");
    body.send_reset(h2::Reason::CANCEL);
    let error = response.into_body().collect().await.expect_err("reset");
    assert_eq!(code_of(&error), Code::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_resets_its_stream_and_frees_its_place() {
    let mut fixture = fixture(Config::default());
    let mut server = fixture.server(Some(1)).await;
    let first = fixture.call("/first");
    let (_request, mut respond) = server.next().await;
    first.abort();
    let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
    assert_eq!(reason.expect("a reset"), h2::Reason::CANCEL);
    let second = fixture.call("/second");
    answer(server.next().await, "fine");
    assert_eq!(text(second.await.expect("no panic")).await, "fine");
}

/// hyper alone would send the request's body on, and keep the stream.
#[tokio::test(start_paused = true)]
async fn cancel_resets_a_stream_whose_response_has_begun() {
    let mut fixture = fixture(Config::default());
    let mut server = fixture.server(None).await;
    let (_open, body) = tokio::sync::mpsc::channel::<()>(1);
    let body = futures_util::stream::unfold(body, |mut body| async move {
        body.recv().await;
        None::<(Result<http_body::Frame<Bytes>, std::convert::Infallible>, _)>
    });
    let body = http_body_util::StreamBody::new(Box::pin(body));
    let (body, keeper) = Outgoing::new(body);
    let sent = fixture.pool().try_send(request("/", body));
    let call = tokio::spawn(sent.expect("connected"));
    let (_request, mut respond) = server.next().await;
    let mut response = respond
        .send_response(http::Response::new(()), false)
        .expect("open");
    let reply = call.await.expect("no panic").expect("headers");
    keeper.commit();
    drop(reply);
    keeper.cancel();
    let reset = std::future::poll_fn(|cx| response.poll_reset(cx)).await;
    assert_eq!(reset.expect("a reset"), h2::Reason::CANCEL);
}
