//! Whole-mesh tests and benchmarks of a proxyless mesh: what they share.

mod alone;
pub mod backend;
pub mod bench;
mod directory;
pub mod echo;
mod eventually;
pub mod fixture;
pub mod instant;
pub mod instructions;
pub mod load;
pub mod loaded;
pub mod micro;
pub mod narrow;
mod once_more;
pub mod running;
pub mod secured;
mod step;
pub mod tls_front;
pub mod way;
pub mod xds;

pub use alone::alone;
pub use directory::Directory;
pub use eventually::eventually;
pub use once_more::{is_delta, once_more};
pub use step::{Dropped, poll_and_drop};

/// Code generated from `proto/echo.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/mesh.test.rs"));
}
