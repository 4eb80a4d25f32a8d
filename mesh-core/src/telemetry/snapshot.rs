use std::sync::Arc;

use http::StatusCode;

use super::{Cause, HistogramSnapshot, Security, Series, SizesSnapshot, metrics::MOST_RETRIES};
use crate::{
    Code, Semantics,
    config::{LocalityId, Workload},
};

/// A reading of one series.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SeriesSnapshot {
    /// Which calls these are.
    pub series: Series,
    /// What became of them, by method.
    pub methods: Vec<MethodSnapshot>,
}

/// A reading of one method's calls.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MethodSnapshot {
    /// `package.Service/Method`, or a method of HTTP. `None`: all others.
    pub method: Option<Arc<str>>,
    /// Calls that began.
    pub started: u64,
    /// Attempts that began.
    pub attempts_started: u64,
    /// Calls that ended, by how.
    pub calls: Vec<CallsSnapshot>,
    /// Attempts that ended, by how.
    pub attempts: Vec<AttemptsSnapshot>,
    /// Calls of one retry, of two and so on; the last: of so many or more.
    pub retries: [u64; MOST_RETRIES],
    /// Calls of one transparent retry, of two and so on; the last: of so many or more.
    pub transparent_retries: [u64; MOST_RETRIES],
}

/// Calls of a method that ended alike.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CallsSnapshot {
    /// The gRPC status; under HTTP semantics the one nearest to what happened.
    pub code: Code,
    /// The HTTP status that the caller saw, if it saw one.
    pub status: Option<StatusCode>,
    /// Where the outcome came from.
    pub cause: Cause,
    /// Envoy's response flags, if there are any.
    pub flags: [Option<&'static str>; 2],
    /// What is at the other end, where that is known.
    pub peer: Option<Arc<Workload>>,
    /// How the other end was spoken to.
    pub security: Security,
    /// How long they took.
    pub durations: HistogramSnapshot,
    /// How much was sent in each.
    pub sent: SizesSnapshot,
    /// How much was received in each.
    pub received: SizesSnapshot,
    /// Messages sent in all of them.
    pub sent_messages: u64,
    /// Messages received in all of them.
    pub received_messages: u64,
}

/// Attempts of a method's calls that ended alike.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AttemptsSnapshot {
    /// The gRPC status; under HTTP semantics the one nearest to what happened.
    pub code: Code,
    /// The HTTP status of the response, if there was one.
    pub status: Option<StatusCode>,
    /// Where the outcome came from.
    pub cause: Cause,
    /// Where the endpoints are.
    pub locality: Option<Arc<LocalityId>>,
    /// How long they took.
    pub durations: HistogramSnapshot,
    /// How much was sent in each.
    pub sent: SizesSnapshot,
    /// How much was received in each.
    pub received: SizesSnapshot,
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

const CODES: usize = Code::Unauthenticated as usize + 1;
const CAUSES: usize = Cause::ALL.len();
const FIRST_STATUS: u16 = 100;
/// [`StatusCode`] admits 100 to 999.
const STATUSES: usize = 900;

// === impl SeriesSnapshot ===

impl SeriesSnapshot {
    /// What became of all its calls.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for method in &self.methods {
            counts.add(method, self.series.semantics);
        }
        counts
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

    fn add(&mut self, method: &MethodSnapshot, semantics: Semantics) {
        let all = |counts: &[u64]| (1..).zip(counts).map(|(n, count)| n * count).sum::<u64>();
        self.started += method.started;
        self.retries += all(&method.retries);
        self.transparent_retries += all(&method.transparent_retries);
        for call in &method.calls {
            let count = call.durations.count();
            self.codes[call.code as usize] += count;
            self.causes[call.cause as usize] += count;
            if semantics == Semantics::Http
                && let Some(status) = call.status
            {
                self.statuses.resize(STATUSES, 0);
                self.statuses[status_index(status)] += count;
            }
            self.durations.merge(&call.durations);
        }
        for attempt in &method.attempts {
            self.attempts[attempt.code as usize] += attempt.durations.count();
            self.attempt_durations.merge(&attempt.durations);
        }
    }
}

fn status_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() - FIRST_STATUS)
}
