//! What happens when something fails: backoff, retries, circuit breakers.

mod backoff;

pub use backoff::Backoff;
