//! What endpoints say of their load, summed up until it is reported (gRFC A64, A85).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use arc_swap::ArcSwap;
use http::HeaderMap;

use crate::{
    Semantics,
    config::{EndpointMetric, MetricMap},
    orca::{self, OrcaLoadReport},
};

/// Sums of one locality at most, between two reports: the names may be its endpoints' choice.
const MOST: usize = 1000;

/// What the control plane wants to know, as the newest snapshot of the cluster has it.
#[derive(Debug, Default)]
pub(super) struct Wanted(ArcSwap<Vec<EndpointMetric>>);

/// Sums of what the endpoints of a locality have said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metrics {
    sums: BTreeMap<Metric, Sum>,
    /// More was said than is summed up, and that was told.
    is_full: bool,
}

/// What a sum is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Metric {
    // Where a report has a field for it, as gRPC fills that.
    CpuUtilization,
    MemUtilization,
    ApplicationUtilization,
    /// By its name, as Envoy reports all.
    Field(&'static str),
    Named(Arc<str>),
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
        self.sums.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Metric, Sum)> {
        self.sums.iter().map(|(metric, sum)| (metric, *sum))
    }

    /// `told` is reported.
    pub(super) fn subtract(&mut self, told: &Self) {
        for (metric, told) in told.iter() {
            if let Entry::Occupied(mut entry) = self.sums.entry(metric.clone()) {
                let sum = entry.get_mut();
                sum.calls = sum.calls.saturating_sub(told.calls);
                sum.total -= told.total;
                if sum.calls == 0 {
                    entry.remove();
                }
            }
        }
    }

    fn note(&mut self, semantics: Semantics, wanted: &[EndpointMetric], report: &OrcaLoadReport) {
        use EndpointMetric::*;
        let typed = |metric, name| match semantics {
            Semantics::Grpc => metric,
            Semantics::Http => Metric::Field(name),
        };
        for metric in wanted {
            match metric {
                CpuUtilization => {
                    let metric = typed(Metric::CpuUtilization, "cpu_utilization");
                    self.add(metric, report.cpu_utilization);
                }
                MemUtilization => {
                    let metric = typed(Metric::MemUtilization, "mem_utilization");
                    self.add(metric, report.mem_utilization);
                }
                ApplicationUtilization => {
                    let metric = typed(Metric::ApplicationUtilization, "application_utilization");
                    self.add(metric, report.application_utilization);
                }
                Eps => self.add(Metric::Field("eps"), report.eps),
                RpsFractional => self.add(Metric::Field("rps_fractional"), report.rps_fractional),
                Entry(map, name) => {
                    let key = name.strip_prefix(map.prefix()).unwrap_or(name);
                    if let Some(&value) = entries(*map, report).get(key) {
                        self.add(Metric::Named(Arc::clone(name)), value);
                    }
                }
                All(map) => {
                    for (key, &value) in entries(*map, report) {
                        let name = format!("{}{key}", map.prefix());
                        self.add(Metric::Named(name.into()), value);
                    }
                }
            }
        }
    }

    fn add(&mut self, metric: Metric, value: f64) {
        // It would stay in the sum for good.
        if !value.is_finite() {
            return;
        }
        let has_room = self.sums.len() < MOST;
        let sum = match self.sums.entry(metric) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if has_room => entry.insert(Sum::default()),
            Entry::Vacant(entry) => {
                if !std::mem::replace(&mut self.is_full, true) {
                    let metric = entry.key();
                    tracing::warn!(
                        "{MOST} metrics of the endpoints of a locality are reported, and not \
                         {metric:?} and others (lrs_report_endpoint_metrics)"
                    );
                }
                return;
            }
        };
        sum.calls += 1;
        sum.total = (sum.total + value).clamp(f64::MIN, f64::MAX);
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

    fn named(name: &str) -> Metric {
        Metric::Named(name.into())
    }

    fn noted(semantics: Semantics, wanted: &[EndpointMetric]) -> Vec<(Metric, f64)> {
        let mut metrics = Metrics::default();
        metrics.note(semantics, wanted, &report());
        let sums = metrics.iter().inspect(|(_, sum)| assert_eq!(sum.calls, 1));
        sums.map(|(metric, sum)| (metric.clone(), sum.total))
            .collect()
    }

    #[test]
    fn what_is_wanted_is_summed_and_nothing_else() {
        use EndpointMetric::*;
        assert_eq!(noted(Semantics::Grpc, &[]), []);
        let fields = [
            CpuUtilization,
            MemUtilization,
            ApplicationUtilization,
            Eps,
            RpsFractional,
        ];
        let grpc = [
            (Metric::CpuUtilization, 0.25),
            (Metric::MemUtilization, 0.5),
            (Metric::ApplicationUtilization, 0.75),
            (Metric::Field("eps"), 2.0),
            (Metric::Field("rps_fractional"), 3.5),
        ];
        assert_eq!(noted(Semantics::Grpc, &fields), grpc);
        // Envoy has a name for each.
        let http = [
            (Metric::Field("application_utilization"), 0.75),
            (Metric::Field("cpu_utilization"), 0.25),
            (Metric::Field("eps"), 2.0),
            (Metric::Field("mem_utilization"), 0.5),
            (Metric::Field("rps_fractional"), 3.5),
        ];
        assert_eq!(noted(Semantics::Http, &fields), http);

        let some = [
            Entry(MetricMap::NamedMetrics, "named_metrics.foo".into()),
            Entry(MetricMap::NamedMetrics, "named_metrics.none".into()),
            All(MetricMap::Utilization),
            Entry(MetricMap::RequestCost, "request_cost.rows".into()),
        ];
        let expected = [
            (named("named_metrics.foo"), 0.5),
            (named("request_cost.rows"), 0.5),
            (named("utilization.disk"), 0.5),
            (named("utilization.net"), 0.5),
        ];
        for semantics in [Semantics::Grpc, Semantics::Http] {
            assert_eq!(noted(semantics, &some), expected);
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
        metrics.add(named("named_metrics.key1"), 0.5);
        metrics.subtract(&told);
        let left: Vec<_> = metrics.iter().collect();
        assert_eq!(left, [(&named("named_metrics.key1"), sum(1, 0.5))]);
        metrics.subtract(&metrics.clone());
        assert!(metrics.is_empty());
    }

    #[test]
    fn no_endpoint_spoils_a_sum_or_grows_it_without_end() {
        let mut metrics = Metrics::default();
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            metrics.add(named("a"), bad);
        }
        assert!(metrics.is_empty());
        for value in [f64::MAX, f64::MAX] {
            metrics.add(named("a"), value);
        }
        let told = metrics.clone();
        metrics.add(named("a"), 1.0);
        metrics.subtract(&told);
        assert!(metrics.iter().all(|(_, sum)| sum.total.is_finite()));

        for number in 0..2 * MOST {
            metrics.add(named(&number.to_string()), 1.0);
        }
        assert_eq!(metrics.iter().count(), MOST);
        // What is there is summed up still.
        metrics.add(named("0"), 1.0);
        let of_0 = metrics.iter().find(|(metric, _)| **metric == named("0"));
        assert_eq!(of_0.map(|(_, sum)| sum.calls), Some(2));
    }
}
