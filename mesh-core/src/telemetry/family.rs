use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use super::{HistogramSnapshot, SizesSnapshot};

/// A metric and all its points, for exporters.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Family {
    /// Its name as its dialect has it: `istio_requests_total`, `grpc.client.call.duration`.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// What a point is.
    pub kind: FamilyKind,
    /// Its unit by UCUM, such as `s` or `By`; empty if it has none, or its name says it.
    pub unit: &'static str,
    points: BTreeMap<Labels, Value>,
}

/// What the points of a [`Family`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by buckets.
    Histogram,
}

/// Names and values of a point, in the order in which the dialect lists them.
pub type Labels = Vec<(&'static str, Label)>;

/// The value of a label.
pub type Label = Cow<'static, str>;

/// The value of a point.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(f64),
    /// Of a histogram.
    Buckets(Buckets),
}

/// A reading of a histogram with the bounds of a dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// The bounds in the family's unit.
    pub bounds: &'static [f64],
    /// How many were at most each bound.
    pub at_most: Vec<u64>,
    /// How many there were.
    pub count: u64,
    /// Their sum in the family's unit.
    pub sum: f64,
}

// === impl Family ===

impl Family {
    /// A counter.
    pub fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        Self::new(name, unit, help, FamilyKind::Counter)
    }

    /// A gauge.
    pub fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        Self::new(name, unit, help, FamilyKind::Gauge)
    }

    /// A histogram.
    pub fn histogram(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        Self::new(name, unit, help, FamilyKind::Histogram)
    }

    fn new(name: &'static str, unit: &'static str, help: &'static str, kind: FamilyKind) -> Self {
        Self {
            name,
            help,
            kind,
            unit,
            points: BTreeMap::new(),
        }
    }

    /// Adds to the point of these labels; a gauge takes the value.
    ///
    /// # Panics
    /// If the value is of another kind than the family, or of other bounds than the point.
    pub fn add(&mut self, labels: Labels, value: Value) {
        use std::collections::btree_map::Entry;
        let point = match self.points.entry(labels) {
            Entry::Vacant(place) => {
                place.insert(value);
                return;
            }
            Entry::Occupied(point) => point.into_mut(),
        };
        match (point, value) {
            (Value::Count(mine), Value::Count(more)) => *mine += more,
            (Value::Level(mine), Value::Level(now)) => *mine = now,
            (Value::Buckets(mine), Value::Buckets(more)) => mine.add(&more),
            (mine, other) => panic!("{}: {other:?} does not add to {mine:?}", self.name),
        }
    }

    /// Adds to a counter.
    pub fn count(&mut self, labels: &Labels, count: u64) {
        if count > 0 {
            self.add(labels.clone(), Value::Count(count));
        }
    }

    /// Its points, in the order of their labels.
    pub fn points(&self) -> impl Iterator<Item = (&Labels, &Value)> {
        self.points.iter()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The value of a counter or gauge, or the count of a histogram, summed over all points that
    /// have these labels among theirs.
    pub fn sum_of(&self, labels: &[(&str, &str)]) -> f64 {
        let has = |point: &Labels| {
            labels.iter().all(|wanted| {
                point
                    .iter()
                    .any(|(name, value)| (*name, &**value) == *wanted)
            })
        };
        let points = self.points.iter().filter(|(point, _)| has(point));
        points
            .map(|(_, value)| match value {
                Value::Count(count) => *count as f64,
                Value::Level(level) => *level,
                Value::Buckets(buckets) => buckets.count as f64,
            })
            .sum()
    }
}

// === impl Buckets ===

impl Buckets {
    /// Durations, in units of `unit`.
    pub fn of_durations(
        durations: &HistogramSnapshot,
        bounds: &'static [f64],
        unit: Duration,
    ) -> Self {
        let at_most = bounds.iter().map(|&bound| {
            let bound = unit.mul_f64(bound).as_nanos().div_ceil(1_000);
            durations.at_most(Duration::from_micros(
                u64::try_from(bound).unwrap_or(u64::MAX),
            ))
        });
        Self {
            bounds,
            at_most: at_most.collect(),
            count: durations.count(),
            sum: durations.sum().as_secs_f64() / unit.as_secs_f64(),
        }
    }

    /// Sizes, in bytes.
    pub fn of_sizes(sizes: &SizesSnapshot, bounds: &'static [f64]) -> Self {
        let at_most = bounds.iter().map(|&bound| sizes.at_most(bound as u64));
        Self {
            bounds,
            at_most: at_most.collect(),
            count: sizes.count(),
            sum: sizes.sum() as f64,
        }
    }

    /// `counts[n]` values of `n + 1` each; the last count is of so much or more.
    pub fn of_counts(counts: &[u64], bounds: &'static [f64]) -> Self {
        let values = || (1..).zip(counts);
        let up_to = |bound: f64| {
            let within = values().filter(|&(value, _): &(u64, _)| value as f64 <= bound);
            within.map(|(_, count)| count).sum()
        };
        Self {
            bounds,
            at_most: bounds.iter().map(|&bound| up_to(bound)).collect(),
            count: counts.iter().sum(),
            sum: values().map(|(value, count)| (value * count) as f64).sum(),
        }
    }

    fn add(&mut self, more: &Self) {
        assert_eq!(
            self.bounds, more.bounds,
            "bounds of one family are the same"
        );
        for (mine, more) in self.at_most.iter_mut().zip(&more.at_most) {
            *mine += more;
        }
        self.count += more.count;
        self.sum += more.sum;
    }
}

/// A label of text that is shared.
pub(super) fn label(text: &Arc<str>) -> Label {
    Cow::Owned(text.to_string())
}
