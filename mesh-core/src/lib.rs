//! The configuration, routing, balancing and resilience of a proxyless service mesh.
//!
//! This crate knows nothing of HTTP connections or gRPC services: `mesh-hyper` carries requests
//! under the decisions made here, and `mesh-tonic` speaks gRPC on top of that. Its modules are in
//! the order in which data flows, from the bootstrap to the picked endpoint.

pub mod balance;
pub mod bootstrap;
mod code;
pub mod config;
pub mod control;
pub mod filter;
mod mesh;
pub mod resilience;
pub mod resolve;
pub mod route;
pub mod runtime;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod weak_map;

pub use code::Code;
pub use mesh::{BuildError, Mesh, MeshBuilder, NotReady, Options, Plane, PlaneSeed, Registration};
pub use route::Semantics;
