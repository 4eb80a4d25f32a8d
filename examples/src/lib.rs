//! Examples of a proxyless mesh: what the programs beside `src` share.

pub mod flags;
pub mod http;
pub mod interop;
pub mod program;

/// The quickstart's service, generated from `proto/greeter.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
pub mod greeter {
    include!(concat!(env!("OUT_DIR"), "/greeter.v1.rs"));
}

/// gRPC's test services, generated from `proto/testing.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
pub mod testing {
    include!(concat!(env!("OUT_DIR"), "/grpc.testing.rs"));
}

/// The examples in the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
