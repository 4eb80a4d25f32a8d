//! The xDS protocol: control planes that Envoy and gRPC understand.

pub mod decode;
mod registry;

pub use decode::{PolicyDecoder, PolicyRegistry};
pub use registry::{FilterDecoder, FilterRegistry, Side};
