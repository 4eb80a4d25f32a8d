use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_core::identity::Peer;
use mesh_tests::{
    echo::EchoService,
    fixture::{Fixture, within},
    pb::{EchoReply, EchoRequest, echo_server::EchoServer},
};
use mesh_tonic::{Server, ServerTls};
use tokio::net::TcpStream;
use tonic::{Code, Request};

use crate::running::{Answering, Running, alone, hello, port};

#[tokio::test]
async fn a_tonic_client_and_our_own_channel_are_served() {
    let fixture = Fixture::start().await;
    let listener = port().await;
    let address = listener.local_addr().unwrap();
    fixture.control_plane.server(address).apply();
    fixture.service().version("v1").endpoint(address).apply();
    let mesh = fixture.control_plane.mesh("server").await;
    let server = Server::new(&mesh).add_service(EchoServer::new(EchoService::new("ours")));
    let running = Running::start(server, listener).await;

    let mut client = running.client().await;
    let reply = within(client.unary(hello())).await.unwrap().into_inner();
    assert_eq!(reply.server, "ours");
    let many = EchoRequest {
        count: 3,
        ..hello()
    };
    let mut replies = within(client.expand(many)).await.unwrap().into_inner();
    let mut got = 0;
    while within(replies.message()).await.unwrap().is_some() {
        got += 1;
    }
    assert_eq!(got, 3);

    let reply = within(fixture.client().unary(hello())).await.unwrap();
    assert_eq!(reply.into_inner().server, "ours");
    assert_eq!(mesh.connections().len(), 2);
    within(mesh.ready()).await.unwrap();
    drop((client, replies));

    // A drain lets both go, and the server is over.
    let report = within(mesh.drain(Duration::from_secs(10))).await;
    assert_eq!((report.finished, report.cut), (2, 0));
    let mut running = running;
    within(&mut running.task).await.unwrap().unwrap();
    assert!(within(mesh.ready()).await.is_err());
}

#[tokio::test]
async fn a_method_knows_who_asks() {
    let mesh = alone().await;
    let service = Answering(|request: Request<EchoRequest>| {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        async move {
            let address = peer.and_then(|peer| peer.address).expect("over TCP");
            Ok(EchoReply {
                payload: address.ip().to_string().into(),
                server: String::new(),
            })
        }
    });
    let server = Server::new(&mesh)
        .add_optional_service(Some(EchoServer::new(service)))
        .tls(ServerTls::Plaintext);
    let running = Running::start(server, port().await).await;
    let reply = within(running.client().await.unary(hello())).await.unwrap();
    assert_eq!(reply.into_inner().payload, "127.0.0.1");
}

#[tokio::test]
async fn a_method_that_is_not_there_is_unimplemented() {
    let mesh = alone().await;
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(server, port().await).await;
    let status = within(running.client().await.unary(hello()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn http_is_served_beside_grpc() {
    let mesh = alone().await;
    let page = service_fn(
        |request: http::Request<mesh_hyper::RequestBody>| async move {
            let body = Full::new(Bytes::from(format!("page {}", request.uri().path())));
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        },
    );
    let server = Server::new(&mesh)
        .add_service(EchoServer::new(EchoService::new("ours")))
        .http(Tower(page))
        .tls(ServerTls::Plaintext);
    let running = Running::start(server, port().await).await;

    let reply = within(running.client().await.unary(hello())).await.unwrap();
    assert_eq!(reply.into_inner().server, "ours");
    let io = TcpStream::connect(running.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/health")
        .header("host", "page.test")
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let response = within(sender.send_request(request)).await.unwrap();
    let body = within(response.into_body().collect()).await.unwrap();
    assert_eq!(body.to_bytes(), "page /health");
}

/// A service of hyper as one of tower.
#[derive(Clone)]
struct Tower<S>(S);

impl<S, R> tonic::codegen::Service<R> for Tower<S>
where
    S: hyper::service::Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.call(request)
    }
}
