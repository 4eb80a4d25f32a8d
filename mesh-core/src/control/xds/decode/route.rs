use std::{collections::HashMap, sync::Arc};

use envoy_types::pb::envoy::config::route::v3::{
    Route as WireRoute, RouteConfiguration, RouteMatch as WireMatch, VirtualHost as WireHost,
    route::Action, route_match::PathSpecifier,
};

use super::{
    Context, FieldError, ResultExt, action,
    bounds::quote,
    direct_response::{DEFAULT_MAX_BODY, direct_response},
    filter::overrides,
    header_mutation::{self, mutations},
    limits::Limit,
    matcher,
    redirect::redirect,
    retry::retry,
};
use crate::config::{
    Domain, PathMatcher, RetryPolicy, Route, RouteAction, RouteConfig, RouteMatch, VirtualHost,
};

/// Decodes a route configuration (gRFC A28). Its fields are not walked here.
pub(super) fn decode(
    wire: RouteConfiguration,
    cx: &mut Context<'_>,
) -> Result<RouteConfig, FieldError> {
    let RouteConfiguration {
        name,
        virtual_hosts,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        most_specific_header_mutations_wins,
        max_direct_response_body_size_bytes,
        ignore_port_in_host_matching,
        ..
    } = wire;
    let headers = header_mutation::Wire {
        request_add: request_headers_to_add,
        request_remove: request_headers_to_remove,
        response_add: response_headers_to_add,
        response_remove: response_headers_to_remove,
    };
    let headers = mutations(headers, cx)?;
    let max_body = max_direct_response_body_size_bytes.map_or(DEFAULT_MAX_BODY, |most| most.value);
    cx.count(Limit::VirtualHosts, virtual_hosts.len())
        .field("virtual_hosts")?;
    let mut seen = HashMap::new();
    let virtual_hosts = virtual_hosts
        .into_iter()
        .enumerate()
        .map(|(index, wire)| {
            cx.index("virtual_hosts", index, |cx| {
                let host = virtual_host(wire, max_body, cx)?;
                for (at, domain) in host.domains.iter().enumerate() {
                    if let Some(earlier) = seen.insert(domain.clone(), index) {
                        let problem = format!("is a domain of virtual_hosts[{earlier}] already");
                        return Err(FieldError::new(problem).index("domains", at));
                    }
                }
                Ok(host)
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(RouteConfig {
        name: name.into(),
        virtual_hosts,
        headers,
        most_specific_wins: most_specific_header_mutations_wins,
        ignore_port: ignore_port_in_host_matching,
    })
}

pub(super) fn virtual_host(
    wire: WireHost,
    max_body: u32,
    cx: &mut Context<'_>,
) -> Result<VirtualHost, FieldError> {
    let WireHost {
        name,
        domains,
        routes,
        retry_policy,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        ..
    } = wire;
    if domains.is_empty() {
        return Err(FieldError::new("must not be empty").field("domains"));
    }
    cx.count(Limit::Domains, domains.len()).field("domains")?;
    cx.count(Limit::Routes, routes.len()).field("routes")?;
    let domains = domains
        .iter()
        .enumerate()
        .map(|(index, pattern)| domain(pattern).index("domains", index))
        .collect::<Result<_, _>>()?;
    let retry = match retry_policy {
        Some(wire) => cx.field("retry_policy", |cx| retry(wire, cx))?,
        None => None,
    };
    let overrides = overrides(typed_per_filter_config, cx)?;
    let headers = header_mutation::Wire {
        request_add: request_headers_to_add,
        request_remove: request_headers_to_remove,
        response_add: response_headers_to_add,
        response_remove: response_headers_to_remove,
    };
    let headers = mutations(headers, cx)?;
    let inherited = Inherited { retry, max_body };
    let mut decoded = Vec::with_capacity(routes.len());
    for (index, wire) in routes.into_iter().enumerate() {
        let route = cx.index("routes", index, |cx| route(wire, &inherited, cx))?;
        decoded.extend(route.map(Arc::new));
    }
    Ok(VirtualHost {
        name: name.into(),
        domains,
        routes: decoded,
        overrides,
        headers,
    })
}

fn domain(pattern: &str) -> Result<Domain, FieldError> {
    let lower = pattern.to_ascii_lowercase();
    match lower.split_once('*') {
        None if lower.is_empty() => Err(FieldError::new("must not be empty")),
        None => Ok(Domain::Exact(lower)),
        Some(("", "")) => Ok(Domain::Any),
        Some(("", end)) if !end.contains('*') => Ok(Domain::Suffix(end.to_owned())),
        Some((start, "")) => Ok(Domain::Prefix(start.to_owned())),
        Some(_) => Err(FieldError::new(format!(
            "invalid pattern {:?}: one * is allowed, at the beginning or at the end",
            quote(pattern)
        ))),
    }
}

/// What routes take from what they are in.
pub(super) struct Inherited {
    /// The virtual host's policy.
    pub(super) retry: Option<Arc<RetryPolicy>>,
    /// Bytes that the body of a direct response may have.
    pub(super) max_body: u32,
}

/// One route; `None` if it is to be skipped.
pub(super) fn route(
    wire: WireRoute,
    inherited: &Inherited,
    cx: &mut Context<'_>,
) -> Result<Option<Route>, FieldError> {
    let WireRoute {
        name,
        r#match,
        action,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        ..
    } = wire;
    let headers = header_mutation::Wire {
        request_add: request_headers_to_add,
        request_remove: request_headers_to_remove,
        response_add: response_headers_to_add,
        response_remove: response_headers_to_remove,
    };
    let Some(wire) = r#match else {
        return Err(FieldError::new("must be set").field("match"));
    };
    let queried = !wire.query_parameters.is_empty();
    let matcher = match cx.field("match", |cx| route_match(wire, cx)) {
        Ok(matcher) => matcher,
        // A gRPC channel never takes a route that looks at the query, whatever else it says
        // (gRFC A28): it is no reason to refuse the resource, which both semantics share.
        Err(error) if queried => {
            let problem = error.problem();
            cx.ignored(error.path(), format!("the route is skipped: {problem}"));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let action = match action {
        Some(Action::Route(wire)) => {
            match cx.field("route", |cx| action::forward(wire, &inherited.retry, cx))? {
                Some(forward) => RouteAction::Forward(forward),
                None => return Ok(None),
            }
        }
        Some(Action::NonForwardingAction(_)) => RouteAction::NonForwarding,
        Some(Action::Redirect(wire)) => cx.field("redirect", |cx| redirect(wire, cx))?,
        Some(Action::DirectResponse(wire)) => cx.field("direct_response", |cx| {
            direct_response(wire, inherited.max_body, cx)
        })?,
        Some(Action::FilterAction(_)) => RouteAction::Unsupported("filter_action"),
        None => RouteAction::Unsupported("an unknown action"),
    };
    Ok(Some(Route {
        name: name.into(),
        matcher,
        action,
        overrides: overrides(typed_per_filter_config, cx)?,
        headers: mutations(headers, cx)?,
    }))
}

fn route_match(wire: WireMatch, cx: &mut Context<'_>) -> Result<RouteMatch, FieldError> {
    let WireMatch {
        path_specifier,
        case_sensitive,
        headers,
        query_parameters,
        runtime_fraction,
        ..
    } = wire;
    let ignore_case = case_sensitive.is_some_and(|sensitive| !sensitive.value);
    let text = |text: String| match ignore_case {
        true => text.to_ascii_lowercase(),
        false => text,
    };
    let unsupported = |name| {
        let problem = "not supported: prefix, path, path_separated_prefix and safe_regex are \
                       (gRFC A28)";
        Err(FieldError::new(problem).field(name))
    };
    let path = match path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => PathMatcher::Prefix {
            prefix: text(prefix),
            ignore_case,
        },
        Some(PathSpecifier::Path(path)) => PathMatcher::Exact {
            path: text(path),
            ignore_case,
        },
        Some(PathSpecifier::SafeRegex(wire)) => {
            PathMatcher::Regex(cx.field("safe_regex", |cx| matcher::safe_regex(&wire, cx))?)
        }
        Some(PathSpecifier::ConnectMatcher(_)) => return unsupported("connect_matcher"),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            segments(&prefix).field("path_separated_prefix")?;
            PathMatcher::Segments {
                prefix: text(prefix),
                ignore_case,
            }
        }
        Some(PathSpecifier::PathMatchPolicy(_)) => return unsupported("path_match_policy"),
        None => {
            let problem = "one of prefix, path, path_separated_prefix and safe_regex must be set \
                           (gRFC A28)";
            return Err(FieldError::new(problem).field("path_specifier"));
        }
    };
    cx.count(Limit::Matchers, headers.len()).field("headers")?;
    let headers = headers
        .into_iter()
        .enumerate()
        .map(|(index, wire)| cx.index("headers", index, |cx| matcher::header(wire, cx)))
        .collect::<Result<_, _>>()?;
    cx.count(Limit::Matchers, query_parameters.len())
        .field("query_parameters")?;
    let query = query_parameters
        .into_iter()
        .enumerate()
        .map(|(index, wire)| cx.index("query_parameters", index, |cx| matcher::query(wire, cx)))
        .collect::<Result<_, _>>()?;
    let fraction = runtime_fraction
        .map(|wire| matcher::runtime_fraction(&wire).field("runtime_fraction"))
        .transpose()?;
    Ok(RouteMatch {
        path,
        headers,
        query,
        fraction,
    })
}

/// A prefix as Envoy wants it: longer than a slash, so that what follows it begins with one.
fn segments(prefix: &str) -> Result<(), FieldError> {
    let problem = match prefix {
        _ if prefix.chars().nth(1).is_none() => "must have two characters at least",
        _ if prefix.ends_with('/') => "must not end with a slash",
        _ if prefix.contains(['?', '#']) => "must contain neither ? nor #",
        _ => return Ok(()),
    };
    Err(FieldError::new(problem))
}

#[cfg(test)]
mod tests;
