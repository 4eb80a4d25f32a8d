//! Connections to endpoints.
//!
//! [`Net`] is the [`Transport`](mesh_core::runtime::Transport) of the mesh: hyper's HTTP/2 and
//! HTTP/1.1 connections, one task each, and nothing between a caller and hyper's own queue.

mod attempt;
mod corked;
mod dial;
mod drive;
mod drive1;
mod error;
mod establish;
mod exec;
mod frames;
mod h1;
mod h2;
mod happy;
mod hop;
mod idle;
mod net;
mod pool;
mod protocol;
mod report;
mod streams;
#[cfg(test)]
mod tests;
mod tls;
mod wakes;

pub(crate) use attempt::{Secured, Way};
pub(crate) use dial::SystemResolve;
pub use dial::{Dial, DialFuture, Stream, SystemDial};
pub(crate) use drive::{Driver, Ended, Http2, handshake};
pub use error::{ConnectError, Fate, ResetReason, SendError, Stage, code_of};
pub(crate) use error::{chain, reason_of};
pub(crate) use hop::Upgrading;
pub use net::{Net, NetOptions};
pub use pool::Pool;
pub(crate) use protocol::{Speaks, Version};
pub(crate) use report::Reporter;
pub use streams::StreamGuard;
