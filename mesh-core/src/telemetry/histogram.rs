use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Shortest duration that is told apart; shorter ones count as it.
const SHORTEST_NANOS: u64 = 1_000;
/// Longest duration that is told apart, an hour; longer ones count as it.
const LONGEST_NANOS: u64 = 3_600_000_000_000;
/// Each doubling is cut into this many buckets of equal width, so a bucket's middle is at most
/// 1/32 (3.2 %) away from what it counts.
const PER_DOUBLING: u64 = 1 << PER_DOUBLING_BITS;
const PER_DOUBLING_BITS: u32 = 4;
const FIRST_DOUBLING: u32 = SHORTEST_NANOS.ilog2();
const BUCKETS: usize = bucket(LONGEST_NANOS) + 1;

/// Durations from a microsecond to an hour in log-linear buckets, recorded by two relaxed atomic
/// additions. About 4 KiB.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// In microseconds: nanoseconds of long streams would overflow within hours.
    sum_micros: AtomicU64,
}

/// A reading of a [`Histogram`], or of several merged.
#[derive(Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    buckets: Box<[u64]>,
    sum_micros: u64,
}

const fn bucket(nanos: u64) -> usize {
    let doubling = nanos.ilog2();
    let within = (nanos >> (doubling - PER_DOUBLING_BITS)) & (PER_DOUBLING - 1);
    ((doubling - FIRST_DOUBLING) as u64 * PER_DOUBLING + within) as usize
}

/// The least duration of a bucket in nanoseconds, and its width.
fn bounds(bucket: usize) -> (u64, u64) {
    let bucket = bucket as u64;
    let width = 1 << (bucket / PER_DOUBLING + u64::from(FIRST_DOUBLING - PER_DOUBLING_BITS));
    ((PER_DOUBLING + bucket % PER_DOUBLING) * width, width)
}

// === impl Histogram ===

impl Histogram {
    /// Records one duration. No lock, no allocation.
    #[inline]
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let nanos_told = nanos.clamp(SHORTEST_NANOS, LONGEST_NANOS);
        self.buckets[bucket(nanos_told)].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(nanos / 1_000, Ordering::Relaxed);
    }

    /// Reads it. What is recorded meanwhile is in this reading or in the next.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: self
                .buckets
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            sum_micros: self.sum_micros.load(Ordering::Relaxed),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum_micros: AtomicU64::new(0),
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

// === impl HistogramSnapshot ===

impl HistogramSnapshot {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum; each is rounded down to a microsecond.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }

    /// The duration that the share `q` of those recorded (0 to 1) did not exceed, within 3.2 % of
    /// it; `None` if none was recorded. The result is from 1 µs to 1 h, give or take those 3.2 %.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|in_bucket| {
            seen += in_bucket;
            seen >= rank
        })?;
        let (least, width) = bounds(bucket);
        Some(Duration::from_nanos(least + width / 2))
    }

    /// The median.
    pub fn p50(&self) -> Option<Duration> {
        self.quantile(0.5)
    }

    /// What one in a hundred exceeded.
    pub fn p99(&self) -> Option<Duration> {
        self.quantile(0.99)
    }

    /// Adds what `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into_boxed_slice(),
            sum_micros: 0,
        }
    }
}

impl fmt::Debug for HistogramSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistogramSnapshot")
            .field("count", &self.count())
            .field("p50", &self.p50())
            .field("p99", &self.p99())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        let mut end = 512;
        for bucket_number in 0..BUCKETS {
            let (least, width) = bounds(bucket_number);
            assert_eq!(least, end);
            assert_eq!(bucket(least), bucket_number);
            assert_eq!(bucket(least + width - 1), bucket_number);
            assert!(width * PER_DOUBLING <= least);
            end = least + width;
        }
        assert!(end > LONGEST_NANOS);
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        let empty = Histogram::default().snapshot();
        assert_eq!((empty.p50(), empty.count()), (None, 0));
        assert_eq!(empty, HistogramSnapshot::default());
    }

    #[test]
    fn what_is_out_of_range_counts_as_its_end() {
        let histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        let shortest = histogram.snapshot().p50().unwrap();
        assert!((968..=1032).contains(&shortest.as_nanos()), "{shortest:?}");
        histogram.record(Duration::MAX);
        let longest = histogram.snapshot().quantile(1.0).unwrap().as_secs();
        assert!((3480..=3720).contains(&longest), "{longest}");
    }

    #[test]
    fn concurrent_adds_lose_none() {
        let histogram = Histogram::default();
        let (threads, each) = (8, 5_000);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let histogram = &histogram;
                scope.spawn(move || {
                    for i in 0..each {
                        histogram.record(Duration::from_micros(thread * each + i));
                    }
                });
            }
        });
        let snapshot = histogram.snapshot();
        let n = threads * each;
        assert_eq!(snapshot.count(), n);
        assert_eq!(snapshot.sum(), Duration::from_micros(n * (n - 1) / 2));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_thirtieth(
            // Even over the doublings, not over the durations.
            durations in prop::collection::vec(
                (10..41u32).prop_flat_map(|bits| 1u64 << bits..2u64 << bits), 1..300),
            q in 0.0..=1.0f64,
        ) {
            let histogram = Histogram::default();
            for &nanos in &durations {
                histogram.record(Duration::from_nanos(nanos));
            }
            let mut sorted = durations.clone();
            sorted.sort_unstable();
            let rank = ((q * sorted.len() as f64).ceil() as usize).max(1);
            let exact = sorted[rank - 1] as f64;
            let told = histogram.snapshot().quantile(q).unwrap().as_nanos() as f64;
            prop_assert!((told - exact).abs() <= exact / 30.0, "{told} for {exact}");
        }

        #[test]
        fn merging_is_recording_in_one(
            durations in prop::collection::vec((0..5_000_000_000u64, any::<bool>()), 0..200),
        ) {
            let (left, right, both) =
                (Histogram::default(), Histogram::default(), Histogram::default());
            for (nanos, to_left) in durations {
                // Whole microseconds, so that the sums do not round apart.
                let duration = Duration::from_micros(nanos / 1_000);
                if to_left { &left } else { &right }.record(duration);
                both.record(duration);
            }
            let mut merged = left.snapshot();
            merged.merge(&right.snapshot());
            prop_assert_eq!(merged, both.snapshot());
        }
    }
}
