use std::{sync::Arc, time::Duration};

use mesh_core::{
    identity::Peer,
    testing::{CertificateAuthority, ControlPlane, Permission, Principal, Rbac},
};
use mesh_hyper::PeerInfo;
use mesh_tests::{
    fixture::{SERVICE, within},
    pb::{EchoReply, EchoRequest, echo_client::EchoClient, echo_server::EchoServer},
    running::{Answering, hello, port},
    secured::{CLIENT, SERVER, Side, client_tls, server_tls},
};
use mesh_tonic::{incoming, listen};
use tonic::{Code, Request, transport::Server};

/// Says who asks, as its connection and as its layer tell.
async fn who(request: Request<EchoRequest>) -> Result<EchoReply, tonic::Status> {
    let extensions = request.extensions();
    let info = extensions.get::<PeerInfo>().expect("of the connection");
    let peer = extensions.get::<Arc<Peer>>().expect("of the layer");
    assert!(Arc::ptr_eq(info.peer(), peer));
    let payload = peer.id().unwrap_or("nobody").as_bytes().to_vec().into();
    Ok(EchoReply {
        payload,
        ..EchoReply::default()
    })
}

#[tokio::test]
async fn tonic_serves_over_mtls_under_the_rules_of_the_listener_and_drains() {
    let control_plane = ControlPlane::start().await;
    let ca = CertificateAuthority::new("root");
    let client = Side::start(&control_plane, "client", CLIENT, &ca).await;
    let server = Side::start(&control_plane, "server", SERVER, &ca).await;
    let socket = port().await;
    let address = socket.local_addr().unwrap();
    let listener = || control_plane.server(address).tls(server_tls());
    listener().apply();
    let service = control_plane.service(SERVICE);
    service.endpoint(address).tls(client_tls()).apply();

    let accepting = listen(&server.mesh, socket).await.unwrap();
    let drain = accepting.drain_begun();
    let serving = Server::builder()
        .layer(accepting.layer())
        .add_service(EchoServer::new(Answering(who)))
        .serve_with_incoming_shutdown(incoming(accepting), drain);
    let serving = tokio::spawn(serving);
    let mut echo = EchoClient::new(client.channel());
    let reply = within(echo.unary(hello())).await.unwrap().into_inner();
    assert_eq!(reply.payload, CLIENT.as_bytes());

    let nobody = Rbac::deny().policy("all", Permission::any(), Principal::identity(CLIENT));
    listener().rbac(nobody).apply().acked().await;
    let denied = within(echo.unary(hello())).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(server.mesh.connections().len(), 1, "it is the same");

    let report = within(server.mesh.drain(Duration::from_secs(60))).await;
    assert_eq!((report.finished, report.cut), (1, 0));
    within(serving).await.unwrap().unwrap();
}
