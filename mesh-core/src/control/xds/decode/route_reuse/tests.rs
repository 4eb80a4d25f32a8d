use std::sync::Arc;

use envoy_types::pb::{
    envoy::config::{
        core::v3::{HeaderValue, HeaderValueOption},
        route::v3::{
            HeaderMatcher, RedirectAction, RetryPolicy, Route as WireRoute, RouteAction,
            RouteConfiguration, VirtualHost as WireHost, WeightedCluster,
            header_matcher::HeaderMatchSpecifier, route::Action, route_action::ClusterSpecifier,
            route_match::PathSpecifier, weighted_cluster::ClusterWeight,
        },
    },
    google::protobuf::UInt32Value,
};
use proptest::{collection::vec, prelude::*};

use super::super::{
    Decode, Decoded, Decoder, Earlier, PolicyRegistry, Rejected,
    fixtures::{host, prefix, route_of, wire_regex},
    test_support::resource,
};
use crate::{
    config::{Kind, Resource, Route, RouteConfig},
    control::xds::FilterRegistry,
};

fn decoder() -> Decoder {
    Decoder::new(FilterRegistry::standard(), PolicyRegistry::standard(), [])
}

fn earlier(decoded: &Decoded) -> Earlier<'_> {
    Earlier {
        raw: &decoded.raw,
        value: &decoded.value,
        tally: decoded.tally.as_deref(),
    }
}

fn after(
    decoder: &Decoder,
    wire: &RouteConfiguration,
    last: Option<&Decoded>,
) -> Result<Decoded, Rejected> {
    let last = |name: &str| last.filter(|last| *last.name == *name).map(earlier);
    decoder.decode_next(Kind::Route, &resource(Kind::Route, wire), &last)
}

fn routes_of(decoded: &Decoded) -> &RouteConfig {
    match &decoded.value {
        Resource::Route(routes) => routes,
        other => panic!("not routes: {other:?}"),
    }
}

fn cluster(name: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(name.to_owned())),
        ..RouteAction::default()
    }
}

/// A route of one of a dozen kinds: plain, with what is counted, with findings of both sorts, skipped,
/// and refused.
fn route(number: usize) -> WireRoute {
    let kind = number % 12;
    let mut route = route_of(prefix(&format!("/{number}/")));
    let mut action = cluster("c");
    match kind {
        0..=3 => {}
        4 => action.timeout = Some(Default::default()),
        5 => {
            action.retry_policy = Some(RetryPolicy {
                retry_on: "unavailable,what-nobody-knows".to_owned(),
                ..Default::default()
            });
        }
        6 => {
            let specifier = ClusterSpecifier::ClusterHeader("x".to_owned());
            action.cluster_specifier = Some(specifier);
        }
        7 => {
            let matcher = route.r#match.as_mut().unwrap();
            let regex = wire_regex(&format!("/{number}/.*"));
            matcher.path_specifier = Some(PathSpecifier::SafeRegex(regex));
            matcher.headers = vec![HeaderMatcher {
                name: "x".to_owned(),
                header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
                ..Default::default()
            }];
        }
        8 => {
            route.stat_prefix = "reported".to_owned();
            route.request_headers_to_add = vec![header("x-a", "%UNKNOWN(x)%")];
        }
        9 => {
            route.action = Some(Action::Redirect(RedirectAction::default()));
            route.response_headers_to_add = vec![header("x-b", "b")];
            return route;
        }
        10 => {
            let clusters = ["a", "b"].map(|name| ClusterWeight {
                name: name.to_owned(),
                weight: Some(UInt32Value { value: 1 }),
                ..Default::default()
            });
            let clusters = WeightedCluster {
                clusters: clusters.to_vec(),
                ..Default::default()
            };
            action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(clusters));
        }
        _ => action = cluster(if number.is_multiple_of(5) { "" } else { "d" }),
    }
    route.action = Some(Action::Route(action));
    route
}

fn header(key: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Something that changes in a route configuration. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Edit {
    Insert(usize, usize, usize),
    Remove(usize, usize),
    Replace(usize, usize, usize),
    Swap(usize, usize, usize),
    Retry(usize, bool),
    Domain(usize, usize),
    AddHost(usize),
    RemoveHost(usize),
    SwapHosts(usize, usize),
    MaxBody(u32),
    Header(bool),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    use Edit::*;
    let n = 0..8usize;
    // Most routes are plain: else every configuration had something to report.
    let number = || prop_oneof![8 => (0..50usize).prop_map(|n| n * 12), 1 => 0..500usize];
    let edit = prop_oneof![
        6 => (n.clone(), n.clone(), number()).prop_map(|(h, r, k)| Insert(h, r, k)),
        4 => (n.clone(), n.clone()).prop_map(|(h, r)| Remove(h, r)),
        6 => (n.clone(), n.clone(), number()).prop_map(|(h, r, k)| Replace(h, r, k)),
        3 => (n.clone(), n.clone(), n.clone()).prop_map(|(h, a, b)| Swap(h, a, b)),
        1 => (n.clone(), any::<bool>()).prop_map(|(h, on)| Retry(h, on)),
        1 => (n.clone(), n.clone()).prop_map(|(h, d)| Domain(h, d)),
        2 => n.clone().prop_map(AddHost),
        1 => n.clone().prop_map(RemoveHost),
        1 => (n.clone(), n).prop_map(|(a, b)| SwapHosts(a, b)),
        1 => (1..9u32).prop_map(MaxBody),
        1 => any::<bool>().prop_map(Header),
    ];
    vec(edit, 1..40)
}

fn edit(config: &mut RouteConfiguration, edit: &Edit) {
    let hosts = &mut config.virtual_hosts;
    let at = |n: usize, length: usize| n % length.max(1);
    let count = hosts.len();
    let mut with = |h: usize, change: &dyn Fn(&mut WireHost)| {
        if let Some(host) = hosts.get_mut(at(h, count)) {
            change(host);
        }
    };
    match *edit {
        Edit::Insert(h, r, k) => with(h, &|host| {
            let at = at(r, host.routes.len());
            host.routes.insert(at, route(k));
        }),
        Edit::Remove(h, r) => with(h, &|host| {
            if !host.routes.is_empty() {
                host.routes.remove(at(r, host.routes.len()));
            }
        }),
        Edit::Replace(h, r, k) => with(h, &|host| {
            let at = at(r, host.routes.len());
            if let Some(old) = host.routes.get_mut(at) {
                *old = route(k);
            }
        }),
        Edit::Swap(h, a, b) => with(h, &|host| {
            let length = host.routes.len();
            if length > 0 {
                host.routes.swap(at(a, length), at(b, length));
            }
        }),
        Edit::Retry(h, on) => with(h, &|host| {
            host.retry_policy = on.then(|| RetryPolicy {
                retry_on: "unavailable".to_owned(),
                ..Default::default()
            });
        }),
        // May be a domain of another one already.
        Edit::Domain(h, d) => with(h, &|host| host.domains = vec![format!("d{d}.test")]),
        Edit::AddHost(h) => {
            let mut new = host(&[&format!("h{h}.test")], vec![route(h * 12)]);
            new.name = format!("h{h}");
            hosts.insert(at(h, count), new);
        }
        Edit::RemoveHost(h) => {
            if count > 0 {
                hosts.remove(at(h, count));
            }
        }
        Edit::SwapHosts(a, b) => {
            if count > 0 {
                hosts.swap(at(a, count), at(b, count));
            }
        }
        Edit::MaxBody(value) => {
            config.max_direct_response_body_size_bytes = Some(UInt32Value { value });
        }
        Edit::Header(on) => {
            config.request_headers_to_add = match on {
                true => vec![header("x-c", "c")],
                false => Vec::new(),
            };
        }
    }
}

proptest! {
    /// What is decoded after another one is what is decoded alone: value, findings, errors.
    #[test]
    fn decoding_what_changed_is_decoding(edits in edits()) {
        let decoder = decoder();
        let mut wire = RouteConfiguration {
            name: "r".to_owned(),
            virtual_hosts: vec![host(&["a.test"], (0..5).map(|n| route(n * 12)).collect())],
            ..Default::default()
        };
        let mut last = Some(after(&decoder, &wire, None).unwrap());
        for next in &edits {
            edit(&mut wire, next);
            let alone = after(&decoder, &wire, None);
            let next = after(&decoder, &wire, last.as_ref());
            match (alone, next) {
                (Ok(alone), Ok(next)) => {
                    prop_assert_eq!(&alone.name, &next.name);
                    prop_assert_eq!(&alone.value, &next.value);
                    prop_assert_eq!(&alone.findings, &next.findings);
                    prop_assert_eq!(&alone.raw, &next.raw);
                    let fields = |of: &Decoded| of.tally.as_ref().map(|tally| tally.fields.is_some());
                    prop_assert_eq!(fields(&alone), fields(&next));
                    last = Some(next);
                }
                (Err(alone), Err(next)) => prop_assert_eq!(alone, next),
                (alone, next) => prop_assert!(false, "{alone:?} alone, {next:?} after another"),
            }
        }
    }
}

fn many(count: usize) -> RouteConfiguration {
    RouteConfiguration {
        name: "r".to_owned(),
        virtual_hosts: vec![host(
            &["a.test"],
            (0..count).map(|n| route(n * 12)).collect(),
        )],
        ..Default::default()
    }
}

/// How many routes of `next` are those of `last`.
fn shared(last: &Decoded, next: &Decoded) -> usize {
    let all = |decoded| -> Vec<Arc<Route>> {
        let hosts = routes_of(decoded).virtual_hosts.iter();
        hosts.flat_map(|host| host.routes.clone()).collect()
    };
    let old = all(last);
    let new = all(next).into_iter();
    new.filter(|route| old.iter().any(|old| Arc::ptr_eq(old, route)))
        .count()
}

#[test]
fn a_route_that_has_not_changed_is_shared() {
    let decoder = decoder();
    let mut wire = many(100);
    let last = after(&decoder, &wire, None).unwrap();
    wire.virtual_hosts[0].routes[50] = route(7);
    let next = after(&decoder, &wire, Some(&last)).unwrap();
    assert_eq!(shared(&last, &next), 99);
    wire.virtual_hosts[0].routes.insert(3, route(12 * 200));
    wire.virtual_hosts[0].routes.swap(10, 90);
    wire.virtual_hosts[0].routes.remove(60);
    let last = next;
    let next = after(&decoder, &wire, Some(&last)).unwrap();
    assert_eq!(shared(&last, &next), 99);
    // Of others, too.
    wire.virtual_hosts
        .insert(0, host(&["b.test"], vec![route(0)]));
    let last = next;
    let next = after(&decoder, &wire, Some(&last)).unwrap();
    assert_eq!(shared(&last, &next), 100);
}

#[test]
fn what_a_route_takes_from_around_it_is_part_of_it() {
    let decoder = decoder();
    let last = after(&decoder, &many(10), None).unwrap();
    let mut retried = many(10);
    retried.virtual_hosts[0].retry_policy = Some(RetryPolicy {
        retry_on: "unavailable".to_owned(),
        ..Default::default()
    });
    let mut bounded = many(10);
    bounded.max_direct_response_body_size_bytes = Some(UInt32Value { value: 1 });
    for wire in [retried, bounded] {
        let next = after(&decoder, &wire, Some(&last)).unwrap();
        assert_eq!(shared(&last, &next), 0);
        assert_eq!(next.value, after(&decoder, &wire, None).unwrap().value);
    }
}

/// What is shared counts: a limit that all together pass is passed.
#[test]
fn limits_hold_for_what_is_shared() {
    let decoder = decoder();
    // Each takes a bit more than a twentieth of what all expressions may come to.
    let heavy = |number: usize| {
        let mut route = route(0);
        let source = format!(r"/{number}/\pZ.{{200}}");
        let path = PathSpecifier::SafeRegex(wire_regex(&source));
        route.r#match.as_mut().unwrap().path_specifier = Some(path);
        route
    };
    let mut wire = many(3);
    let mut last = after(&decoder, &wire, None).unwrap();
    for number in 0..19 {
        wire.virtual_hosts[0].routes.push(heavy(number));
        last = after(&decoder, &wire, Some(&last)).unwrap();
    }
    // One that changes again and again uses no more than once.
    for number in 20..30 {
        *wire.virtual_hosts[0].routes.last_mut().unwrap() = heavy(number);
        last = after(&decoder, &wire, Some(&last)).unwrap();
    }
    wire.virtual_hosts[0].routes.push(heavy(19));
    let error = after(&decoder, &wire, Some(&last)).unwrap_err();
    assert_eq!(error, after(&decoder, &wire, None).unwrap_err());
    assert!(error.problem.contains("regular expressions"), "{error}");
}
