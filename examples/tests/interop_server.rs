//! The interop server as its drivers run it: a program of its own, configured by the environment.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use mesh_core::testing::{ControlPlane, Permission, Principal, Rbac};
use mesh_examples::testing::{
    Empty, SimpleRequest, test_service_client::TestServiceClient,
    xds_update_health_service_client::XdsUpdateHealthServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const SERVICE: &str = "interop.test:8080";
const PATIENCE: Duration = Duration::from_secs(20);

/// The server program under way.
struct Server {
    process: Child,
    /// What it says of its ports.
    line: String,
    // Kept open: the server may write to it.
    _output: BufReader<ChildStdout>,
}

impl Server {
    async fn start(control_plane: &ControlPlane, flags: &[&str]) -> Self {
        let mut process = Command::new(program())
            .env_remove("GRPC_XDS_BOOTSTRAP")
            .env(
                "GRPC_XDS_BOOTSTRAP_CONFIG",
                control_plane.bootstrap_json("interop"),
            )
            .args(["--port=0", "--maintenance_port=0"])
            .args(["--server_id=the-id", "--host_name_override=the-host"])
            .args(flags)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        let read = output.read_line(&mut line);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        Self {
            process,
            line,
            _output: output,
        }
    }

    /// The port of the `name` services.
    fn port(&self, name: &str) -> u16 {
        let (_, rest) = self
            .line
            .split_once(&format!("{name} on 0.0.0.0:"))
            .unwrap();
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port(name))).unwrap()
    }
}

/// The server's program: cargo puts examples beside the tests' directory, and builds them with it.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let name = format!("examples/interop_server{}", std::env::consts::EXE_SUFFIX);
    let program = tests.parent().unwrap().parent().unwrap().join(name);
    assert!(
        program.exists(),
        "{program:?} is missing: cargo build --example interop_server"
    );
    program
}

#[tokio::test]
async fn secure_mode_is_under_the_control_plane() {
    let control_plane = ControlPlane::start().await;
    let mut server = Server::start(&control_plane, &["--secure_mode=true"]).await;
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
    {
        let id = server.process.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(sent.unwrap().success());
        let status = timeout(PATIENCE, server.process.wait()).await;
        assert_eq!(status.unwrap().unwrap().code(), Some(0));
    }
    drop(server);
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
        let mut command = Command::new(program());
        command
            .env_remove("GRPC_XDS_BOOTSTRAP")
            .env_remove("GRPC_XDS_BOOTSTRAP_CONFIG");
        let output = command.args(arguments).output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
}
