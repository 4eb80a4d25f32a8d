//! Servers of the mesh over loopback, under a control plane and without one.

mod context;
mod grpc;
mod policy;
mod running;
#[cfg(unix)]
mod spiffe;
