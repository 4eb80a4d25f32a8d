//! Pools against h2's server in memory, in paused time, and over real sockets.

mod harness;
mod lifecycle;
mod requests;
mod sockets;
