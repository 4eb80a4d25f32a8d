use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::StatusCode;
use parking_lot::RwLock;

use super::{
    Attempt, CallRecord, Cause, Histogram, HistogramSnapshot, Instruments, Recorder, Series,
};
use crate::{Code, Semantics};

/// Counts calls by series, to be read in-process.
///
/// Recording is a handful of relaxed atomic additions. Counts only grow, and a series keeps its
/// own for as long as the recorder lives, whatever becomes of the snapshots that named it. The
/// number of series is limited: those past the limit share one named `other` per semantics.
#[derive(Debug)]
pub struct Metrics {
    limit: usize,
    series: RwLock<HashMap<Series, Arc<Cell>>>,
}

/// A reading of one series.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SeriesSnapshot {
    /// Which calls these are.
    pub series: Series,
    /// What became of them.
    pub counts: Counts,
}

/// What became of the calls of a series, or of several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    started: u64,
    codes: [u64; CODES],
    causes: [u64; CAUSES],
    /// By status, from 100; empty where no HTTP calls were counted.
    statuses: Vec<u64>,
    retries: u64,
    transparent_retries: u64,
    attempts: [u64; CODES],
    durations: HistogramSnapshot,
    attempt_durations: HistogramSnapshot,
}

/// The live counts of one series.
#[derive(Debug)]
struct Cell {
    started: AtomicU64,
    codes: [AtomicU64; CODES],
    causes: [AtomicU64; CAUSES],
    /// By status, from 100; empty under gRPC semantics.
    statuses: Box<[AtomicU64]>,
    retries: AtomicU64,
    transparent_retries: AtomicU64,
    attempts: [AtomicU64; CODES],
    durations: Histogram,
    attempt_durations: Histogram,
}

const CODES: usize = Code::Unauthenticated as usize + 1;
const CAUSES: usize = Cause::ALL.len();
const FIRST_STATUS: u16 = 100;
/// [`StatusCode`] admits 100 to 999.
const STATUSES: usize = 900;
/// The name of the series that takes what is past the limit.
const OTHER: &str = "other";

// === impl Metrics ===

impl Metrics {
    /// Series kept apart by default; one takes about 9 KiB (HTTP: 16 KiB).
    pub const DEFAULT_LIMIT: usize = 1_000;

    /// A recorder of at most [`DEFAULT_LIMIT`](Self::DEFAULT_LIMIT) series.
    pub fn new() -> Arc<Self> {
        Self::with_limit(Self::DEFAULT_LIMIT)
    }

    /// A recorder of at most `limit` series, and those named `other`.
    pub fn with_limit(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            series: RwLock::default(),
        })
    }

    /// Reads all series, in no order.
    pub fn snapshot(&self) -> Vec<SeriesSnapshot> {
        let series = self.series.read();
        series
            .iter()
            .map(|(series, cell)| SeriesSnapshot {
                series: series.clone(),
                counts: cell.read(),
            })
            .collect()
    }

    /// Reads all series as one.
    pub fn totals(&self) -> Counts {
        let mut totals = Counts::default();
        for cell in self.series.read().values() {
            totals.merge(&cell.read());
        }
        totals
    }
}

impl Recorder for Metrics {
    fn bind(&self, series: &Series) -> Arc<dyn Instruments> {
        if let Some(cell) = self.series.read().get(series) {
            return Arc::clone(cell) as _;
        }
        let mut all = self.series.write();
        // Looked at again: another snapshot may have bound it meanwhile.
        let cell = if all.len() < self.limit || all.contains_key(series) {
            all.entry(series.clone())
        } else {
            all.entry(Series::new(OTHER, OTHER, OTHER, series.semantics))
        };
        Arc::clone(cell.or_insert_with(|| Arc::new(Cell::new(series.semantics)))) as _
    }
}

// === impl Counts ===

impl Counts {
    /// Calls that began.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Calls that ended.
    pub fn finished(&self) -> u64 {
        self.codes.iter().sum()
    }

    /// Calls under way.
    pub fn in_flight(&self) -> u64 {
        // A call may begin and end between the two readings.
        self.started.saturating_sub(self.finished())
    }

    /// Calls that ended with `code`.
    pub fn code(&self, code: Code) -> u64 {
        self.codes[code as usize]
    }

    /// The codes that calls ended with, and how many did.
    pub fn codes(&self) -> impl Iterator<Item = (Code, u64)> {
        (0..)
            .map(Code::from_i32)
            .zip(self.codes)
            .filter(|&(_, n)| n > 0)
    }

    /// Calls that ended with another code than OK.
    pub fn failed(&self) -> u64 {
        self.finished() - self.code(Code::Ok)
    }

    /// Calls whose outcome came from `cause`.
    pub fn cause(&self, cause: Cause) -> u64 {
        self.causes[cause as usize]
    }

    /// The causes of outcomes, and how many each had.
    pub fn causes(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL
            .into_iter()
            .zip(self.causes)
            .filter(|&(_, n)| n > 0)
    }

    /// HTTP calls that ended with `status`.
    pub fn status(&self, status: StatusCode) -> u64 {
        self.statuses
            .get(status_index(status))
            .copied()
            .unwrap_or(0)
    }

    /// Attempts that a retry policy asked for.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Attempts for requests that no server had seen.
    pub fn transparent_retries(&self) -> u64 {
        self.transparent_retries
    }

    /// Attempts that ended, first ones included.
    pub fn attempts(&self) -> u64 {
        self.attempts.iter().sum()
    }

    /// Attempts that ended with `code`.
    pub fn attempts_with(&self, code: Code) -> u64 {
        self.attempts[code as usize]
    }

    /// How long calls took.
    pub fn durations(&self) -> &HistogramSnapshot {
        &self.durations
    }

    /// How long attempts took.
    pub fn attempt_durations(&self) -> &HistogramSnapshot {
        &self.attempt_durations
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        fn add(mine: &mut [u64], theirs: &[u64]) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        }
        self.started += other.started;
        add(&mut self.codes, &other.codes);
        add(&mut self.causes, &other.causes);
        let statuses = self.statuses.len().max(other.statuses.len());
        self.statuses.resize(statuses, 0);
        add(&mut self.statuses, &other.statuses);
        self.retries += other.retries;
        self.transparent_retries += other.transparent_retries;
        add(&mut self.attempts, &other.attempts);
        self.durations.merge(&other.durations);
        self.attempt_durations.merge(&other.attempt_durations);
    }
}

fn status_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() - FIRST_STATUS)
}

// === impl Cell ===

impl Cell {
    fn new(semantics: Semantics) -> Self {
        let statuses = match semantics {
            Semantics::Grpc => 0,
            Semantics::Http => STATUSES,
        };
        Self {
            started: AtomicU64::new(0),
            codes: Default::default(),
            causes: Default::default(),
            statuses: (0..statuses).map(|_| AtomicU64::new(0)).collect(),
            retries: AtomicU64::new(0),
            transparent_retries: AtomicU64::new(0),
            attempts: Default::default(),
            durations: Histogram::default(),
            attempt_durations: Histogram::default(),
        }
    }

    fn read(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            started: load(&self.started),
            codes: self.codes.each_ref().map(load),
            causes: self.causes.each_ref().map(load),
            statuses: self.statuses.iter().map(load).collect(),
            retries: load(&self.retries),
            transparent_retries: load(&self.transparent_retries),
            attempts: self.attempts.each_ref().map(load),
            durations: self.durations.snapshot(),
            attempt_durations: self.attempt_durations.snapshot(),
        }
    }
}

impl Instruments for Cell {
    fn started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    fn attempt(&self, attempt: &Attempt<'_>) {
        self.attempts[attempt.code as usize].fetch_add(1, Ordering::Relaxed);
        self.attempt_durations.record(attempt.duration);
    }

    fn finished(&self, call: &CallRecord<'_>) {
        self.codes[call.code as usize].fetch_add(1, Ordering::Relaxed);
        self.causes[call.cause as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(status) = call.status
            && let Some(counter) = self.statuses.get(status_index(status))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if call.retries > 0 {
            let retries = u64::from(call.retries);
            self.retries.fetch_add(retries, Ordering::Relaxed);
        }
        if call.transparent_retries > 0 {
            let retries = u64::from(call.transparent_retries);
            self.transparent_retries
                .fetch_add(retries, Ordering::Relaxed);
        }
        self.durations.record(call.duration);
    }
}

#[cfg(test)]
mod tests;
