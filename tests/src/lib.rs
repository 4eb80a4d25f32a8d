//! Whole-mesh tests and benchmarks of a proxyless mesh: what they share.

pub mod backend;
pub mod echo;
pub mod fixture;
pub mod load;
pub mod scripted;
pub mod xds;

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
