//! HTTP in and out of a service under the configuration of a proxyless mesh.
//!
//! [`Caller`] is the way out: it takes a request through routes, filters, balancing and retries to
//! an endpoint, and gives back a response whose body records how the call ended. Most users want what
//! is made of it: [`Client`] for HTTP, and the channel of `mesh-tonic` for gRPC. [`Server`] is the way
//! in.
//!
//! ```
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Empty;
//! use mesh_core::{
//!     Code,
//!     telemetry::Cause,
//!     testing::{ControlPlane, Fault},
//! };
//! use mesh_hyper::{CallOptions, Caller};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A control plane for tests; a service would say `Mesh::from_env().await?`.
//! let control_plane = ControlPlane::start().await;
//! control_plane
//!     .service("greeter.shop:8080")
//!     .version("v1")
//!     .fault(Fault::new().abort(Code::Unavailable, 100.0))
//!     .apply();
//! let mesh = control_plane.mesh("frontend").await;
//!
//! let authority = "greeter.shop:8080".parse()?;
//! let caller = Caller::grpc(&mesh, "greeter.shop:8080", authority);
//! let request = Request::post("/greeter.Greeter/Greet").body(Empty::<Bytes>::new())?;
//!
//! let error = caller.call(request, CallOptions::default()).await.unwrap_err();
//! assert_eq!(error.cause(), Cause::Fault);
//! assert_eq!(error.cluster(), Some("greeter.shop:8080/v1"));
//! assert!(error.endpoints_tried().is_empty());
//! # Ok(()) }
//! ```
//!
//! # With a server loop or a client of your own
//!
//! Parts can be had alone. Each says at its type what it cannot do that the whole can.
//!
//! | part | goes into | what only the whole has |
//! |---|---|---|
//! | [`MeshListener`] | `axum::serve` (feature `axum`), tonic's `serve_with_incoming` (`mesh_tonic::incoming`, feature `transport` there), an accept loop | GOAWAY, limits of HTTP, routes |
//! | [`InboundLayer`] | any stack of `tower` services | connections that are drained and closed |
//! | [`MeshConnector`] | hyper-util's client | routes, retries, timeouts, records |
//!
//! # Not supported yet
//!
//! CONNECT, and WebSockets over HTTP/2 (RFC 8441). What becomes of them, and of all else that HTTP
//! has, stands item by item at [`client`] and [`Server`].

pub mod body;
mod call;
mod classify;
pub mod client;
pub mod conn;
mod error;
mod head;
mod plane;
#[cfg(feature = "prometheus")]
mod prometheus;
mod record;
mod retry;
mod serve;
mod side_call;
mod timer;
mod upgrade;
mod wrap;

pub use body::{BoxError, ResponseBody};
pub use call::{CallOptions, Caller, ResponseFuture};
pub use client::Client;
pub use error::{Error, NoRetry};
#[cfg(feature = "prometheus")]
pub use prometheus::{Prometheus, PrometheusFuture};
pub use serve::{
    Bind, LocalAddress, OnMissing, RequestBody, ServeError, Server, ServerOptions, ServerTls,
    ServingMode, ServingState,
};
pub use side_call::HyperSideCall;
pub use wrap::{
    ConnectFuture, Inbound, InboundBody, InboundFuture, InboundLayer, MeshConnector, MeshIo,
    MeshListener, MeshStream, PeerInfo,
};
