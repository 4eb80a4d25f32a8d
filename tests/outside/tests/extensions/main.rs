//! What plugs into the mesh without touching it: an HTTP filter, an endpoint-picking policy, a
//! recorder, a source of configuration in place of xDS, a source of certificates, and an audit
//! logger. Each is written here with public items only, given to the builder, and used in a call.

mod audit;
mod certificates;
mod filter;
mod policy;
mod recorder;
mod server;
mod source;
#[path = "../support/mod.rs"]
mod support;

use mesh_core::Mesh;
use orders::{
    INVENTORY,
    pb::{ReserveRequest, inventory_client::InventoryClient},
};
use tonic::Status;

type Client = InventoryClient<mesh_tonic::Channel>;

fn client(mesh: &Mesh) -> Client {
    InventoryClient::new(mesh_tonic::channel(mesh, INVENTORY).unwrap())
}

/// Calls the inventory; tells which warehouse answered.
async fn reserve(client: &mut Client) -> Result<String, Status> {
    let reserved = client.reserve(ReserveRequest::default()).await?;
    Ok(reserved.into_inner().warehouse)
}
