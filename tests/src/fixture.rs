//! A control plane with a client of it.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use mesh_core::{
    Mesh, Options,
    testing::{ControlPlane, Service},
};
use mesh_tonic::Channel;
use tokio::time::timeout;

use crate::{
    pb::{EchoRequest, echo_client::EchoClient},
    scripted::Scripted,
};

/// The service that tests call.
pub const SERVICE: &str = "echo.test:8080";

/// How long [`within`] waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane and a mesh that follows it.
#[derive(Debug)]
pub struct Fixture {
    /// The control plane.
    pub control_plane: ControlPlane,
    /// The client's mesh.
    pub mesh: Mesh,
}

impl Fixture {
    /// With no service yet.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With no service yet and other options.
    pub async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let control_plane = ControlPlane::start().await;
        let mesh = Mesh::builder()
            .bootstrap(control_plane.bootstrap("test"))
            .options(change)
            .build()
            .await
            .expect("a given bootstrap is all that a mesh needs");
        Self {
            control_plane,
            mesh,
        }
    }

    /// With the service on these backends.
    pub async fn on(backends: &[&Scripted]) -> Self {
        let fixture = Self::start().await;
        fixture.serve(backends).apply();
        fixture
    }

    /// Describes [`SERVICE`].
    pub fn service(&self) -> Service {
        self.control_plane.service(SERVICE)
    }

    /// Describes [`SERVICE`], in one version on these backends.
    pub fn serve(&self, backends: &[&Scripted]) -> Service {
        let service = self.service().version("v1");
        backends.iter().fold(service, |service, backend| {
            service.endpoint(backend.address())
        })
    }

    /// A channel to [`SERVICE`].
    pub fn channel(&self) -> Channel {
        mesh_tonic::channel(&self.mesh, SERVICE).expect("a valid target")
    }

    /// A client of [`SERVICE`].
    pub fn client(&self) -> EchoClient<Channel> {
        EchoClient::new(self.channel())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }
}

/// A request to be echoed.
pub fn echo(payload: impl Into<Bytes>) -> EchoRequest {
    EchoRequest {
        payload: payload.into(),
        count: 1,
    }
}

/// What `work` results in.
///
/// # Panics
/// If it takes longer than 20 s: then it hangs.
pub async fn within<F: Future>(work: F) -> F::Output {
    match timeout(PATIENCE, work).await {
        Ok(output) => output,
        Err(_) => panic!("it hangs"),
    }
}
