//! An inventory for tests: a plain tonic server that does as the test says.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use orders::pb::{
    ReserveReply, ReserveRequest,
    inventory_server::{Inventory, InventoryServer},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};

/// A running inventory; dropping it ends it.
pub struct FakeInventory {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Default)]
struct Shared {
    /// Answers to the next calls, in place of a reservation.
    answers: Mutex<VecDeque<Status>>,
    /// What the calls so far carried.
    calls: Mutex<Vec<MetadataMap>>,
}

struct Service {
    warehouse: &'static str,
    shared: Arc<Shared>,
}

impl FakeInventory {
    /// Starts on a port of the system's choice.
    pub async fn start(warehouse: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let service = Service {
            warehouse,
            shared: Arc::clone(&shared),
        };
        let server = Server::builder()
            .add_service(InventoryServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(server).abort_handle();
        Self {
            address,
            shared,
            task,
        }
    }

    /// Answers the next call with `status`.
    pub fn fail_next(&self, status: Status) {
        self.shared.answers.lock().push_back(status);
    }

    /// The metadata of each call so far.
    pub fn calls(&self) -> Vec<MetadataMap> {
        self.shared.calls.lock().clone()
    }
}

impl Drop for FakeInventory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tonic::async_trait]
impl Inventory for Service {
    async fn reserve(
        &self,
        call: Request<ReserveRequest>,
    ) -> Result<Response<ReserveReply>, Status> {
        let Shared { answers, calls } = &*self.shared;
        calls.lock().push(call.metadata().clone());
        match answers.lock().pop_front() {
            Some(status) => Err(status),
            None => Ok(Response::new(ReserveReply {
                warehouse: self.warehouse.to_owned(),
            })),
        }
    }
}
