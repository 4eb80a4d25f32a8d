//! What endpoints say of their load, summed up until it is reported (gRFC A64, A85).

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use http::HeaderMap;

use crate::{
    Semantics,
    config::{EndpointMetric, MetricMap},
    orca::{self, OrcaLoadReport},
};

/// Sums of entries of one locality at most, between two reports: the names may be its endpoints' choice.
const MOST: usize = 1000;

/// What the control plane wants to know, as the newest snapshot of the cluster has it.
#[derive(Debug, Default)]
pub(super) struct Wanted(ArcSwap<Vec<EndpointMetric>>);

/// Sums of what the endpoints of a locality have said. To add to one that is there allocates nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metrics {
    fields: BTreeMap<Field, Sum>,
    named: BTreeMap<MetricMap, BTreeMap<Arc<str>, Sum>>,
    /// More was said than is summed up, and that was told.
    is_full: bool,
}

/// A field of a report, and where its sum goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    // Where a report has a field for it, as gRPC fills that.
    CpuUtilization,
    MemUtilization,
    ApplicationUtilization,
    /// By its name, as Envoy reports all.
    Named(&'static str),
}

/// What a sum is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric<'a> {
    Field(Field),
    Entry(MetricMap, &'a str),
}

/// Of the calls that said it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    pub(crate) calls: u64,
    pub(crate) total: f64,
}

// === impl Wanted ===

impl Wanted {
    pub(super) fn set(&self, metrics: &Arc<Vec<EndpointMetric>>) {
        self.0.store(Arc::clone(metrics));
    }

    /// What is wanted of the report in these headers, if there is one, added to `to`; whether there
    /// was one.
    #[inline]
    pub(super) fn note(
        &self,
        semantics: Semantics,
        headers: &HeaderMap,
        to: &parking_lot::Mutex<Metrics>,
    ) -> bool {
        let wanted = self.0.load();
        if wanted.is_empty() {
            return false;
        }
        match orca::read(semantics, headers) {
            Ok(None) => false,
            Ok(Some(report)) => {
                to.lock().note(semantics, &wanted, &report);
                true
            }
            Err(reason) => {
                tracing::debug!("what an endpoint says of its load cannot be read: {reason}");
                false
            }
        }
    }
}

// === impl Metrics ===

impl Metrics {
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.named.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Metric<'_>, Sum)> {
        let fields = self.fields.iter();
        let fields = fields.map(|(field, sum)| (Metric::Field(*field), *sum));
        let named = self.named.iter().flat_map(|(map, sums)| {
            let sums = sums.iter();
            sums.map(|(key, sum)| (Metric::Entry(*map, key), *sum))
        });
        fields.chain(named)
    }

    /// `told` is reported.
    pub(super) fn subtract(&mut self, told: &Self) {
        subtract(&mut self.fields, &told.fields);
        for (map, told) in &told.named {
            if let Some(sums) = self.named.get_mut(map) {
                subtract(sums, told);
            }
        }
        self.named.retain(|_, sums| !sums.is_empty());
        self.is_full &= !self.has_room();
    }

    fn note(&mut self, semantics: Semantics, wanted: &[EndpointMetric], report: &OrcaLoadReport) {
        use EndpointMetric::*;
        let typed = |field, name| match semantics {
            Semantics::Grpc => field,
            Semantics::Http => Field::Named(name),
        };
        for metric in wanted {
            match metric {
                CpuUtilization => {
                    let field = typed(Field::CpuUtilization, "cpu_utilization");
                    self.add(field, report.cpu_utilization);
                }
                MemUtilization => {
                    let field = typed(Field::MemUtilization, "mem_utilization");
                    self.add(field, report.mem_utilization);
                }
                ApplicationUtilization => {
                    let field = typed(Field::ApplicationUtilization, "application_utilization");
                    self.add(field, report.application_utilization);
                }
                Eps => self.add(Field::Named("eps"), report.eps),
                RpsFractional => self.add(Field::Named("rps_fractional"), report.rps_fractional),
                Entry(map, name) => {
                    let key = name.strip_prefix(map.prefix()).unwrap_or(name);
                    if let Some(&value) = entries(*map, report).get(key) {
                        self.add_entry(*map, key, value);
                    }
                }
                All(map) => {
                    for (key, &value) in entries(*map, report) {
                        self.add_entry(*map, key, value);
                    }
                }
            }
        }
    }

    fn add(&mut self, field: Field, value: f64) {
        // They are few.
        if value.is_finite() {
            self.fields.entry(field).or_default().add(value);
        }
    }

    fn add_entry(&mut self, map: MetricMap, key: &str, value: f64) {
        // It would stay in the sum for good.
        if !value.is_finite() {
            return;
        }
        if let Some(sum) = self.named.get_mut(&map).and_then(|sums| sums.get_mut(key)) {
            return sum.add(value);
        }
        if self.has_room() {
            let sums = self.named.entry(map).or_default();
            sums.entry(key.into()).or_default().add(value);
        } else if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(
                "{MOST} metrics of the endpoints of a locality are reported, and not {}{key} and \
                 others (lrs_report_endpoint_metrics)",
                map.prefix()
            );
        }
    }

    fn has_room(&self) -> bool {
        self.named.values().map(BTreeMap::len).sum::<usize>() < MOST
    }
}

/// Takes `told` away from `sums`.
fn subtract<K: Ord>(sums: &mut BTreeMap<K, Sum>, told: &BTreeMap<K, Sum>) {
    sums.retain(|key, sum| {
        if let Some(told) = told.get(key) {
            sum.calls = sum.calls.saturating_sub(told.calls);
            sum.total -= told.total;
        }
        sum.calls > 0
    });
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, value: f64) {
        self.calls += 1;
        self.total = (self.total + value).clamp(f64::MIN, f64::MAX);
    }
}

fn entries(map: MetricMap, report: &OrcaLoadReport) -> &BTreeMap<String, f64> {
    match map {
        MetricMap::NamedMetrics => &report.named_metrics,
        MetricMap::Utilization => &report.utilization,
        MetricMap::RequestCost => &report.request_cost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> OrcaLoadReport {
        let entries = |names: [&str; 2]| names.map(|name| (name.to_owned(), 0.5)).into();
        OrcaLoadReport {
            cpu_utilization: 0.25,
            mem_utilization: 0.5,
            application_utilization: 0.75,
            eps: 2.0,
            rps_fractional: 3.5,
            named_metrics: entries(["foo", "bar"]),
            utilization: entries(["disk", "net"]),
            request_cost: entries(["rows", "bytes"]),
        }
    }

    const NAMED: MetricMap = MetricMap::NamedMetrics;

    fn noted<'a>(
        to: &'a mut Metrics,
        semantics: Semantics,
        wanted: &[EndpointMetric],
    ) -> Vec<(Metric<'a>, f64)> {
        *to = Metrics::default();
        to.note(semantics, wanted, &report());
        let sums = to.iter().inspect(|(_, sum)| assert_eq!(sum.calls, 1));
        sums.map(|(metric, sum)| (metric, sum.total)).collect()
    }

    #[test]
    fn what_is_wanted_is_summed_and_nothing_else() {
        use EndpointMetric::*;
        let mut metrics = Metrics::default();
        assert_eq!(noted(&mut metrics, Semantics::Grpc, &[]), []);
        let fields = [
            CpuUtilization,
            MemUtilization,
            ApplicationUtilization,
            Eps,
            RpsFractional,
        ];
        let grpc = [
            (Metric::Field(Field::CpuUtilization), 0.25),
            (Metric::Field(Field::MemUtilization), 0.5),
            (Metric::Field(Field::ApplicationUtilization), 0.75),
            (Metric::Field(Field::Named("eps")), 2.0),
            (Metric::Field(Field::Named("rps_fractional")), 3.5),
        ];
        assert_eq!(noted(&mut metrics, Semantics::Grpc, &fields), grpc);
        // Envoy has a name for each.
        let http = [
            (Metric::Field(Field::Named("application_utilization")), 0.75),
            (Metric::Field(Field::Named("cpu_utilization")), 0.25),
            (Metric::Field(Field::Named("eps")), 2.0),
            (Metric::Field(Field::Named("mem_utilization")), 0.5),
            (Metric::Field(Field::Named("rps_fractional")), 3.5),
        ];
        assert_eq!(noted(&mut metrics, Semantics::Http, &fields), http);

        let some = [
            Entry(MetricMap::NamedMetrics, "named_metrics.foo".into()),
            Entry(MetricMap::NamedMetrics, "named_metrics.none".into()),
            All(MetricMap::Utilization),
            Entry(MetricMap::RequestCost, "request_cost.rows".into()),
        ];
        let expected = [
            (Metric::Entry(NAMED, "foo"), 0.5),
            (Metric::Entry(MetricMap::Utilization, "disk"), 0.5),
            (Metric::Entry(MetricMap::Utilization, "net"), 0.5),
            (Metric::Entry(MetricMap::RequestCost, "rows"), 0.5),
        ];
        for semantics in [Semantics::Grpc, Semantics::Http] {
            assert_eq!(noted(&mut metrics, semantics, &some), expected);
        }
    }

    /// The example of gRFC A64.
    #[test]
    fn each_name_has_its_own_count() {
        let mut metrics = Metrics::default();
        let wanted = [EndpointMetric::All(MetricMap::NamedMetrics)];
        for said in [
            &[("key1", 1.0), ("key2", 2.0)][..],
            &[("key2", 3.0), ("key3", 4.0)],
            &[],
        ] {
            let entries = said
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value));
            let report = OrcaLoadReport {
                named_metrics: entries.collect(),
                ..Default::default()
            };
            metrics.note(Semantics::Grpc, &wanted, &report);
        }
        let sum = |calls, total| Sum { calls, total };
        let told = metrics.clone();
        let sums: Vec<_> = told.iter().map(|(_, sum)| sum).collect();
        assert_eq!(sums, [sum(1, 1.0), sum(2, 5.0), sum(1, 4.0)]);

        // Once told, what has come since is left.
        metrics.add_entry(NAMED, "key1", 0.5);
        metrics.subtract(&told);
        let left: Vec<_> = metrics.iter().collect();
        assert_eq!(left, [(Metric::Entry(NAMED, "key1"), sum(1, 0.5))]);
        metrics.subtract(&metrics.clone());
        assert!(metrics.is_empty());
    }

    #[test]
    fn no_endpoint_spoils_a_sum_or_grows_it_without_end() {
        let mut metrics = Metrics::default();
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            metrics.add_entry(NAMED, "a", bad);
        }
        assert!(metrics.is_empty());
        for value in [f64::MAX, f64::MAX] {
            metrics.add_entry(NAMED, "a", value);
        }
        let told = metrics.clone();
        metrics.add_entry(NAMED, "a", 1.0);
        metrics.subtract(&told);
        assert!(metrics.iter().all(|(_, sum)| sum.total.is_finite()));

        for number in 0..2 * MOST {
            metrics.add_entry(NAMED, &number.to_string(), 1.0);
        }
        assert_eq!(metrics.iter().count(), MOST);
        // What is there is summed up still.
        metrics.add_entry(NAMED, "0", 1.0);
        let of_0 = metrics
            .iter()
            .find(|(metric, _)| *metric == Metric::Entry(NAMED, "0"));
        assert_eq!(of_0.map(|(_, sum)| sum.calls), Some(2));
        // With what is told there is room again.
        let told = metrics.clone();
        metrics.subtract(&told);
        metrics.add_entry(NAMED, "new", 1.0);
        assert_eq!(metrics.iter().count(), 1);
        assert!(!metrics.is_full);
    }
}
