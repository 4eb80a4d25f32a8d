//! Where ours means to do otherwise than Envoy, and why.

use envoy_types::pb::envoy::{
    config::{
        core::v3::{HeaderValue, HeaderValueOption},
        route::v3::{
            HeaderMatcher, RedirectAction, RouteAction, RouteConfiguration,
            header_matcher::HeaderMatchSpecifier,
            redirect_action::PathRewriteSpecifier,
            route::Action,
            route_action::{ClusterSpecifier, HostRewriteSpecifier},
        },
    },
    r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher},
};
use http::uri::Authority;

use crate::{
    generate::Asked,
    outcome::{Arrived, Headers, Outcome},
};

/// A difference that is meant.
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
    /// A pair that differs for this reason alone.
    pub(crate) example: fn() -> (RouteConfiguration, Asked),
    /// Makes what Envoy and what ours did equal, where they differ for this reason.
    pub(crate) overlook: fn(&RouteConfiguration, &Asked, &mut Outcome, &mut Outcome),
}

pub(crate) static DIFFERENCES: &[Difference] = &[
    Difference {
        name: "repeated user-agent",
        reason: "Envoy has one place for some headers, `user-agent` among them, and joins values \
                 that are repeated by a comma, for routes too. Ours takes them as they are, and \
                 as all other headers. A `user-agent` is no list (RFC 9110 section 10.1.5)",
        example: || simple(&[("user-agent", "a"), ("user-agent", "b")], |_| {}),
        overlook: |_, asked, theirs, ours| {
            let agents = asked
                .headers
                .iter()
                .filter(|(name, _)| name == "user-agent");
            if agents.count() > 1 {
                ours.clone_from(theirs);
            }
        },
    },
    Difference {
        name: "response code before the response",
        reason: "`%RESPONSE_CODE%` is 0 to Envoy in a request and in a direct response or \
                 redirect, whose status it sets later. Ours has no code for a request, and tells \
                 the status of a response that it makes by itself",
        example: || {
            simple(&[], |routes| {
                let option = header("x-new", "%RESPONSE_CODE%");
                routes.request_headers_to_add.push(option);
            })
        },
        overlook: |routes, _, theirs, ours| {
            for outcome in [theirs, ours] {
                let headers = match &mut outcome.arrived {
                    Some(arrived) => &mut arrived.headers,
                    None => &mut outcome.headers,
                };
                // And what another level made of it.
                for operator in ["%RESPONSE_CODE%", "%RESP("] {
                    forget(routes, operator, headers);
                }
            }
        },
    },
    Difference {
        name: "the path of a redirect",
        reason: "Where a redirect rewrites the path, `%REQ(:path)%` in its response headers is the \
                 new path to Envoy, which has changed the request by then. To ours it is what was \
                 asked for, as it is for all other responses",
        example: || {
            simple(&[], |routes| {
                let route = &mut routes.virtual_hosts[0].routes[0];
                route.action = Some(Action::Redirect(RedirectAction {
                    path_rewrite_specifier: Some(PathRewriteSpecifier::PrefixRewrite(
                        "/new".to_owned(),
                    )),
                    ..RedirectAction::default()
                }));
                let option = header("x-new", "%REQ(:path)%");
                route.response_headers_to_add.push(option);
            })
        },
        overlook: |routes, _, theirs, ours| {
            let redirected = theirs.arrived.is_none() && theirs.headers.contains_key("location");
            if redirected {
                for operator in ["%REQ(:path)", "%RESP("] {
                    forget(routes, operator, &mut theirs.headers);
                    forget(routes, operator, &mut ours.headers);
                }
            }
        },
    },
    Difference {
        name: "an authority that is none",
        reason: "Envoy makes whatever the header of `host_rewrite_header` has the authority, and \
                 the whole path where the expression of `host_rewrite_path_regex` does not match. \
                 Ours keeps the authority unless the new one is valid (RFC 3986 section 3.2)",
        example: || {
            simple(&[], |routes| {
                action(routes).host_rewrite_specifier = Some(
                    HostRewriteSpecifier::HostRewritePathRegex(substitution("^/none$", "host")),
                );
            })
        },
        overlook: |_, _, theirs, ours| {
            let (Some(their), Some(our)) = (&theirs.arrived, &ours.arrived) else {
                return;
            };
            let valid = their.headers["host"][0].parse::<Authority>().is_ok();
            if !valid && (&their.cluster, &their.path) == (&our.cluster, &our.path) {
                ours.clone_from(theirs);
            }
        },
    },
    Difference {
        name: "a rewritten path without a slash",
        reason: "Where a rewrite takes the slash at the path's beginning away, Envoy sends the rest \
                 as it is, which servers refuse (RFC 9112 section 3.2.1). Ours puts a slash there, \
                 as both do for redirects",
        example: || {
            simple(&[], |routes| {
                action(routes).regex_rewrite = Some(substitution("^/", "new"));
            })
        },
        overlook: |_, _, theirs, ours| {
            let refused = theirs.status == 400 && ours.arrived.is_some();
            let slash = |arrived: &Arrived| arrived.path.starts_with('/');
            if refused || !theirs.arrived.as_ref().is_none_or(slash) {
                ours.clone_from(theirs);
            }
        },
    },
    Difference {
        name: "an empty exact_match",
        reason: "The deprecated `exact_match` asks for nothing but presence to Envoy if it is \
                 empty, other than the `string_match` that took its place. To ours, and to gRPC \
                 (A28), it asks for an empty value: a rule that is to narrow does not widen",
        example: || {
            simple(&[("x-a", "v")], |routes| {
                let route = &mut routes.virtual_hosts[0].routes[0];
                let matcher = route.r#match.get_or_insert_default();
                #[expect(deprecated, reason = "it is what differs")]
                matcher.headers.push(HeaderMatcher {
                    name: "x-a".to_owned(),
                    header_match_specifier: Some(HeaderMatchSpecifier::ExactMatch(String::new())),
                    ..HeaderMatcher::default()
                });
            })
        },
        overlook: |routes, _, theirs, ours| {
            if format!("{routes:?}").contains("ExactMatch(\"\")") {
                ours.clone_from(theirs);
            }
        },
    },
];

/// Overlooks all that is meant.
pub(crate) fn overlook(
    routes: &RouteConfiguration,
    asked: &Asked,
    theirs: &mut Outcome,
    ours: &mut Outcome,
) {
    for difference in DIFFERENCES {
        (difference.overlook)(routes, asked, theirs, ours);
    }
}

/// A request for the one route of a configuration.
fn simple(
    headers: &[(&str, &str)],
    change: impl FnOnce(&mut RouteConfiguration),
) -> (RouteConfiguration, Asked) {
    let mut routes = crate::generate::plain();
    change(&mut routes);
    let headers = headers
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let asked = Asked {
        method: "GET".to_owned(),
        authority: "a.test".to_owned(),
        path: "/".to_owned(),
        headers: headers.collect(),
    };
    (routes, asked)
}

fn action(routes: &mut RouteConfiguration) -> &mut RouteAction {
    match &mut routes.virtual_hosts[0].routes[0].action {
        Some(Action::Route(action)) => action,
        _ => unreachable!("it forwards"),
    }
}

fn substitution(pattern: &str, substitution: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(RegexMatcher {
            regex: pattern.to_owned(),
            ..RegexMatcher::default()
        }),
        substitution: substitution.to_owned(),
    }
}

fn header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        ..HeaderValueOption::default()
    }
}

/// Takes the headers away to which a configuration adds this operator.
fn forget(routes: &RouteConfiguration, operator: &str, headers: &mut Headers) {
    let mut lists = vec![
        &routes.request_headers_to_add,
        &routes.response_headers_to_add,
    ];
    for host in &routes.virtual_hosts {
        lists.extend([&host.request_headers_to_add, &host.response_headers_to_add]);
        for route in &host.routes {
            lists.extend([
                &route.request_headers_to_add,
                &route.response_headers_to_add,
            ]);
            if let Some(Action::Route(action)) = &route.action
                && let Some(ClusterSpecifier::WeightedClusters(weights)) = &action.cluster_specifier
            {
                for cluster in &weights.clusters {
                    lists.extend([
                        &cluster.request_headers_to_add,
                        &cluster.response_headers_to_add,
                    ]);
                }
            }
        }
    }
    let options = lists.into_iter().flatten();
    for header in options.filter_map(|option| option.header.as_ref()) {
        if header.value.contains(operator) {
            headers.remove(&header.key.to_ascii_lowercase());
        }
    }
}
