use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Bounds of durations in microseconds, each the highest that its bucket takes.
///
/// They hold those of all dialects, so that each is told exactly: Envoy's (Istio's metrics),
/// OpenTelemetry's conventions and gRPC's (gRFC A66). Others between them keep a quantile within an
/// eighth from 100 µs to 100 s.
const DURATIONS: [u64; 100] = [
    10,
    20,
    30,
    50,
    70,
    100,
    120,
    150,
    180,
    220,
    260,
    300,
    350,
    420,
    500,
    600,
    700,
    800,
    900,
    1_000,
    1_200,
    1_500,
    1_750,
    2_000,
    2_500,
    3_000,
    3_500,
    4_000,
    5_000,
    6_000,
    7_000,
    8_000,
    9_000,
    10_000,
    11_500,
    13_000,
    16_000,
    18_000,
    20_000,
    25_000,
    30_000,
    35_000,
    40_000,
    50_000,
    57_000,
    65_000,
    75_000,
    80_000,
    90_000,
    100_000,
    115_000,
    130_000,
    160_000,
    180_000,
    200_000,
    250_000,
    300_000,
    350_000,
    400_000,
    500_000,
    570_000,
    650_000,
    750_000,
    800_000,
    900_000,
    1_000_000,
    1_200_000,
    1_500_000,
    1_750_000,
    2_000_000,
    2_500_000,
    3_000_000,
    3_500_000,
    4_000_000,
    5_000_000,
    6_000_000,
    7_500_000,
    9_000_000,
    10_000_000,
    12_000_000,
    15_000_000,
    17_500_000,
    20_000_000,
    25_000_000,
    30_000_000,
    35_000_000,
    42_000_000,
    50_000_000,
    60_000_000,
    72_000_000,
    85_000_000,
    100_000_000,
    140_000_000,
    200_000_000,
    300_000_000,
    420_000_000,
    600_000_000,
    1_000_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// Bounds of sizes in bytes: Envoy's, and gRPC's (gRFC A66).
const SIZES: [u64; 34] = [
    0,
    1,
    5,
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    1_024,
    2_048,
    2_500,
    4_096,
    5_000,
    10_000,
    16_384,
    30_000,
    60_000,
    65_536,
    262_144,
    300_000,
    600_000,
    1_048_576,
    1_800_000,
    3_600_000,
    4_194_304,
    16_777_216,
    67_108_864,
    268_435_456,
    1_073_741_824,
    4_294_967_296,
    17_179_869_184,
    68_719_476_736,
];

/// Durations in buckets, recorded by two relaxed atomic additions. About 0.8 KiB.
pub struct Histogram(Buckets<{ DURATIONS.len() + 1 }>);

/// For each quarter of a doubling the first bucket that a value of it may be in: a short way to it.
type Starts = [u8; 4 * 64];
static DURATION_STARTS: Starts = starts(&DURATIONS);
static SIZE_STARTS: Starts = starts(&SIZES);

/// Sizes in bytes, as [`Histogram`] counts durations. About 0.3 KiB.
pub struct Sizes(Buckets<{ SIZES.len() + 1 }>);

/// A reading of a [`Histogram`], or of several merged.
#[derive(Clone, PartialEq, Eq)]
pub struct HistogramSnapshot(Reading);

/// A reading of [`Sizes`], or of several merged.
#[derive(Clone, PartialEq, Eq)]
pub struct SizesSnapshot(Reading);

/// One more bucket than there are bounds: the last has none.
struct Buckets<const N: usize> {
    counts: [AtomicU64; N],
    sum: AtomicU64,
}

#[derive(Clone, PartialEq, Eq)]
struct Reading {
    bounds: &'static [u64],
    counts: Box<[u64]>,
    sum: u64,
}

/// Which quarter of which doubling a value is in.
#[inline]
const fn quarter(value: u64) -> usize {
    if value < 4 {
        return value as usize;
    }
    let doubling = value.ilog2();
    (doubling * 4) as usize + ((value >> (doubling - 2)) & 3) as usize
}

const fn starts(bounds: &[u64]) -> Starts {
    let mut starts = [0; 4 * 64];
    let mut quarter = 0;
    while quarter < starts.len() {
        let least = match quarter {
            0..4 => quarter as u64,
            _ => (4 + quarter as u64 % 4) << (quarter / 4).saturating_sub(2),
        };
        let mut bucket = 0;
        while bucket < bounds.len() && bounds[bucket] < least {
            bucket += 1;
        }
        starts[quarter] = bucket as u8;
        quarter += 1;
    }
    starts
}

// === impl Histogram ===

impl Histogram {
    /// Records one duration. No lock, no allocation.
    #[inline]
    pub fn record(&self, duration: Duration) {
        let (seconds, nanos) = (duration.as_secs(), u64::from(duration.subsec_nanos()));
        let micros = |nanos| seconds.saturating_mul(1_000_000).saturating_add(nanos);
        // Up: what is above a bound must not count as being at it.
        let told = micros(nanos.div_ceil(1_000));
        (self.0).record(&DURATIONS, &DURATION_STARTS, told, micros(nanos / 1_000));
    }

    /// Reads it. What is recorded meanwhile is in this reading or in the next.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot(self.0.read(&DURATIONS))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self(Buckets::new())
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

// === impl Sizes ===

impl Sizes {
    /// Records one size. No lock, no allocation.
    #[inline]
    pub fn record(&self, bytes: u64) {
        self.0.record(&SIZES, &SIZE_STARTS, bytes, bytes);
    }

    /// Reads it. What is recorded meanwhile is in this reading or in the next.
    pub fn snapshot(&self) -> SizesSnapshot {
        SizesSnapshot(self.0.read(&SIZES))
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self(Buckets::new())
    }
}

impl fmt::Debug for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

// === impl HistogramSnapshot ===

impl HistogramSnapshot {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// Their sum; each is rounded down to a microsecond.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.0.sum)
    }

    /// How many were at most `bound`: exact where `bound` is one that a dialect has, else counted to
    /// the last bound before it.
    pub fn at_most(&self, bound: Duration) -> u64 {
        self.0
            .at_most(u64::try_from(bound.as_micros()).unwrap_or(u64::MAX))
    }

    /// The duration that the share `q` of those recorded (0 to 1) did not exceed: from 100 µs to
    /// 100 s within a quarter of it, mostly far less. `None` if none was recorded.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        self.0.quantile(q).map(Duration::from_micros)
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
        self.0.merge(&other.0);
    }
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self(Reading::empty(&DURATIONS))
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

// === impl SizesSnapshot ===

impl SizesSnapshot {
    /// How many sizes were recorded.
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// Their sum in bytes.
    pub fn sum(&self) -> u64 {
        self.0.sum
    }

    /// How many were at most `bound` bytes: exact where `bound` is one that a dialect has, else
    /// counted to the last bound before it.
    pub fn at_most(&self, bound: u64) -> u64 {
        self.0.at_most(bound)
    }

    /// Adds what `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }
}

impl Default for SizesSnapshot {
    fn default() -> Self {
        Self(Reading::empty(&SIZES))
    }
}

impl fmt::Debug for SizesSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SizesSnapshot")
            .field("count", &self.count())
            .field("sum", &self.sum())
            .finish_non_exhaustive()
    }
}

// === impl Buckets ===

impl<const N: usize> Buckets<N> {
    fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; N],
            sum: AtomicU64::new(0),
        }
    }

    #[inline]
    fn record(&self, bounds: &[u64], starts: &Starts, value: u64, add: u64) {
        let mut bucket = usize::from(starts[quarter(value)]);
        while bounds.get(bucket).is_some_and(|&bound| bound < value) {
            bucket += 1;
        }
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if add > 0 {
            self.sum.fetch_add(add, Ordering::Relaxed);
        }
    }

    fn read(&self, bounds: &'static [u64]) -> Reading {
        Reading {
            bounds,
            counts: (self.counts.iter())
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

// === impl Reading ===

impl Reading {
    fn empty(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1].into_boxed_slice(),
            sum: 0,
        }
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn at_most(&self, bound: u64) -> u64 {
        let buckets = self.bounds.partition_point(|&one| one <= bound);
        self.counts[..buckets].iter().sum()
    }

    /// Even within a bucket.
    fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut before = 0;
        for (bucket, &within) in self.counts.iter().enumerate() {
            if before + within < rank {
                before += within;
                continue;
            }
            let low = bucket.checked_sub(1).map_or(0, |below| self.bounds[below]);
            // Past the last bound nothing is known but that.
            let high = self.bounds.get(bucket).copied().unwrap_or(low);
            let share = (rank - before) as f64 / within as f64;
            return Some(low + ((high - low) as f64 * share).round() as u64);
        }
        None
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_rise_and_are_close() {
        for bounds in [&DURATIONS[..], &SIZES] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
        for pair in DURATIONS.windows(2) {
            if (100..100_000_000).contains(&pair[0]) {
                assert!(pair[1] as f64 <= pair[0] as f64 * 1.25, "{pair:?}");
            }
        }
    }

    #[test]
    fn the_short_way_leads_to_the_right_bucket() {
        let values = (0..5_000).chain((0..64).flat_map(|bits| {
            let power = 1_u64 << bits;
            [
                power - 1,
                power,
                power + 1,
                power | power >> 1,
                power | power >> 2,
            ]
        }));
        for value in values.chain(DURATIONS).chain(SIZES).chain([u64::MAX]) {
            for (bounds, starts) in [(&DURATIONS[..], &DURATION_STARTS), (&SIZES, &SIZE_STARTS)] {
                let start = usize::from(starts[quarter(value)]);
                let bucket = bounds.partition_point(|&bound| bound < value);
                assert!(
                    start <= bucket && bucket - start <= 3,
                    "{value}: {start} {bucket}"
                );
            }
        }
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        let empty = Histogram::default().snapshot();
        assert_eq!((empty.p50(), empty.count()), (None, 0));
        assert_eq!(empty, HistogramSnapshot::default());
        assert_eq!(Sizes::default().snapshot(), SizesSnapshot::default());
    }

    #[test]
    fn what_is_at_a_bound_is_within_it() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(5));
        histogram.record(Duration::from_millis(5) + Duration::from_nanos(1));
        histogram.record(Duration::ZERO);
        histogram.record(Duration::MAX);
        let snapshot = histogram.snapshot();
        let at_most = |micros| snapshot.at_most(Duration::from_micros(micros));
        assert_eq!((at_most(4_999), at_most(5_000), at_most(6_000)), (1, 2, 3));
        assert_eq!(snapshot.count(), 4);

        let sizes = Sizes::default();
        for bytes in [0, 1_024, 1_025, u64::MAX] {
            sizes.record(bytes);
        }
        let snapshot = sizes.snapshot();
        assert_eq!([0, 1_024, 2_048].map(|n| snapshot.at_most(n)), [1, 2, 3]);
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
        fn quantiles_are_within_a_quarter(
            // Even over the doublings, not over the durations: 131 µs to 69 s.
            durations in prop::collection::vec(
                (17..36u32).prop_flat_map(|bits| 1u64 << bits..2u64 << bits), 1..300),
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
            prop_assert!((told - exact).abs() <= exact / 4.0, "{told} for {exact}");
        }

        #[test]
        fn merging_is_recording_in_one(
            durations in prop::collection::vec((0..5_000_000_000u64, any::<bool>()), 0..200),
        ) {
            let (left, right, both) =
                (Histogram::default(), Histogram::default(), Histogram::default());
            for (nanos, to_left) in durations {
                let duration = Duration::from_nanos(nanos);
                // Whole microseconds, so that the sums do not round apart.
                let duration = Duration::from_micros(duration.as_micros() as u64);
                if to_left { &left } else { &right }.record(duration);
                both.record(duration);
            }
            let mut merged = left.snapshot();
            merged.merge(&right.snapshot());
            prop_assert_eq!(merged, both.snapshot());
        }
    }
}
