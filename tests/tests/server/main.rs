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
