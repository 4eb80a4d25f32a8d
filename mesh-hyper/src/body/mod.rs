//! Bodies of requests and responses.

mod observe;
mod outgoing;
mod replay;
#[cfg(test)]
mod tests;

pub(crate) use observe::Held;
pub use observe::ResponseBody;
pub use outgoing::{BoxError, Keeper, Outgoing, Withdrawn};

/// Bytes that [`Outgoing::replayable`] keeps unless told otherwise (gRFC A6 leaves it to the
/// implementation; grpc-java and grpc-go use the same).
pub const DEFAULT_REPLAY_LIMIT: usize = 256 * 1024;
