//! How the load of a cluster is reported: gRFC A27, A64, A85.

use std::sync::Arc;

use envoy_types::pb::envoy::config::{
    cluster::v3::Cluster as Wire,
    core::v3::{ConfigSource, config_source::ConfigSourceSpecifier},
};

use super::{Context, FieldError, ResultExt};
use crate::config::{Discovery, EndpointMetric, LoadReport, MetricMap};

/// Decodes how the load of a cluster is reported, if it is.
pub(super) fn decode(
    wire: &Wire,
    discovery: &Discovery,
    cx: &mut Context<'_>,
) -> Result<Option<LoadReport>, FieldError> {
    let Some(server) = &wire.lrs_server else {
        if !wire.lrs_report_endpoint_metrics.is_empty() {
            let note = "without lrs_server, the load of the cluster is not reported";
            cx.ignored("lrs_report_endpoint_metrics", note);
        }
        return Ok(None);
    };
    only_self(server).field("lrs_server")?;
    let eds = match discovery {
        Discovery::Eds(_) => wire.eds_cluster_config.as_ref(),
        _ => None,
    };
    Ok(Some(LoadReport {
        server: None,
        service: eds.map_or_else(Arc::default, |eds| eds.service_name.as_str().into()),
        metrics: Arc::new(metrics(&wire.lrs_report_endpoint_metrics, cx)),
    }))
}

fn only_self(source: &ConfigSource) -> Result<(), FieldError> {
    match &source.config_source_specifier {
        Some(ConfigSourceSpecifier::Self_(_)) => Ok(()),
        _ => Err(FieldError::new("must be `self`")),
    }
}

/// Each once. Others than those that are known are ignored (gRFC A85).
fn metrics(names: &[String], cx: &mut Context<'_>) -> Vec<EndpointMetric> {
    let mut metrics = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match metric(name) {
            Some(metric) if metrics.contains(&metric) => {}
            Some(metric) => metrics.push(metric),
            None => {
                let path = format!("lrs_report_endpoint_metrics[{index}]");
                cx.ignored(&path, "not a metric of a load report (ORCA) that is known");
            }
        }
    }
    let all: Vec<_> = metrics.iter().filter_map(whole).collect();
    metrics.retain(|metric| !matches!(metric, EndpointMetric::Entry(map, _) if all.contains(map)));
    metrics
}

fn metric(name: &str) -> Option<EndpointMetric> {
    Some(match name {
        "cpu_utilization" => EndpointMetric::CpuUtilization,
        "mem_utilization" => EndpointMetric::MemUtilization,
        "application_utilization" => EndpointMetric::ApplicationUtilization,
        "eps" => EndpointMetric::Eps,
        "rps_fractional" => EndpointMetric::RpsFractional,
        _ => {
            let (field, key) = name.split_once('.')?;
            let map = match field {
                "named_metrics" => MetricMap::NamedMetrics,
                "utilization" => MetricMap::Utilization,
                "request_cost" => MetricMap::RequestCost,
                _ => return None,
            };
            match key {
                "*" => EndpointMetric::All(map),
                _ => EndpointMetric::Entry(map, name.into()),
            }
        }
    })
}

fn whole(metric: &EndpointMetric) -> Option<MetricMap> {
    match metric {
        EndpointMetric::All(map) => Some(*map),
        _ => None,
    }
}
