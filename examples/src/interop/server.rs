use std::{future::Future, io, net::SocketAddr};

use mesh_core::Mesh;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::TestService;
use crate::testing::{
    Empty,
    test_service_server::TestServiceServer,
    xds_update_health_service_server::{XdsUpdateHealthService, XdsUpdateHealthServiceServer},
};

/// A server that the interop client can call, in plaintext and without a mesh: a
/// [`TestService`]. Ends when dropped, as soon as the calls under way have.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// Lets drivers change what the health service says of the server.
#[derive(Debug)]
pub struct HealthService {
    reporter: HealthReporter,
}

/// Why the interop server ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InteropServerError {
    /// The test service could not be served under the mesh.
    #[error("the test service ended")]
    Mesh(#[from] mesh_tonic::ServeError),
    /// Services could not be served in plaintext.
    #[error("the services in plaintext ended")]
    Plaintext(#[from] tonic::transport::Error),
}

/// Serves the interop server in secure mode until `stop` resolves: the test service under the
/// mesh, and the health services in plaintext.
///
/// # Errors
/// If serving fails.
pub async fn serve_secure(
    mesh: &Mesh,
    service: TestService,
    listener: TcpListener,
    maintenance: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), InteropServerError> {
    let (health, update) = health_services().await;
    let (stop_services, stopped) = oneshot::channel::<()>();
    let (stop_maintenance, maintained) = oneshot::channel::<()>();
    let ended = |end: oneshot::Receiver<()>| async {
        let _ = end.await;
    };
    let services = mesh_tonic::Server::new(mesh)
        .add_service(TestServiceServer::new(service))
        .serve_with_shutdown(listener, ended(stopped));
    let maintained = Server::builder()
        .add_service(health)
        .add_service(update)
        .serve_with_incoming_shutdown(TcpListenerStream::new(maintenance), ended(maintained));
    let stopping = async {
        stop.await;
        drop((stop_services, stop_maintenance));
        Ok(())
    };
    let services = async { services.await.map_err(InteropServerError::from) };
    let maintained = async { maintained.await.map_err(InteropServerError::from) };
    tokio::try_join!(services, maintained, stopping).map(drop)
}

/// Serves all of the interop server in plaintext, and without a mesh, until `stop` resolves.
///
/// # Errors
/// If serving fails.
pub async fn serve_plaintext(
    service: TestService,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), InteropServerError> {
    let (health, update) = health_services().await;
    Server::builder()
        .add_service(TestServiceServer::new(service))
        .add_service(health)
        .add_service(update)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop)
        .await?;
    Ok(())
}

/// The health service, and the one that changes what it says.
async fn health_services() -> (
    tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
    XdsUpdateHealthServiceServer<HealthService>,
) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let update = HealthService { reporter };
    update.set(ServingStatus::Serving).await;
    (health, XdsUpdateHealthServiceServer::new(update))
}

// === impl TestServer ===

impl TestServer {
    /// Serves on a free loopback port, in a task of its own.
    ///
    /// # Errors
    /// If no port can be had, or `hostname` is no metadata value.
    pub async fn start(hostname: &str) -> io::Result<Self> {
        let service = TestService::new(hostname, hostname).map_err(io::Error::other)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async {
            // A connection's error is its caller's; the listener itself does not fail.
            let _ = serve_plaintext(service, listener, async {
                let _ = stopped.await;
            })
            .await;
        });
        Ok(Self {
            address,
            stop,
            serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: accepts no more calls, and waits for those under way.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.serving.await;
    }
}

// === impl HealthService ===

impl HealthService {
    async fn set(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
    }
}

#[tonic::async_trait]
impl XdsUpdateHealthService for HealthService {
    async fn set_serving(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.set(ServingStatus::Serving).await;
        Ok(Response::new(Empty {}))
    }

    async fn set_not_serving(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.set(ServingStatus::NotServing).await;
        Ok(Response::new(Empty {}))
    }
}
