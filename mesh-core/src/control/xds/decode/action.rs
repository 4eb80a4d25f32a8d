//! What a route does with a request: clusters, times and retries.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::route::v3::{
    RetryPolicy as WireRetry, RouteAction, WeightedCluster as WireClusters,
    retry_policy::RetryBackOff, route_action::ClusterSpecifier, weighted_cluster::ClusterWeight,
};

use super::{
    Context, FieldError, ResultExt,
    bounds::{duration, quote},
    fields::{ANY, Field, Message},
    filter::overrides,
    limits::Limit,
    listener::ONLY_MAX_STREAM_DURATION,
    route::{NO_CORS, NO_EXTENSION, NO_HEADER_MUTATION, NO_HEDGING, NO_MIRROR, NO_RATE_LIMIT},
};
use crate::config::{FilterOverrides, Forward, RetryOn, RetryPolicy, Treatment, WeightedCluster};

/// A `RouteAction`; `None` if its route is to be skipped (gRFC A28). `host_retry` is the virtual
/// host's policy, in force where the route has none of its own (gRFC A44).
pub(super) fn forward(
    wire: RouteAction,
    host_retry: &Option<Arc<RetryPolicy>>,
    cx: &mut Context<'_>,
) -> Result<Option<Forward>, FieldError> {
    let RouteAction {
        cluster_specifier,
        retry_policy,
        max_stream_duration,
        ..
    } = wire;
    let clusters = match cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => {
            let name = cluster_name(name).field("cluster")?;
            vec![WeightedCluster {
                name,
                weight: 1,
                overrides: FilterOverrides::new(),
                headers: Default::default(),
            }]
        }
        Some(ClusterSpecifier::WeightedClusters(wire)) => {
            cx.field("weighted_clusters", |cx| weighted(wire, cx))?
        }
        unsupported => {
            let field = match unsupported {
                Some(ClusterSpecifier::ClusterHeader(_)) => "cluster_header",
                Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => "cluster_specifier_plugin",
                Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => {
                    "inline_cluster_specifier_plugin"
                }
                _ => "cluster_specifier",
            };
            let note = "the route is skipped: it names neither cluster nor weighted_clusters \
                        (gRFC A28)";
            cx.ignored(field, note);
            return Ok(None);
        }
    };
    let retry = match retry_policy {
        Some(wire) => cx.field("retry_policy", |cx| retry(wire, cx))?,
        None => host_retry.clone(),
    };
    let limits = max_stream_duration.unwrap_or_default();
    let limit = |name, wire: Option<_>| {
        wire.map(|wire| duration(&wire).field(name).field("max_stream_duration"))
            .transpose()
    };
    Ok(Some(Forward {
        clusters,
        retry,
        max_stream_duration: limit("max_stream_duration", limits.max_stream_duration)?,
        grpc_timeout_header_max: limit("grpc_timeout_header_max", limits.grpc_timeout_header_max)?,
        http: Default::default(),
    }))
}

fn weighted(wire: WireClusters, cx: &mut Context<'_>) -> Result<Vec<WeightedCluster>, FieldError> {
    let WireClusters { clusters, .. } = wire;
    cx.count(Limit::Clusters, clusters.len())
        .field("clusters")?;
    let mut sum = 0u64;
    let mut weighted = Vec::with_capacity(clusters.len());
    for (index, wire) in clusters.into_iter().enumerate() {
        let ClusterWeight {
            name,
            weight,
            typed_per_filter_config,
            ..
        } = wire;
        let weight = weight.map_or(0, |weight| weight.value);
        if weight == 0 {
            continue;
        }
        sum += u64::from(weight);
        weighted.push(cx.index("clusters", index, |cx| {
            Ok(WeightedCluster {
                name: cluster_name(name).field("name")?,
                weight,
                overrides: overrides(typed_per_filter_config, cx)?,
                headers: Default::default(),
            })
        })?);
    }
    let problem = match u32::try_from(sum) {
        Ok(0) => "no entry has a weight above 0".to_owned(),
        Ok(_) => return Ok(weighted),
        Err(_) => format!(
            "the weights add up to {sum}: at most {} is allowed",
            u32::MAX
        ),
    };
    Err(FieldError::new(problem).field("clusters"))
}

fn cluster_name(name: String) -> Result<Arc<str>, FieldError> {
    match name.is_empty() {
        true => Err(FieldError::new("must not be empty")),
        false => Ok(name.into()),
    }
}

/// A retry policy; `None` if it asks for no retries, which overrides one that does (gRFC A44).
pub(super) fn retry(
    wire: WireRetry,
    cx: &mut Context<'_>,
) -> Result<Option<Arc<RetryPolicy>>, FieldError> {
    let WireRetry {
        retry_on,
        num_retries,
        retry_back_off,
        ..
    } = wire;
    let on = retry_conditions(&retry_on, cx);
    let retries = match num_retries.map(|retries| retries.value) {
        Some(0) => return Err(FieldError::new("must be at least 1").field("num_retries")),
        Some(retries) => retries,
        None => 1,
    };
    let (base_interval, max_interval) = match retry_back_off {
        Some(wire) => back_off(&wire).field("retry_back_off")?,
        None => (Duration::from_millis(25), Duration::from_millis(250)),
    };
    let any = on != RetryOn::default();
    Ok(any.then(|| {
        Arc::new(RetryPolicy {
            on,
            retries,
            base_interval,
            max_interval,
            http: Default::default(),
        })
    }))
}

fn retry_conditions(retry_on: &str, cx: &mut Context<'_>) -> RetryOn {
    let mut on = RetryOn::default();
    let mut others = Vec::new();
    for condition in retry_on.split(',').map(str::trim) {
        match condition.to_ascii_lowercase().as_str() {
            "" => {}
            "cancelled" => on.cancelled = true,
            "deadline-exceeded" => on.deadline_exceeded = true,
            "internal" => on.internal = true,
            "resource-exhausted" => on.resource_exhausted = true,
            "unavailable" => on.unavailable = true,
            _ => others.push(condition),
        }
    }
    if !others.is_empty() {
        let note = format!(
            "only status codes of gRPC are conditions (gRFC A44), not {}",
            quote(&others.join(", "))
        );
        cx.report("retry_on", Treatment::Approximated, note);
    }
    on
}

/// The first and the longest interval.
fn back_off(wire: &RetryBackOff) -> Result<(Duration, Duration), FieldError> {
    const LEAST: Duration = Duration::from_millis(1);
    let base = match &wire.base_interval {
        Some(wire) => duration(wire).field("base_interval")?,
        None => return Err(FieldError::new("must be set").field("base_interval")),
    };
    if base.is_zero() {
        return Err(FieldError::new("must be more than zero").field("base_interval"));
    }
    let max = match &wire.max_interval {
        Some(wire) => duration(wire).field("max_interval")?,
        None => base.max(LEAST).saturating_mul(10),
    };
    if max < base {
        let problem = format!("{max:?} is below the base interval of {base:?}");
        return Err(FieldError::new(problem).field("max_interval"));
    }
    Ok((base.max(LEAST), max.max(LEAST)))
}

const NO_REWRITE: &str = "paths and authorities are not rewritten (gRFC A28)";
const NO_SUBSETS: &str = "endpoints are not chosen by metadata";
const NO_REDIRECT: &str = "redirects are passed to the caller";
const CODES_ONLY: &str =
    "only the conditions in retry_on that are status codes of gRPC are in force (gRFC A44)";

/// Handled by its decoder: the route that sets it is skipped.
const fn skips(number: u32, name: &'static str) -> Field {
    Field::enforced(number, name)
}

pub(super) static ROUTE_ACTION: Message = Message {
    name: "envoy.config.route.v3.RouteAction",
    fields: &[
        Field::enforced(1, "cluster"),
        skips(2, "cluster_header"),
        Field::message(3, "weighted_clusters", &WEIGHTED_CLUSTER),
        Field::ignored(4, "metadata_match", NO_SUBSETS),
        Field::ignored(5, "prefix_rewrite", NO_REWRITE),
        Field::ignored(6, "host_rewrite_literal", NO_REWRITE),
        Field::ignored(7, "auto_host_rewrite", NO_REWRITE),
        Field::ignored(8, "timeout", ONLY_MAX_STREAM_DURATION),
        Field::message(9, "retry_policy", &RETRY_POLICY),
        Field::ignored(
            11,
            "priority",
            "calls count against the limits of the default priority",
        ),
        Field::ignored(13, "rate_limits", NO_RATE_LIMIT),
        Field::ignored(14, "include_vh_rate_limits", NO_RATE_LIMIT),
        Field::ignored(15, "hash_policy", "endpoints are not chosen by hash"),
        Field::ignored(17, "cors", NO_CORS),
        Field::ignored(
            20,
            "cluster_not_found_response_code",
            "a missing cluster is unavailable",
        ),
        Field::ignored(23, "max_grpc_timeout", ONLY_MAX_STREAM_DURATION),
        Field::ignored(24, "idle_timeout", ONLY_MAX_STREAM_DURATION),
        Field::ignored(25, "upgrade_configs", "upgrades are not supported"),
        Field::ignored(26, "internal_redirect_action", NO_REDIRECT),
        Field::ignored(27, "hedge_policy", NO_HEDGING),
        Field::ignored(28, "grpc_timeout_offset", ONLY_MAX_STREAM_DURATION),
        Field::ignored(29, "host_rewrite_header", NO_REWRITE),
        Field::ignored(30, "request_mirror_policies", NO_MIRROR),
        Field::ignored(31, "max_internal_redirects", NO_REDIRECT),
        Field::ignored(32, "regex_rewrite", NO_REWRITE),
        Field::ignored(33, "retry_policy_typed_config", NO_EXTENSION),
        Field::ignored(34, "internal_redirect_policy", NO_REDIRECT),
        Field::ignored(35, "host_rewrite_path_regex", NO_REWRITE),
        Field::message(36, "max_stream_duration", &MAX_STREAM_DURATION),
        skips(37, "cluster_specifier_plugin"),
        Field::ignored(38, "append_x_forwarded_host", NO_HEADER_MUTATION),
        skips(39, "inline_cluster_specifier_plugin"),
        Field::ignored(40, "early_data_policy", NO_EXTENSION),
        Field::ignored(41, "path_rewrite_policy", NO_REWRITE),
        Field::ignored(42, "flush_timeout", ONLY_MAX_STREAM_DURATION),
        Field::ignored(44, "host_rewrite", NO_REWRITE),
        Field::ignored(45, "path_rewrite", NO_REWRITE),
    ],
};

static WEIGHTED_CLUSTER: Message = Message {
    name: "envoy.config.route.v3.WeightedCluster",
    fields: &[
        Field::repeated(1, "clusters", &CLUSTER_WEIGHT),
        Field::ignored(2, "runtime_key_prefix", super::matcher::NO_RUNTIME),
        Field::ignored(
            3,
            "total_weight",
            "deprecated: weights are taken as shares of their sum",
        ),
        Field::ignored(4, "header_name", DRAWN),
        Field::ignored(5, "use_hash_policy", DRAWN),
    ],
};

const DRAWN: &str = "a cluster is drawn at random for each call";

static CLUSTER_WEIGHT: Message = Message {
    name: "envoy.config.route.v3.WeightedCluster.ClusterWeight",
    fields: &[
        Field::enforced(1, "name"),
        Field::enforced(2, "weight"),
        Field::ignored(3, "metadata_match", NO_SUBSETS),
        Field::ignored(4, "request_headers_to_add", NO_HEADER_MUTATION),
        Field::ignored(5, "response_headers_to_add", NO_HEADER_MUTATION),
        Field::ignored(6, "response_headers_to_remove", NO_HEADER_MUTATION),
        Field::ignored(9, "request_headers_to_remove", NO_HEADER_MUTATION),
        Field::map(10, "typed_per_filter_config", &ANY),
        Field::ignored(11, "host_rewrite_literal", NO_REWRITE),
        Field::ignored(
            12,
            "cluster_header",
            "a cluster is chosen by its name only (gRFC A28)",
        ),
    ],
};

static MAX_STREAM_DURATION: Message = Message {
    name: "envoy.config.route.v3.RouteAction.MaxStreamDuration",
    fields: &[
        Field::enforced(1, "max_stream_duration"),
        Field::enforced(2, "grpc_timeout_header_max"),
        Field::ignored(3, "grpc_timeout_header_offset", ONLY_MAX_STREAM_DURATION),
    ],
};

pub(super) static RETRY_POLICY: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy",
    fields: &[
        Field::enforced(1, "retry_on"),
        Field::enforced(2, "num_retries"),
        Field::ignored(3, "per_try_timeout", "not supported (gRFC A44)"),
        Field::ignored(4, "retry_priority", "not supported (gRFC A44)"),
        Field::ignored(5, "retry_host_predicate", "not supported (gRFC A44)"),
        Field::ignored(
            6,
            "host_selection_retry_max_attempts",
            "not supported (gRFC A44)",
        ),
        Field::ignored(7, "retriable_status_codes", CODES_ONLY),
        Field::message(8, "retry_back_off", &RETRY_BACK_OFF),
        Field::ignored(9, "retriable_headers", CODES_ONLY),
        Field::ignored(10, "retriable_request_headers", CODES_ONLY),
        Field::ignored(
            11,
            "rate_limited_retry_back_off",
            "a server asks for a delay with grpc-retry-pushback-ms (gRFC A6)",
        ),
        Field::ignored(12, "retry_options_predicates", "not supported (gRFC A44)"),
        Field::ignored(13, "per_try_idle_timeout", "not supported (gRFC A44)"),
        Field::ignored(
            14,
            "refresh_cluster_on_retry",
            "all attempts of a call go to the cluster that was drawn for it (gRFC A31)",
        ),
    ],
};

static RETRY_BACK_OFF: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy.RetryBackOff",
    fields: &[
        Field::enforced(1, "base_interval"),
        Field::enforced(2, "max_interval"),
    ],
};

#[cfg(test)]
mod tests;
