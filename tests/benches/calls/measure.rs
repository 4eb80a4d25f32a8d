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
