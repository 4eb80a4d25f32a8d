use mesh_core::testing::{Permission, Principal, Rbac};
use mesh_tests::{
    echo::EchoService,
    fixture::{Fixture, within},
    pb::echo_server::EchoServer,
};
use mesh_tonic::{Server, ServingMode};
use tonic::Code;

use crate::running::{Running, hello, port};

#[tokio::test]
async fn a_pushed_policy_applies_to_the_next_request_of_a_live_connection() {
    let fixture = Fixture::start().await;
    let listener = port().await;
    let address = listener.local_addr().unwrap();
    fixture.control_plane.server(address).apply();
    let mesh = fixture.control_plane.mesh("server").await;
    let server = Server::new(&mesh).add_service(EchoServer::new(EchoService::new("ours")));
    let running = Running::start(server, listener).await;
    let mut client = running.client().await;
    within(client.unary(hello())).await.unwrap();

    let nobody = Rbac::deny().policy("all", Permission::any(), Principal::any());
    let inbound = || fixture.control_plane.server(address);
    inbound().rbac(nobody).apply().acked().await;
    let denied = within(client.unary(hello())).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    inbound().rbac(Rbac::off()).apply().acked().await;
    within(client.unary(hello())).await.unwrap();
    assert_eq!(
        mesh.connections().list().len(),
        1,
        "it is the same connection"
    );
}

#[tokio::test]
async fn a_server_without_a_listener_closes_connections() {
    let fixture = Fixture::start().await;
    let listener = port().await;
    let address = listener.local_addr().unwrap();
    // For another address than the server's: not served.
    let other = (address.ip(), address.port() ^ 1).into();
    fixture.control_plane.server(other).apply();
    let mesh = mesh_core::Mesh::builder()
        .bootstrap(fixture.control_plane.bootstrap("server"))
        .options(|options| options.resource_timeout = std::time::Duration::from_millis(100))
        .build()
        .await
        .unwrap();
    let server = Server::new(&mesh).add_service(EchoServer::new(EchoService::new("ours")));
    let mut running = Running::start(server, listener).await;
    running
        .until(|mode| matches!(mode, ServingMode::NotServing(_)))
        .await;
    assert!(mesh.ready().await.is_err());
    let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut got = Vec::new();
    let _ = within(tokio::io::AsyncReadExt::read_to_end(&mut io, &mut got)).await;
    assert!(got.is_empty());
}
