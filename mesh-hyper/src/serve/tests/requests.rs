use std::sync::Arc;

use http::StatusCode;
use mesh_core::{Context, identity::Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::*;
use crate::{ServeError, Server, ServerTls, ServingMode};

#[tokio::test(start_paused = true)]
async fn both_protocols_are_served_on_one_port() {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, |request| {
        say(format!("{:?} {}", request.version(), request.uri().path()))
    });

    let response = running.h2().await.send_request(get("/two")).await.unwrap();
    assert_eq!(text(response).await, "HTTP/2.0 /two");
    let mut one = h1(running.connect()).await;
    let mut request = get("/one");
    request
        .headers_mut()
        .insert("host", "server.test".parse().unwrap());
    *request.uri_mut() = "/one".parse().unwrap();
    let response = one.send_request(request).await.unwrap();
    assert_eq!(text(response).await, "HTTP/1.1 /one");
    let states = running.states.borrow();
    assert_eq!(states[0].mode, ServingMode::Serving);
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].address.tcp(), Some(local()));
}

#[tokio::test(start_paused = true)]
async fn a_server_of_grpc_does_not_speak_http1() {
    let mesh = plain_mesh().await;
    let server = Server::grpc(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, |_| say("served"));
    let mut io = running.connect();
    io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut got = Vec::new();
    io.read_to_end(&mut got).await.unwrap();
    assert!(got.is_empty(), "{got:?}");
    assert!(running.mesh.connections().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_handler_knows_its_peer_and_so_do_those_it_calls() {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, |request| {
        let peer = request.extensions().get::<Arc<Peer>>().unwrap();
        let (address, known) = (peer.address, Arc::clone(peer));
        let answer = say(format!("{address:?} {:?}", known.local));
        Box::pin(async move {
            assert!(Arc::ptr_eq(Context::current().peer().unwrap(), &known));
            answer.await
        })
    });
    let response = running.h2().await.send_request(get("/")).await.unwrap();
    let seen = text(response).await;
    assert_eq!(
        seen,
        format!("{:?} {:?}", Some(address(2, 4000)), Some(local()))
    );
    assert_eq!(running.mesh.connections().list()[0].requests, 1);
    assert_eq!(running.mesh.connections().list()[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_to_carry_its_peer_has_it_in_its_context_alone() {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh)
        .tls(ServerTls::Plaintext)
        .options(|options| options.peer_extension = false);
    let running = Running::start(&mesh, server, |request| {
        assert!(request.extensions().is_empty());
        Box::pin(async {
            let peer = Context::current().peer().unwrap().address;
            say(format!("{peer:?}")).await
        })
    });
    let response = running.h2().await.send_request(get("/")).await.unwrap();
    assert_eq!(
        text(response).await,
        format!("{:?}", Some(address(2, 4000)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_can_be_read_in_two_ways_reaches_nobody() {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let handlers = Handlers::default();
    let count = handlers.clone();
    let running = Running::start(&mesh, server, move |_| {
        count.begin();
        say("served")
    });
    let mut client = running.h2().await;
    for path in ["/a/../b", "/a//b", "/a%2fb", "/a;b"] {
        let response = client.send_request(get(path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    let mut request = get("/a");
    request
        .headers_mut()
        .insert("host", "other.test".parse().unwrap());
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(handlers.begun(), 0);
    assert_eq!(
        text(client.send_request(get("/a")).await.unwrap()).await,
        "served"
    );
}

#[tokio::test]
async fn a_server_that_nothing_secures_says_what_to_do() {
    let mesh = plain_mesh().await;
    let served = Server::new(&mesh).serve(([127, 0, 0, 1], 0), Nobody).await;
    let Err(error @ ServeError::NoSecurity { .. }) = served else {
        panic!("{served:?}");
    };
    let text = error.to_string();
    assert!(
        text.contains("server_listener_resource_name_template"),
        "{text}"
    );
    assert!(text.contains("ServerTls::Plaintext"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_server_ends_its_connections_and_handlers() {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let handlers = Handlers::default();
    let count = handlers.clone();
    let running = Running::start(&mesh, server, move |_| {
        let handler = count.begin();
        Box::pin(async move {
            let _handler = handler;
            std::future::pending().await
        })
    });
    let mut client = running.h2().await;
    let call = tokio::spawn(client.send_request(get("/")));
    handlers.until_begun(1).await;
    drop(running);
    assert!(call.await.unwrap().is_err());
    handlers.until_over(1).await;
    mesh.connections().count_reached(|count| *count == 0).await;
}

/// Is never asked.
#[derive(Clone)]
struct Nobody;

impl tower_service::Service<http::Request<crate::RequestBody>> for Nobody {
    type Response = http::Response<http_body_util::Empty<bytes::Bytes>>;
    type Error = std::convert::Infallible;
    type Future = std::future::Pending<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<crate::RequestBody>) -> Self::Future {
        std::future::pending()
    }
}
