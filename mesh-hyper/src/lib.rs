//! HTTP in and out of a service under the configuration of a proxyless mesh.

pub mod body;
pub mod conn;
mod side_call;

pub use side_call::HyperSideCall;
