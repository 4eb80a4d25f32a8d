//! Services and servers as xDS resources, in the dialect of gRPC: API listeners, and certificate
//! provider instances.

mod endpoints;
mod http;
mod rbac;
mod server;
mod tls;

pub use server::server_listener_name;
pub(super) use {
    rbac::{permission, principal, rbac, rbac_per_route, stdout_audit},
    server::{SERVER_LISTENER_TEMPLATE, server},
};

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, LoadBalancingPolicy,
                circuit_breakers::Thresholds,
                cluster,
                cluster::{CustomClusterType, EdsClusterConfig},
                load_balancing_policy,
            },
            core::v3::{
                AggregatedConfigSource, ApiVersion, ConfigSource, RuntimeFractionalPercent,
                SelfConfigSource, TypedExtensionConfig, config_source::ConfigSourceSpecifier,
            },
            listener::v3::{ApiListener, Listener},
            route::v3::{
                HeaderMatcher, RetryPolicy, Route as WireRoute, RouteAction, RouteConfiguration,
                RouteMatch, VirtualHost, WeightedCluster,
                header_matcher::HeaderMatchSpecifier,
                retry_policy::RetryBackOff,
                route::Action,
                route_action::{ClusterSpecifier, MaxStreamDuration},
                route_match::PathSpecifier,
                weighted_cluster::ClusterWeight,
            },
        },
        extensions::clusters::aggregate::v3::ClusterConfig,
        extensions::filters::{
            common::fault::v3::{
                FaultDelay,
                fault_delay::{FaultDelaySecifier, HeaderDelay},
            },
            http::{
                fault::v3::{
                    FaultAbort, HttpFault,
                    fault_abort::{ErrorType, HeaderAbort},
                },
                router::v3::Router,
            },
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
                http_filter,
            },
        },
        r#type::{
            matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
            v3::{FractionalPercent, fractional_percent::DenominatorType},
        },
    },
    google::protobuf::{Any, Duration as WireDuration, UInt32Value},
};
use prost::{Message, Name};

use self::endpoints::{load_assignment, socket_address};
use super::{
    http::HttpLimits,
    parts::{
        Abort, Fault, HeaderRule, Injected, Origin, PathRule, Picking, Retry, Route, RoutePolicy,
        Text,
    },
    service::{ServiceState, VersionState},
    store::Rendered,
};
use crate::config::{Fraction, Kind};

/// The cluster, and endpoints resource, of a service's version.
pub fn cluster_name(service: &str, version: &str) -> String {
    if version.is_empty() {
        service.to_owned()
    } else {
        format!("{service}/{version}")
    }
}

/// The route configuration of a service.
pub fn route_name(service: &str) -> String {
    format!("route/{service}")
}

/// The type URL of resources of a kind.
pub(super) fn type_url(kind: Kind) -> &'static str {
    match kind {
        Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
        Kind::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    }
}

/// The kind that a type URL names.
pub(super) fn kind_of(url: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|&kind| type_url(kind) == url)
}

/// All resources of a service with their names.
pub(super) fn service(service: &str, state: &ServiceState) -> Rendered {
    let mut resources = vec![
        (
            Kind::Listener,
            service.to_owned(),
            pack(&listener(service, state)),
        ),
        (
            Kind::Route,
            route_name(service),
            pack(&route_configuration(service, state)),
        ),
    ];
    for version in &state.versions {
        let name = cluster_name(service, &version.name);
        resources.push((Kind::Cluster, name.clone(), pack(&cluster(&name, version))));
        if version.origin == Origin::Eds {
            let endpoints = pack(&load_assignment(&name, version));
            resources.push((Kind::Endpoints, name, endpoints));
        }
    }
    resources
}

/// A message in its envelope.
pub(super) fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

fn listener(service: &str, state: &ServiceState) -> Listener {
    let mut filters = Vec::new();
    if let Some(settings) = &state.fault {
        filters.push(filter("envoy.filters.http.fault", pack(&fault(settings))));
    }
    for (name, config) in &state.filters {
        filters.push(filter(name, config.clone()));
    }
    let manager = connection_manager(filters, RouteSpecifier::Rds(rds(service)));
    Listener {
        name: service.to_owned(),
        api_listener: Some(ApiListener {
            api_listener: Some(pack(&manager)),
        }),
        ..Listener::default()
    }
}

fn connection_manager(
    filters: impl IntoIterator<Item = HttpFilter>,
    routes: RouteSpecifier,
) -> HttpConnectionManager {
    let router = filter("envoy.filters.http.router", pack(&Router::default()));
    HttpConnectionManager {
        http_filters: filters.into_iter().chain([router]).collect(),
        route_specifier: Some(routes),
        ..HttpConnectionManager::default()
    }
}

fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

fn rds(owner: &str) -> Rds {
    Rds {
        config_source: Some(ads()),
        route_config_name: route_name(owner),
    }
}

fn fault(fault: &Fault) -> HttpFault {
    HttpFault {
        delay: fault.delay.map(|(delay, share)| FaultDelay {
            percentage: Some(percent(share)),
            fault_delay_secifier: Some(match delay {
                Injected::Fixed(delay) => FaultDelaySecifier::FixedDelay(duration(delay)),
                Injected::ByHeader => FaultDelaySecifier::HeaderDelay(HeaderDelay {}),
            }),
        }),
        abort: fault.abort.map(|(abort, share)| FaultAbort {
            percentage: Some(percent(share)),
            error_type: Some(match abort {
                Injected::Fixed(Abort::Grpc(code)) => ErrorType::GrpcStatus(code as u32),
                Injected::Fixed(Abort::Http(status)) => ErrorType::HttpStatus(status.into()),
                Injected::ByHeader => ErrorType::HeaderAbort(HeaderAbort {}),
            }),
            ..FaultAbort::default()
        }),
        max_active_faults: fault.max_active.map(uint32),
        ..HttpFault::default()
    }
}

fn route_configuration(service: &str, state: &ServiceState) -> RouteConfiguration {
    let own: Vec<_> = state
        .versions
        .iter()
        .map(|version| (version.name.clone(), version.weight))
        .collect();
    let mut routes: Vec<_> = state
        .routes
        .iter()
        .map(|rule| {
            let split = if rule.split.is_empty() {
                &own
            } else {
                &rule.split
            };
            let policy = RoutePolicy {
                retry: rule.policy.retry.clone(),
                max_stream_duration: rule
                    .policy
                    .max_stream_duration
                    .or(state.policy.max_stream_duration),
                grpc_timeout_header_max: rule
                    .policy
                    .grpc_timeout_header_max
                    .or(state.policy.grpc_timeout_header_max),
                http: HttpLimits {
                    timeout: (rule.policy.http.timeout).or(state.policy.http.timeout),
                    idle_timeout: (rule.policy.http.idle_timeout)
                        .or(state.policy.http.idle_timeout),
                },
            };
            let mut route = WireRoute {
                typed_per_filter_config: rule.overrides.clone().into_iter().collect(),
                ..route(route_match(rule), service, split, &policy)
            };
            http::apply(&rule.http, &mut route);
            route
        })
        .collect();
    if !own.is_empty() {
        // The service's retry policy is the virtual host's: that of all routes without their own.
        let policy = RoutePolicy {
            retry: None,
            ..state.policy.clone()
        };
        routes.push(route(everything(), service, &own, &policy));
    }
    RouteConfiguration {
        name: route_name(service),
        virtual_hosts: vec![VirtualHost {
            name: service.to_owned(),
            domains: vec!["*".to_owned()],
            routes,
            retry_policy: state.policy.retry.as_ref().map(retry_policy),
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
}

fn everything() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix(String::new())),
        ..RouteMatch::default()
    }
}

fn route_match(rule: &Route) -> RouteMatch {
    let headers = rule.headers.iter();
    RouteMatch {
        path_specifier: Some(match &rule.path {
            PathRule::Exact(path) => PathSpecifier::Path(path.clone()),
            PathRule::Prefix(prefix) => PathSpecifier::Prefix(prefix.clone()),
            PathRule::Segments(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.clone()),
            PathRule::Regex(expression) => PathSpecifier::SafeRegex(regex(expression)),
        }),
        headers: headers
            .map(|(name, rule)| header_matcher(name, rule))
            .collect(),
        query_parameters: http::query(&rule.http),
        runtime_fraction: rule.percent.map(|share| RuntimeFractionalPercent {
            default_value: Some(percent(share)),
            runtime_key: String::new(),
        }),
        ..RouteMatch::default()
    }
}

fn header_matcher(name: &str, rule: &HeaderRule) -> HeaderMatcher {
    let string = |text| HeaderMatchSpecifier::StringMatch(string_matcher(&text));
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(match rule.clone() {
            HeaderRule::Exact(value) => string(Text::Exact(value)),
            HeaderRule::Prefix(prefix) => string(Text::Prefix(prefix)),
            HeaderRule::Present(present) => HeaderMatchSpecifier::PresentMatch(present),
            HeaderRule::Regex(expression) => string(Text::Regex(expression)),
        }),
        ..HeaderMatcher::default()
    }
}

fn string_matcher(text: &Text) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(match text {
            Text::Exact(text) => MatchPattern::Exact(text.clone()),
            Text::Prefix(prefix) => MatchPattern::Prefix(prefix.clone()),
            Text::Regex(expression) => MatchPattern::SafeRegex(regex(expression)),
        }),
        ..StringMatcher::default()
    }
}

fn regex(expression: &str) -> RegexMatcher {
    RegexMatcher {
        regex: expression.to_owned(),
        ..RegexMatcher::default()
    }
}

fn route(
    matcher: RouteMatch,
    service: &str,
    split: &[(String, u32)],
    policy: &RoutePolicy,
) -> WireRoute {
    let cluster_specifier = match split {
        [(version, _)] => ClusterSpecifier::Cluster(cluster_name(service, version)),
        _ => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: split
                .iter()
                .map(|(version, weight)| ClusterWeight {
                    name: cluster_name(service, version),
                    weight: Some(uint32(*weight)),
                    ..ClusterWeight::default()
                })
                .collect(),
            ..WeightedCluster::default()
        }),
    };
    let limited = policy.max_stream_duration.is_some() || policy.grpc_timeout_header_max.is_some();
    let mut action = RouteAction {
        cluster_specifier: Some(cluster_specifier),
        retry_policy: policy.retry.as_ref().map(retry_policy),
        max_stream_duration: limited.then(|| MaxStreamDuration {
            max_stream_duration: policy.max_stream_duration.map(duration),
            grpc_timeout_header_max: policy.grpc_timeout_header_max.map(duration),
            grpc_timeout_header_offset: None,
        }),
        ..RouteAction::default()
    };
    http::limits(policy.http, &mut action);
    WireRoute {
        r#match: Some(matcher),
        action: Some(Action::Route(action)),
        ..WireRoute::default()
    }
}

fn retry_policy(retry: &Retry) -> RetryPolicy {
    let codes: Vec<_> = retry
        .on
        .iter()
        .map(|code| code.name().to_ascii_lowercase().replace('_', "-"))
        .chain(retry.http.conditions.iter().cloned())
        .collect();
    RetryPolicy {
        retriable_status_codes: retry.http.statuses.iter().copied().map(u32::from).collect(),
        per_try_timeout: retry.http.per_try_timeout.map(duration),
        retry_on: codes.join(","),
        num_retries: retry.retries.map(uint32),
        retry_back_off: retry.backoff.map(|(base, max)| RetryBackOff {
            base_interval: Some(duration(base)),
            max_interval: Some(duration(max)),
        }),
        ..RetryPolicy::default()
    }
}

fn cluster(name: &str, version: &VersionState) -> Cluster {
    let mut cluster = base_cluster(name, version);
    originate(&mut cluster, version);
    match &version.picking {
        Picking::RoundRobin => cluster.set_lb_policy(cluster::LbPolicy::RoundRobin),
        Picking::LeastRequest { choices } => {
            cluster.set_lb_policy(cluster::LbPolicy::LeastRequest);
            cluster.lb_config = Some(cluster::LbConfig::LeastRequestLbConfig(
                cluster::LeastRequestLbConfig {
                    choice_count: Some(uint32(*choices)),
                    ..cluster::LeastRequestLbConfig::default()
                },
            ));
        }
        Picking::Policy(config) => {
            cluster.load_balancing_policy = Some(LoadBalancingPolicy {
                policies: vec![load_balancing_policy::Policy {
                    typed_extension_config: Some(TypedExtensionConfig {
                        name: config.type_url.clone(),
                        typed_config: Some(config.clone()),
                    }),
                }],
            });
        }
    }
    cluster
}

/// Says where the endpoints of a cluster come from.
fn originate(cluster: &mut Cluster, version: &VersionState) {
    let kind = match &version.origin {
        Origin::Eds => {
            cluster.eds_cluster_config = Some(EdsClusterConfig {
                eds_config: Some(ads()),
                service_name: cluster.name.clone(),
            });
            cluster::DiscoveryType::Eds
        }
        Origin::Static => cluster::DiscoveryType::Static,
        Origin::StrictDns => cluster::DiscoveryType::StrictDns,
        Origin::LogicalDns => cluster::DiscoveryType::LogicalDns,
        Origin::Aggregate(clusters) => {
            let custom = CustomClusterType {
                name: "envoy.clusters.aggregate".into(),
                typed_config: Some(pack(&ClusterConfig {
                    clusters: clusters.clone(),
                })),
            };
            cluster.cluster_discovery_type =
                Some(cluster::ClusterDiscoveryType::ClusterType(custom));
            return;
        }
    };
    cluster.cluster_discovery_type = Some(cluster::ClusterDiscoveryType::Type(kind.into()));
    if version.origin != Origin::Eds {
        cluster.load_assignment = Some(load_assignment(&cluster.name, version));
    }
    #[expect(deprecated, reason = "every client knows the old field")]
    let refresh = &mut cluster.dns_refresh_rate;
    *refresh = version.dns_refresh.map(duration);
}

fn base_cluster(name: &str, version: &VersionState) -> Cluster {
    let thresholds = |limits: Option<Thresholds>| limits.into_iter().collect();
    let cluster_wide = Thresholds {
        max_requests: version.max_requests.map(uint32),
        max_connections: version.max_connections.map(uint32),
        max_pending_requests: version.max_pending.map(uint32),
        max_retries: version.max_retries.map(uint32),
        ..Thresholds::default()
    };
    let cluster_wide = (cluster_wide != Thresholds::default()).then_some(cluster_wide);
    let breakers = cluster_wide.is_some() || version.max_connections_per_host.is_some();
    Cluster {
        name: name.to_owned(),
        lrs_server: version.report_load.then(own),
        lrs_report_endpoint_metrics: version.endpoint_metrics.clone(),
        circuit_breakers: breakers.then(|| CircuitBreakers {
            thresholds: thresholds(cluster_wide),
            per_host_thresholds: thresholds(version.max_connections_per_host.map(|limit| {
                Thresholds {
                    max_connections: Some(uint32(limit)),
                    ..Thresholds::default()
                }
            })),
        }),
        typed_extension_protocol_options: http::protocol_options(version).into_iter().collect(),
        transport_socket: version.tls.as_ref().map(tls::upstream),
        ..Cluster::default()
    }
}

/// The server that the resource comes from.
fn own() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Self_(SelfConfigSource::default())),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    }
}

fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    }
}

fn percent(percent: f64) -> FractionalPercent {
    let parts = (percent / 100.0 * f64::from(Fraction::WHOLE)).round();
    FractionalPercent {
        // `as` saturates: below 0 is 0.
        numerator: Fraction::per_million(parts as u32).parts(),
        denominator: DenominatorType::Million.into(),
    }
}

fn duration(duration: Duration) -> WireDuration {
    WireDuration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn uint32(value: u32) -> UInt32Value {
    UInt32Value { value }
}
