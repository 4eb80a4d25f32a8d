//! Servers at Unix domain sockets. The bootstrap has a template for the names of listeners, and none
//! is for them: code says how their connections are secured.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router, extract::Request, routing::any};
use http_body_util::BodyExt;
use mesh_core::{
    Mesh,
    config::HttpProtocol,
    identity::{InCode, Peer, Trust},
    testing::{CertificateAuthority, ControlPlane, Endpoint},
};
use mesh_hyper::{Client, LocalAddress, ServeError, Server, ServerTls, ServingMode, ServingState};
use mesh_tests::{
    Directory,
    echo::EchoService,
    fixture::within,
    pb::echo_server::EchoServer,
    secured::client_tls,
    way::{Call, Way},
};
use tokio::{net::UnixListener, sync::watch};

const SERVICE: &str = "catalog.shop:8080";
const CLIENT: &str = "spiffe://mesh.test/client";

/// Says what it sees of a request and of who sent it.
fn router() -> Router {
    let say = async |Extension(peer): Extension<Arc<Peer>>, request: Request| {
        format!(
            "{:?} {:?} {:?}",
            request.version(),
            peer.address,
            peer.local
        )
    };
    Router::new().fallback(any(say))
}

#[tokio::test]
async fn http_is_served_at_a_path_as_code_says() {
    let directory = Directory::new();
    let control_plane = ControlPlane::start().await;
    let ours = control_plane.mesh("server").await;
    assert!(
        ours.bootstrap()
            .server_listener_name(([127, 0, 0, 1], 1).into())
            .is_some()
    );
    let (told, mut states) = watch::channel(None::<ServingState>);
    let server = Server::new(&ours)
        .tls(ServerTls::Plaintext)
        .on_serving(move |state| drop(told.send_replace(Some(state.clone()))));
    let serving = tokio::spawn(server.serve(directory.path("socket"), router()));
    let served = |state: &Option<ServingState>| {
        let state = state.as_ref();
        state.is_some_and(|state| state.mode == ServingMode::Serving)
    };
    let state = within(states.wait_for(served)).await.unwrap().clone();
    let address = state.map(|state| state.address);
    assert_eq!(address, Some(LocalAddress::Unix(directory.path("socket"))));

    let client = Client::new(&control_plane.mesh("client").await);
    let endpoint = Endpoint::unix(directory.path("socket"));
    control_plane.service(SERVICE).endpoint(endpoint).apply();
    for (protocol, version) in [
        (HttpProtocol::Http1, "HTTP/1.1"),
        (HttpProtocol::Http2, "HTTP/2.0"),
    ] {
        let service = control_plane.service(SERVICE).protocol(protocol);
        let push = service.apply();
        // Before its first request the client asks for nothing.
        if protocol == HttpProtocol::Http2 {
            push.acked().await;
        }
        let response = client.get(format!("http://{SERVICE}/")).send();
        let body = within(response).await.unwrap().into_body();
        let text = within(body.collect()).await.unwrap().to_bytes();
        assert_eq!(text, format!("{version} None None"));
    }
    // No listener was asked for.
    assert!(
        ours.targets()
            .iter()
            .all(|target| target.spec.listener.starts_with("unix:"))
    );
    within(ours.drain(Duration::from_secs(5))).await;
    within(serving).await.unwrap().unwrap();
}

/// A mesh that presents this name, and trusts its authority.
async fn mesh(control_plane: &ControlPlane, authority: &CertificateAuthority, name: &str) -> Mesh {
    let certificates = InCode::new();
    certificates.present(authority.identity(name));
    certificates.trust_in(Trust::Roots(authority.roots()));
    Mesh::builder()
        .bootstrap(control_plane.bootstrap(name))
        .certificates("default", Arc::new(certificates))
        .build()
        .await
        .expect("a given bootstrap is all that a mesh needs")
}

#[tokio::test]
async fn grpc_is_served_over_mutual_tls_at_a_socket_that_was_given() {
    let directory = Directory::new();
    let control_plane = ControlPlane::start().await;
    let authority = CertificateAuthority::new("root");
    let ours = mesh(&control_plane, &authority, mesh_tests::secured::SERVER).await;
    let listener = UnixListener::bind(directory.path("socket")).unwrap();
    let server = mesh_tonic::Server::new(&ours)
        .tls(ServerTls::mtls("default"))
        .add_service(EchoServer::new(EchoService::new("unix")));
    let serving = tokio::spawn(server.serve(listener));

    let theirs = mesh(&control_plane, &authority, CLIENT).await;
    let endpoint = Endpoint::unix(directory.path("socket"));
    let service = control_plane.service(SERVICE).endpoint(endpoint);
    service.tls(client_tls()).apply();
    let caller = Way::Grpc.caller(&theirs, SERVICE);
    assert_eq!(within(caller.call()).await.unwrap(), "unix");
    let connections = ours.connections().list();
    let peer = &connections[0].peer;
    assert_eq!((peer.id(), peer.address), (Some(CLIENT), None));
    within(ours.drain(Duration::from_secs(5))).await;
    within(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_cannot_be_served_says_why() {
    let directory = Directory::new();
    let control_plane = ControlPlane::start().await;
    let ours = control_plane.mesh("server").await;
    let path = directory.path("socket");
    let error = within(Server::new(&ours).serve(path.clone(), router())).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, ServeError::UnixNoSecurity { .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains("ServerTls::Plaintext"), "{text}");

    // The attempt has left its file: nothing takes away what may be another's.
    let server = || Server::new(&ours).tls(ServerTls::Plaintext);
    let error = within(server().serve(path.clone(), router())).await;
    let error = error.unwrap_err();
    let ServeError::Bind { address, source } = &error else {
        panic!("{error}");
    };
    assert_eq!(*address, format!("unix:{}", path.display()));
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);

    std::fs::remove_file(&path).unwrap();
    let error = within(server().listen(path)).await.unwrap_err();
    assert!(error.to_string().contains("Server::serve"), "{error}");
}
