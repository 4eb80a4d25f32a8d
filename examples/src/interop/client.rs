use std::{io, sync::Arc, time::Duration};

use mesh_core::Mesh;
use mesh_tonic::Csds;
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use super::{
    CallFailed, Channel, ConfigureService, Flags, Plan, Stats, StatsService, traffic::Traffic,
};
use crate::testing::{
    load_balancer_stats_service_server::LoadBalancerStatsServiceServer,
    xds_update_client_configure_service_server::XdsUpdateClientConfigureServiceServer,
};

/// How long calls of a driver may take after the client was told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// The interop client: traffic, and the services that watch and change it.
#[derive(Debug)]
pub struct Client<T> {
    traffic: Traffic<T>,
    plan: Arc<Plan>,
    stats: Arc<Stats>,
    csds: Option<Csds>,
}

/// Why the client ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A call failed where `--fail_on_failed_rpc` says that none may.
    #[error(transparent)]
    Call(#[from] CallFailed),
    /// The services could not be served.
    #[error("the services on {address} ended")]
    Serve {
        /// Where they were.
        address: std::net::SocketAddr,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The listener has no address.
    #[error("no address for the services")]
    Listen(#[from] io::Error),
}

// === impl Client ===

impl<T: Channel> Client<T> {
    /// A client that calls over `channels` in turn.
    pub fn new(flags: &Flags, channels: Vec<T>) -> Self {
        let (plan, stats) = (Arc::new(Plan::new(flags)), Arc::default());
        let traffic = Traffic::new(flags, channels, Arc::clone(&plan), Arc::clone(&stats));
        Self {
            traffic,
            plan,
            stats,
            csds: None,
        }
    }

    /// Tells tools what `mesh` has from its control plane, too (gRFC A38, A40).
    #[must_use]
    pub fn tell(mut self, mesh: &Mesh) -> Self {
        self.csds = Some(Csds::new(mesh));
        self
    }

    /// Makes calls and serves drivers on `listener` until `stop` resolves. Then calls under way
    /// end, and drivers' calls have one second to.
    ///
    /// # Errors
    /// If a call failed where none may, or serving did.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ClientError> {
        let address = listener.local_addr()?;
        let (health, health_service) = tonic_health::server::health_reporter();
        health
            .set_serving::<LoadBalancerStatsServiceServer<StatsService>>()
            .await;
        health
            .set_serving::<XdsUpdateClientConfigureServiceServer<ConfigureService>>()
            .await;
        let (stop_serving, stopped) = oneshot::channel::<()>();
        let mut serving = std::pin::pin!(
            Server::builder()
                .add_service(health_service)
                .add_service(LoadBalancerStatsServiceServer::new(StatsService::new(
                    self.stats
                )))
                .add_service(XdsUpdateClientConfigureServiceServer::new(
                    ConfigureService::new(self.plan,)
                ))
                .add_optional_service(self.csds)
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                    let _ = stopped.await;
                })
        );
        let result = tokio::select! {
            () = stop => Ok(()),
            ended = self.traffic.run() => ended.map_err(ClientError::from),
            served = &mut serving => {
                return served.map_err(|source| ClientError::Serve { address, source });
            }
        };
        drop(stop_serving);
        let _ = timeout(GRACE, serving).await;
        result
    }
}

#[cfg(test)]
mod tests;
