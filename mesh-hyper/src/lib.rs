//! HTTP in and out of a service under the configuration of a proxyless mesh.
//!
//! [`Caller`] is the way out: it takes a request through routes, filters, balancing and retries to
//! an endpoint, and gives back a response whose body records how the call ended. `mesh-tonic`
//! makes a gRPC channel of it.

pub mod body;
mod call;
mod classify;
pub mod conn;
mod error;
mod head;
mod plane;
mod record;
mod retry;
mod side_call;
mod timer;

pub use body::{BoxError, ResponseBody};
pub use call::{CallOptions, Caller, ResponseFuture};
pub use error::Error;
pub use side_call::HyperSideCall;
