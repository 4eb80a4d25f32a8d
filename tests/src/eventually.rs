//! Waiting for what nobody tells of.

use std::time::Duration;

use tokio::{task::yield_now, time::timeout};

/// How long a wait goes on before it panics.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets other tasks run until `look` finds something: for counts that have no waiter, such as the
/// runtime's of its tasks.
///
/// # Panics
/// If it finds nothing within 10 s, with what `describe` says then.
pub async fn eventually<T>(
    mut look: impl FnMut() -> Option<T>,
    describe: impl FnOnce() -> String,
) -> T {
    let found = async {
        loop {
            match look() {
                Some(found) => return found,
                None => yield_now().await,
            }
        }
    };
    match timeout(PATIENCE, found).await {
        Ok(found) => found,
        Err(_) => panic!("waited {PATIENCE:?}: {}", describe()),
    }
}
