//! Which endpoint gets a call.
//!
//! Live state is keyed by [`EndpointKey`] and survives every update that does not touch it. A
//! pick runs in the caller's task, reads atomics, takes no lock and allocates nothing.

mod least_request;
mod link;
mod policy;
mod round_robin;

pub use least_request::LeastRequest;
pub use link::{Connectivity, EndpointKey, InFlight, LinkState, Observer, TlsId};
pub use policy::{Pick, PickCx, Policy, PolicySpec};
pub use round_robin::RoundRobin;
