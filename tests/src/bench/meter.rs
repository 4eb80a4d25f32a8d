use std::alloc::System;

use cpu_time::ProcessTime;
use serde::{Deserialize, Serialize};
use stats_alloc::StatsAlloc;

use crate::instructions::Instructions;

/// Measures what this process costs. Made before the first thread starts.
#[derive(Debug)]
pub struct Meter {
    allocator: &'static StatsAlloc<System>,
    instructions: Instructions,
    start: ProcessTime,
}

/// What a process has cost since it began, or between two readings.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Reading {
    /// Instructions, user and kernel; none where the machine has no counters.
    pub instructions: Option<u64>,
    /// CPU time, user and kernel, in nanoseconds.
    pub cpu_ns: u64,
    /// Allocations, reallocations included.
    pub allocations: u64,
    /// Bytes allocated.
    pub bytes: u64,
}

impl Meter {
    /// Counts from now on; allocations are those of the program's global allocator.
    pub fn start(allocator: &'static StatsAlloc<System>) -> Self {
        Self {
            allocator,
            instructions: Instructions::start(),
            start: ProcessTime::now(),
        }
    }

    /// What there was until now.
    pub fn read(&mut self) -> Reading {
        let allocated = self.allocator.stats();
        Reading {
            instructions: self.instructions.read(),
            cpu_ns: self.start.elapsed().as_nanos() as u64,
            allocations: (allocated.allocations + allocated.reallocations) as u64,
            bytes: allocated.bytes_allocated as u64,
        }
    }
}

impl Reading {
    /// What was added after `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        let instructions = self.instructions.zip(earlier.instructions);
        Self {
            instructions: instructions.map(|(now, then)| now - then),
            cpu_ns: self.cpu_ns - earlier.cpu_ns,
            allocations: self.allocations - earlier.allocations,
            bytes: self.bytes - earlier.bytes,
        }
    }
}
