//! What a route does with a request: clusters, times and retries.

use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::{
    RouteAction, WeightedCluster as WireClusters,
    route_action::{ClusterNotFoundResponseCode, ClusterSpecifier},
    weighted_cluster::{ClusterWeight, cluster_weight::HostRewriteSpecifier},
};
use http::StatusCode;

use super::{
    Context, FieldError, ResultExt,
    bounds::duration,
    fields::{ANY, Field, Message},
    filter::overrides,
    header_mutation::{self, adds, mutations, removes},
    limits::Limit,
    listener::{NOT_IN_TIME, ONLY_MAX_STREAM_DURATION},
    retry::{RETRY_POLICY, retry},
    rewrite::{self, REGEX_REWRITE},
    route_fields::{NO_CORS, NO_EXTENSION, NO_HEDGING, NO_MIRROR, NO_RATE_LIMIT, NOT_GRPC},
    upgrade::upgrades,
};
use crate::config::{FilterOverrides, Forward, HttpForward, RetryPolicy, WeightedCluster};

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
        timeout,
        idle_timeout,
        prefix_rewrite,
        regex_rewrite,
        host_rewrite_specifier,
        append_x_forwarded_host,
        upgrade_configs,
        cluster_not_found_response_code,
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
                host_rewrite: None,
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
    let timeout = match timeout {
        Some(wire) => Some(duration(&wire).field("timeout")?).filter(|limit| !limit.is_zero()),
        None => Some(HttpForward::DEFAULT_TIMEOUT),
    };
    let idle_timeout = idle_timeout.as_ref().map(duration).transpose();
    let upgrade_configs = upgrade_configs
        .into_iter()
        .map(|wire| (wire.upgrade_type, wire.enabled, None));
    let http = HttpForward {
        timeout,
        idle_timeout: idle_timeout.field("idle_timeout")?,
        path_rewrite: rewrite::path(prefix_rewrite, regex_rewrite, cx)?,
        host_rewrite: match host_rewrite_specifier {
            Some(wire) => rewrite::host(wire, cx)?,
            None => None,
        },
        append_x_forwarded_host,
        upgrades: upgrades(upgrade_configs, cx)?,
        cluster_not_found: cluster_not_found(cluster_not_found_response_code)
            .field("cluster_not_found_response_code")?,
    };
    Ok(Some(Forward {
        clusters,
        retry,
        max_stream_duration: limit("max_stream_duration", limits.max_stream_duration)?,
        grpc_timeout_header_max: limit("grpc_timeout_header_max", limits.grpc_timeout_header_max)?,
        http,
    }))
}

fn cluster_not_found(code: i32) -> Result<StatusCode, FieldError> {
    match ClusterNotFoundResponseCode::try_from(code) {
        Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => Ok(StatusCode::SERVICE_UNAVAILABLE),
        Ok(ClusterNotFoundResponseCode::NotFound) => Ok(StatusCode::NOT_FOUND),
        Ok(ClusterNotFoundResponseCode::InternalServerError) => {
            Ok(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Err(_) => Err(FieldError::new(format!("unknown code {code}"))),
    }
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
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            host_rewrite_specifier,
            ..
        } = wire;
        let headers = header_mutation::Wire {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        };
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
                headers: mutations(headers, cx)?,
                host_rewrite: match host_rewrite_specifier {
                    Some(HostRewriteSpecifier::HostRewriteLiteral(literal)) => {
                        rewrite::literal(&literal)?
                    }
                    None => None,
                },
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

const NO_REWRITE: &str = "not in force: use another rewrite";
const NO_SUBSETS: &str = "endpoints are not chosen by metadata";
const NO_REDIRECT: &str = "redirects are passed to the caller";

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
        Field::enforced(5, "prefix_rewrite").http_only(NOT_GRPC),
        Field::enforced(6, "host_rewrite_literal").http_only(NOT_GRPC),
        Field::enforced(7, "auto_host_rewrite").http_only(NOT_GRPC),
        Field::enforced(8, "timeout").http_only(NOT_IN_TIME),
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
        Field::enforced(20, "cluster_not_found_response_code").http_only(NOT_GRPC),
        Field::ignored(23, "max_grpc_timeout", ONLY_MAX_STREAM_DURATION),
        Field::enforced(24, "idle_timeout").http_only(NOT_IN_TIME),
        Field::repeated(25, "upgrade_configs", &UPGRADE_CONFIG).http_only(NOT_GRPC),
        Field::ignored(26, "internal_redirect_action", NO_REDIRECT),
        Field::ignored(27, "hedge_policy", NO_HEDGING),
        Field::ignored(28, "grpc_timeout_offset", ONLY_MAX_STREAM_DURATION),
        Field::enforced(29, "host_rewrite_header").http_only(NOT_GRPC),
        Field::ignored(30, "request_mirror_policies", NO_MIRROR),
        Field::ignored(31, "max_internal_redirects", NO_REDIRECT),
        Field::message(32, "regex_rewrite", &REGEX_REWRITE).http_only(NOT_GRPC),
        Field::ignored(33, "retry_policy_typed_config", NO_EXTENSION),
        Field::ignored(34, "internal_redirect_policy", NO_REDIRECT),
        Field::message(35, "host_rewrite_path_regex", &REGEX_REWRITE).http_only(NOT_GRPC),
        Field::message(36, "max_stream_duration", &MAX_STREAM_DURATION),
        skips(37, "cluster_specifier_plugin"),
        Field::enforced(38, "append_x_forwarded_host").http_only(NOT_GRPC),
        skips(39, "inline_cluster_specifier_plugin"),
        Field::ignored(40, "early_data_policy", NO_EXTENSION),
        Field::ignored(41, "path_rewrite_policy", NO_REWRITE),
        Field::ignored(42, "flush_timeout", ONLY_MAX_STREAM_DURATION),
        Field::ignored(44, "host_rewrite", NO_REWRITE),
        Field::ignored(45, "path_rewrite", NO_REWRITE),
    ],
};

static UPGRADE_CONFIG: Message = Message {
    name: "envoy.config.route.v3.RouteAction.UpgradeConfig",
    fields: &[
        Field::enforced(1, "upgrade_type"),
        Field::enforced(2, "enabled"),
        Field::ignored(3, "connect_config", "CONNECT is not supported"),
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
        adds(4, "request_headers_to_add"),
        adds(5, "response_headers_to_add"),
        removes(6, "response_headers_to_remove"),
        removes(9, "request_headers_to_remove"),
        Field::map(10, "typed_per_filter_config", &ANY),
        Field::enforced(11, "host_rewrite_literal").http_only(NOT_GRPC),
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

#[cfg(test)]
mod tests;
