//! Bodies of requests and responses.

mod observe;
mod outgoing;
mod replay;
#[cfg(test)]
mod tests;

pub(crate) use observe::Held;
pub use observe::ResponseBody;
pub use outgoing::{BoxError, Keeper, Outgoing, Withdrawn};

/// Bytes that [`Outgoing::replayable`] is to keep unless told otherwise: as in gRPC C-core and
/// grpc-go.
pub const DEFAULT_REPLAY_LIMIT: usize = 256 * 1024;
