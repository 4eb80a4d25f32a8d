//! Which endpoint gets a call.
//!
//! Live state is keyed by [`EndpointKey`] and survives every update that does not touch it. A
//! pick runs in the caller's task, reads atomics, takes no lock and allocates nothing.

mod link;
mod policy;

pub use link::{Connectivity, EndpointKey, InFlight, LinkState, Observer, TlsId};
pub use policy::{Pick, PickCx, Policy, PolicySpec};
