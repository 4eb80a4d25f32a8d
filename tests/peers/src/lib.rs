//! What the suite against foreign peers is made of: processes that run gRPC C-core, clients and
//! servers of ours, and scenarios' words for both.

mod call;
mod certificates;
mod codec;
mod core;
mod ours;
mod process;

pub use call::{Answer, Call, Failure, Reply, Security};
pub use certificates::Files;
pub use core::{CoreClient, CoreServer};
pub use ours::{OurClient, PlainServer};

use std::{future::Future, time::Duration};

/// How long anything may take before the suite gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A client of either kind, for scenarios that both must pass.
#[allow(async_fn_in_trait, reason = "nobody else implements or spawns it")]
pub trait Client {
    /// What failures call it.
    const NAME: &'static str;

    /// Makes the calls one after another.
    async fn call(&mut self, call: &Call) -> Vec<Answer>;

    /// Makes one call.
    async fn once(&mut self, call: &Call) -> Answer {
        let mut answers = self.call(&call.clone().times(1)).await;
        answers.remove(0)
    }

    /// Makes the calls again and again until they are answered so.
    ///
    /// # Panics
    /// If they never are.
    async fn until(&mut self, call: &Call, what: &str, holds: impl Fn(&[Answer]) -> bool) {
        let mut last = Vec::new();
        let waits = async {
            loop {
                last = self.call(call).await;
                if holds(&last) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, waits).await.is_err() {
            panic!("{}: never {what}; at last {last:?}", Self::NAME);
        }
    }
}

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
