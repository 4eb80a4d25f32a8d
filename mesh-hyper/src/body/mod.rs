//! Bodies of requests.

mod outgoing;
mod replay;
#[cfg(test)]
mod tests;

pub use outgoing::{BoxError, Keeper, Outgoing, Withdrawn};

/// Bytes that [`Outgoing::replayable`] is to keep unless told otherwise: as in gRPC C-core and
/// grpc-go.
pub const DEFAULT_REPLAY_LIMIT: usize = 256 * 1024;
