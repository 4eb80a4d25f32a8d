//! Bodies of requests and responses.

mod observe;
mod outgoing;
mod progress;
mod replay;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use observe::Held;
pub use observe::ResponseBody;
pub use outgoing::{BoxError, Keeper, Outgoing, Withdrawn};
pub(crate) use progress::{Phase, Progress};
pub(crate) use tally::Tally;
