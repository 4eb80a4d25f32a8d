//! Bodies of requests.

mod outgoing;
mod replay;
#[cfg(test)]
mod tests;

pub use outgoing::{BoxError, Keeper, Outgoing, Withdrawn};

/// Bytes that [`Outgoing::replayable`] keeps unless told otherwise (gRFC A6 leaves it to the
/// implementation; grpc-java and grpc-go use the same).
pub const DEFAULT_REPLAY_LIMIT: usize = 256 * 1024;
