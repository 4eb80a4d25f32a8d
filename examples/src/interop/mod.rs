//! The xDS interop client and server of the gRPC project.
//!
//! The client makes calls at a fixed rate and tells the driver of a test where they went. Client,
//! flags and services are those of gRPC's `doc/xds-test-descriptions.md`; drivers written for the
//! other languages' clients work with this one.

mod behavior;
mod call;
mod client;
pub mod flags;
mod method;
mod plan;
mod server;
mod services;
mod stats;
mod test_service;
mod traffic;

pub use call::{Channel, Outcome, perform};
pub use client::{Client, ClientError};
pub use flags::Flags;
pub use method::{Method, PerMethod, UnknownMethod};
pub use plan::{Call, InvalidPlan, MethodMetadata, Plan};
pub use server::{HealthService, InteropServerError, TestServer, serve_plaintext, serve_secure};
pub use services::{ConfigureService, StatsService};
pub use stats::{CallId, Stats, Watch};
pub use test_service::TestService;
pub use traffic::{CallFailed, Report, Traffic};
