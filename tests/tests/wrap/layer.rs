//! The layer alone, in front of services whose connections are no affair of the mesh.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::Extension, routing::get};
use http::{HeaderMap, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use mesh_core::{
    Context, Mesh,
    identity::Peer,
    testing::{CertificateAuthority, ControlPlane, Permission, Principal, Rbac, Route},
};
use mesh_hyper::{InboundLayer, ServeError, ServingMode};
use mesh_tests::{
    eventually,
    fixture::within,
    running::alone,
    secured::{CLIENT, SERVER, Side, server_tls},
};
use tokio::net::TcpStream;

use crate::{obedient, plain};

/// The address that the layer follows the listener of.
fn followed() -> SocketAddr {
    ([10, 0, 0, 1], 8080).into()
}

struct Guarded {
    control_plane: ControlPlane,
    layer: InboundLayer,
    mesh: Mesh,
}

impl Guarded {
    async fn start(rbac: Rbac) -> Self {
        let control_plane = ControlPlane::start().await;
        control_plane.server(followed()).rbac(rbac).apply();
        Self::of(control_plane).await
    }

    async fn of(control_plane: ControlPlane) -> Self {
        let ca = CertificateAuthority::new("root");
        let mesh = Side::start(&control_plane, "server", SERVER, &ca)
            .await
            .mesh;
        let layer = InboundLayer::new(&mesh, followed()).unwrap();
        assert_eq!(within(layer.settled()).await, ServingMode::Serving);
        Self {
            control_plane,
            layer,
            mesh,
        }
    }
}

fn hello() -> Router {
    Router::new().fallback(async || "hello")
}

/// One request on a connection of its own.
async fn ask(
    address: SocketAddr,
    change: impl FnOnce(&mut Request<Empty<&'static [u8]>>),
) -> Asked {
    let io = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("/hello").header("host", "echo.test");
    let mut request = request.body(Empty::new()).unwrap();
    change(&mut request);
    let response = within(sender.send_request(request)).await.unwrap();
    let (head, body) = response.into_parts();
    let body = within(body.collect()).await.unwrap().to_bytes();
    Asked {
        head,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

struct Asked {
    head: http::response::Parts,
    text: String,
}

#[tokio::test]
async fn a_request_that_nobody_has_sent_is_unauthenticated() {
    let me = Rbac::allow().policy("me", Permission::any(), Principal::identity(CLIENT));
    let guarded = Guarded::start(me).await;
    let (address, _serving) = plain(hello().layer(guarded.layer.clone())).await;
    assert_eq!(
        ask(address, |_| {}).await.head.status,
        StatusCode::FORBIDDEN
    );

    let somebody = Rbac::allow().policy("any", Permission::any(), Principal::authenticated());
    let push = guarded
        .control_plane
        .server(followed())
        .rbac(somebody)
        .apply();
    push.acked().await;
    assert_eq!(
        ask(address, |_| {}).await.head.status,
        StatusCode::FORBIDDEN
    );

    let local = Principal::source_ip([127, 0, 0, 1], 8);
    let local = Rbac::allow().policy("local", Permission::any(), local);
    guarded
        .control_plane
        .server(followed())
        .rbac(local)
        .apply()
        .acked()
        .await;
    assert_eq!(
        ask(address, |_| {}).await.head.status,
        StatusCode::FORBIDDEN
    );

    guarded
        .control_plane
        .server(followed())
        .rbac(Rbac::off())
        .apply()
        .acked()
        .await;
    assert_eq!(ask(address, |_| {}).await.text, "hello");
}

#[tokio::test]
async fn a_peer_that_the_loop_vouches_for_is_believed() {
    let near = Principal::source_ip([10, 9, 0, 0], 16);
    let rules = Rbac::allow().policy("near", Permission::any(), near);
    let guarded = Guarded::start(rules).await;
    let of = |address: [u8; 4]| {
        let peer = Peer::new(Some((address, 1).into()), Some(followed()), None);
        let router = hello().layer(guarded.layer.clone());
        plain(router.layer(Extension(Arc::new(peer))))
    };
    let (near, _serving) = of([10, 9, 8, 7]).await;
    let (far, _serving_too) = of([10, 8, 8, 7]).await;
    // More than once: what is kept of a peer is right, too.
    for _ in 0..3 {
        assert_eq!(ask(near, |_| {}).await.head.status, StatusCode::OK);
        assert_eq!(ask(far, |_| {}).await.head.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn what_the_listener_wants_of_connections_is_not_waived() {
    let control_plane = ControlPlane::start().await;
    control_plane.server(followed()).tls(server_tls()).apply();
    let guarded = Guarded::of(control_plane).await;
    let (address, _serving) = plain(hello().layer(guarded.layer.clone())).await;
    let asked = ask(address, |_| {}).await;
    assert_eq!(asked.head.status, StatusCode::FORBIDDEN);
    assert!(asked.text.contains("TLS"), "{}", asked.text);

    // With TLS, and without the certificate that is required.
    let tls = mesh_core::identity::PeerTls::default();
    let peer = Peer::new(None, None, Some(tls));
    let router = hello().layer(guarded.layer.clone());
    let (address, _serving) = plain(router.layer(Extension(Arc::new(peer)))).await;
    let asked = ask(address, |_| {}).await;
    assert_eq!(asked.head.status, StatusCode::FORBIDDEN);
    assert!(asked.text.contains("certificate"), "{}", asked.text);
}

#[tokio::test]
async fn grpc_is_denied_in_trailers() {
    let nobody = Rbac::deny().policy("all", Permission::any(), Principal::any());
    let guarded = Guarded::start(nobody).await;
    let (address, _serving) = plain(hello().layer(guarded.layer.clone())).await;
    let grpc = |request: &mut Request<_>| {
        let kind = "application/grpc".parse().unwrap();
        request.headers_mut().insert(CONTENT_TYPE, kind);
    };
    let asked = ask(address, grpc).await;
    assert_eq!(asked.head.status, StatusCode::OK);
    assert_eq!(asked.head.headers["grpc-status"], "7");
}

#[tokio::test]
async fn the_deadline_is_handed_on_and_enforced() {
    let guarded = Guarded::start(Rbac::off()).await;
    let router = Router::new()
        .route("/late", get(std::future::pending::<()>))
        .fallback(async || match Context::current_deadline() {
            Some(_) => "limited",
            None => "unlimited",
        });
    let (address, _serving) = plain(router.layer(guarded.layer.clone())).await;
    let limit = |request: &mut Request<_>, limit: &str| {
        let name = "x-envoy-expected-rq-timeout-ms";
        request.headers_mut().insert(name, limit.parse().unwrap());
    };
    assert_eq!(ask(address, |_| {}).await.text, "unlimited");
    let limited = ask(address, |request| limit(request, "60000")).await;
    assert_eq!(limited.text, "limited");
    let late = |request: &mut Request<_>| {
        *request.uri_mut() = "/late".parse().unwrap();
        limit(request, "50");
    };
    let asked = ask(address, late).await;
    assert_eq!(asked.head.status, StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test]
async fn a_route_answers_or_changes_headers_for_those_whom_the_rules_let_pass() {
    let guarded = Guarded::start(Rbac::off()).await;
    let header = async |headers: HeaderMap| format!("{:?}", headers.get("x-added"));
    let router = Router::new().fallback(header);
    let (address, _serving) = plain(router.layer(guarded.layer.clone())).await;
    let server = || guarded.control_plane.server(followed());
    let direct = Route::path("/hello").respond(418, "a teapot");
    server().route(direct).apply().acked().await;
    let asked = ask(address, |_| {}).await;
    assert_eq!(asked.head.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(asked.text, "a teapot");

    let adding = Route::prefix("/").add_request_header("x-added", "by the route");
    server().clear_routes().route(adding).apply().acked().await;
    assert!(ask(address, |_| {}).await.text.contains("by the route"));

    let nobody = Rbac::deny().policy("all", Permission::any(), Principal::any());
    let direct = Route::path("/hello").respond(418, "a teapot");
    let server = server().clear_routes().route(direct);
    server.rbac(nobody).apply().acked().await;
    let asked = ask(address, |_| {}).await;
    assert_eq!(asked.head.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn requests_wait_for_the_listener_and_are_refused_without_it() {
    let control_plane = ControlPlane::start().await;
    control_plane.hold();
    let mesh = obedient(&control_plane).await;
    let layer = InboundLayer::new(&mesh, followed()).unwrap();
    let (address, _serving) = plain(hello().layer(layer.clone())).await;
    let asked = tokio::spawn(async move { ask(address, |_| {}).await.text });
    control_plane.server(followed()).apply();
    control_plane.release();
    assert_eq!(within(asked).await.unwrap(), "hello");

    control_plane.server(followed()).remove();
    let gone = || matches!(layer.mode(), ServingMode::NotServing(_)).then_some(());
    eventually(gone, || format!("{layer:?}")).await;
    let asked = ask(address, |_| {}).await;
    assert_eq!(asked.head.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_layer_follows_something_or_is_not_made_and_ends_with_its_services() {
    let error = InboundLayer::new(&alone().await, followed()).unwrap_err();
    assert!(matches!(error, ServeError::NoListener { .. }), "{error}");

    let Guarded { layer, mesh, .. } = Guarded::start(Rbac::off()).await;
    let service = hello().layer(layer.clone());
    assert_eq!(mesh.targets().len(), 1);
    drop(layer);
    assert_eq!(mesh.targets().len(), 1);
    drop(service);
    assert!(mesh.targets().is_empty());
}
