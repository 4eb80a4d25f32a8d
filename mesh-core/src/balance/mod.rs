//! Which endpoint gets a call.
//!
//! Live state is keyed by address and TLS settings and survives every update that does not touch it. A
//! pick runs in the caller's task, reads atomics, takes no lock and allocates nothing.
//!
//! Within a priority the cluster's policy picks, whatever the semantics. Among priorities:
//!
//! - Under gRPC semantics one priority takes all calls, the highest that is usable (gRFC A56).
//!   Endpoints that the control plane does not report to be healthy are left alone (gRFC A27).
//! - Under HTTP semantics priorities share the load by the health of their endpoints, with
//!   overprovisioning, degraded endpoints and panic as in Envoy. Where we differ from it: an
//!   endpoint is ill, too, for as long as the last attempt to connect to it has failed; one that
//!   drains is not picked even in a panic; the weight of a locality is its weight, however many of
//!   its endpoints are well; and a call never goes to an endpoint that is not connected (HTTP/1.1:
//!   cannot be) while another one is that may take it.

mod aggregate;
mod balancers;
mod by_key;
mod chooser;
mod cluster;
mod endpoint;
mod failover;
mod group;
mod least_request;
mod link;
mod live;
mod load;
mod policy;
mod priority_load;
mod ready;
mod round_robin;
mod schedule;
mod split;
mod spread;
mod state;
mod tables;
#[cfg(test)]
mod tests;
mod timer;
mod tls_ids;
mod update;
mod version;

pub use aggregate::{Aggregate, Leaf, LeafConfig};
pub use balancers::Balancers;
pub use cluster::{ClusterSnapshot, ClusterStatus, Picked};
pub use endpoint::Endpoint;
pub use group::Group;
pub use least_request::LeastRequest;
pub use link::{Connectivity, InFlight, LinkContext, LinkState, Observer, TlsId};
pub use load::Loads;
#[cfg(test)]
pub(crate) use load::fixture::Counter;
pub(crate) use load::{
    ClusterKey, ClusterLoad, Counts, Field, Metric, Metrics, Reporter, ServerLoads, Sum, Totals,
    WeakLoads,
};
pub use policy::{Pick, PickCx, Policy, PolicySpec};
pub use ready::ReadySet;
pub use round_robin::RoundRobin;
