//! Where a cluster's endpoints come from: EDS, the cluster itself, DNS, other clusters (gRFC A27,
//! A37, A75).

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster as Wire,
                cluster::{
                    ClusterDiscoveryType, CustomClusterType, DiscoveryType,
                    DnsLookupFamily as OldFamily, EdsClusterConfig, RefreshRate,
                },
            },
            core::v3::config_source::ConfigSourceSpecifier,
        },
        extensions::clusters::{
            aggregate::v3::ClusterConfig,
            common::dns::v3::DnsLookupFamily as Family,
            dns::v3::{DnsCluster, dns_cluster::RefreshRate as NewRefreshRate},
        },
    },
    google::protobuf,
};
use prost::Name;

use super::{
    Context, FieldError, ResultExt,
    bounds::{duration, quote},
    endpoints::{self, Assignment},
    extension::{type_name, unpack},
    fields::{Field, Message},
};
use crate::config::{Discovery, Dns, DnsFamily, Endpoints, LookupPolicy};

/// Decodes where the endpoints of `wire` come from.
pub(super) fn decode(wire: &Wire, cx: &mut Context<'_>) -> Result<Discovery, FieldError> {
    let kind = match &wire.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => *kind,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return cx.field("cluster_type", |cx| self::custom(wire, custom, cx));
        }
        None => DiscoveryType::Static as i32,
    };
    match DiscoveryType::try_from(kind) {
        Ok(DiscoveryType::Eds) => {
            unused_dns(wire, "the endpoints come from EDS", cx);
            unused_assignment(wire, "the endpoints come from EDS", cx);
            match &wire.eds_cluster_config {
                Some(config) => eds(config, &wire.name),
                None => Err(FieldError::new("must be set for a cluster of type EDS")),
            }
            .field("eds_cluster_config")
        }
        Ok(DiscoveryType::Static) => {
            unused_dns(
                wire,
                "endpoints of a cluster of type STATIC have addresses",
                cx,
            );
            unused_eds(wire, cx);
            let endpoints = assignment(wire, Assignment::Static, cx)?;
            Ok(Discovery::Static(endpoints.into()))
        }
        Ok(DiscoveryType::StrictDns) => by_old_fields(wire, Assignment::StrictDns, cx),
        Ok(DiscoveryType::LogicalDns) => by_old_fields(wire, Assignment::LogicalDns, cx),
        Ok(other @ DiscoveryType::OriginalDst) => {
            let name = other.as_str_name();
            let problem = format!("cluster type {name} is not supported");
            Err(FieldError::new(problem).field("type"))
        }
        Err(_) => {
            let problem = format!("cluster type {kind} is not known");
            Err(FieldError::new(problem).field("type"))
        }
    }
}

fn eds(config: &EdsClusterConfig, cluster: &str) -> Result<Discovery, FieldError> {
    let EdsClusterConfig {
        eds_config,
        service_name,
        ..
    } = config;
    let specifier = match eds_config {
        Some(source) => &source.config_source_specifier,
        None => return Err(FieldError::new("must be set").field("eds_config")),
    };
    match specifier {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => {}
        _ => return Err(FieldError::new("must be `ads` or `self`").field("eds_config")),
    }
    let name = match service_name.as_str() {
        "" if cluster.starts_with("xdstp:") => {
            let problem = "must not be empty where the cluster's name is an xdstp: one";
            return Err(FieldError::new(problem).field("service_name"));
        }
        "" => cluster,
        name => name,
    };
    Ok(Discovery::Eds(name.into()))
}

fn custom(
    wire: &Wire,
    custom: &CustomClusterType,
    cx: &mut Context<'_>,
) -> Result<Discovery, FieldError> {
    let Some(config) = &custom.typed_config else {
        return Err(FieldError::new("must be set").field("typed_config"));
    };
    let kind = type_name(&config.type_url);
    if kind == ClusterConfig::full_name() {
        let clusters = aggregate(&unpack(config).field("typed_config")?);
        return clusters.field("clusters").field("typed_config");
    }
    if kind == DnsCluster::full_name() {
        let config: DnsCluster = unpack(config).field("typed_config")?;
        let policy = new_policy(&config).field("typed_config")?;
        let assignment = match config.all_addresses_in_single_endpoint {
            true => Assignment::LogicalDns,
            false => Assignment::StrictDns,
        };
        return dns(wire, assignment, policy, cx);
    }
    Err(FieldError::new(format!(
        "cluster type {:?} ({}) is not supported",
        quote(&custom.name),
        quote(kind)
    )))
}

/// Clusters that are there twice count where they are first (gRFC A37).
fn aggregate(config: &ClusterConfig) -> Result<Discovery, FieldError> {
    if config.clusters.is_empty() {
        return Err(FieldError::new("must not be empty"));
    }
    if config.clusters.iter().any(String::is_empty) {
        return Err(FieldError::new("a name must not be empty"));
    }
    let clusters = config.clusters.iter().map(|name| name.as_str().into());
    Ok(Discovery::Aggregate(clusters.collect()))
}

/// The endpoints that the cluster has in itself.
fn assignment(
    wire: &Wire,
    assignment: Assignment,
    cx: &mut Context<'_>,
) -> Result<Endpoints, FieldError> {
    let name = wire.name.as_str();
    cx.field("load_assignment", |cx| {
        let Some(wire) = &wire.load_assignment else {
            let problem = "must be set for a cluster of type STATIC or of a DNS type";
            return Err(FieldError::new(problem));
        };
        if assignment == Assignment::LogicalDns {
            let [locality] = &wire.endpoints[..] else {
                let problem = "must have exactly one locality in a LOGICAL_DNS cluster";
                return Err(FieldError::new(problem).field("endpoints"));
            };
            let [_] = &locality.lb_endpoints[..] else {
                let problem = "must have exactly one endpoint in a LOGICAL_DNS cluster";
                let error = FieldError::new(problem).field("lb_endpoints");
                return Err(error.index("endpoints", 0));
            };
        }
        let endpoints = endpoints::decode(wire.clone(), assignment, cx)?;
        Ok(Endpoints {
            name: name.into(),
            ..endpoints
        })
    })
}

fn dns(
    wire: &Wire,
    kind: Assignment,
    policy: LookupPolicy,
    cx: &mut Context<'_>,
) -> Result<Discovery, FieldError> {
    unused_eds(wire, cx);
    Ok(Discovery::Dns(
        Dns {
            endpoints: assignment(wire, kind, cx)?,
            is_logical: kind == Assignment::LogicalDns,
            policy,
        }
        .into(),
    ))
}

#[expect(deprecated, reason = "the fields of most control planes")]
fn by_old_fields(
    wire: &Wire,
    kind: Assignment,
    cx: &mut Context<'_>,
) -> Result<Discovery, FieldError> {
    let is_logical = kind == Assignment::LogicalDns;
    let family = match OldFamily::try_from(wire.dns_lookup_family) {
        Ok(OldFamily::Auto) => auto(is_logical),
        Ok(OldFamily::V4Only) => DnsFamily::V4,
        Ok(OldFamily::V6Only) => DnsFamily::V6,
        Ok(OldFamily::V4Preferred) => DnsFamily::PreferV4,
        Ok(OldFamily::All) => DnsFamily::All,
        Err(_) => return Err(FieldError::new("not known").field("dns_lookup_family")),
    };
    let failure = wire.dns_failure_refresh_rate.as_ref();
    let failure = failure.map(
        |RefreshRate {
             base_interval,
             max_interval,
         }| {
            failure_rate(base_interval.as_ref(), max_interval.as_ref())
                .field("dns_failure_refresh_rate")
        },
    );
    let default = LookupPolicy::default();
    let policy = LookupPolicy {
        refresh: rate(wire.dns_refresh_rate.as_ref())
            .field("dns_refresh_rate")?
            .unwrap_or(default.refresh),
        failure: failure.transpose()?,
        respect_ttl: wire.respect_dns_ttl,
        jitter: jitter(wire.dns_jitter.as_ref())?,
        family,
        ..default
    };
    dns(wire, kind, policy, cx)
}

fn new_policy(config: &DnsCluster) -> Result<LookupPolicy, FieldError> {
    let family = match Family::try_from(config.dns_lookup_family) {
        Ok(Family::Unspecified | Family::Auto) => auto(config.all_addresses_in_single_endpoint),
        Ok(Family::V4Only) => DnsFamily::V4,
        Ok(Family::V6Only) => DnsFamily::V6,
        Ok(Family::V4Preferred) => DnsFamily::PreferV4,
        Ok(Family::All) => DnsFamily::All,
        Err(_) => return Err(FieldError::new("not known").field("dns_lookup_family")),
    };
    let failure = config.dns_failure_refresh_rate.as_ref();
    let failure = failure.map(
        |NewRefreshRate {
             base_interval,
             max_interval,
         }| {
            failure_rate(base_interval.as_ref(), max_interval.as_ref())
                .field("dns_failure_refresh_rate")
        },
    );
    let default = LookupPolicy::default();
    let min_refresh = rate(config.dns_min_refresh_rate.as_ref()).field("dns_min_refresh_rate")?;
    Ok(LookupPolicy {
        refresh: rate(config.dns_refresh_rate.as_ref())
            .field("dns_refresh_rate")?
            .unwrap_or(default.refresh),
        failure: failure.transpose()?,
        respect_ttl: config.respect_dns_ttl,
        min_refresh: min_refresh.unwrap_or(default.min_refresh),
        jitter: jitter(config.dns_jitter.as_ref())?,
        family,
    })
}

/// AUTO: of endpoints with one address each, the IPv6 ones, or the IPv4 ones if there are none
/// (Envoy). An endpoint that has all addresses of a name is tried at each of them.
fn auto(is_logical: bool) -> DnsFamily {
    match is_logical {
        true => DnsFamily::All,
        false => DnsFamily::PreferV6,
    }
}

/// More than a millisecond, as in Envoy.
fn rate(wire: Option<&protobuf::Duration>) -> Result<Option<Duration>, FieldError> {
    match wire.map(duration).transpose()? {
        Some(rate) if rate <= Duration::from_millis(1) => {
            Err(FieldError::new("must be more than 1 ms"))
        }
        rate => Ok(rate),
    }
}

fn jitter(wire: Option<&protobuf::Duration>) -> Result<Duration, FieldError> {
    Ok(wire
        .map(duration)
        .transpose()
        .field("dns_jitter")?
        .unwrap_or_default())
}

/// The first and the longest pause after a failure.
fn failure_rate(
    base: Option<&protobuf::Duration>,
    max: Option<&protobuf::Duration>,
) -> Result<(Duration, Duration), FieldError> {
    let Some(base) = rate(base).field("base_interval")? else {
        return Err(FieldError::new("must be set").field("base_interval"));
    };
    let max = rate(max).field("max_interval")?;
    match max {
        Some(max) if max < base => {
            Err(FieldError::new("must not be less than base_interval").field("max_interval"))
        }
        max => Ok((base, max.unwrap_or(base.saturating_mul(10)))),
    }
}

/// Reports the fields for DNS of a cluster that does not look anything up by them.
#[expect(deprecated, reason = "the fields of most control planes")]
pub(super) fn unused_dns(wire: &Wire, why: &str, cx: &mut Context<'_>) {
    for (field, is_set) in [
        ("dns_refresh_rate", wire.dns_refresh_rate.is_some()),
        (
            "dns_failure_refresh_rate",
            wire.dns_failure_refresh_rate.is_some(),
        ),
        ("respect_dns_ttl", wire.respect_dns_ttl),
        ("dns_lookup_family", wire.dns_lookup_family != 0),
        ("dns_jitter", wire.dns_jitter.is_some()),
    ] {
        if is_set {
            cx.ignored(field, why);
        }
    }
}

pub(super) fn unused_assignment(wire: &Wire, why: &str, cx: &mut Context<'_>) {
    if wire.load_assignment.is_some() {
        cx.ignored("load_assignment", why);
    }
}

pub(super) fn unused_eds(wire: &Wire, cx: &mut Context<'_>) {
    if wire.eds_cluster_config.is_some() {
        cx.ignored("eds_cluster_config", "only for clusters of type EDS");
    }
}

pub(super) static AGGREGATE_CLUSTER: Message = Message {
    name: "envoy.extensions.clusters.aggregate.v3.ClusterConfig",
    fields: &[Field::enforced(1, "clusters")],
};

pub(super) static DNS_CLUSTER: Message = Message {
    name: "envoy.extensions.clusters.dns.v3.DnsCluster",
    fields: &[
        Field::enforced(3, "dns_refresh_rate"),
        Field::message(4, "dns_failure_refresh_rate", &NEW_REFRESH_RATE),
        Field::approximated(5, "respect_dns_ttl", TTL),
        Field::enforced(6, "dns_jitter"),
        Field::ignored(7, "typed_dns_resolver_config", ITS_RESOLVER),
        Field::enforced(8, "dns_lookup_family"),
        Field::enforced(9, "all_addresses_in_single_endpoint"),
        Field::approximated(10, "dns_min_refresh_rate", TTL),
    ],
};

static NEW_REFRESH_RATE: Message = Message {
    name: "envoy.extensions.clusters.dns.v3.DnsCluster.RefreshRate",
    fields: REFRESH_RATE_FIELDS,
};

pub(super) static REFRESH_RATE: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.RefreshRate",
    fields: REFRESH_RATE_FIELDS,
};

const REFRESH_RATE_FIELDS: &[Field] = &[
    Field::enforced(1, "base_interval"),
    Field::enforced(2, "max_interval"),
];

pub(super) const TTL: &str = "in force if the resolver tells times to live; the system's does not, \
                              and dns_refresh_rate is in force";
pub(super) const ITS_RESOLVER: &str = "names are looked up by the resolver of the process";

#[cfg(test)]
mod tests;
