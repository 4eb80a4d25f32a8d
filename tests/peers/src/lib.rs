//! What the suite against foreign peers is made of: processes that run gRPC C-core, clients and
//! servers of ours, and scenarios' words for both.

mod call;
mod certificates;
mod codec;
mod core;
pub mod envoy;
pub mod http;
mod ours;
mod process;
mod side;

pub use call::{Answer, Call, Failure, Reply, Security};
pub use certificates::Files;
pub use core::{CoreClient, CoreServer};
pub use ours::{OurClient, OurServer, PlainServer};
pub use side::{Client, Server, Side};

use std::{future::Future, time::Duration};

/// How long anything may take before the suite gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Ends a scenario that hangs.
///
/// # Panics
/// If it does.
pub async fn within<T>(scenario: impl Future<Output = T>) -> T {
    match tokio::time::timeout(4 * PATIENCE, scenario).await {
        Ok(done) => done,
        Err(_) => panic!("did not end within {:?}", 4 * PATIENCE),
    }
}
