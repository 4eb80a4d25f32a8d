use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use http::StatusCode;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;

use super::{
    Attempt, AttemptsSnapshot, CallRecord, CallsSnapshot, Cause, Counts, Histogram, Instruments,
    MethodSnapshot, Recorder, Security, Series, SeriesSnapshot, Sizes,
};
use crate::{
    Code,
    config::{LocalityId, Workload},
};

/// Counts calls by series, method and how they ended, to be read in-process: all dialects of
/// metrics are made of it.
///
/// Recording is two look-ups and a dozen relaxed atomic additions: no lock and no allocation but
/// for the first of a kind. Counts only grow, and a series keeps its own for as long as the
/// recorder lives, whatever becomes of the snapshots that named it. The number of series is
/// limited, and so are methods and kinds of ends: those past the limit share one named `other`.
#[derive(Debug)]
pub struct Metrics {
    limit: usize,
    rows: Arc<Rows>,
    series: RwLock<HashMap<Series, Arc<Board>>>,
}

/// How many rows there are in all series, and may be.
#[derive(Debug)]
struct Rows {
    used: AtomicUsize,
    limit: usize,
}

/// One series: the calls of each of its methods.
#[derive(Debug)]
struct Board {
    methods: ArcSwap<FxHashMap<Box<str>, Arc<Method>>>,
    /// Those that no method is known of.
    other: Arc<Method>,
    rows: Arc<Rows>,
    growing: Mutex<()>,
}

/// The live counts of one method.
#[derive(Debug)]
struct Method {
    started: AtomicU64,
    attempts_started: AtomicU64,
    retries: [AtomicU64; MOST_RETRIES],
    transparent_retries: [AtomicU64; MOST_RETRIES],
    calls: Kinds<CallKind, CallRow>,
    attempts: Kinds<AttemptKind, AttemptRow>,
}

/// Rows by what they have in common. They are never removed.
#[derive(Debug)]
struct Kinds<K, R> {
    by_kind: ArcSwap<FxHashMap<K, Arc<R>>>,
    growing: Mutex<()>,
    rows: Arc<Rows>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CallKind {
    /// [`Workload::fingerprint`].
    peer: u64,
    /// [`LocalityId::fingerprint`]; zero where attempts are counted by themselves.
    locality: u64,
    /// Each call is an attempt, too.
    alone: bool,
    status: u16,
    code: u8,
    cause: u8,
    flags: [Option<&'static str>; 2],
    security: Security,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct AttemptKind {
    locality: u64,
    status: u16,
    code: u8,
    cause: u8,
}

#[derive(Debug)]
struct CallRow {
    peer: Option<Arc<Workload>>,
    locality: Option<Arc<LocalityId>>,
    durations: Histogram,
    volume: Volume,
}

#[derive(Debug)]
struct AttemptRow {
    locality: Option<Arc<LocalityId>>,
    durations: Histogram,
    volume: Volume,
}

/// What was sent and received.
#[derive(Debug, Default)]
struct Volume {
    sent: Sizes,
    received: Sizes,
    sent_messages: AtomicU64,
    received_messages: AtomicU64,
}

/// Methods of a series that are kept apart.
const MOST_METHODS: usize = 200;
/// Retries of a call that are told apart; more count as so many.
pub(super) const MOST_RETRIES: usize = 10;
/// Rows that a recorder may have for each series, on average.
const ROWS_PER_SERIES: usize = 20;
/// The name of the series that takes what is past the limit.
const OTHER: &str = "other";

// === impl Metrics ===

impl Metrics {
    /// Series kept apart by default. Each kind of end of a series' calls, and of its attempts, takes
    /// about 2 KiB.
    pub const DEFAULT_LIMIT: usize = 1_000;

    /// A recorder of at most [`DEFAULT_LIMIT`](Self::DEFAULT_LIMIT) series.
    pub fn new() -> Arc<Self> {
        Self::with_limit(Self::DEFAULT_LIMIT)
    }

    /// A recorder of at most `limit` series, and those named `other`; and of at most twenty times as
    /// many kinds of ends.
    pub fn with_limit(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            rows: Arc::new(Rows {
                used: AtomicUsize::new(0),
                limit: limit.saturating_mul(ROWS_PER_SERIES),
            }),
            series: RwLock::default(),
        })
    }

    /// Reads all series, in no order.
    pub fn snapshot(&self) -> Vec<SeriesSnapshot> {
        let series = self.series.read();
        let read = |(series, board): (&Series, &Arc<Board>)| SeriesSnapshot {
            series: series.clone(),
            methods: board.read(),
        };
        series.iter().map(read).collect()
    }

    /// Reads all series as one.
    pub fn totals(&self) -> Counts {
        let mut totals = Counts::default();
        for series in self.snapshot() {
            totals.merge(&series.counts());
        }
        totals
    }
}

impl Recorder for Metrics {
    fn bind(&self, series: &Series) -> Arc<dyn Instruments> {
        if let Some(board) = self.series.read().get(series) {
            return Arc::clone(board) as _;
        }
        let mut all = self.series.write();
        // Looked at again: another snapshot may have bound it meanwhile.
        let board = if all.len() < self.limit || all.contains_key(series) {
            all.entry(series.clone())
        } else {
            all.entry(series.other(OTHER))
        };
        Arc::clone(board.or_insert_with(|| Arc::new(Board::new(&self.rows)))) as _
    }
}

// === impl Rows ===

impl Rows {
    /// Whether there may be one more.
    fn take(&self) -> bool {
        let more = |used| (used < self.limit).then_some(used + 1);
        self.used.fetch_update(Relaxed, Relaxed, more).is_ok()
    }
}

// === impl Board ===

impl Board {
    fn new(rows: &Arc<Rows>) -> Self {
        Self {
            methods: ArcSwap::default(),
            other: Arc::new(Method::new(rows)),
            rows: Arc::clone(rows),
            growing: Mutex::new(()),
        }
    }

    #[cold]
    fn add(&self, name: &str) -> Arc<Method> {
        let _growing = self.growing.lock();
        let methods = self.methods.load();
        if let Some(method) = methods.get(name) {
            return Arc::clone(method);
        }
        if methods.len() >= MOST_METHODS {
            return Arc::clone(&self.other);
        }
        let mut more = FxHashMap::clone(&methods);
        let method = Arc::new(Method::new(&self.rows));
        more.insert(name.into(), Arc::clone(&method));
        self.methods.store(Arc::new(more));
        method
    }

    fn read(&self) -> Vec<MethodSnapshot> {
        let methods = self.methods.load();
        let named = methods.iter().map(|(name, method)| method.read(Some(name)));
        named.chain([self.other.read(None)]).collect()
    }
}

impl Instruments for Board {
    #[inline]
    fn method(&self, method: &str) -> Option<Arc<dyn Instruments>> {
        let known = self.methods.load().get(method).cloned();
        Some(known.unwrap_or_else(|| self.add(method)) as _)
    }

    fn started(&self) {
        self.other.started();
    }

    fn attempt_started(&self) {
        self.other.attempt_started();
    }

    fn attempt(&self, attempt: &Attempt<'_>) {
        self.other.attempt(attempt);
    }

    fn finished(&self, call: &CallRecord<'_>) {
        self.other.finished(call);
    }
}

// === impl Method ===

impl Method {
    fn new(rows: &Arc<Rows>) -> Self {
        Self {
            started: AtomicU64::new(0),
            attempts_started: AtomicU64::new(0),
            retries: Default::default(),
            transparent_retries: Default::default(),
            calls: Kinds::new(rows),
            attempts: Kinds::new(rows),
        }
    }

    fn read(&self, name: Option<&str>) -> MethodSnapshot {
        // Ends before starts: what has ended has begun.
        let calls_by_kind = self.calls.by_kind.load();
        let calls = calls_by_kind.iter().map(|(kind, row)| CallsSnapshot {
            code: Code::from_i32(kind.code.into()),
            status: StatusCode::from_u16(kind.status).ok(),
            cause: Cause::ALL[usize::from(kind.cause)],
            flags: kind.flags,
            peer: row.peer.clone(),
            security: kind.security,
            durations: row.durations.snapshot(),
            sent: row.volume.sent.snapshot(),
            received: row.volume.received.snapshot(),
            sent_messages: row.volume.sent_messages.load(Relaxed),
            received_messages: row.volume.received_messages.load(Relaxed),
        });
        let calls = calls.collect();
        let attempts = self.attempts.by_kind.load();
        let calls_alone = calls_by_kind.iter().filter(|(kind, _)| kind.alone);
        let alone = calls_alone.map(|(kind, row)| AttemptsSnapshot {
            code: Code::from_i32(kind.code.into()),
            status: StatusCode::from_u16(kind.status).ok(),
            cause: Cause::ALL[usize::from(kind.cause)],
            locality: row.locality.clone(),
            durations: row.durations.snapshot(),
            sent: row.volume.sent.snapshot(),
            received: row.volume.received.snapshot(),
        });
        let attempts = attempts.iter().map(|(kind, row)| AttemptsSnapshot {
            code: Code::from_i32(kind.code.into()),
            status: StatusCode::from_u16(kind.status).ok(),
            cause: Cause::ALL[usize::from(kind.cause)],
            locality: row.locality.clone(),
            durations: row.durations.snapshot(),
            sent: row.volume.sent.snapshot(),
            received: row.volume.received.snapshot(),
        });
        let attempts = attempts.chain(alone).collect();
        let load = |counts: &[AtomicU64; MOST_RETRIES]| counts.each_ref().map(|n| n.load(Relaxed));
        MethodSnapshot {
            method: name.map(Arc::from),
            calls,
            attempts,
            retries: load(&self.retries),
            transparent_retries: load(&self.transparent_retries),
            attempts_started: self.attempts_started.load(Relaxed),
            started: self.started.load(Relaxed),
        }
    }
}

impl Instruments for Method {
    #[inline]
    fn started(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    #[inline]
    fn attempt_started(&self) {
        self.attempts_started.fetch_add(1, Relaxed);
    }

    fn attempt(&self, attempt: &Attempt<'_>) {
        let kind = AttemptKind {
            locality: attempt
                .locality
                .map_or(0, |locality| locality.fingerprint()),
            status: attempt.status.map_or(0, |status| status.as_u16()),
            code: attempt.code as u8,
            cause: attempt.cause as u8,
        };
        let add = || AttemptRow {
            locality: attempt.locality.cloned(),
            durations: Histogram::default(),
            volume: Volume::default(),
        };
        let other = || AttemptKind {
            locality: 0,
            status: 0,
            ..kind
        };
        self.attempts.with(kind, other, add, |row| {
            row.durations.record(attempt.duration);
            row.volume.sent.record(attempt.sent.bytes);
            row.volume.received.record(attempt.received.bytes);
        });
    }

    fn finished(&self, call: &CallRecord<'_>) {
        self.ended(call, false);
        count(&self.retries, call.retries);
        count(&self.transparent_retries, call.transparent_retries);
    }

    fn both_ended(&self, call: &CallRecord<'_>) {
        self.ended(call, true);
    }
}

impl Method {
    #[inline]
    fn ended(&self, call: &CallRecord<'_>, alone: bool) {
        let kind = CallKind {
            alone,
            locality: match (alone, call.locality) {
                (true, Some(locality)) => locality.fingerprint(),
                _ => 0,
            },
            peer: call.peer.map_or(0, |peer| peer.fingerprint()),
            status: call.status.map_or(0, |status| status.as_u16()),
            code: call.code as u8,
            cause: call.cause as u8,
            flags: call.flags,
            security: call.security,
        };
        let add = || CallRow {
            peer: call.peer.cloned(),
            locality: call.locality.filter(|_| alone).cloned(),
            durations: Histogram::default(),
            volume: Volume::default(),
        };
        let other = || CallKind {
            peer: 0,
            locality: 0,
            status: 0,
            ..kind
        };
        self.calls.with(kind, other, add, |row| {
            row.durations.record(call.duration);
            let volume = &row.volume;
            volume.sent.record(call.sent.bytes);
            volume.received.record(call.received.bytes);
            if call.sent.messages > 0 {
                volume.sent_messages.fetch_add(call.sent.messages, Relaxed);
            }
            if call.received.messages > 0 {
                let messages = call.received.messages;
                volume.received_messages.fetch_add(messages, Relaxed);
            }
        });
    }
}

/// Counts a call of so many retries.
#[inline]
fn count(counts: &[AtomicU64; MOST_RETRIES], retries: u32) {
    if let Some(index) = (retries as usize).min(MOST_RETRIES).checked_sub(1) {
        counts[index].fetch_add(1, Relaxed);
    }
}

// === impl Kinds ===

impl<K: Copy + Eq + std::hash::Hash, R> Kinds<K, R> {
    fn new(rows: &Arc<Rows>) -> Self {
        Self {
            by_kind: ArcSwap::default(),
            growing: Mutex::new(()),
            rows: Arc::clone(rows),
        }
    }

    /// Does `then` with the row of `kind`; if there is none and no room for it, with that of
    /// `other`.
    #[inline]
    fn with(
        &self,
        kind: K,
        other: impl FnOnce() -> K,
        add: impl FnOnce() -> R,
        then: impl FnOnce(&R),
    ) {
        match self.by_kind.load().get(&kind) {
            Some(row) => then(row),
            None => then(&self.add(kind, other, add)),
        }
    }

    #[cold]
    fn add(&self, kind: K, other: impl FnOnce() -> K, add: impl FnOnce() -> R) -> Arc<R> {
        let _growing = self.growing.lock();
        let rows = self.by_kind.load();
        if let Some(row) = rows.get(&kind) {
            return Arc::clone(row);
        }
        let kind = match self.rows.take() {
            true => kind,
            // What is left of its kind is one of a few: each has a row of its own.
            false => other(),
        };
        if let Some(row) = rows.get(&kind) {
            return Arc::clone(row);
        }
        let mut more = FxHashMap::clone(&rows);
        let row = Arc::new(add());
        more.insert(kind, Arc::clone(&row));
        self.by_kind.store(Arc::new(more));
        row
    }
}

#[cfg(test)]
mod tests;
