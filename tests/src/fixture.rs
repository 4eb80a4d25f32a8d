//! A control plane with a client of it.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use mesh_core::{
    Mesh, Options,
    testing::{ControlPlane, Service},
};
use mesh_tonic::Channel;
use tokio::time::timeout;
use tonic::Status;

use crate::{
    backend::Backend,
    pb::{EchoRequest, echo_client::EchoClient},
    way::{Ask, Call, Caller, Reply, Way},
};

/// The service that tests call.
pub const SERVICE: &str = "echo.test:8080";

/// How long a test waits for anything before it panics.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane and a mesh that follows it.
#[derive(Debug)]
pub struct Fixture {
    /// The control plane.
    pub control_plane: ControlPlane,
    /// The client's mesh.
    pub mesh: Mesh,
    /// How calls are made.
    pub way: Way,
}

impl Fixture {
    /// With no service yet, for calls of gRPC.
    pub async fn start() -> Self {
        Self::over(Way::Grpc).await
    }

    /// With no service yet, for calls that are made this way.
    pub async fn over(way: Way) -> Self {
        Self::with(way, |_| {}).await
    }

    /// With no service yet and other options.
    pub async fn with(way: Way, change: impl FnOnce(&mut Options)) -> Self {
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
            way,
        }
    }

    /// With the service on these servers.
    pub async fn on(way: Way, backends: &[&Backend]) -> Self {
        let fixture = Self::over(way).await;
        fixture.serve(backends).apply();
        fixture
    }

    /// Describes [`SERVICE`].
    pub fn service(&self) -> Service {
        self.way.of(self.control_plane.service(SERVICE))
    }

    /// Describes [`SERVICE`], in one version on these servers.
    pub fn serve(&self, backends: &[&Backend]) -> Service {
        let service = self.service().version("v1");
        backends.iter().fold(service, |service, backend| {
            service.endpoint(backend.address())
        })
    }

    /// Whoever calls [`SERVICE`].
    pub fn caller(&self) -> Caller {
        self.way.caller(&self.mesh, SERVICE)
    }

    /// Makes one call of [`SERVICE`].
    ///
    /// # Errors
    /// If it fails.
    ///
    /// # Panics
    /// If it takes longer than 20 s.
    pub async fn ask(&self, ask: Ask) -> Result<Reply, Status> {
        within(self.caller().ask(ask)).await
    }

    /// The same with nothing particular about it.
    ///
    /// # Errors
    /// If it fails.
    ///
    /// # Panics
    /// If it takes longer than 20 s.
    pub async fn call(&self) -> Result<Reply, Status> {
        self.ask(Ask::new("hi")).await
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
