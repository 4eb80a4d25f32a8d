//! Behaviour of whole tables. The differential test is in `differential`.

mod differential;
mod reference;

use std::cell::Cell;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::config::{
    Fraction, HeaderMatch, HeaderMatcher, PathMatcher, QueryMatch, QueryMatcher, Regex, Route,
    RouteAction, RouteMatch, StringMatch, StringMatcher,
};

fn path(path: &str) -> PathMatcher {
    PathMatcher::Exact {
        path: path.to_owned(),
        ignore_case: false,
    }
}

fn path_ignoring_case(path: &str) -> PathMatcher {
    PathMatcher::Exact {
        path: path.to_ascii_lowercase(),
        ignore_case: true,
    }
}

fn prefix(prefix: &str) -> PathMatcher {
    PathMatcher::Prefix {
        prefix: prefix.to_owned(),
        ignore_case: false,
    }
}

fn prefix_ignoring_case(prefix: &str) -> PathMatcher {
    PathMatcher::Prefix {
        prefix: prefix.to_ascii_lowercase(),
        ignore_case: true,
    }
}

fn regex(regex: &str) -> PathMatcher {
    PathMatcher::Regex(Regex::new(regex).unwrap())
}

fn route(path: PathMatcher) -> Route {
    Route {
        name: "r".into(),
        matcher: RouteMatch {
            path,
            headers: Vec::new(),
            query: Vec::new(),
            fraction: None,
        },
        action: RouteAction::NonForwarding,
        overrides: Default::default(),
        headers: Default::default(),
    }
}

fn with_header(mut route: Route, name: &str, value: &str) -> Route {
    route.matcher.headers.push(HeaderMatcher {
        name: name.to_owned(),
        test: HeaderMatch::Value(StringMatcher::new(
            StringMatch::Exact(value.to_owned()),
            false,
        )),
        invert: false,
        treat_missing_as_empty: false,
    });
    route
}

fn with_query(mut route: Route, name: &str) -> Route {
    route.matcher.query.push(QueryMatcher {
        name: name.to_owned(),
        test: QueryMatch::Present(true),
    });
    route
}

fn with_fraction(mut route: Route, parts: u32) -> Route {
    route.matcher.fraction = Some(Fraction::per_million(parts));
    route
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect()
}

fn head<'a>(path: &'a str, headers: &'a HeaderMap) -> Head<'a> {
    Head {
        method: &Method::POST,
        scheme: "http",
        authority: "shop",
        path,
        query: None,
        headers,
    }
}

fn find(routes: &[Route], path: &str) -> Option<usize> {
    Table::compile(Semantics::Grpc, routes).find(&head(path, &HeaderMap::new()), &mut ())
}

#[test]
fn the_first_match_wins_not_the_longest() {
    let routes = [
        route(prefix("/shop.Cart")),
        route(path("/shop.Cart/Add")),
        route(regex("/shop\\.Order/.*")),
        route(path("/shop.Order/Add")),
        route(prefix("")),
    ];
    assert_eq!(find(&routes, "/shop.Cart/Add"), Some(0));
    assert_eq!(find(&routes, "/shop.Order/Add"), Some(2));
    assert_eq!(find(&routes, "/x"), Some(4));
    assert_eq!(find(&routes, ""), Some(4));
    assert_eq!(find(&routes[..4], "/x"), None);
    assert_eq!(find(&[], "/x"), None);
}

#[test]
fn paths_are_matched_as_psm_interop_asks() {
    // TestFullPathMatchUnaryCall, TestTwoRoutesAndPrefixMatch
    let routes = [
        route(path("/grpc.testing.TestService/UnaryCall")),
        route(prefix("/grpc.testing.TestService/Empty")),
    ];
    assert_eq!(
        find(&routes, "/grpc.testing.TestService/UnaryCall"),
        Some(0)
    );
    assert_eq!(
        find(&routes, "/grpc.testing.TestService/EmptyCall"),
        Some(1)
    );
    assert_eq!(find(&routes, "/grpc.testing.TestService/unaryCall"), None);
    assert_eq!(find(&routes, "/grpc.testing.TestService/UnaryCall2"), None);
    // TestRegexMatch: the whole path
    let routes = [route(regex("^\\/.*\\/UnaryCall$")), route(regex("Empty"))];
    assert_eq!(
        find(&routes, "/grpc.testing.TestService/UnaryCall"),
        Some(0)
    );
    assert_eq!(find(&routes, "/grpc.testing.TestService/EmptyCall"), None);
    // TestCaseInsensitiveMatch
    let routes = [
        route(path_ignoring_case("/gRpC.TesTinG.tEstServiCe/emptyCaLl")),
        route(prefix_ignoring_case("/Grpc.")),
    ];
    assert_eq!(
        find(&routes, "/grpc.testing.TestService/EmptyCall"),
        Some(0)
    );
    assert_eq!(find(&routes, "/gRPC.testing.TestService/Other"), Some(1));
}

#[test]
fn a_rejected_candidate_gives_way_to_the_next_and_says_why() {
    let routes = [
        route(path("/other")),
        with_header(route(path("/a")), "x", "1"),
        with_header(route(prefix("/")), "x", "2"),
        with_query(route(path("/a")), "q"),
        route(regex("/b.*")),
        with_fraction(route(path("/a")), 0),
        route(path("/a")),
    ];
    let headers = headers(&[("x", "3")]);
    let mut explain = Explain::default();
    let table = Table::compile(Semantics::Grpc, &routes);
    assert_eq!(table.find(&head("/a", &headers), &mut explain), Some(6));
    let rejections: Vec<_> = explain
        .rejections
        .iter()
        .map(|rejection| (rejection.route, rejection.reason.as_str()))
        .collect();
    let exactly = |value| {
        format!(
            "header x is not Value(StringMatcher {{ pattern: Exact({value:?}), ignore_case: false }})"
        )
    };
    assert_eq!(
        rejections,
        [
            (1, exactly("1").as_str()),
            (2, exactly("2").as_str()),
            (
                3,
                "it asks for query parameters, which gRPC calls do not have"
            ),
            (4, "the path does not match /b.*"),
            (5, "the draw for 0 per million lost"),
        ]
    );
}

#[test]
fn query_parameters_count_under_http_only() {
    let routes = [with_query(route(prefix("/")), "q"), route(prefix("/"))];
    let none = HeaderMap::new();
    let head = Head {
        query: Some("a=1&q"),
        ..head("/a", &none)
    };
    for (semantics, expected) in [(Semantics::Grpc, 1), (Semantics::Http, 0)] {
        let table = Table::compile(semantics, &routes);
        assert_eq!(table.semantics(), semantics);
        assert_eq!(table.find(&head, &mut ()), Some(expected));
    }
}

#[test]
fn grpc_draws_once_per_route_and_http_once_per_request() {
    let routes = [
        with_fraction(route(prefix("/")), 300_000),
        with_header(with_fraction(route(prefix("/")), 300_000), "x", "absent"),
        with_fraction(route(prefix("/")), Fraction::WHOLE / 2),
        route(prefix("/")),
    ];
    let headers = HeaderMap::new();
    let run = |semantics, drawn: &[u32]| {
        let used = Cell::new(0);
        let draw = || {
            used.set(used.get() + 1);
            drawn[used.get() - 1]
        };
        let table = Table::compile(semantics, &routes);
        let found = table.find_with(&head("/", &headers), draw, &mut ());
        (found, used.get())
    };
    let grpc = |drawn: &[u32]| run(Semantics::Grpc, drawn);
    let http = |drawn: &[u32]| run(Semantics::Http, drawn);
    assert_eq!(grpc(&[299_999]), (Some(0), 1));
    assert_eq!(grpc(&[300_000, 499_999]), (Some(2), 2));
    assert_eq!(grpc(&[300_000, 500_000]), (Some(3), 2));
    assert_eq!(http(&[299_999]), (Some(0), 1));
    assert_eq!(http(&[300_000]), (Some(2), 1));
    assert_eq!(http(&[500_000]), (Some(3), 1));
}

#[test]
fn none_and_all_are_not_drawn() {
    let routes = [
        with_fraction(route(prefix("/")), 0),
        with_fraction(route(prefix("/")), Fraction::WHOLE),
    ];
    for semantics in [Semantics::Grpc, Semantics::Http] {
        let found = Table::compile(semantics, &routes).find_with(
            &head("/", &HeaderMap::new()),
            || unreachable!("no draw"),
            &mut (),
        );
        assert_eq!(found, Some(1));
    }
}

/// Counts the candidates that were looked at in vain.
#[derive(Default)]
struct Count(usize);

impl Trace for Count {
    fn rejected(&mut self, _: usize, _: Mismatch<'_>) {
        self.0 += 1;
    }
}

#[test]
fn ten_thousand_paths_are_not_looked_at_one_by_one() {
    let n = 10_000;
    let service = |i| format!("/shop.Service{}/Method{i}", i % 100);
    let mut routes: Vec<Route> = (0..n).map(|i| route(path(&service(i)))).collect();
    routes.extend((0..n).map(|i| route(prefix(&format!("/prefixed{i}/")))));
    routes.push(route(prefix("")));
    let table = Table::compile(Semantics::Grpc, &routes);
    let none = HeaderMap::new();
    let mut count = Count::default();
    for i in 0..n {
        let exact = service(i);
        assert_eq!(table.find(&head(&exact, &none), &mut count), Some(i));
        let below = format!("/prefixed{i}/x");
        assert_eq!(table.find(&head(&below, &none), &mut count), Some(n + i));
        let unknown = format!("/prefixed{i}");
        assert_eq!(table.find(&head(&unknown, &none), &mut count), Some(2 * n));
    }
    assert_eq!(count.0, 0);
}

#[test]
fn any_number_of_prefixes_may_match_one_path() {
    // Even lengths from the longest down, then odd ones up; all reject.
    let n = 500;
    let long = "a".repeat(n);
    let lengths = (1..=n).rev().step_by(2).chain((1..n).step_by(2));
    let mut routes: Vec<Route> = lengths
        .map(|len| with_header(route(prefix(&long[..len])), "x", "absent"))
        .collect();
    routes.push(route(prefix_ignoring_case("A")));
    let table = Table::compile(Semantics::Grpc, &routes);
    let none = HeaderMap::new();
    let mut explain = Explain::default();
    assert_eq!(table.find(&head(&long, &none), &mut explain), Some(n));
    let looked_at = explain.rejections.iter().map(|rejection| rejection.route);
    assert!(looked_at.eq(0..n));
}
