//! The xDS protocol: control planes that Envoy and gRPC understand.

pub(in crate::control) mod ads;
mod client;
mod csds;
pub mod decode;
pub(in crate::control) mod dump;
mod fallback;
mod lrs;
mod node;
mod pipe;
#[cfg(feature = "testing")]
mod receive;
mod redact;
mod registry;
mod scope;
#[cfg(all(test, feature = "testing"))]
mod secrets_tests;
mod server;
mod stream;
#[cfg(test)]
mod testing;
pub(in crate::control) mod type_url;

pub use client::{XdsClient, XdsOptions};
pub use csds::{StatusRequest, StatusRequestError};
pub use decode::{PolicyDecoder, PolicyRegistry, RbacDecoder};
pub use dump::{AcceptedDump, ConfigDump, FailureDump, ResourceDump, ResourceStatus};
#[cfg(feature = "testing")]
pub(crate) use lrs::receive as receive_load_response;
#[cfg(feature = "testing")]
pub(crate) use receive::receive;
pub use registry::{FilterDecoder, FilterRegistry, Side};
pub use server::ServerStatus;
