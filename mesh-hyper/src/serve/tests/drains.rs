use std::{sync::Arc, time::Duration};

use http::Request;
use mesh_core::{
    Semantics,
    connections::{ConnectionState, Ending},
    resolve::Ends,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    sync::watch,
    time::{Instant, sleep},
};

use super::harness::*;
use crate::{
    LocalAddress, OnMissing, RequestBody, Server, ServerOptions, ServerTls, ServingMode,
    serve::{Shared, connection, follow::Follow, shared::Parts},
};

/// Answers once it is released; `/quick` at once.
fn held(
    released: &watch::Sender<bool>,
    handlers: &Handlers,
) -> impl Fn(Request<RequestBody>) -> Answer + use<> {
    let (released, handlers) = (released.clone(), handlers.clone());
    move |request| {
        if request.uri().path() == "/quick" {
            return say("quick");
        }
        let mut released = released.subscribe();
        let handler = handlers.begin();
        Box::pin(async move {
            let _handler = handler;
            let _ = released.wait_for(|released| *released).await;
            say("finished").await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let mesh = plain_mesh().await;
    let (release, handlers) = (watch::Sender::new(false), Handlers::default());
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let mut running = Running::start(&mesh, server, held(&release, &handlers));
    let (mut client, end) = h2(running.connect()).await;
    let call = tokio::spawn(client.send_request(get("/")));
    handlers.until_begun(1).await;
    mesh.ready().await.unwrap();

    let drain = tokio::spawn({
        let mesh = mesh.clone();
        async move { mesh.drain(60 * SECOND).await }
    });
    running
        .states
        .wait_for(|states| states.last().unwrap().mode == ServingMode::Draining)
        .await
        .unwrap();
    assert!(mesh.ready().await.is_err());
    let status = &mesh.connections().list()[0];
    assert_eq!(status.state, ConnectionState::Draining(Ending::Drain));
    assert_eq!(status.in_flight, 1);
    // The client has seen GOAWAY: it takes no more requests.
    while client.send_request(get("/quick")).await.is_ok() {
        tokio::task::yield_now().await;
    }

    release.send_replace(true);
    assert_eq!(text(call.await.unwrap().unwrap()).await, "finished");
    end.await.unwrap().unwrap();
    let report = drain.await.unwrap();
    assert_eq!((report.finished, report.cut), (1, 0));
    (&mut running.task).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_is_cut_at_the_end_of_a_drain() {
    let mesh = plain_mesh().await;
    let (release, handlers) = (watch::Sender::new(false), Handlers::default());
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let mut running = Running::start(&mesh, server, held(&release, &handlers));
    let mut client = running.h2().await;
    let call = tokio::spawn(client.send_request(get("/")));
    handlers.until_begun(1).await;

    let start = Instant::now();
    let report = mesh.drain(5 * SECOND).await;
    assert_eq!(start.elapsed(), 5 * SECOND);
    assert_eq!(
        (report.finished, report.cut, report.requests_cut),
        (0, 1, 1)
    );
    assert!(call.await.unwrap().is_err());
    handlers.until_over(1).await;
    (&mut running.task).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_told_to_go_and_finishes() {
    let mesh = plain_mesh().await;
    let (release, handlers) = (watch::Sender::new(false), Handlers::default());
    let server = Server::new(&mesh)
        .tls(ServerTls::Plaintext)
        .options(|options| {
            options.max_connection_age = Some(100 * SECOND);
            options.drain_grace = 1000 * SECOND;
        });
    let running = Running::start(&mesh, server, held(&release, &handlers));
    let start = Instant::now();
    let (mut client, end) = h2(running.connect()).await;
    let call = tokio::spawn(client.send_request(get("/")));
    handlers.until_begun(1).await;

    while client.send_request(get("/quick")).await.is_ok() {
        sleep(SECOND).await;
    }
    let age = start.elapsed();
    assert!((89 * SECOND..112 * SECOND).contains(&age), "{age:?}");
    assert_eq!(
        mesh.connections().list()[0].state,
        ConnectionState::Draining(Ending::Age)
    );
    sleep(500 * SECOND).await;
    release.send_replace(true);
    assert_eq!(text(call.await.unwrap().unwrap()).await, "finished");
    end.await.unwrap().unwrap();
    // Another takes its place.
    let response = running.h2().await.send_request(get("/")).await.unwrap();
    assert_eq!(text(response).await, "finished");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_finish_in_its_grace_is_closed() {
    let mesh = plain_mesh().await;
    let (release, handlers) = (watch::Sender::new(false), Handlers::default());
    let server = Server::new(&mesh)
        .tls(ServerTls::Plaintext)
        .options(|options| {
            options.max_connection_age = Some(100 * SECOND);
            options.drain_grace = 50 * SECOND;
        });
    let running = Running::start(&mesh, server, held(&release, &handlers));
    let start = Instant::now();
    let mut client = running.h2().await;
    let lost = client.send_request(get("/")).await;
    assert!(lost.is_err());
    let age = start.elapsed();
    assert!((139 * SECOND..162 * SECOND).contains(&age), "{age:?}");
    running.connections(0).await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let mesh = plain_mesh().await;
    let (release, handlers) = (watch::Sender::new(false), Handlers::default());
    let server = Server::new(&mesh)
        .tls(ServerTls::Plaintext)
        .options(|options| options.idle_timeout = Some(100 * SECOND));
    let running = Running::start(&mesh, server, held(&release, &handlers));
    let start = Instant::now();
    let (mut busy, busy_end) = h2(running.connect()).await;
    let call = tokio::spawn(busy.send_request(get("/")));
    let (_idle, idle_end) = h2(running.connect()).await;

    idle_end.await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), 100);
    sleep(1000 * SECOND).await;
    assert!(!busy_end.is_finished());
    release.send_replace(true);
    assert_eq!(text(call.await.unwrap().unwrap()).await, "finished");
    let finished = Instant::now();
    busy_end.await.unwrap().unwrap();
    let idle = finished.elapsed();
    assert!((100 * SECOND..151 * SECOND).contains(&idle), "{idle:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_http1_connections_too() {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, |_| say("served"));
    let mut io = running.connect();
    io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 15];
    io.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    running.connections(1).await;

    let start = Instant::now();
    let report = mesh.drain(Duration::from_secs(5)).await;
    assert_eq!((report.finished, report.cut), (1, 0));
    let idle = start.elapsed().as_millis();
    assert!((250..400).contains(&idle), "{idle} ms");
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
}

/// HTTP/1.1 has no GOAWAY: a client that has sent a request before it could see the end of the
/// connection must not lose it.
#[tokio::test(start_paused = true)]
async fn a_request_that_meets_the_drain_of_an_idle_http1_connection_is_answered() {
    let mesh = plain_mesh().await;
    let (release, handlers) = (watch::Sender::new(false), Handlers::default());
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, held(&release, &handlers));
    let quick = b"GET /quick HTTP/1.1\r\nhost: a\r\n\r\n";
    let (mut used, mut busy) = (running.connect(), running.connect());
    used.write_all(quick).await.unwrap();
    let mut first = String::new();
    while !first.ends_with("quick") {
        first.push(char::from(used.read_u8().await.unwrap()));
    }
    assert!(!first.contains("connection: close"), "{first}");
    busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    handlers.until_begun(1).await;

    let start = Instant::now();
    let drain = tokio::spawn({
        let mesh = mesh.clone();
        async move { mesh.drain(60 * SECOND).await }
    });
    sleep(Duration::from_millis(100)).await;
    used.write_all(quick).await.unwrap();
    let mut last = String::new();
    used.read_to_string(&mut last).await.unwrap();
    assert!(last.contains("connection: close"), "{last}");
    assert!(last.ends_with("quick"), "{last}");
    assert_eq!(start.elapsed(), Duration::from_millis(100));

    // What is under way is not idle, however long it takes.
    sleep(10 * SECOND).await;
    release.send_replace(true);
    let mut last = String::new();
    busy.read_to_string(&mut last).await.unwrap();
    assert!(last.contains("connection: close"), "{last}");
    assert!(last.ends_with("finished"), "{last}");
    let report = drain.await.unwrap();
    assert_eq!((report.finished, report.cut), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_registered_while_its_server_shuts_down_learns_of_it() {
    let mesh = plain_mesh().await;
    let (http, plain) = (Semantics::Http, ServerTls::Plaintext);
    let follow = Follow::new(
        &mesh,
        &LocalAddress::Tcp(local()),
        http,
        Some(&plain),
        &OnMissing::NotServing,
        &[],
    );
    let (shared, _watchers) = Shared::new(Parts {
        semantics: http,
        speaks_http1: true,
        options: ServerOptions::default(),
        follow: Arc::new(follow.unwrap()),
        identities: mesh.identities().clone(),
        connections: mesh.connections().clone(),
    });
    let (mut ours, theirs) = duplex(4096);
    ours.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let ends = Ends {
        peer: address(2, 1),
        local: local(),
    };
    let ticket = shared.half_open.enter(ends.peer.ip());
    // Who is live was looked at, and it was not among them.
    shared.half_open.close();
    let start = Instant::now();
    let service = Fun(Arc::new(|_| say("served")));
    connection::run(shared, theirs, ends, ticket, service).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    let mut got = String::new();
    ours.read_to_string(&mut got).await.unwrap();
    assert!(got.ends_with("served"), "{got}");
}
