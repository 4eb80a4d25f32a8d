//! The ports through which this crate reaches the world. `mesh-hyper` fills them.

mod resolve;
mod side_call;
mod transport;

pub use resolve::{Resolve, ResolveFuture, Resolved};
pub use side_call::{Limits, Messages, RpcStatus, SideCall, SideCallError, SideCallFuture};
pub use transport::Transport;
