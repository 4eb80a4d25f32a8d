//! A mesh lives in the runtime in which it was built, wherever calls are made.

use std::time::Duration;

use mesh_core::{Mesh, testing::ControlPlane};
use mesh_tests::{
    backend::Backend,
    fixture::{SERVICE, echo, within},
    pb::echo_client::EchoClient,
};
use mesh_tonic::Channel;
use tokio::runtime::{Builder, Runtime};
use tonic::{Code, Status};

/// A control plane and a server in a runtime that lasts.
struct Peers {
    control_plane: ControlPlane,
    _backend: Backend,
    _runtime: Runtime,
}

fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap()
}

impl Peers {
    fn start() -> Self {
        let runtime = runtime();
        let (control_plane, backend) = runtime.block_on(async {
            let control_plane = ControlPlane::start().await;
            let backend = Backend::start("one").await;
            let service = control_plane.service(SERVICE);
            service.endpoint(backend.address()).apply();
            (control_plane, backend)
        });
        Self {
            control_plane,
            _backend: backend,
            _runtime: runtime,
        }
    }
}

async fn call(channel: &Channel) -> Result<(), Status> {
    within(EchoClient::new(channel.clone()).unary(echo("hi"))).await?;
    Ok(())
}

fn channel(mesh: &Mesh, target: &str) -> Channel {
    mesh_tonic::channel(mesh, target).unwrap()
}

#[test]
fn calls_are_made_from_any_runtime() {
    let peers = Peers::start();
    let own = runtime();
    let mesh = own.block_on(peers.control_plane.mesh("client"));
    // First used outside of any, and in others that end.
    let channel = channel(&mesh, SERVICE);
    for _ in 0..2 {
        runtime().block_on(call(&channel)).unwrap();
    }
    own.block_on(call(&channel)).unwrap();
}

/// Whatever such calls would wait for, it will not come: they fail, and say why.
#[test]
fn without_its_runtime_calls_fail_and_say_so() {
    let peers = Peers::start();
    let own = runtime();
    let (mesh, used, patient) = own.block_on(async {
        let mesh = peers.control_plane.mesh("client").await;
        let used = channel(&mesh, SERVICE);
        call(&used).await.unwrap();
        let patient = channel(&mesh, SERVICE).wait_for_ready(true);
        (mesh, used, patient)
    });
    own.shutdown_timeout(Duration::from_secs(10));
    runtime().block_on(async {
        let new = channel(&mesh, "other.shop:1");
        for channel in [&used, &patient, &new] {
            let status = call(channel).await.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable);
            assert!(status.message().contains("runtime"), "{status}");
        }
        assert!(within(mesh.ready()).await.is_err());
        within(mesh.config_dump()).await;
    });
}
