use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};

use super::{Plan, Stats};
use crate::testing::{
    ClientConfigureRequest, ClientConfigureResponse, LoadBalancerAccumulatedStatsRequest,
    LoadBalancerAccumulatedStatsResponse, LoadBalancerStatsRequest, LoadBalancerStatsResponse,
    load_balancer_stats_service_server::LoadBalancerStatsService,
    xds_update_client_configure_service_server::XdsUpdateClientConfigureService,
};

/// Tells drivers where calls go.
#[derive(Debug)]
pub struct StatsService {
    stats: Arc<Stats>,
}

/// Lets drivers change which calls are made.
#[derive(Debug)]
pub struct ConfigureService {
    plan: Arc<Plan>,
}

// === impl StatsService ===

impl StatsService {
    /// The service for `stats`.
    pub fn new(stats: Arc<Stats>) -> Self {
        Self { stats }
    }
}

#[tonic::async_trait]
impl LoadBalancerStatsService for StatsService {
    async fn get_client_stats(
        &self,
        request: Request<LoadBalancerStatsRequest>,
    ) -> Result<Response<LoadBalancerStatsResponse>, Status> {
        let request = request.into_inner();
        let calls = positive("num_rpcs", request.num_rpcs)?;
        let timeout = Duration::from_secs(positive("timeout_sec", request.timeout_sec)?.into());
        let mut watch = self.stats.watch(calls, &request.metadata_keys);
        // What there is by then is the answer, complete or not.
        let _ = tokio::time::timeout(timeout, watch.complete()).await;
        Ok(Response::new(watch.finish()))
    }

    async fn get_client_accumulated_stats(
        &self,
        _: Request<LoadBalancerAccumulatedStatsRequest>,
    ) -> Result<Response<LoadBalancerAccumulatedStatsResponse>, Status> {
        Ok(Response::new(self.stats.accumulated()))
    }
}

fn positive(field: &str, value: i32) -> Result<u32, Status> {
    let error = || Status::invalid_argument(format!("{field} is {value}: use 0 or more"));
    u32::try_from(value).map_err(|_| error())
}

// === impl ConfigureService ===

impl ConfigureService {
    /// The service for `plan`.
    pub fn new(plan: Arc<Plan>) -> Self {
        Self { plan }
    }
}

#[tonic::async_trait]
impl XdsUpdateClientConfigureService for ConfigureService {
    async fn configure(
        &self,
        request: Request<ClientConfigureRequest>,
    ) -> Result<Response<ClientConfigureResponse>, Status> {
        match self.plan.configure(request.get_ref()) {
            Ok(()) => Ok(Response::new(ClientConfigureResponse {})),
            Err(error) => Err(Status::invalid_argument(error.to_string())),
        }
    }
}
