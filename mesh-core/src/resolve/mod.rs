//! One consistent answer per target, and per server.
//!
//! [`Dependencies`] decides what must be watched and joins what is known into one
//! [`TargetConfig`] (gRFC A74), with what [`Names`] were looked up as; a [`Target`] drives it and publishes a compiled [`Snapshot`]
//! atomically: a call sees one of them from its first match to its last retry.
//!
//! For servers, [`Inbound`] does the same with the listener of a socket and the routes that its
//! filter chains name (gRFC A36): an [`InboundSnapshot`] tells each connection its chain, and the
//! chain each request its route.

mod answer;
mod deps;
mod endpoints_of;
mod inbound;
mod names;
mod slots;
mod snapshot;
mod target;
mod tree;

pub use answer::Answer;
pub use deps::{AggregateConfig, ClusterConfig, Dependencies, TargetConfig};
pub use inbound::{
    Ends, Inbound, InboundChain, InboundRoute, InboundSnapshot, InboundSpec, InboundState,
};
pub use names::{LookedUp, Names};
pub use snapshot::{Destination, Limit, NoPlan, Plan, Reject, Snapshot};
pub use target::{Readiness, State, Target, TargetSpec, TargetStatus};
