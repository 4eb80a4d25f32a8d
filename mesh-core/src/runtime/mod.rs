//! The ports through which this crate reaches the world. `mesh-hyper` fills them.

mod side_call;
mod transport;

pub use side_call::{Limits, Messages, RpcStatus, SideCall, SideCallError, SideCallFuture};
pub use transport::{EndpointInfo, Transport};
