//! Load reports: what a control plane is told of the calls that its clients make, and what it asks for.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::endpoint::v3::ClusterStats, service::load_stats::v3::LoadStatsResponse,
};
use prost::Message;

use super::ControlPlane;
use crate::{Code, config::LocalityId};

/// What the control plane wants to know: see [`ControlPlane::want_loads`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the control plane is told by `want_loads`"]
pub struct LoadOrder {
    clusters: Option<Vec<String>>,
    interval: Duration,
    by_endpoint: bool,
}

/// A report, as it came.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Which stream it came on: the first is 1.
    pub stream: u64,
    /// The id of the node that opened the stream.
    pub node: String,
    /// What the node says it can do.
    pub features: Vec<String>,
    /// The clusters in it.
    pub clusters: Vec<ReportedCluster>,
}

/// What a report says of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ReportedCluster {
    /// Its name.
    pub name: String,
    /// The name of its endpoints resource; empty if it has none of its own.
    pub service: String,
    /// The localities with calls.
    pub localities: BTreeMap<LocalityId, ReportedLocality>,
    /// Dropped calls by category.
    pub dropped: BTreeMap<String, u64>,
    /// All dropped calls.
    pub total_dropped: u64,
    /// The time that the report is about.
    pub interval: Duration,
}

/// What a report says of a locality.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ReportedLocality {
    /// Calls that began.
    pub issued: u64,
    /// Calls that ended well.
    pub succeeded: u64,
    /// Calls that did not.
    pub failed: u64,
    /// Calls under way.
    pub in_progress: u64,
    /// What endpoints said, of the metrics that have a field in the report: `cpu_utilization`,
    /// `mem_utilization` and `application_utilization`.
    pub utilizations: BTreeMap<String, ReportedMetric>,
    /// What endpoints said, by the name that it has in the report.
    pub metrics: BTreeMap<String, ReportedMetric>,
}

/// What endpoints said of one metric.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ReportedMetric {
    /// Calls whose endpoint said it.
    pub calls: u64,
    /// What they said, summed up.
    pub total: f64,
}

/// What the service has seen, and what it wants.
#[derive(Debug)]
pub(super) struct LoadState {
    pub(super) order: LoadOrder,
    pub(super) refusal: Option<Code>,
    /// Streams that were opened before this number are ended.
    pub(super) ended: u64,
    pub(super) reports: Vec<LoadReport>,
    pub(super) open: usize,
    pub(super) opened: u64,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Says what clients are to report of the loads of clusters that
    /// [ask for it](super::Service::report_load), now and from now on. Default: those of all, each
    /// second.
    pub fn want_loads(&self, order: LoadOrder) {
        self.shared().change(|state| {
            state.loads.order = order;
            state.loads.refusal = None;
        });
    }

    /// Ends the streams of load reports with this status, and refuses others until the next
    /// [`want_loads`](Self::want_loads).
    pub fn refuse_loads(&self, code: Code) {
        self.shared()
            .change(|state| state.loads.refusal = Some(code));
    }

    /// Ends the open streams of load reports with UNAVAILABLE.
    pub fn drop_load_streams(&self) {
        self.shared()
            .change(|state| state.loads.ended = state.loads.opened + 1);
    }

    /// All reports so far, in their order; through a [view](Self::view) those of its node.
    pub fn load_reports(&self) -> Vec<LoadReport> {
        let state = self.shared().state();
        let reports = state.loads.reports.iter();
        let seen = |report: &&LoadReport| self.node().is_none_or(|node| node == report.node);
        reports.filter(seen).cloned().collect()
    }

    /// All that was [reported](Self::load_reports) of a cluster, and of its calls under way what was
    /// reported last: the sum of one node is meant, where several report.
    pub fn loads(&self, cluster: &str) -> ReportedCluster {
        let mut sum = ReportedCluster {
            name: cluster.to_owned(),
            ..Default::default()
        };
        let reports = self.load_reports();
        let clusters = reports.iter().flat_map(|report| &report.clusters);
        for one in clusters.filter(|one| one.name == cluster) {
            sum.add(one);
        }
        sum
    }

    /// Open streams of load reports.
    pub fn load_streams(&self) -> usize {
        self.shared().state().loads.open
    }

    /// Streams of load reports that were opened so far.
    pub fn load_streams_opened(&self) -> u64 {
        self.shared().state().loads.opened
    }
}

// === impl LoadOrder ===

impl LoadOrder {
    /// Those of all clusters, at this interval.
    pub fn all(interval: Duration) -> Self {
        Self {
            clusters: None,
            interval,
            by_endpoint: false,
        }
    }

    /// Those of these clusters.
    pub fn of<N: Into<String>>(clusters: impl IntoIterator<Item = N>, interval: Duration) -> Self {
        Self {
            clusters: Some(clusters.into_iter().map(Into::into).collect()),
            ..Self::all(interval)
        }
    }

    /// By endpoint, if the client can.
    pub fn by_endpoint(mut self) -> Self {
        self.by_endpoint = true;
        self
    }

    pub(super) fn encode(&self) -> Bytes {
        let response = LoadStatsResponse {
            clusters: self.clusters.clone().unwrap_or_default(),
            send_all_clusters: self.clusters.is_none(),
            load_reporting_interval: Some(envoy_types::pb::google::protobuf::Duration {
                seconds: self.interval.as_secs().try_into().unwrap_or(i64::MAX),
                nanos: self.interval.subsec_nanos().try_into().unwrap_or_default(),
            }),
            report_endpoint_granularity: self.by_endpoint,
        };
        response.encode_to_vec().into()
    }
}

// === impl ReportedCluster ===

impl ReportedCluster {
    pub(super) fn read(wire: ClusterStats) -> Self {
        let localities = wire.upstream_locality_stats.into_iter();
        let interval = wire.load_report_interval.unwrap_or_default();
        Self {
            name: wire.cluster_name,
            service: wire.cluster_service_name,
            localities: localities
                .map(|wire| {
                    let id = wire.locality.unwrap_or_default();
                    let metric = |calls, total| ReportedMetric { calls, total };
                    let fields = [
                        ("cpu_utilization", wire.cpu_utilization),
                        ("mem_utilization", wire.mem_utilization),
                        ("application_utilization", wire.application_utilization),
                    ];
                    let utilizations = fields.into_iter().filter_map(|(name, stats)| {
                        let stats = stats?;
                        let calls = stats.num_requests_finished_with_metric;
                        Some((name.to_owned(), metric(calls, stats.total_metric_value)))
                    });
                    let metrics = wire.load_metric_stats.into_iter().map(|stats| {
                        let calls = stats.num_requests_finished_with_metric;
                        (stats.metric_name, metric(calls, stats.total_metric_value))
                    });
                    let counts = ReportedLocality {
                        utilizations: utilizations.collect(),
                        metrics: metrics.collect(),
                        issued: wire.total_issued_requests,
                        succeeded: wire.total_successful_requests,
                        failed: wire.total_error_requests,
                        in_progress: wire.total_requests_in_progress,
                    };
                    let id = LocalityId {
                        region: id.region,
                        zone: id.zone,
                        sub_zone: id.sub_zone,
                    };
                    (id, counts)
                })
                .collect(),
            dropped: wire
                .dropped_requests
                .into_iter()
                .map(|wire| (wire.category, wire.dropped_count))
                .collect(),
            total_dropped: wire.total_dropped_requests,
            interval: Duration::new(
                interval.seconds.try_into().unwrap_or_default(),
                interval.nanos.try_into().unwrap_or_default(),
            ),
        }
    }

    fn add(&mut self, other: &Self) {
        self.service.clone_from(&other.service);
        for locality in self.localities.values_mut() {
            locality.in_progress = 0;
        }
        for (id, counts) in &other.localities {
            self.localities.entry(id.clone()).or_default().add(counts);
        }
        for (category, count) in &other.dropped {
            *self.dropped.entry(category.clone()).or_default() += count;
        }
        self.total_dropped += other.total_dropped;
        self.interval += other.interval;
    }

    /// All localities together.
    pub fn sum(&self) -> ReportedLocality {
        let mut sum = ReportedLocality::default();
        for counts in self.localities.values() {
            sum.add(counts);
        }
        sum
    }
}

// === impl ReportedLocality ===

impl ReportedLocality {
    fn add(&mut self, other: &Self) {
        self.issued += other.issued;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.in_progress += other.in_progress;
        for (mine, others) in [
            (&mut self.utilizations, &other.utilizations),
            (&mut self.metrics, &other.metrics),
        ] {
            for (name, metric) in others {
                let sum = mine.entry(name.clone()).or_default();
                sum.calls += metric.calls;
                sum.total += metric.total;
            }
        }
    }
}

// === impl LoadState ===

impl Default for LoadState {
    fn default() -> Self {
        Self {
            order: LoadOrder::all(Duration::from_secs(1)),
            refusal: None,
            ended: 0,
            reports: Vec::new(),
            open: 0,
            opened: 0,
        }
    }
}
