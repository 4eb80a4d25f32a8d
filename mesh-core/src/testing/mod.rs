//! Fakes for tests (feature `testing`): a control plane and a certificate authority in the test's
//! own process.
//!
//! [`CertificateAuthority`] issues what TLS needs: identities, roots, and certificates that are to
//! be refused.
//!
//! [`ControlPlane`] is a real ADS server. A test describes its services in the words of the
//! domain, points the client at it, and changes its mind while calls are running:
//!
//! ```
//! use mesh_core::{
//!     Code,
//!     config::Kind,
//!     testing::{ControlPlane, Corruption, Retry, Route, cluster_name, zone},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let [first, second, third] = [1, 2, 3].map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port)));
//! let control_plane = ControlPlane::start().await;
//!
//! // A listener, its routes, two clusters and their endpoints, in one push.
//! control_plane
//!     .service("greeter.shop:8080")
//!     .retry(Retry::on([Code::Unavailable]).times(2))
//!     .route(Route::prefix("/").header("x-tester", "yes").to("v2"))
//!     .version("v1").weight(90).endpoint(first).endpoint_in(zone("b"), second)
//!     .version("v2").weight(10).endpoint(third)
//!     .apply();
//!
//! // Any gRPC client finds its way with this: set it as GRPC_XDS_BOOTSTRAP_CONFIG.
//! let bootstrap = control_plane.bootstrap_json("test-client");
//! assert!(bootstrap.contains("test-client"));
//!
//! // A later call says only what changes.
//! control_plane.service("greeter.shop:8080").split(&[("v1", 0), ("v2", 100)]).apply();
//! control_plane.service("greeter.shop:8080").drain(first).apply();
//!
//! // What an unlucky control plane does.
//! let v2 = cluster_name("greeter.shop:8080", "v2");
//! control_plane.corrupt(Kind::Endpoints, &v2, Corruption::Truncated);
//! control_plane.repair(Kind::Endpoints, &v2);
//! control_plane.stop().await;
//! control_plane.restart().await;
//! # }
//! ```
//!
//! # Waiting
//! Nothing needs a sleep: each change returns a [`Push`], whose [`acked`](Push::acked) and
//! [`nacked`](Push::nacked) wait for what clients make of it, and
//! [`until`](ControlPlane::until) waits for anything else. A wait looks at what has been recorded,
//! so it cannot miss what happened before it began. One that lasts longer than 10 s (see
//! [`set_patience`](ControlPlane::set_patience)) panics and lists what each client asked for,
//! was sent and answered.
//!
//! # By hand
//! [`set`](ControlPlane::set) puts any resource of [`envoy_types`],
//! [`raw`](ControlPlane::raw) hands the streams themselves to the test, and
//! [`view`](ControlPlane::view) shows one node something that the others do not see.

mod ads_server;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod authority;
mod builder;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod certificate_service;
mod control_plane;
mod memory;
mod parts;
mod port;
mod push;
mod raw;
mod render;
mod request;
mod service;
mod shared;
mod sotw;
mod store;
#[cfg(test)]
mod tests;

/// The messages of xDS, in the version that [`ControlPlane::set`] takes.
pub use envoy_types;

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use authority::{CertificateAuthority, Chain, Issued, Leaf};
pub use builder::Service;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use certificate_service::{CertificateService, SignRequest, SigningFault};
pub use control_plane::{ControlPlane, Corruption};
pub use parts::{Endpoint, EndpointHealth, Fault, Retry, Route, locality, zone};
pub use push::Push;
pub use raw::{Raw, RawStream};
pub use render::{cluster_name, route_name};
pub use request::{ClientNode, Nack, Request, RequestError};
