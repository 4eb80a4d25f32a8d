//! The wall clock, for certificates alone. Nothing else looks at it.

use std::time::{Duration, SystemTime};

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use tokio::time::Instant;

/// The longest single sleep towards a moment of the wall clock, which may be set in between.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// The wall clock as rustls asks for it.
#[derive(Debug)]
pub(super) struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(now()))
    }
}

/// What time it is. Where a test has paused or advanced tokio's clock, this follows.
#[expect(
    clippy::disallowed_types,
    reason = "how far tokio's clock is from the real one: nothing, but in tests"
)]
pub(crate) fn now() -> SystemTime {
    let (tokio, real) = (Instant::now().into_std(), std::time::Instant::now());
    let wall = SystemTime::now();
    match tokio.checked_duration_since(real) {
        Some(ahead) => wall + ahead,
        None => wall - real.duration_since(tokio),
    }
}

/// Waits until `moment`. Survives a wall clock that is set.
pub(super) async fn sleep_until(moment: SystemTime) {
    while let Ok(left) = moment.duration_since(now())
        && !left.is_zero()
    {
        // Not less than a timer can tell apart.
        let pause = left.clamp(Duration::from_millis(1), LONGEST_SLEEP);
        tokio::time::sleep(pause).await;
    }
}

/// `time` as rustls takes it.
pub(super) fn unix(time: SystemTime) -> UnixTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since.unwrap_or_default())
}
