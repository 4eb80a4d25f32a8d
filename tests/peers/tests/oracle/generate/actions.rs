//! What routes do with requests.

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{DataSource, data_source::Specifier},
            route::v3::{
                DirectResponseAction, RedirectAction, Route, RouteAction, WeightedCluster,
                redirect_action::{
                    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
                },
                route::Action,
                route_action::{ClusterSpecifier, HostRewriteSpecifier},
                weighted_cluster::{ClusterWeight, cluster_weight},
            },
        },
        r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher},
    },
    google::protobuf::UInt32Value,
};

use super::words;
use crate::{aspect::Aspect, random::Random};

/// Mostly forwards.
pub(super) fn any(random: &mut Random, route: &mut Route) {
    match random.below(10) {
        0 => redirect(random, route),
        1 => direct_response(random, route),
        2 => weights(random, route),
        _ => forward(random, route),
    }
}

pub(super) fn forward(random: &mut Random, route: &mut Route) {
    let cluster = random.text(words::CLUSTERS);
    forwarding(route).cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
}

/// The route's action, made one that forwards.
fn forwarding(route: &mut Route) -> &mut RouteAction {
    if !matches!(route.action, Some(Action::Route(_))) {
        let cluster = words::CLUSTERS[0].to_owned();
        route.action = Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
            ..RouteAction::default()
        }));
    }
    match &mut route.action {
        Some(Action::Route(action)) => action,
        _ => unreachable!("it has been made one"),
    }
}

/// One cluster has all weight: what is drawn is no two's the same.
pub(super) fn weights(random: &mut Random, route: &mut Route) {
    let chosen = random.below(words::CLUSTERS.len());
    let weight = *random.pick(&[1, 50, u32::MAX]);
    let mut clusters = Vec::new();
    for (number, name) in words::CLUSTERS.iter().enumerate() {
        let value = if number == chosen { weight } else { 0 };
        let host = random.chance(15).then(|| {
            let host = "weighted.host".to_owned();
            cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)
        });
        clusters.push(ClusterWeight {
            name: (*name).to_owned(),
            weight: Some(UInt32Value { value }),
            host_rewrite_specifier: host,
            ..ClusterWeight::default()
        });
    }
    forwarding(route).cluster_specifier =
        Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters,
            ..WeightedCluster::default()
        }));
}

pub(super) fn redirect(random: &mut Random, route: &mut Route) {
    let path = match random.below(6) {
        0 | 1 => None,
        2 => Some(PathRewriteSpecifier::PathRedirect(
            random.text(&["/", "/to", "/to?r=1", "/to#f", "/to?"]),
        )),
        3 | 4 => Some(PathRewriteSpecifier::PrefixRewrite(
            random.text(&["/", "/to", "/to/", "/to?r=1"]),
        )),
        _ => Some(PathRewriteSpecifier::RegexRewrite(substitution(random))),
    };
    let scheme = match random.below(5) {
        0 => Some(SchemeRewriteSpecifier::HttpsRedirect(random.chance(80))),
        1 => Some(SchemeRewriteSpecifier::SchemeRedirect(
            random.text(&["https", "HTTPS", "http"]),
        )),
        _ => None,
    };
    let code = *random.pick(&[
        RedirectResponseCode::MovedPermanently,
        RedirectResponseCode::Found,
        RedirectResponseCode::SeeOther,
        RedirectResponseCode::TemporaryRedirect,
        RedirectResponseCode::PermanentRedirect,
    ]);
    route.action = Some(Action::Redirect(RedirectAction {
        host_redirect: random.text(&["", "", "to.test", "to.test:99", "[::2]"]),
        port_redirect: *random.pick(&[0, 0, 0, 80, 443, 8443]),
        response_code: code.into(),
        strip_query: random.chance(25),
        scheme_rewrite_specifier: scheme,
        path_rewrite_specifier: path,
    }));
}

pub(super) fn direct_response(random: &mut Random, route: &mut Route) {
    let body = match random.below(3) {
        0 => None,
        1 => Some(Specifier::InlineString("hello".to_owned())),
        _ => Some(Specifier::InlineBytes(vec![b'a', 0, 0xff])),
    };
    route.action = Some(Action::DirectResponse(DirectResponseAction {
        status: *random.pick(&[200, 201, 204, 301, 304, 404, 418, 500, 503, 599]),
        body: body.map(|specifier| DataSource {
            specifier: Some(specifier),
            ..DataSource::default()
        }),
        ..DirectResponseAction::default()
    }));
}

pub(super) fn rewrite(random: &mut Random, route: &mut Route, aspect: Aspect) {
    let action = forwarding(route);
    match aspect {
        Aspect::PrefixRewrite => {
            action.regex_rewrite = None;
            action.prefix_rewrite = random.text(&["/", "/new", "/new/", "/n?x=1", "/%41"]);
        }
        Aspect::RegexRewrite => {
            action.prefix_rewrite.clear();
            action.regex_rewrite = Some(substitution(random));
        }
        _ => {
            action.append_x_forwarded_host = random.chance(40);
            action.host_rewrite_specifier = Some(match random.below(4) {
                0 | 1 => HostRewriteSpecifier::HostRewriteLiteral(random.text(&[
                    "new.host",
                    "New.Host:81",
                    "[::3]:1",
                ])),
                2 => HostRewriteSpecifier::HostRewriteHeader(random.text(&["x-a", "x-host"])),
                _ => HostRewriteSpecifier::HostRewritePathRegex(RegexMatchAndSubstitute {
                    pattern: Some(expression("^/([a-z]+)/?.*$")),
                    substitution: "\\1.host".to_owned(),
                }),
            });
        }
    }
}

fn substitution(random: &mut Random) -> RegexMatchAndSubstitute {
    const OF: &[(&str, &str)] = &[
        ("/a", "/new"),
        ("^/([^/]+)(/.*)?$", "/\\2/\\1"),
        ("a", "\\0\\0"),
        ("[0-9]+", "N"),
        ("/", "/"),
        ("b+", "-"),
        ("^/api/(.*)", "/\\1"),
        ("x", "\\\\"),
    ];
    let (pattern, substitution) = *random.pick(OF);
    RegexMatchAndSubstitute {
        pattern: Some(expression(pattern)),
        substitution: substitution.to_owned(),
    }
}

fn expression(regex: &str) -> RegexMatcher {
    RegexMatcher {
        regex: regex.to_owned(),
        ..RegexMatcher::default()
    }
}
