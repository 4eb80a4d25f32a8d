//! Pools against h2's server in memory, in paused time, and over real sockets.

mod harness;
mod http1;
mod http1_lives;
mod lifecycle;
mod requests;
mod sockets;
