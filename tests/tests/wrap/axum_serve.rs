use http::StatusCode;
use mesh_core::testing::{CertificateAuthority, Permission, Principal, Rbac};
use mesh_hyper::{MeshListener, Server, ServerTls};
use mesh_tests::{
    eventually,
    fixture::within,
    running::{alone, port},
    secured::{CLIENT, client_tls, server_tls},
};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{World, anew, get_from, who};

#[tokio::test]
async fn axum_serves_over_mtls_and_its_handlers_know_who_asks() {
    let world = World::start(who()).await;
    let (status, said) = world.get("/who").await;
    assert_eq!(status, StatusCode::OK);
    assert!(said.starts_with(CLIENT), "{said}");
    assert_eq!(world.server.mesh.connections().len(), 1);
}

#[tokio::test]
async fn rules_apply_to_the_next_request_of_a_live_connection() {
    let world = World::start(who()).await;
    assert_eq!(world.get("/who").await.0, StatusCode::OK);

    let rules = || {
        let who = Permission::path("/who");
        Rbac::allow().policy("who", who, Principal::identity(CLIENT))
    };
    let push = world.listener().rbac(rules()).apply();
    push.acked().await;
    assert_eq!(world.get("/who").await.0, StatusCode::OK);
    assert_eq!(world.get("/other").await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.server.mesh.connections().len(), 1, "it is the same");

    let others = Rbac::allow().policy("all", Permission::any(), Principal::identity("nobody"));
    let push = world.listener().rbac(others).apply();
    push.acked().await;
    assert_eq!(world.get("/who").await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.server.mesh.connections().len(), 1, "it is the same");

    // What can be read in two ways is, over HTTP/1.1, the last that is read.
    assert_eq!(world.get("/a/../who").await.0, StatusCode::BAD_REQUEST);
    let connections = || world.server.mesh.connections().is_empty().then_some(());
    eventually(connections, || "it is connected".to_owned()).await;
}

#[tokio::test]
async fn certificates_of_both_ends_rotate_with_the_next_handshake() {
    let world = World::start(who()).await;
    let http = anew(&world.client.mesh);
    let said = get_from(&http, "/who").await.unwrap().1;
    let serial = world.client.rotate(&world.ca).await;
    world.server.rotate(&world.ca).await;
    let then = get_from(&http, "/who").await.unwrap().1;
    assert_ne!(said, then);
    assert_eq!(then, format!("{CLIENT} {serial}"));
}

#[tokio::test]
async fn a_client_that_is_not_trusted_any_more_is_cut_off() {
    let world = World::start(who()).await;
    world.get("/who").await;
    let other = CertificateAuthority::new("other");
    world.server.trust_in(&[&other]);
    let connections = || world.server.mesh.connections();
    eventually(
        || connections().is_empty().then_some(()),
        || format!("there are connections: {:#?}", connections().list()),
    )
    .await;
    get_from(&world.http, "/who").await.unwrap_err();
}

#[tokio::test]
async fn handshakes_that_stop_keep_nobody_waiting_and_are_capped() {
    const CAP: usize = 8;
    let options = |options: &mut mesh_hyper::ServerOptions| options.max_half_open = CAP;
    let world = World::with(who(), server_tls(), client_tls(), options).await;
    let mut silent = Vec::new();
    for _ in 0..10 * CAP {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    assert_eq!(world.get("/who").await.0, StatusCode::OK);
    // The oldest have made room, without a byte.
    let mut got = Vec::new();
    let read = within(silent[0].read_to_end(&mut got)).await;
    assert!(read.is_err() || got.is_empty());
}

#[tokio::test]
async fn a_listener_without_a_template_is_secured_in_code_or_not_opened() {
    let mesh = alone().await;
    let error = MeshListener::bind(&mesh, port().await).await.unwrap_err();
    assert!(error.to_string().contains("ServerTls"), "{error}");
    let plaintext = Server::new(&mesh).tls(ServerTls::Plaintext);
    let mut listener = plaintext.listen(port().await).await.unwrap();
    let client = TcpStream::connect(listener.local_addr()).await.unwrap();
    let stream = within(listener.accept()).await.expect("nothing drains");
    assert_eq!(stream.peer().address, client.local_addr().ok());
    assert!(!stream.is_http2());
}
