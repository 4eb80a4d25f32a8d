//! Configurations, and requests that are aimed at their edges.

mod actions;
mod headers;
mod matchers;
mod requests;
mod rules;
mod words;

use std::collections::BTreeSet;

use envoy_types::pb::{
    envoy::config::route::v3::{
        Route, RouteConfiguration, VirtualHost, route::Action, route_action::ClusterSpecifier,
        route_match::PathSpecifier,
    },
    google::protobuf::BoolValue,
};

pub(crate) use self::{
    requests::{Asked, requests},
    rules::{filter, request as guarded_request},
    words::CLUSTERS,
};
use crate::{aspect::Aspect, random::Random};

/// Of a hundred configurations so many are aimed at each aspect; some of the others have it too.
const AIMED: usize = 32;

/// The plainest: all goes to one cluster.
pub(crate) fn plain() -> RouteConfiguration {
    let mut route = matchers::anything();
    actions::forward(&mut Random::new(0, 0), &mut route);
    RouteConfiguration {
        virtual_hosts: vec![VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
}

/// A route of all paths that begin with this.
pub(crate) fn anything(prefix: &str) -> Route {
    let mut route = matchers::anything();
    let path = PathSpecifier::Prefix(prefix.to_owned());
    route.r#match.get_or_insert_default().path_specifier = Some(path);
    route
}

/// A route configuration.
pub(crate) fn configuration(random: &mut Random) -> RouteConfiguration {
    let mut hosts = hosts(random);
    for aspect in Aspect::ALL {
        if random.chance(AIMED) {
            aim(random, &mut hosts, aspect);
        }
    }
    for (number, host) in hosts.iter_mut().enumerate() {
        if host.routes.is_empty() || random.chance(70) {
            let mut route = matchers::anything();
            actions::forward(random, &mut route);
            host.routes.push(route);
        }
        for (at, route) in host.routes.iter_mut().enumerate() {
            route.name = format!("r{number}-{at}");
        }
        host.name = format!("h{number}");
    }
    let mut routes = RouteConfiguration {
        virtual_hosts: hosts,
        most_specific_header_mutations_wins: random.chance(50),
        ignore_port_in_host_matching: random.chance(25),
        validate_clusters: Some(BoolValue { value: false }),
        ..RouteConfiguration::default()
    };
    if random.chance(15) {
        headers::add(
            random,
            &mut routes.request_headers_to_add,
            &mut routes.response_headers_to_add,
        );
    }
    if random.chance(15) {
        headers::remove(random, &mut routes.request_headers_to_remove);
        headers::remove(random, &mut routes.response_headers_to_remove);
    }
    routes
}

/// Virtual hosts whose domains overlap, as yet without routes.
fn hosts(random: &mut Random) -> Vec<VirtualHost> {
    let mut taken = BTreeSet::new();
    let mut hosts = Vec::new();
    for _ in 0..1 + random.below(4) {
        let mut domains = Vec::new();
        for _ in 0..1 + random.below(3) {
            let domain = random.text(words::DOMAINS);
            if taken.insert(domain.to_ascii_lowercase()) {
                domains.push(domain);
            }
        }
        if !domains.is_empty() {
            hosts.push(VirtualHost {
                domains,
                ..VirtualHost::default()
            });
        }
    }
    // Without one for all most requests would find none.
    if random.chance(60) && taken.insert("*".to_owned()) {
        let at = random.below(hosts.len() + 1);
        hosts.insert(
            at,
            VirtualHost {
                domains: vec!["*".to_owned()],
                ..VirtualHost::default()
            },
        );
    }
    hosts
}

/// Adds what has this aspect: to a route that is there, or in a new one.
fn aim(random: &mut Random, hosts: &mut [VirtualHost], aspect: Aspect) {
    let at = random.below(hosts.len());
    let wanted = |domain: &str| match aspect {
        Aspect::DomainExact => !domain.contains('*'),
        Aspect::DomainPrefix => domain.len() > 1 && domain.ends_with('*'),
        Aspect::DomainSuffix => domain.len() > 1 && domain.starts_with('*'),
        Aspect::DomainAny => domain == "*",
        _ => false,
    };
    let domains: Vec<&str> = words::DOMAINS
        .iter()
        .copied()
        .filter(|it| wanted(it))
        .collect();
    if !domains.is_empty() {
        let domain = random.text(&domains);
        let is = |other: &String| other.eq_ignore_ascii_case(&domain);
        if !hosts.iter().any(|host| host.domains.iter().any(is)) {
            hosts[at].domains.push(domain);
        }
        return;
    }
    let routes = &mut hosts[at].routes;
    let number = match random.chance(35) && !routes.is_empty() {
        true => random.below(routes.len()),
        false => {
            let mut route = match aspect.is_matcher() && random.chance(60) {
                true => matchers::anything(),
                false => matchers::somewhere(random),
            };
            actions::any(random, &mut route);
            let number = random.below(routes.len() + 1);
            routes.insert(number, route);
            number
        }
    };
    if matches!(aspect, Aspect::HeaderAdd | Aspect::HeaderRemove) && random.chance(30) {
        return change_host_headers(random, &mut hosts[at], aspect);
    }
    apply(random, &mut routes[number], aspect);
}

fn change_host_headers(random: &mut Random, host: &mut VirtualHost, aspect: Aspect) {
    match aspect {
        Aspect::HeaderAdd => {
            headers::add(
                random,
                &mut host.request_headers_to_add,
                &mut host.response_headers_to_add,
            );
        }
        _ => {
            headers::remove(random, &mut host.request_headers_to_remove);
            headers::remove(random, &mut host.response_headers_to_remove);
        }
    }
}

fn apply(random: &mut Random, route: &mut Route, aspect: Aspect) {
    use Aspect as Is;
    match aspect {
        Is::DomainExact | Is::DomainPrefix | Is::DomainSuffix | Is::DomainAny => {}
        Is::PathPrefix | Is::PathExact | Is::PathRegex | Is::PathSegments => {
            matchers::path(random, route, aspect);
        }
        Is::PathIgnoreCase => {
            let matcher = route.r#match.get_or_insert_default();
            matcher.case_sensitive = Some(BoolValue { value: false });
        }
        Is::HeaderExact
        | Is::HeaderPrefix
        | Is::HeaderSuffix
        | Is::HeaderContains
        | Is::HeaderRegex
        | Is::HeaderRange
        | Is::HeaderPresent
        | Is::HeaderInvert
        | Is::HeaderMissingAsEmpty
        | Is::HeaderIgnoreCase => matchers::header(random, route, aspect),
        Is::QueryPresent | Is::QueryValue => matchers::query(random, route, aspect),
        Is::Always | Is::Never => matchers::fraction(random, route, aspect),
        Is::Redirect => actions::redirect(random, route),
        Is::DirectResponse => actions::direct_response(random, route),
        Is::Weights => actions::weights(random, route),
        Is::PrefixRewrite | Is::RegexRewrite | Is::HostRewrite => {
            actions::rewrite(random, route, aspect);
        }
        Is::HeaderAdd => {
            if let Some(Action::Route(action)) = &mut route.action
                && let Some(ClusterSpecifier::WeightedClusters(weights)) =
                    &mut action.cluster_specifier
                && random.chance(50)
            {
                for cluster in &mut weights.clusters {
                    headers::add(
                        random,
                        &mut cluster.request_headers_to_add,
                        &mut cluster.response_headers_to_add,
                    );
                }
                return;
            }
            headers::add(
                random,
                &mut route.request_headers_to_add,
                &mut route.response_headers_to_add,
            );
        }
        Is::HeaderRemove => {
            headers::remove(random, &mut route.request_headers_to_remove);
            headers::remove(random, &mut route.response_headers_to_remove);
        }
    }
}
