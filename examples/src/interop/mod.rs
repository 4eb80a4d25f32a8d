//! The xDS interop client of the gRPC project, and the server that it calls.
//!
//! The client makes calls at a fixed rate and tells the driver of a test where they went. Client,
//! flags and services are those of gRPC's `doc/xds-test-descriptions.md`; drivers written for the
//! other languages' clients work with this one.

mod call;
mod client;
pub mod flags;
mod method;
mod plan;
mod server;
mod services;
mod stats;
mod traffic;

pub use call::{Channel, Outcome, perform};
pub use client::{Client, ClientError};
pub use flags::Flags;
pub use method::{Method, PerMethod, UnknownMethod};
pub use plan::{Call, InvalidPlan, MethodMetadata, Plan};
pub use server::TestServer;
pub use services::{ConfigureService, StatsService};
pub use stats::{CallId, Stats, Watch};
pub use traffic::{CallFailed, Report, Traffic};
