//! What HTTP semantics alone read.

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                DataSource, HeaderValue, HeaderValueOption, Http1ProtocolOptions,
                Http2ProtocolOptions, HttpProtocolOptions as CommonOptions, data_source::Specifier,
            },
            route::v3::{
                DirectResponseAction, QueryParameterMatcher, Route as WireRoute, RouteAction,
                query_parameter_matcher::QueryParameterMatchSpecifier,
                route::Action,
                route_action::{HostRewriteSpecifier, UpgradeConfig},
            },
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions,
                explicit_http_config::ProtocolConfig,
            },
        },
        r#type::matcher::v3::RegexMatchAndSubstitute,
    },
    google::protobuf::{Any, BoolValue},
};

use super::{duration, pack, regex, string_matcher, uint32};
use crate::{
    config::HttpProtocol,
    testing::{
        http::{Answer, HttpLimits, HttpRule, Rewrite},
        parts::Text,
        service::VersionState,
    },
};

/// The key and the type of a cluster's protocol options.
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What a version's cluster says of protocols.
pub(super) fn protocol_options(version: &VersionState) -> Option<(String, Any)> {
    if version.protocol.is_none() && version.max_requests_per_connection.is_none() {
        return None;
    }
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let choice = match version.protocol.unwrap_or_default() {
        HttpProtocol::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(
            Http1ProtocolOptions::default(),
        )),
        HttpProtocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(
            Http2ProtocolOptions::default(),
        )),
        HttpProtocol::Auto => UpstreamProtocolOptions::AutoConfig(AutoHttpConfig::default()),
    };
    let options = HttpProtocolOptions {
        common_http_protocol_options: version.max_requests_per_connection.map(|limit| {
            CommonOptions {
                max_requests_per_connection: Some(uint32(limit)),
                ..CommonOptions::default()
            }
        }),
        upstream_protocol_options: Some(choice),
        ..HttpProtocolOptions::default()
    };
    Some((OPTIONS.to_owned(), pack(&options)))
}

/// The query parameters of a rule.
pub(super) fn query(rule: &HttpRule) -> Vec<QueryParameterMatcher> {
    let parameters = rule.query.iter().map(|(name, value)| {
        let value = string_matcher(&Text::Exact(value.clone()));
        QueryParameterMatcher {
            name: name.clone(),
            query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(value)),
        }
    });
    parameters.collect()
}

/// Adds to a route what a rule says.
pub(super) fn apply(rule: &HttpRule, route: &mut WireRoute) {
    if let Some(Action::Route(action)) = &mut route.action {
        rewrite(rule, action);
    }
    match &rule.answer {
        None => {}
        Some(Answer::Redirect(redirect)) => route.action = Some(Action::Redirect(redirect.clone())),
        Some(Answer::Direct(status, body)) => {
            let body = (!body.is_empty()).then(|| DataSource {
                specifier: Some(Specifier::InlineString(body.clone())),
                ..DataSource::default()
            });
            route.action = Some(Action::DirectResponse(DirectResponseAction {
                status: (*status).into(),
                body,
                ..DirectResponseAction::default()
            }));
        }
    }
    let headers = &rule.headers;
    route.request_headers_to_add = added(&headers.request_add);
    route.request_headers_to_remove = headers.request_remove.clone();
    route.response_headers_to_add = added(&headers.response_add);
    route.response_headers_to_remove = headers.response_remove.clone();
}

/// Adds limits of time to an action.
pub(super) fn limits(limits: HttpLimits, action: &mut RouteAction) {
    let wire = |limit: Option<Duration>| limit.map(duration);
    action.timeout = wire(limits.timeout);
    action.idle_timeout = wire(limits.idle_timeout);
}

fn rewrite(rule: &HttpRule, action: &mut RouteAction) {
    match &rule.rewrite {
        None => {}
        Some(Rewrite::Prefix(by)) => action.prefix_rewrite.clone_from(by),
        Some(Rewrite::Regex(expression, by)) => {
            action.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(regex(expression)),
                substitution: by.clone(),
            });
        }
    }
    let host = rule.host.clone();
    action.host_rewrite_specifier = host.map(HostRewriteSpecifier::HostRewriteLiteral);
    let upgrades = rule.upgrades.iter().map(|name| UpgradeConfig {
        upgrade_type: name.clone(),
        enabled: Some(BoolValue { value: true }),
        ..UpgradeConfig::default()
    });
    action.upgrade_configs = upgrades.collect();
}

fn added(headers: &[(String, String)]) -> Vec<HeaderValueOption> {
    let options = headers.iter().map(|(name, value)| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.clone(),
            value: value.clone(),
            ..HeaderValue::default()
        }),
        ..HeaderValueOption::default()
    });
    options.collect()
}
