//! The way of a call, from a generated client to a server and back: whole meshes over loopback.

mod breaker;
mod deadlines;
mod errors;
mod faults;
mod metadata;
mod options;
mod raw;
mod records;
mod retries;
mod routing;
mod runtimes;
mod shapes;
mod startup;
mod transparent;

/// Under the incremental protocol, too.
#[test]
fn once_more_under_delta() {
    mesh_tests::once_more("MESH_TESTING_ADS", "delta", &[]);
}
