//! What a control plane was told, and what it is to be told next.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use envoy_types::pb::envoy::config::{
    core::v3::Locality,
    endpoint::v3::{
        ClusterStats, EndpointLoadMetricStats, UnnamedEndpointLoadMetricStats,
        UpstreamLocalityStats, cluster_stats::DroppedRequests,
    },
};
use tokio::time::Instant;

use crate::{
    balance::{ClusterKey, ClusterLoad, Counts, Field, Metric, Metrics, ServerLoads, Sum, Totals},
    config::LocalityId,
};

/// What was told of each cluster, and until when.
#[derive(Debug, Default)]
pub(super) struct Reported(HashMap<ClusterKey, Told>);

/// What was told of a cluster.
#[derive(Debug, Clone)]
struct Told {
    totals: Totals,
    until: Instant,
}

/// A report that is not on its way yet.
#[derive(Debug)]
pub(super) struct Pending(Vec<(ClusterKey, Told)>);

// === impl Reported ===

impl Reported {
    /// What has been counted since the last report, of these clusters; `None`: of all. It counts as
    /// told once it is [committed](Self::commit).
    pub(super) fn report(
        &mut self,
        loads: &ServerLoads,
        clusters: Option<&[String]>,
        now: Instant,
    ) -> (Vec<ClusterStats>, Pending) {
        let (mut stats, mut pending) = (Vec::new(), Vec::new());
        for load in &loads.clusters() {
            if !is_wanted(load, clusters) {
                // Kept until it is asked for, but not for longer than it is of use.
                if !load.is_used() && loads.forget(&load.key) {
                    // It counts from nothing if it comes back.
                    self.0.remove(&load.key);
                }
                continue;
            }
            let totals = load.totals();
            stats.push(self.cluster(load, &totals, now));
            pending.push((load.key.clone(), Told { totals, until: now }));
        }
        (stats, Pending(pending))
    }

    /// A report is on its way. Clusters of which nothing more is to be told are forgotten.
    pub(super) fn commit(&mut self, loads: &ServerLoads, pending: Pending) {
        self.0.extend(pending.0);
        for load in loads.clusters() {
            if let Some(told) = self.0.get_mut(&load.key) {
                load.told(&std::mem::take(&mut told.totals.metrics));
            }
            let Some(told) = self.0.get_mut(&load.key) else {
                continue;
            };
            let totals = &mut told.totals;
            // What counts from nothing if it comes back is told from nothing.
            load.prune(|id, counts| {
                let told = totals.localities.get(id) == Some(&counts);
                if told {
                    totals.localities.remove(id);
                }
                told
            });
            let over = !load.is_used() && is_told(&load.totals(), totals);
            if over && loads.forget(&load.key) {
                self.0.remove(&load.key);
            }
        }
    }

    /// Whether all that was counted of these clusters is told, and no call is under way.
    pub(super) fn is_all(&self, loads: &ServerLoads, clusters: Option<&[String]>) -> bool {
        let nothing = Totals::default();
        let all = loads.clusters().into_iter();
        all.filter(|load| is_wanted(load, clusters)).all(|load| {
            let told = self.0.get(&load.key).map(|told| &told.totals);
            is_told(&load.totals(), told.unwrap_or(&nothing))
        })
    }

    fn cluster(&self, load: &ClusterLoad, totals: &Totals, now: Instant) -> ClusterStats {
        let told = self.0.get(&load.key);
        let since = told.map_or(load.since, |told| told.until);
        let before = told.map(|told| &told.totals);
        let localities = totals.localities.iter().filter_map(|(id, &counts)| {
            let before = before.and_then(|before| before.localities.get(id));
            let new = counts.since(before.copied().unwrap_or_default());
            locality(id, counts, new, totals.metrics.get(id))
        });
        let dropped = since_then(&totals.dropped, before.map(|before| &before.dropped));
        let shed = totals.shed - before.map_or(0, |before| before.shed);
        let ClusterKey { cluster, service } = &load.key;
        ClusterStats {
            cluster_name: cluster.to_string(),
            cluster_service_name: service.to_string(),
            upstream_locality_stats: localities.collect(),
            total_dropped_requests: shed + dropped.iter().map(|one| one.dropped_count).sum::<u64>(),
            dropped_requests: dropped,
            load_report_interval: Some(interval(now.saturating_duration_since(since))),
        }
    }
}

fn is_wanted(load: &ClusterLoad, clusters: Option<&[String]>) -> bool {
    clusters.is_none_or(|names| names.iter().any(|name| **name == *load.key.cluster))
}

/// Whether `told` has all of `counted`, and no call is under way.
fn is_told(counted: &Totals, told: &Totals) -> bool {
    let nothing = Counts::default();
    let mut localities = counted.localities.iter();
    counted.metrics.is_empty()
        && counted.dropped == told.dropped
        && counted.shed == told.shed
        && localities.all(|(id, counts)| {
            counts == told.localities.get(id).unwrap_or(&nothing) && counts.in_progress() == 0
        })
}

/// The report of a locality, if there is anything to report.
fn locality(
    id: &LocalityId,
    counts: Counts,
    new: Counts,
    metrics: Option<&Metrics>,
) -> Option<UpstreamLocalityStats> {
    let in_progress = counts.in_progress();
    let anything = new != Counts::default() || in_progress > 0 || metrics.is_some();
    let mut stats = anything.then(|| UpstreamLocalityStats {
        locality: Some(Locality {
            region: id.region.clone(),
            zone: id.zone.clone(),
            sub_zone: id.sub_zone.clone(),
        }),
        total_issued_requests: new.issued,
        total_successful_requests: new.succeeded,
        total_error_requests: new.failed,
        total_requests_in_progress: in_progress,
        ..Default::default()
    })?;
    for (metric, sum) in metrics.into_iter().flat_map(Metrics::iter) {
        self::metric(&mut stats, metric, sum);
    }
    Some(stats)
}

/// Where gRPC and Envoy report a metric of endpoints.
fn metric(stats: &mut UpstreamLocalityStats, metric: Metric<'_>, sum: Sum) {
    let Sum { calls, total } = sum;
    let unnamed = Some(UnnamedEndpointLoadMetricStats {
        num_requests_finished_with_metric: calls,
        total_metric_value: total,
    });
    let name = match metric {
        Metric::Field(Field::CpuUtilization) => return stats.cpu_utilization = unnamed,
        Metric::Field(Field::MemUtilization) => return stats.mem_utilization = unnamed,
        Metric::Field(Field::ApplicationUtilization) => {
            return stats.application_utilization = unnamed;
        }
        Metric::Field(Field::Named(name)) => name.to_owned(),
        Metric::Entry(map, key) => format!("{}{key}", map.prefix()),
    };
    stats.load_metric_stats.push(EndpointLoadMetricStats {
        metric_name: name,
        num_requests_finished_with_metric: calls,
        total_metric_value: total,
    });
}

fn since_then(
    now: &BTreeMap<Arc<str>, u64>,
    before: Option<&BTreeMap<Arc<str>, u64>>,
) -> Vec<DroppedRequests> {
    let before = |category| before.and_then(|before| before.get(category)).copied();
    let all = now.iter().map(|(category, &count)| DroppedRequests {
        category: category.to_string(),
        dropped_count: count - before(category).unwrap_or_default(),
    });
    all.filter(|one| one.dropped_count > 0).collect()
}

fn interval(time: Duration) -> envoy_types::pb::google::protobuf::Duration {
    envoy_types::pb::google::protobuf::Duration {
        seconds: time.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: time.subsec_nanos().try_into().unwrap_or_default(),
    }
}
