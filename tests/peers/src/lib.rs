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
mod status;
mod unary;

pub use call::{Answer, Call, Failure, Reply, Security};
pub use certificates::Files;
pub use core::{CoreClient, CoreServer};
pub use ours::{OurClient, OurServer, PlainServer};
pub use side::{Client, Server, Side};
pub use status::{Status, StatusServer, Told};

use std::{future::Future, time::Duration};

use tokio::time::{interval, timeout};

/// How long anything may take before the suite gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Ends a scenario that hangs.
///
/// # Panics
/// If it does.
pub async fn within<T>(scenario: impl Future<Output = T>) -> T {
    match timeout(4 * PATIENCE, scenario).await {
        Ok(done) => done,
        Err(_) => panic!("did not end within {:?}", 4 * PATIENCE),
    }
}

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until it holds.
///
/// # Panics
/// If it never does.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looks = async {
        let mut look = interval(LOOK);
        while !holds().await {
            look.tick().await;
        }
    };
    if timeout(PATIENCE, looks).await.is_err() {
        panic!("never {what}");
    }
}

/// What a number is once it has stopped to grow: it did not in so many looks.
pub async fn settled(number: impl Fn() -> u64) -> u64 {
    const LOOKS: u32 = 25;
    let (mut last, mut same) = (0, 0);
    until("settled", async || {
        let now = number();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same > LOOKS && now > 0
    })
    .await;
    last
}
