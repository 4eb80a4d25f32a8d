//! What an endpoint says of its load with a response (ORCA, per call: gRFC A51), to be told to the
//! control plane with the [load of its cluster](crate::config::LoadReport) (gRFC A64, A85).
//!
//! A service says it by a [`CallLoad`].

mod call;
mod json;
mod read;
mod report;

pub use call::CallLoad;
pub(crate) use read::read;
#[cfg(feature = "testing")]
pub(crate) use read::read_bytes;
pub(crate) use report::OrcaLoadReport;

use http::HeaderName;

/// A report in protobuf and base64: gRPC's trailer, and Envoy's header.
static BINARY: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

/// A report in a form that its value begins with: Envoy's header.
static TEXTUAL: HeaderName = HeaderName::from_static("endpoint-load-metrics");
