//! A small service that depends on another one through the mesh, and the worked example of how
//! to test such a service: see `tests/orders.rs`.
//!
//! `OrdersService` takes orders. For each it reserves stock at the service `inventory.shop:8080`.
//! It is given a `Mesh`, and does not know whether that came from the environment or from a test:
//!
//! ```no_run
//! # use orders::{OrdersService, pb::orders_server::OrdersServer};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = mesh_core::Mesh::from_env().await?;
//! let orders = OrdersServer::new(OrdersService::new(&mesh)?);
//! tonic::transport::Server::builder()
//!     .add_service(orders)
//!     .serve("[::]:8080".parse()?)
//!     .await?;
//! # Ok(()) }
//! ```

use std::time::Duration;

use mesh_core::Mesh;
use mesh_tonic::{Channel, InvalidTarget};
use pb::{
    PlaceReply, PlaceRequest, ReserveRequest, inventory_client::InventoryClient,
    orders_server::Orders,
};
use tonic::{Request, Response, Status};

/// Code generated from `proto/shop.proto`.
pub mod pb {
    tonic::include_proto!("shop.v1");
}

/// Where stock is kept.
pub const INVENTORY: &str = "inventory.shop:8080";

/// How long a reservation may take, retries included.
const RESERVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes orders and reserves what they need.
#[derive(Debug)]
pub struct OrdersService {
    inventory: InventoryClient<Channel>,
}

impl OrdersService {
    /// A service that reaches its dependencies through `mesh`. To be called in a tokio runtime.
    pub fn new(mesh: &Mesh) -> Result<Self, InvalidTarget> {
        let inventory = InventoryClient::new(mesh_tonic::channel(mesh, INVENTORY)?);
        Ok(Self { inventory })
    }
}

#[tonic::async_trait]
impl Orders for OrdersService {
    async fn place(&self, order: Request<PlaceRequest>) -> Result<Response<PlaceReply>, Status> {
        let PlaceRequest { item, quantity } = order.into_inner();
        let mut reserve = Request::new(ReserveRequest { item, quantity });
        reserve.set_timeout(RESERVE_TIMEOUT);
        // A clone of a client shares its channel.
        match self.inventory.clone().reserve(reserve).await {
            Ok(reserved) => Ok(Response::new(PlaceReply {
                warehouse: reserved.into_inner().warehouse,
            })),
            // Not this order's fault: the customer may try again.
            Err(status) if mesh_tonic::Error::of(&status).is_some() => Err(Status::unavailable(
                format!("cannot reach the inventory: {}", status.message()),
            )),
            Err(status) => Err(status),
        }
    }
}
