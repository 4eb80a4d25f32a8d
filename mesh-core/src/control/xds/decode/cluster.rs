//! Clusters (CDS): gRFC A27, A29, A32, A48, A52, A75, A105.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            CircuitBreakers, Cluster as Wire,
            circuit_breakers::Thresholds,
            cluster::{CommonLbConfig, LbConfig, LbPolicy as Wanted},
        },
        core::v3::RoutingPriority,
    },
    r#type::v3::Percent,
};

use super::{
    Context, FieldError, PolicyRegistry, ResultExt, connections, discovery,
    least_request::least_request,
    load_report, policy,
    round_robin::round_robin,
    tls::{self, Providers},
    workload,
};
use crate::config::{Breakers, Cluster, Discovery, LbPolicy};

/// Decodes a cluster.
pub(super) fn decode(
    wire: &Wire,
    policies: &PolicyRegistry,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<Cluster, FieldError> {
    let Wire {
        name,
        transport_socket,
        transport_socket_matches,
        transport_socket_matcher,
        circuit_breakers,
        common_lb_config,
        ..
    } = wire;
    if name.is_empty() {
        return Err(FieldError::new("must not be empty").field("name"));
    }
    let discovery = discovery::decode(wire, cx)?;
    let lb = match &discovery {
        Discovery::Aggregate(_) => {
            of_leaves(wire, cx);
            LbPolicy::Localities(round_robin())
        }
        _ => lb_policy(wire, policies, cx)?,
    };
    let breakers = match circuit_breakers {
        Some(breakers) => cx.field("circuit_breakers", |cx| self::breakers(breakers, cx))?,
        None => Breakers::default(),
    };
    // Each would give some endpoints other TLS settings, or none.
    for (field, set) in [
        (
            "transport_socket_matches",
            !transport_socket_matches.is_empty(),
        ),
        (
            "transport_socket_matcher",
            transport_socket_matcher.is_some(),
        ),
    ] {
        if set {
            return Err(FieldError::new("not supported: use transport_socket").field(field));
        }
    }
    let tls = match transport_socket {
        Some(socket) => {
            Some(cx.field("transport_socket", |cx| tls::decode(socket, providers, cx))?)
        }
        None => None,
    };
    let connections = connections::decode(wire, tls.is_some(), cx)?;
    let report_load = load_report::decode(wire, &discovery, cx)?;
    Ok(Cluster {
        name: Arc::from(name.as_str()),
        discovery,
        lb,
        breakers,
        connections,
        tls: tls.map(Arc::new),
        report_load,
        service: (wire.metadata.as_ref())
            .and_then(workload::of_cluster)
            .map(Arc::new),
        panic_threshold: panic_threshold(common_lb_config.as_ref())
            .field("healthy_panic_threshold")
            .field("common_lb_config")?,
    })
}

/// Reports what an aggregate cluster sets and its clusters have each for themselves (gRFC A75).
fn of_leaves(wire: &Wire, cx: &mut Context<'_>) {
    const LEAVES: &str = "an aggregate cluster's clusters each have their own (gRFC A75)";
    discovery::unused_dns(wire, LEAVES, cx);
    discovery::unused_assignment(wire, LEAVES, cx);
    discovery::unused_eds(wire, cx);
    let policy =
        ![Wanted::RoundRobin as i32, Wanted::ClusterProvided as i32].contains(&wire.lb_policy);
    for (field, is_set) in [
        ("lb_policy", policy),
        (
            "load_balancing_policy",
            wire.load_balancing_policy.is_some(),
        ),
        ("circuit_breakers", wire.circuit_breakers.is_some()),
        ("transport_socket", wire.transport_socket.is_some()),
        ("connect_timeout", wire.connect_timeout.is_some()),
        ("common_lb_config", wire.common_lb_config.is_some()),
        (
            "typed_extension_protocol_options",
            !wire.typed_extension_protocol_options.is_empty(),
        ),
    ] {
        if is_set {
            cx.ignored(field, LEAVES);
        }
    }
}

/// Percent of healthy endpoints below which health is not looked at.
fn panic_threshold(config: Option<&CommonLbConfig>) -> Result<f64, FieldError> {
    const DEFAULT: f64 = 50.0;
    match config.and_then(|config| config.healthy_panic_threshold.as_ref()) {
        None => Ok(DEFAULT),
        Some(&Percent { value }) if (0.0..=100.0).contains(&value) => Ok(value),
        Some(&Percent { value }) => {
            let problem = format!("must be from 0 to 100, not {value}");
            Err(FieldError::new(problem).field("value"))
        }
    }
}

fn lb_policy(
    wire: &Wire,
    policies: &PolicyRegistry,
    cx: &mut Context<'_>,
) -> Result<LbPolicy, FieldError> {
    let Wire {
        lb_policy: wanted,
        lb_config,
        load_balancing_policy,
        ..
    } = wire;
    let (config_name, config_of) = match lb_config {
        Some(LbConfig::RoundRobinLbConfig(_)) => {
            ("round_robin_lb_config", Some(Wanted::RoundRobin))
        }
        Some(LbConfig::LeastRequestLbConfig(_)) => {
            ("least_request_lb_config", Some(Wanted::LeastRequest))
        }
        Some(LbConfig::RingHashLbConfig(_)) => ("ring_hash_lb_config", Some(Wanted::RingHash)),
        Some(LbConfig::MaglevLbConfig(_)) => ("maglev_lb_config", Some(Wanted::Maglev)),
        Some(LbConfig::OriginalDstLbConfig(_)) => ("original_dst_lb_config", None),
        None => ("", None),
    };
    if let Some(list) = load_balancing_policy {
        const IN_FORCE: &str = "load_balancing_policy is in force";
        if ![
            Wanted::RoundRobin as i32,
            Wanted::LoadBalancingPolicyConfig as i32,
        ]
        .contains(wanted)
        {
            cx.ignored("lb_policy", IN_FORCE);
        }
        if lb_config.is_some() {
            cx.ignored(config_name, IN_FORCE);
        }
        return policy::decode(list, policies).field("load_balancing_policy");
    }
    let wanted = match Wanted::try_from(*wanted) {
        Ok(wanted @ (Wanted::RoundRobin | Wanted::LeastRequest)) => wanted,
        Ok(other) => {
            let name = other.as_str_name();
            let problem = format!("load balancing policy {name} is not supported yet");
            return Err(FieldError::new(problem).field("lb_policy"));
        }
        Err(_) => {
            let problem = format!("load balancing policy {wanted} is not known");
            return Err(FieldError::new(problem).field("lb_policy"));
        }
    };
    if lb_config.is_some() && config_of != Some(wanted) {
        let name = wanted.as_str_name();
        cx.ignored(config_name, format!("the policy is {name}"));
    }
    let policy = match (wanted, lb_config) {
        (Wanted::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config))) => {
            least_request(config.choice_count).field(config_name)?
        }
        (Wanted::LeastRequest, _) => least_request(None)?,
        _ => round_robin(),
    };
    Ok(LbPolicy::Localities(policy))
}

fn breakers(wire: &CircuitBreakers, cx: &mut Context<'_>) -> Result<Breakers, FieldError> {
    let CircuitBreakers {
        thresholds,
        per_host_thresholds,
        ..
    } = wire;
    let mut breakers = Breakers::default();
    if let Some((_, found)) = default_priority("thresholds", thresholds, cx) {
        for (limit, wire) in [
            (&mut breakers.max_requests, &found.max_requests),
            (&mut breakers.max_connections, &found.max_connections),
            (
                &mut breakers.max_pending_requests,
                &found.max_pending_requests,
            ),
            (&mut breakers.max_retries, &found.max_retries),
        ] {
            if let Some(wire) = wire {
                *limit = wire.value;
            }
        }
    }
    const PER_HOST: &str = "per_host_thresholds";
    if let Some((index, found)) = default_priority(PER_HOST, per_host_thresholds, cx)
        && let Some(max_connections) = found.max_connections
    {
        if max_connections.value == 0 {
            return Err(FieldError::new("must be at least 1")
                .field("max_connections")
                .index(PER_HOST, index));
        }
        breakers.max_connections_per_host = Some(max_connections.value);
    }
    Ok(breakers)
}

/// The first entry of priority DEFAULT: the others have no effect.
fn default_priority<'a>(
    name: &str,
    thresholds: &'a [Thresholds],
    cx: &mut Context<'_>,
) -> Option<(usize, &'a Thresholds)> {
    let mut found = None;
    for (index, entry) in thresholds.iter().enumerate() {
        match found {
            None if entry.priority == RoutingPriority::Default as i32 => {
                found = Some((index, entry));
            }
            _ => cx.ignored(
                &format!("{name}[{index}]"),
                "only the first entry of priority DEFAULT is in force",
            ),
        }
    }
    found
}

#[cfg(test)]
mod tests;
