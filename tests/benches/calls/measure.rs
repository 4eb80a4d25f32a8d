//! What one run of one contestant cost.

use serde::{Deserialize, Serialize};

/// The cost of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Calls made.
    pub(crate) calls: u64,
    /// Instructions of the process, user and kernel; none where the machine has no counters.
    pub(crate) instructions: Option<u64>,
    /// CPU time of the process, user and kernel, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Wall time in nanoseconds.
    pub(crate) wall_ns: u64,
    /// Allocations, reallocations included.
    pub(crate) allocations: u64,
    /// Bytes allocated.
    pub(crate) bytes: u64,
    /// Median latency in nanoseconds.
    pub(crate) p50_ns: u64,
    /// 99th percentile of latency in nanoseconds.
    pub(crate) p99_ns: u64,
}

/// Counts instructions of all threads of this process. Made before the first thread starts.
pub(crate) struct Instructions(#[cfg(target_os = "linux")] Option<perf_event::Counter>);

impl Instructions {
    /// Starts counting, where the machine can.
    pub(crate) fn start() -> Self {
        #[cfg(target_os = "linux")]
        {
            use perf_event::{Builder, events::Hardware};
            let counter = Builder::new(Hardware::INSTRUCTIONS)
                .include_kernel()
                .inherit(true)
                .build()
                .and_then(|mut counter| counter.enable().map(|()| counter));
            Self(counter.ok())
        }
        #[cfg(not(target_os = "linux"))]
        Self()
    }

    /// Instructions so far.
    pub(crate) fn read(&mut self) -> Option<u64> {
        #[cfg(target_os = "linux")]
        return self.0.as_mut().and_then(|counter| counter.read().ok());
        #[cfg(not(target_os = "linux"))]
        None
    }
}
