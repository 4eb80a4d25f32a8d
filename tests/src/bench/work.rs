use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{BoxError, Reading};

/// Makes one call after another, and checks each answer.
pub trait Caller: Send + 'static {
    /// Makes a call.
    fn call(&mut self) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// What a run of calls was, and what it cost the process that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Calls made.
    pub calls: u64,
    /// Wall time in nanoseconds.
    pub wall_ns: u64,
    /// Median latency in nanoseconds.
    pub p50_ns: u64,
    /// 99th percentile of latency in nanoseconds.
    pub p99_ns: u64,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Reading,
}

/// Makes `calls` calls, `in_flight` at once by a caller each: what that cost the process whose meter
/// is read.
///
/// # Errors
/// If a call fails.
pub async fn measured<C: Caller>(
    mut read: impl FnMut() -> Result<Reading, BoxError>,
    caller: impl Fn() -> C,
    calls: u64,
    in_flight: u64,
) -> Result<Sample, BoxError> {
    let before = read()?;
    let wall = Instant::now();
    let latencies = calls_in_flight(caller, calls, in_flight).await?;
    let wall_ns = wall.elapsed().as_nanos() as u64;
    Ok(Sample {
        calls,
        wall_ns,
        p50_ns: latencies.value_at_quantile(0.5),
        p99_ns: latencies.value_at_quantile(0.99),
        cost: read()?.since(before),
    })
}

/// Makes `calls` calls, `in_flight` at once by a caller each: their latencies in nanoseconds.
async fn calls_in_flight<C: Caller>(
    caller: impl Fn() -> C,
    calls: u64,
    in_flight: u64,
) -> Result<Histogram<u64>, BoxError> {
    let workers = (0..in_flight).map(|worker| {
        let mut caller = caller();
        let share = calls / in_flight + u64::from(worker < calls % in_flight);
        tokio::spawn(async move {
            let mut latencies = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
            for _ in 0..share {
                let start = Instant::now();
                caller.call().await?;
                latencies.record(start.elapsed().as_nanos() as u64)?;
            }
            Ok::<_, BoxError>(latencies)
        })
    });
    // All are started before the first is awaited.
    let workers: Vec<_> = workers.collect();
    let mut all = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
    for worker in workers {
        all.add(worker.await??)?;
    }
    Ok(all)
}
