//! Tests of what the whole process has in common.

use parking_lot::Mutex;

/// Runs a test on a current-thread runtime of its own, while no other that is run so does.
///
/// # Panics
/// If the test does.
pub fn alone(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
        .block_on(test);
}
