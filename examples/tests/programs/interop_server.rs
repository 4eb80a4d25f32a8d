//! The interop server as its drivers run it: a program of its own, configured by the environment.

use std::net::SocketAddr;

use crate::support::{PATIENCE, Program, fails};
use mesh_core::testing::{ControlPlane, Permission, Principal, Rbac};
use mesh_examples::testing::{
    Empty, SimpleRequest, test_service_client::TestServiceClient,
    xds_update_health_service_client::XdsUpdateHealthServiceClient,
};
use tokio::time::timeout;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const SERVICE: &str = "interop.test:8080";
/// The server program under way.
struct Server(Program);

impl Server {
    async fn start(control_plane: &ControlPlane, flags: &[&str]) -> Self {
        let bootstrap = control_plane.bootstrap_json("interop");
        let always = [
            "--port=0",
            "--maintenance_port=0",
            "--server_id=the-id",
            "--host_name_override=the-host",
        ];
        let flags: Vec<_> = always.iter().chain(flags).copied().collect();
        Self(Program::start("interop_server", &bootstrap, &flags).await)
    }

    /// The port of the `name` services.
    fn port(&self, name: &str) -> u16 {
        self.0.port(&format!("{name} on 0.0.0.0:"))
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port(name))).unwrap()
    }
}

#[tokio::test]
async fn secure_mode_is_under_the_control_plane() {
    let control_plane = ControlPlane::start().await;
    let server = Server::start(&control_plane, &["--secure_mode=true"]).await;
    let port = server.port("services");
    let inbound = || control_plane.server(([0, 0, 0, 0], port).into());
    inbound().apply();
    let service = control_plane.service(SERVICE);
    service
        .endpoint(SocketAddr::from(([127, 0, 0, 1], port)))
        .apply();
    let mesh = control_plane.mesh("caller").await;
    let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
    let mut client = TestServiceClient::new(channel.wait_for_ready(true));
    let mut call = async || {
        let call = client.unary_call(SimpleRequest::default());
        timeout(PATIENCE, call).await.unwrap()
    };
    let response = call().await.unwrap().into_inner();
    assert_eq!(
        (&*response.hostname, &*response.server_id),
        ("the-host", "the-id")
    );

    let none = Rbac::deny().policy("all", Permission::any(), Principal::any());
    inbound().rbac(none).apply().acked().await;
    let denied = call().await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);

    // The health services are elsewhere, whatever the control plane says.
    let channel = server.endpoint("maintenance").connect().await.unwrap();
    let mut update = XdsUpdateHealthServiceClient::new(channel.clone());
    update.set_not_serving(Empty {}).await.unwrap();
    let mut health = HealthClient::new(channel);
    let response = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(response.into_inner().status(), ServingStatus::NotServing);
    drop((health, update));

    #[cfg(unix)]
    assert_eq!(server.0.end("-TERM").await, Some(0));
}

#[tokio::test]
async fn without_it_all_is_in_plaintext_on_one_port() {
    let control_plane = ControlPlane::start().await;
    let server = Server::start(&control_plane, &[]).await;
    let channel = server.endpoint("services").connect().await.unwrap();
    let mut client = TestServiceClient::new(channel.clone());
    let response = client.unary_call(SimpleRequest::default()).await.unwrap();
    assert_eq!(response.into_inner().hostname, "the-host");
    let mut health = HealthClient::new(channel);
    let response = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(response.into_inner().status(), ServingStatus::Serving);
    assert_eq!(control_plane.connections(), 0);
}

#[tokio::test]
async fn a_command_line_that_is_not_valid_is_told() {
    for (arguments, code, text) in [
        (&["--nope"][..], 2, "unknown flag --nope"),
        (
            &["--secure_mode", "--port=1", "--maintenance_port=1"],
            2,
            "must not be --port",
        ),
        (&["--secure_mode"], 1, "GRPC_XDS_BOOTSTRAP"),
        (&["--help"], 0, ""),
    ] {
        let (status, error) = fails("interop_server", arguments).await;
        assert_eq!(status, Some(code), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
}
