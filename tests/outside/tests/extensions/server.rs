//! An inventory behind a server of the mesh, for the tests that need both ends.

use std::{net::SocketAddr, time::Duration};

use mesh_core::{Context, Mesh};
use mesh_tonic::ServingMode;
use orders::pb::{
    ReserveReply, ReserveRequest,
    inventory_server::{Inventory, InventoryServer},
};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle, time::timeout};
use tonic::{Request, Response, Status};

/// A running server; dropping it ends it.
pub(crate) struct MeshInventory(AbortHandle);

/// Tells its callers who they are.
struct WhoAsks;

/// A port of the system's choice, for [`MeshInventory::start`].
pub(crate) async fn port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl MeshInventory {
    /// Serves at `listener` as the control plane of `mesh` says, once it has said so.
    pub(crate) async fn start(mesh: &Mesh, listener: TcpListener) -> Self {
        let (told, mut serving) = watch::channel(false);
        let server = mesh_tonic::Server::new(mesh)
            .add_service(InventoryServer::new(WhoAsks))
            .on_serving(move |state| {
                told.send_replace(state.mode == ServingMode::Serving);
            });
        let task = tokio::spawn(server.serve(listener)).abort_handle();
        let serving = serving.wait_for(|serving| *serving);
        timeout(Duration::from_secs(10), serving)
            .await
            .expect("the server has its configuration")
            .expect("the server runs");
        Self(task)
    }
}

impl Drop for MeshInventory {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tonic::async_trait]
impl Inventory for WhoAsks {
    async fn reserve(&self, _: Request<ReserveRequest>) -> Result<Response<ReserveReply>, Status> {
        let context = Context::current();
        let tls = context.peer().and_then(|peer| peer.tls.as_ref());
        let certificate = tls.and_then(|tls| tls.certificate.as_deref());
        let certificate =
            certificate.ok_or_else(|| Status::unauthenticated("there is no certificate"))?;
        let id = certificate.spiffe_id().unwrap_or_default();
        Ok(Response::new(ReserveReply {
            warehouse: format!("{id} {}", certificate.serial),
        }))
    }
}
