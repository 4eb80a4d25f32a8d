//! Which endpoint gets a call.
//!
//! Live state is keyed by [`EndpointKey`] and survives every update that does not touch it. A
//! pick runs in the caller's task, reads atomics, takes no lock and allocates nothing.

mod balancers;
mod chooser;
mod cluster;
mod endpoint;
mod failover;
mod group;
mod least_request;
mod link;
mod live;
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

pub use balancers::Balancers;
pub use cluster::{ClusterSnapshot, Picked};
pub use endpoint::Endpoint;
pub use group::Group;
pub use least_request::LeastRequest;
pub use link::{Connectivity, EndpointKey, InFlight, LinkState, Observer, TlsId};
pub use policy::{Pick, PickCx, Policy, PolicySpec};
pub use ready::ReadySet;
pub use round_robin::RoundRobin;
