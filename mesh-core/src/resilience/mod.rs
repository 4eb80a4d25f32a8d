//! What happens when something fails: backoff, retries, deadlines, circuit breakers.

mod backoff;
mod breaker;
mod deadline;
mod http_retry;
mod retry;
mod retry_headers;
mod transparent;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerSet, OverloadKind, Overloaded, Permit, RetryPermit};
pub use deadline::{InvalidTimeout, call_limit, format_grpc_timeout, parse_grpc_timeout};
pub use http_retry::{HttpRetryState, NoResponse};
pub use retry::{Pushback, RetryState};
pub use retry_headers::RetryHeaders;
pub use transparent::TransparentRetries;
