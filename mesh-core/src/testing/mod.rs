//! Fakes for tests (feature `testing`): a control plane and a certificate authority in the test's
//! own process.
//!
//! [`CertificateAuthority`] issues what TLS needs: identities, roots, and certificates that are to
//! be refused. `WorkloadApi` (feature `spiffe`, on Unix) streams them as SPIRE's agent does.
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
//! # TLS, and servers
//! Certificates come from files that bootstraps name; resources refer to them by instance. A
//! server's listener goes by the address that it listens at:
//!
//! ```
//! use mesh_core::{
//!     bootstrap::FileWatcherConfig,
//!     testing::{ControlPlane, ListenerTls, Permission, Principal, Rbac, Route, SanMatch, Tls},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let address = std::net::SocketAddr::from(([127, 0, 0, 1], 50051));
//! let control_plane = ControlPlane::start().await;
//! // In all bootstraps that are made from here on: `.view("node")` would make it one node's.
//! let files = FileWatcherConfig::new()
//!     .identity_files("cert.pem", "key.pem")
//!     .ca_certificate_file("roots.pem");
//! control_plane.certificate_provider("default", files);
//!
//! // mTLS on both sides.
//! let server = SanMatch::uri("spiffe://mesh.test/greeter");
//! control_plane
//!     .service("greeter.shop:8080")
//!     .endpoint(address)
//!     .tls(Tls::trust("default").present("default").san(server))
//!     .apply();
//! let web = Principal::identity("spiffe://mesh.test/web");
//! control_plane
//!     .server(address)
//!     .tls(ListenerTls::present("default").require_client("default"))
//!     .rbac(Rbac::allow().policy("web", Permission::path_prefix("/greeter.v1."), web))
//!     .route(Route::prefix("/grpc.health.v1.").rbac(Rbac::off()))
//!     .apply();
//!
//! // A change of mind, and the end of it.
//! control_plane.server(address).rbac(Rbac::deny()).apply();
//! control_plane.server(address).remove();
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
//! # Under either protocol
//! The server speaks both variants of ADS; clients go by their bootstrap.
//! [`set_delta`](ControlPlane::set_delta) chooses for one control plane, the environment variable
//! `MESH_TESTING_ADS=delta` for all in the process.
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
mod codec;
mod control_plane;
mod delta;
// For `fuzz/`, which is no part of this crate: a service has no use for it.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[doc(hidden)]
pub mod entry;
mod hosts;
mod http;
mod loads;
mod lrs_server;
mod memory;
mod parts;
mod port;
mod providers;
mod push;
mod raw;
mod rbac;
mod render;
mod request;
mod server;
mod service;
mod shared;
mod sotw;
mod store;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(all(unix, feature = "spiffe", any(feature = "aws-lc-rs", feature = "ring")))]
mod workload_api;

/// The messages of xDS, in the version that [`ControlPlane::set`] takes.
pub use envoy_types;

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use authority::{CertificateAuthority, Chain, Issued, Leaf};
pub use builder::Service;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use certificate_service::{CertificateService, SignRequest, SigningFault};
pub use control_plane::{ControlPlane, Corruption};
pub use hosts::Hosts;
pub use loads::{LoadOrder, LoadReport, ReportedCluster, ReportedLocality, ReportedMetric};
pub use parts::{Endpoint, EndpointHealth, Fault, Retry, Route, locality, zone};
pub use push::Push;
pub use raw::{Raw, RawStream};
pub use rbac::{Permission, Principal, Rbac};
pub use render::{cluster_name, route_name, server_listener_name};
pub use request::{ClientNode, Nack, Request, RequestError};
pub use server::{ConnectionChain, ServerListener};
pub use tls::{ListenerTls, SanMatch, Tls};
#[cfg(all(unix, feature = "spiffe", any(feature = "aws-lc-rs", feature = "ring")))]
pub use workload_api::WorkloadApi;
