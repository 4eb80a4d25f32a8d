//! Messages to decode, and the whole way of decoding them.

use std::sync::Arc;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                AggregatedConfigSource, ConfigSource, config_source::ConfigSourceSpecifier,
            },
            listener::v3::{ApiListener, Listener as WireListener},
            route::v3::{
                HeaderMatcher, RetryPolicy, Route as WireRoute, RouteAction, RouteConfiguration,
                RouteMatch, VirtualHost as WireHost, WeightedCluster,
                header_matcher::HeaderMatchSpecifier,
                route::Action,
                route_action::{ClusterSpecifier, MaxStreamDuration},
                route_match::PathSpecifier,
                weighted_cluster::ClusterWeight,
            },
        },
        extensions::filters::{
            common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
            http::{
                fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
                router::v3::Router,
            },
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
                http_filter::ConfigType,
            },
        },
        r#type::{
            matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
            v3::{FractionalPercent, fractional_percent::DenominatorType},
        },
    },
    google::protobuf::{Any, BoolValue, Duration, UInt32Value},
};
use prost::{Message as _, Name};

use super::{
    Context, FieldError, Message,
    fields::{Extensions, Findings, walk},
    filter::WRAPPER,
    listener::{self, HTTP_CONNECTION_MANAGER, LISTENER},
    route,
    route_fields::ROUTE_CONFIGURATION,
};
use crate::{
    config::{Finding, Listener, Resource, Route, RouteConfig},
    control::xds::FilterRegistry,
};

struct Known<'a>(&'a FilterRegistry);

impl Extensions for Known<'_> {
    fn message(&self, name: &str) -> Option<&'static Message> {
        [&HTTP_CONNECTION_MANAGER, &WRAPPER]
            .into_iter()
            .find(|message| message.name == name)
            .or_else(|| self.0.message(name))
    }

    fn structure(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|decoder| decoder.accepts_struct())
    }
}

pub(super) fn decode_listener(
    wire: WireListener,
    filters: &FilterRegistry,
) -> Result<(Listener, Vec<Finding>), FieldError> {
    let mut findings = Findings::default();
    let mut cx = Context::new(filters);
    let (_, decoded) = listener::decode(wire.clone(), &Default::default(), &mut cx)?;
    let raw = wire.encode_to_vec();
    walk(&LISTENER, &raw, &Known(filters), &mut findings)?;
    cx.finish(&mut findings);
    match decoded {
        Resource::Listener(decoded) => Ok((Arc::unwrap_or_clone(decoded), findings.finish())),
        other => panic!("not for a client: {other:?}"),
    }
}

pub(super) fn decode_routes(
    wire: RouteConfiguration,
) -> Result<(RouteConfig, Vec<Finding>), FieldError> {
    let filters = FilterRegistry::standard();
    let mut findings = Findings::default();
    let mut cx = Context::new(&filters);
    let decoded = route::decode(wire.clone(), &mut cx)?;
    let raw = wire.encode_to_vec();
    walk(&ROUTE_CONFIGURATION, &raw, &Known(&filters), &mut findings)?;
    cx.finish(&mut findings);
    Ok((decoded, findings.finish()))
}

pub(super) fn any(message: &impl Name) -> Any {
    named_any(&type_url_of(message), message.encode_to_vec())
}

pub(super) fn named_any(type_url: &str, value: Vec<u8>) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value,
    }
}

fn type_url_of<M: Name>(_: &M) -> String {
    format!("type.googleapis.com/{}", M::full_name())
}

pub(super) fn api_listener(name: &str, manager: HttpConnectionManager) -> WireListener {
    WireListener {
        name: name.to_owned(),
        api_listener: Some(ApiListener {
            api_listener: Some(any(&manager)),
        }),
        ..Default::default()
    }
}

/// A manager that takes its routes from the resource `routes` and has the router only.
pub(super) fn manager() -> HttpConnectionManager {
    HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: "routes".into(),
        })),
        http_filters: vec![router()],
        ..Default::default()
    }
}

pub(super) fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

pub(super) fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

pub(super) fn router() -> HttpFilter {
    filter("router", any(&Router::default()))
}

pub(super) fn routes(routes: Vec<WireRoute>) -> RouteConfiguration {
    RouteConfiguration {
        name: "routes".into(),
        virtual_hosts: vec![host(&["*"], routes)],
        ..Default::default()
    }
}

pub(super) fn host(domains: &[&str], routes: Vec<WireRoute>) -> WireHost {
    WireHost {
        domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
        routes,
        ..Default::default()
    }
}

/// A route of all requests to the cluster `c`.
pub(super) fn any_route() -> WireRoute {
    route_to(RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster("c".into())),
        ..Default::default()
    })
}

pub(super) fn route_to(action: RouteAction) -> WireRoute {
    WireRoute {
        r#match: Some(prefix("/")),
        action: Some(Action::Route(action)),
        ..Default::default()
    }
}

pub(super) fn route_of(matcher: RouteMatch) -> WireRoute {
    WireRoute {
        r#match: Some(matcher),
        ..any_route()
    }
}

pub(super) fn prefix(prefix: &str) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix(prefix.to_owned())),
        ..Default::default()
    }
}

pub(super) fn millis(millis: i32) -> Duration {
    Duration {
        seconds: i64::from(millis / 1000),
        nanos: millis % 1000 * 1_000_000,
    }
}

/// A delay of 1.25 s for all calls, an abort with 503 for 1 in 10 000, and at most 7 at a time.
pub(super) fn every_fault() -> Any {
    let percentage = |numerator, denominator: DenominatorType| {
        Some(FractionalPercent {
            numerator,
            denominator: denominator.into(),
        })
    };
    any(&HttpFault {
        delay: Some(FaultDelay {
            percentage: percentage(100, DenominatorType::Hundred),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(millis(1_250))),
        }),
        abort: Some(FaultAbort {
            percentage: percentage(1, DenominatorType::TenThousand),
            error_type: Some(ErrorType::HttpStatus(503)),
            ..Default::default()
        }),
        max_active_faults: Some(UInt32Value { value: 7 }),
        ..Default::default()
    })
}

/// Routes in the manner of istiod: a canary by header, a split by weight, and a default.
pub(super) fn istio_like() -> RouteConfiguration {
    let name = "greeter.shop.svc.cluster.local";
    let cluster = |subset: &str| format!("outbound|8080|{subset}|{name}");
    let canary = WireRoute {
        name: "canary".into(),
        r#match: Some(RouteMatch {
            case_sensitive: Some(BoolValue { value: true }),
            headers: vec![HeaderMatcher {
                name: "X-Canary".into(),
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
                    match_pattern: Some(MatchPattern::SafeRegex(RegexMatcher {
                        regex: "v[0-9]+".into(),
                        ..Default::default()
                    })),
                    ..Default::default()
                })),
                ..Default::default()
            }],
            ..prefix("/")
        }),
        ..route_to(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster("v2"))),
            timeout: Some(millis(0)),
            max_stream_duration: Some(MaxStreamDuration {
                max_stream_duration: Some(millis(2_000)),
                grpc_timeout_header_max: Some(millis(0)),
                ..Default::default()
            }),
            ..Default::default()
        })
    };
    let weight = |subset, weight: u32| ClusterWeight {
        name: cluster(subset),
        weight: Some(UInt32Value { value: weight }),
        ..Default::default()
    };
    let split = route_to(RouteAction {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: vec![
                weight("v1", 90),
                ClusterWeight {
                    typed_per_filter_config: [("fault".to_owned(), every_fault())].into(),
                    ..weight("v2", 10)
                },
                weight("v3", 0),
            ],
            ..Default::default()
        })),
        retry_policy: Some(RetryPolicy {
            retry_on: "connect-failure,refused-stream,unavailable,cancelled,503".into(),
            num_retries: Some(UInt32Value { value: 2 }),
            ..Default::default()
        }),
        ..Default::default()
    });
    RouteConfiguration {
        name: "8080".into(),
        virtual_hosts: vec![
            WireHost {
                name: format!("{name}:8080"),
                include_request_attempt_count: true,
                ..host(
                    &[name, "Greeter.shop:8080", "greeter.*", "*.shop"],
                    vec![canary, split],
                )
            },
            host(&["*"], vec![any_route()]),
        ],
        ..Default::default()
    }
}

/// Routes with what HTTP semantics have beyond gRPC.
pub(super) fn http_like() -> RouteConfiguration {
    use envoy_types::pb::envoy::{
        config::{
            core::v3::{DataSource, HeaderValue, HeaderValueOption, data_source::Specifier},
            route::v3::{
                DirectResponseAction, RedirectAction,
                redirect_action::PathRewriteSpecifier,
                route_action::{HostRewriteSpecifier, UpgradeConfig},
            },
        },
        r#type::matcher::v3::RegexMatchAndSubstitute,
    };
    let rewrite = || RegexMatchAndSubstitute {
        pattern: Some(wire_regex("^/(a)")),
        substitution: r"/\1".into(),
    };
    let header = HeaderValueOption {
        header: Some(HeaderValue {
            key: "x-a".into(),
            value: "%REQ(x-b?:path):9% %%".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let forward = WireRoute {
        request_headers_to_add: vec![header],
        response_headers_to_remove: vec!["x-c".into()],
        ..route_to(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster("c".into())),
            timeout: Some(millis(1_500)),
            regex_rewrite: Some(rewrite()),
            host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite())),
            upgrade_configs: vec![UpgradeConfig {
                upgrade_type: "websocket".into(),
                ..Default::default()
            }],
            retry_policy: Some(RetryPolicy {
                retry_on: "5xx".into(),
                per_try_timeout: Some(millis(5)),
                retriable_status_codes: vec![429],
                ..Default::default()
            }),
            ..Default::default()
        })
    };
    let mut answers = [any_route(), any_route()];
    answers[0].action = Some(Action::Redirect(RedirectAction {
        host_redirect: "a.b".into(),
        path_rewrite_specifier: Some(PathRewriteSpecifier::RegexRewrite(rewrite())),
        ..Default::default()
    }));
    answers[1].action = Some(Action::DirectResponse(DirectResponseAction {
        status: 404,
        body: Some(DataSource {
            specifier: Some(Specifier::InlineString("no".into())),
            ..Default::default()
        }),
        ..Default::default()
    }));
    let [redirect, answer] = answers;
    routes(vec![forward, redirect, answer])
}

/// The only route of a configuration, if it is not skipped.
pub(super) fn decode_one(wire: WireRoute) -> Result<(Option<Route>, Vec<Finding>), FieldError> {
    let (config, findings) = decode_routes(routes(vec![wire]))?;
    let mut hosts = config.virtual_hosts;
    let route = hosts.remove(0).routes.pop();
    Ok((route.map(Arc::unwrap_or_clone), findings))
}

pub(super) fn wire_regex(source: &str) -> RegexMatcher {
    RegexMatcher {
        regex: source.to_owned(),
        ..Default::default()
    }
}
