//! Servers of the mesh over loopback, under a control plane and without one.

mod context;
mod drain;
mod grpc;
mod policy;
#[cfg(unix)]
mod spiffe;
#[cfg(unix)]
mod unix;

use mesh_tests::running;

/// Under the incremental protocol, too.
#[test]
fn once_more_under_delta() {
    mesh_tests::once_more("MESH_TESTING_ADS", "delta", &[]);
}
