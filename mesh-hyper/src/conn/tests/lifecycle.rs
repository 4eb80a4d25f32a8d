use std::{sync::atomic::Ordering, time::Duration};

use mesh_core::{
    balance::Connectivity::{Connecting, Failing, Idle, Ready},
    config::Connections,
    runtime::Transport,
};
use tokio::time::Instant;

use super::harness::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn many_connects_are_one_dial() {
    let mut fixture = fixture(Config::default());
    for _ in 0..100 {
        fixture.connect();
    }
    let server = Server::start(fixture.accept().await, None);
    fixture.log.until(Ready).await;
    for _ in 0..100 {
        fixture.connect();
    }
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(fixture.dials(), 1);
    assert_eq!(*fixture.log.changes.lock(), [Connecting, Ready]);
    assert_eq!(fixture.pool().connections(), 1);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_refused_port_is_tried_again_after_a_growing_pause_of_its_own() {
    let mut fixture = fixture(Config::default());
    fixture.memory.refuse.store(true, Ordering::SeqCst);
    for expected in [1.0, 1.6, 2.56] {
        fixture.connect();
        fixture.log.until(Failing).await;
        let error = fixture.last_error();
        assert!(
            error.starts_with("cannot connect to 10.0.0.1:80: "),
            "{error}"
        );
        let failed = Instant::now();
        let dials = fixture.dials();
        fixture.connect();
        fixture.log.until(Idle).await;
        let pause = failed.elapsed().as_secs_f64();
        assert!(
            (0.79 * expected..1.21 * expected).contains(&pause),
            "{pause}"
        );
        assert_eq!(fixture.dials(), dials, "no attempt during the pause");
    }
    // Success starts the pauses over.
    fixture.memory.refuse.store(false, Ordering::SeqCst);
    let mut server = fixture.server(None).await;
    let reply = fixture.call("/");
    answer(server.next().await, "hello");
    assert_eq!(text(reply.await.unwrap()).await, "hello");
    drop(server);
    fixture.log.until(Idle).await;
    fixture.memory.refuse.store(true, Ordering::SeqCst);
    fixture.connect();
    fixture.log.until(Failing).await;
    let failed = Instant::now();
    fixture.log.until(Idle).await;
    assert!(failed.elapsed() < 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_every_connection_at_once_is_left_alone_for_growing_pauses() {
    let mut fixture = fixture(Config::default());
    for expected in [1.0, 1.6, 2.56] {
        drop(fixture.server(None).await);
        fixture.log.until(Failing).await;
        let (closed, dials) = (Instant::now(), fixture.dials());
        fixture.connect();
        fixture.log.until(Idle).await;
        let pause = closed.elapsed().as_secs_f64();
        assert!(
            (0.79 * expected..1.21 * expected).contains(&pause),
            "{pause}"
        );
        assert_eq!(fixture.dials(), dials, "no attempt during the pause");
    }
    // One that lasted a while is taken for sound, used or not.
    let server = fixture.server(None).await;
    tokio::time::sleep(2 * SECOND).await;
    drop(server);
    fixture.log.until(Idle).await;
    drop(fixture.server(None).await);
    fixture.log.until(Failing).await;
    let closed = Instant::now();
    fixture.log.until(Idle).await;
    assert!(closed.elapsed() < 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_says_nothing_times_out() {
    let mut fixture = fixture(Config::default());
    fixture.connect();
    let io = fixture.accept().await;
    let start = Instant::now();
    fixture.log.until(Failing).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(
        fixture.last_error(),
        "10.0.0.1:80 accepted the connection but sent no HTTP/2 SETTINGS within the connect \
         timeout of 5s"
    );
    drop(io);

    fixture.log.until(Idle).await;
    fixture.memory.hang.store(true, Ordering::SeqCst);
    fixture.connect();
    fixture.log.until(Failing).await;
    assert_eq!(
        fixture.last_error(),
        "10.0.0.1:80 accepted no connection within the connect timeout of 5s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_port_that_closes_or_talks_something_else_fails_at_once() {
    use tokio::io::AsyncWriteExt;

    let mut fixture = fixture(Config::default());
    let start = Instant::now();
    fixture.connect();
    drop(fixture.accept().await);
    fixture.log.until(Failing).await;
    let error = fixture.last_error();
    assert!(error.starts_with("10.0.0.1:80 "), "{error}");
    assert!(start.elapsed() < SECOND);

    fixture.log.until(Idle).await;
    fixture.connect();
    let mut io = fixture.accept().await;
    io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .expect("open");
    fixture.log.until(Failing).await;
    let error = fixture.last_error();
    assert!(error.contains("no HTTP/2 came of it"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn goaway_frees_the_link_at_once_and_open_streams_end_normally() {
    let mut fixture = fixture(Config::default());
    let mut old = fixture.server(None).await;
    let first = fixture.call("/first");
    let call = old.next().await;

    old.goaway();
    fixture.log.until(Idle).await;
    assert_eq!(fixture.last_error(), "10.0.0.1:80 sent GOAWAY");
    assert!(fixture.pool().try_send(get("/")).is_err(), "given back");

    let mut new = fixture.server(None).await;
    let second = fixture.call("/second");
    answer(new.next().await, "two");
    assert_eq!(text(second.await.expect("no panic")).await, "two");

    answer(call, "one");
    assert_eq!(text(first.await.expect("no panic")).await, "one");
    old.closed().await;
    assert_eq!(fixture.link.connectivity(), Ready);
    assert_eq!(fixture.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_used_one_is_not() {
    let mut fixture = fixture(Config {
        connections: Connections {
            idle_timeout: 60 * SECOND,
            ..Connections::default()
        },
        ..Config::default()
    });
    let start = Instant::now();
    let mut server = fixture.server(None).await;
    // Never idle for longer than 50 s.
    for _ in 0..5 {
        tokio::time::sleep(50 * SECOND).await;
        let call = fixture.call("/");
        answer(server.next().await, "one");
        text(call.await.expect("no panic")).await;
    }
    assert_eq!(fixture.link.connectivity(), Ready);
    // One stream for long.
    let call = fixture.call("/");
    let open = server.next().await;
    tokio::time::sleep(300 * SECOND).await;
    assert_eq!(fixture.link.connectivity(), Ready);
    answer(open, "one");
    text(call.await.expect("no panic")).await;

    let idle = Instant::now();
    fixture.log.until(Idle).await;
    let idle = idle.elapsed().as_secs();
    assert!((60..=75).contains(&idle), "{idle} s");
    assert!(start.elapsed().as_secs() > 550);
    server.closed().await;
    fixture.settled(0).await;
}

#[tokio::test(start_paused = true)]
async fn retire_lets_open_streams_end() {
    let mut fixture = fixture(Config::default());
    let mut server = fixture.server(None).await;
    let call = fixture.call("/");
    let open = server.next().await;

    fixture.net.retire(fixture.pool());
    assert!(fixture.pool().try_send(get("/")).is_err());
    assert_eq!(fixture.link.connectivity(), Idle);
    fixture.connect();
    tokio::time::sleep(300 * SECOND).await;
    assert_eq!(fixture.dials(), 1, "a retired pool does not connect");

    answer(open, "late");
    assert_eq!(text(call.await.expect("no panic")).await, "late");
    server.closed().await;
    fixture.settled(0).await;
}

#[tokio::test(start_paused = true)]
async fn retire_closes_what_does_not_end_in_ten_minutes() {
    let mut fixture = fixture(Config::default());
    let mut server = fixture.server(None).await;
    let call = fixture.call("/");
    let open = server.next().await;
    fixture.net.retire(fixture.pool());
    let retired = Instant::now();
    let error = call.await.expect("no panic").expect_err("cut off");
    assert_eq!(retired.elapsed().as_secs(), 600);
    assert_eq!(error.code(), mesh_core::Code::Unavailable);
    drop(open);
    server.closed().await;
    fixture.settled(0).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_pool_ends_every_task() {
    // While it connects, while it pauses, while it is connected.
    let connecting = fixture(Config::default());
    connecting.memory.hang.store(true, Ordering::SeqCst);
    connecting.connect();
    tokio::task::yield_now().await;

    let pausing = fixture(Config::default());
    pausing.memory.refuse.store(true, Ordering::SeqCst);
    pausing.connect();
    pausing.log.until(Failing).await;

    let mut connected = fixture(Config::default());
    let server = connected.server(None).await;

    let start = Instant::now();
    drop((connecting.pool, pausing.pool, connected.pool));
    server.closed().await;
    while tasks() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(start.elapsed() < SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn without_certificates_for_tls_nothing_is_dialled() {
    let fixture = fixture(Config {
        tls: true,
        ..Config::default()
    });
    for _ in 0..2 {
        fixture.connect();
        fixture.log.until(Failing).await;
        assert_eq!(
            fixture.last_error(),
            "no TLS with 10.0.0.1:80: whom to trust cannot be had: there is no certificate \
             provider instance \"default\"; add it to certificate_providers of the bootstrap, or \
             call MeshBuilder::certificates"
        );
        assert!(fixture.pool().try_send(get("/")).is_err());
        fixture.log.until(Idle).await;
    }
    assert_eq!(fixture.dials(), 0);
}

#[tokio::test(start_paused = true)]
async fn keepalive_finds_a_dead_peer() {
    let mut fixture = fixture(Config {
        connections: Connections {
            keepalive_interval: Some(10 * SECOND),
            keepalive_timeout: 5 * SECOND,
            ..Connections::default()
        },
        ..Config::default()
    });
    fixture.connect();
    let mut raw = Raw::accept(fixture.accept().await).await;
    raw.send(Raw::SETTINGS, &[]).await;
    fixture.log.until(Ready).await;
    tokio::time::sleep(300 * SECOND).await;
    assert_eq!(
        fixture.link.connectivity(),
        Ready,
        "no PING without a stream"
    );

    let start = Instant::now();
    let error = fixture
        .call("/")
        .await
        .expect("no panic")
        .expect_err("dead");
    let elapsed = start.elapsed().as_secs();
    assert!((5..=16).contains(&elapsed), "{elapsed} s");
    assert_eq!(error.code(), mesh_core::Code::Unavailable);
    assert!(!error.is_unprocessed());
    assert!(error.to_string().contains("keep-alive"), "{error}");
    fixture.log.until(Idle).await;
    let error = fixture.last_error();
    assert!(error.contains("keep-alive"), "{error}");
}
