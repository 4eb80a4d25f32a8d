//! The configuration, routing, balancing and resilience of a proxyless service mesh.
//!
//! A [`Mesh`] is what a process has one of. It knows who the process is and where its control plane
//! is; channels and clients are made from it:
//!
//! ```
//! use mesh_core::{
//!     Mesh,
//!     bootstrap::{Bootstrap, ServerConfig},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // `Mesh::from_env()` reads the same from GRPC_XDS_BOOTSTRAP.
//! let bootstrap = Bootstrap::builder()
//!     .server(ServerConfig::insecure("xds.example.com:18000"))
//!     .node_id("frontend-7")
//!     .build()?;
//! let mesh = Mesh::builder()
//!     .bootstrap(bootstrap)
//!     .options(|options| options.connections_per_endpoint = 2)
//!     .build()
//!     .await?;
//!
//! // Nothing is connected before a channel is made, by `mesh_tonic::channel(&mesh, target)`.
//! assert!(mesh.targets().is_empty());
//! # Ok(()) }
//! ```
//!
//! This crate knows nothing of HTTP connections or gRPC services: `mesh-hyper` carries requests
//! under the decisions made here, and `mesh-tonic` speaks gRPC on top of that.
//!
//! # Modules, in the order in which data flows
//!
//! | | |
//! |---|---|
//! | [`bootstrap`] | who this process is, and where its control plane is |
//! | [`control`] | where configuration comes from: xDS with what was [saved](control::snapshot) of it, files (feature `files`), or a [`Source`](control::Source) of your own |
//! | [`config`] | what it means: plain, validated, immutable values |
//! | [`resolve`] | one consistent answer per target, published atomically |
//! | [`route`] | which rule takes a request, and which cluster |
//! | [`filter`] | what happens to it on the way |
//! | [`rewrite`] | what its route changes in it, and in its response |
//! | [`balance`] | which endpoint gets it |
//! | [`resilience`] | what happens when it fails |
//! | [`identity`] | who we are, and whom we trust |
//! | [`authz`] | who may do what |
//! | [`telemetry`] | what happened |
//! | [`orca`] | what an endpoint says of its load with a response |
//! | [`connections`] | the connections that servers have accepted |
//! | [`Context`] | what a handler hands to its outgoing calls |
//! | [`runtime`] | the ports through which this crate reaches the world |
//! | `testing` | a control plane for tests (feature `testing`) |
//!
//! # What can be added from outside
//!
//! - an HTTP filter: [`FilterDecoder`](control::xds::FilterDecoder),
//!   [`FilterSpec`](filter::FilterSpec) and [`Filter`](filter::Filter);
//! - an endpoint-picking policy: [`PolicyDecoder`](control::xds::PolicyDecoder),
//!   [`PolicySpec`](balance::PolicySpec) and [`Policy`](balance::Policy);
//! - a [`Recorder`](telemetry::Recorder);
//! - a [`Source`](control::Source) of configuration in place of xDS;
//! - a [`CertificateSource`](identity::CertificateSource), under the name of a certificate provider
//!   instance.
//!
//! Each is given to [`MeshBuilder`].
//!
//! # Not supported
//!
//! - clusters of type `ORIGINAL_DST` or of unknown types, and policies other than `round_robin`, `least_request` and
//!   `wrr_locality`: rejected by name;
//! - HTTP filters other than `router`, `fault` and, in servers, `rbac`: rejected, or skipped if they
//!   are optional;
//! - of HTTP semantics: HTTP/3, CONNECT, rewrites with operators (`path_rewrite`, `host_rewrite`),
//!   bodies of direct responses from files, routes by `cluster_header`;
//! - in the bootstrap: see [`bootstrap`].
//!
//! What an accepted resource sets and is not in force is listed by [`Mesh::config_dump`].

pub mod authz;
pub mod balance;
pub mod bootstrap;
mod code;
pub mod config;
pub mod connections;
mod context;
pub mod control;
mod file_watch;
pub mod filter;
pub mod identity;
mod mesh;
pub mod orca;
mod providers;
mod regular_file;
pub mod resilience;
pub mod resolve;
pub mod rewrite;
pub mod route;
pub mod runtime;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod weak_map;

pub use code::Code;
pub use context::{Context, Scoped};
pub use mesh::{BuildError, Mesh, MeshBuilder, NotReady, Options, Plane, PlaneSeed, Registration};
pub use route::Semantics;
