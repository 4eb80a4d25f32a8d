//! Which calls go where: the cases of psm-interop's url_map tests, and weighted splits.

use envoy_types::pb::{
    envoy::{
        config::route::v3::{
            HeaderMatcher, Route as WireRoute, RouteAction, RouteConfiguration, RouteMatch,
            VirtualHost, header_matcher::HeaderMatchSpecifier, route, route_action,
            route_match::PathSpecifier,
        },
        r#type::{
            matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
            v3::Int64Range,
        },
    },
    google::protobuf::BoolValue,
};
use mesh_core::{
    config::Kind,
    testing::{Route, cluster_name, route_name},
};
use mesh_tests::{
    backend::Backend,
    echo::UNARY,
    every_way,
    fixture::{Fixture, SERVICE, within},
    load::{call, spread},
    way::{Ask, Call, Caller, Way},
};

use crate::faults::is_share;

const EXPAND: &str = "/mesh.test.Echo/Expand";

/// The service's route configuration with these routes.
pub(crate) fn configuration(routes: Vec<WireRoute>) -> RouteConfiguration {
    RouteConfiguration {
        name: route_name(SERVICE),
        virtual_hosts: vec![VirtualHost {
            name: SERVICE.to_owned(),
            domains: vec!["*".to_owned()],
            routes,
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
}

/// A route to a version of the service.
pub(crate) fn to(version: &str, matcher: RouteMatch) -> WireRoute {
    let cluster = cluster_name(SERVICE, version);
    let action = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster)),
        ..RouteAction::default()
    };
    WireRoute {
        r#match: Some(matcher),
        action: Some(route::Action::Route(action)),
        ..WireRoute::default()
    }
}

pub(crate) fn path(path: PathSpecifier) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(path),
        ..RouteMatch::default()
    }
}

fn all() -> RouteMatch {
    path(PathSpecifier::Prefix(String::new()))
}

fn regex(regex: &str) -> RegexMatcher {
    RegexMatcher {
        regex: regex.to_owned(),
        ..RegexMatcher::default()
    }
}

fn header(name: &str, specifier: HeaderMatchSpecifier, invert: bool) -> RouteMatch {
    RouteMatch {
        headers: vec![HeaderMatcher {
            name: name.to_owned(),
            invert_match: invert,
            header_match_specifier: Some(specifier),
            ..HeaderMatcher::default()
        }],
        ..all()
    }
}

fn text(pattern: MatchPattern) -> HeaderMatchSpecifier {
    HeaderMatchSpecifier::StringMatch(StringMatcher {
        match_pattern: Some(pattern),
        ignore_case: false,
    })
}

/// A service whose calls go to the backend `yes` if the rule under test takes them, else to `no`.
struct Rules {
    fixture: Fixture,
    caller: Caller,
    _backends: [Backend; 2],
}

impl Rules {
    async fn start(way: Way) -> Self {
        let backends = [Backend::start("yes").await, Backend::start("no").await];
        let fixture = Fixture::over(way).await;
        fixture
            .service()
            .version("yes")
            .endpoint(backends[0].address())
            .version("no")
            .endpoint(backends[1].address())
            .apply();
        let caller = fixture.caller();
        within(call(&caller)).await.unwrap();
        Self {
            fixture,
            caller,
            _backends: backends,
        }
    }

    async fn rule(&self, rule: RouteMatch) {
        let routes = configuration(vec![to("yes", rule), to("no", all())]);
        self.fixture.control_plane.set(&routes).acked().await;
    }

    fn request(headers: &[(&'static str, &str)]) -> Ask {
        let ask = Ask::new("hi");
        let headers = headers.iter();
        headers.fold(ask, |ask, &(name, value)| ask.header(name, value))
    }

    /// Whether the rule takes this call.
    async fn takes(&self, ask: Ask) -> bool {
        match &*within(self.caller.ask(ask)).await.unwrap().server {
            "yes" => true,
            "no" => false,
            other => panic!("{other}"),
        }
    }

    /// Whether it takes a call with these headers.
    async fn takes_with(&self, headers: &[(&'static str, &str)]) -> bool {
        self.takes(Self::request(headers)).await
    }
}

async fn routes_by_path(way: Way) {
    let rules = Rules::start(way).await;
    let ignore_case = |rule: RouteMatch| RouteMatch {
        case_sensitive: Some(BoolValue { value: false }),
        ..rule
    };
    let full = |text: &str| path(PathSpecifier::Path(text.to_owned()));
    let prefix = |text: &str| path(PathSpecifier::Prefix(text.to_owned()));
    let safe_regex = |text: &str| path(PathSpecifier::SafeRegex(regex(text)));
    // The rule, and whether it takes `Unary` and `Expand`.
    for (rule, unary, expand) in [
        (full(UNARY), true, false),
        (full("/mesh.test.Echo/Unary/"), false, false),
        (full("/mesh.test.echo/unary"), false, false),
        (ignore_case(full("/MESH.test.echo/UNARY")), true, false),
        (prefix("/mesh.test.Echo/"), true, true),
        (prefix("/mesh.test.Echo/E"), false, true),
        (prefix("/mesh.test.echo/"), false, false),
        (ignore_case(prefix("/mesh.TEST.echo/u")), true, false),
        (prefix(""), true, true),
        (prefix("/"), true, true),
        (safe_regex(r"/mesh\.[a-z]+\.Echo/(Unary|Chat)"), true, false),
        // All of the path, not some of it.
        (safe_regex("/mesh.test.Echo/Un"), false, false),
        (safe_regex(".*/Expand"), false, true),
    ] {
        rules.rule(rule.clone()).await;
        assert_eq!(rules.takes(Ask::new("hi")).await, unary, "{rule:?}");
        let ask = Ask::new("hi").path(EXPAND);
        assert_eq!(rules.takes(ask).await, expand, "{rule:?}");
    }
}

async fn routes_by_header(way: Way) {
    let rules = Rules::start(way).await;
    let exact = |text_: &str| text(MatchPattern::Exact(text_.to_owned()));
    let prefix = text(MatchPattern::Prefix("al".to_owned()));
    let suffix = text(MatchPattern::Suffix("ha".to_owned()));
    let contains = text(MatchPattern::Contains("lp".to_owned()));
    let full = text(MatchPattern::SafeRegex(regex("al.*a")));
    let ignoring = HeaderMatchSpecifier::StringMatch(StringMatcher {
        match_pattern: Some(MatchPattern::Exact("ALPHA".to_owned())),
        ignore_case: true,
    });
    let range = HeaderMatchSpecifier::RangeMatch(Int64Range {
        start: -5,
        end: 100,
    });
    let present = HeaderMatchSpecifier::PresentMatch;
    const X: &str = "x-word";
    // The rule, inverted or not; headers that it takes; and headers that it does not take.
    type Headers = &'static [&'static [(&'static str, &'static str)]];
    let several: (_, _, Headers, Headers) = match way {
        // Several values are one, joined (gRFC A28).
        Way::Grpc => (
            exact("a,b"),
            false,
            &[&[(X, "a"), (X, "b")]],
            &[&[(X, "a")]],
        ),
        // One of them is enough (Envoy since 1.39).
        Way::Http1 | Way::Http2 => (
            exact("b"),
            false,
            &[&[(X, "a"), (X, "b")], &[(X, "b")]],
            &[&[(X, "a")], &[(X, "a,b")], &[(X, "a"), (X, "c")]],
        ),
    };
    let table: [(HeaderMatchSpecifier, bool, Headers, Headers); 15] = [
        (
            exact("alpha"),
            false,
            &[&[(X, "alpha")]],
            &[&[], &[(X, "Alpha")], &[(X, "alphas")]],
        ),
        // Absent is no match, inverted or not (gRFC A28).
        (
            exact("alpha"),
            true,
            &[&[(X, "beta")]],
            &[&[], &[(X, "alpha")]],
        ),
        several,
        (
            prefix.clone(),
            false,
            &[&[(X, "alpha")], &[(X, "al")]],
            &[&[], &[(X, "a")]],
        ),
        (prefix, true, &[&[(X, "beta")]], &[&[(X, "alpha")]]),
        (
            suffix.clone(),
            false,
            &[&[(X, "alpha")]],
            &[&[], &[(X, "alphas")]],
        ),
        (suffix, true, &[&[(X, "alphas")]], &[&[(X, "alpha")]]),
        (
            contains,
            false,
            &[&[(X, "alpha")]],
            &[&[], &[(X, "a-l-p-h-a")]],
        ),
        (
            full.clone(),
            false,
            &[&[(X, "alpha")], &[(X, "ala")]],
            &[&[], &[(X, "alphas")]],
        ),
        (full, true, &[&[(X, "alphas")]], &[&[], &[(X, "alpha")]]),
        (ignoring, false, &[&[(X, "aLpHa")]], &[&[], &[(X, "beta")]]),
        (present(true), false, &[&[(X, "")], &[(X, "any")]], &[&[]]),
        (present(true), true, &[&[]], &[&[(X, "any")]]),
        (
            range.clone(),
            false,
            &[&[(X, "0")], &[(X, "-5")], &[(X, "99")]],
            &[
                &[],
                &[(X, "100")],
                &[(X, "-6")],
                &[(X, "1x")],
                &[(X, "1.5")],
            ],
        ),
        (
            range,
            true,
            &[&[(X, "100")], &[(X, "-6")]],
            &[&[], &[(X, "0")]],
        ),
    ];
    for (specifier, invert, taken, left) in table {
        rules.rule(header(X, specifier.clone(), invert)).await;
        for headers in taken {
            assert!(
                rules.takes_with(headers).await,
                "{specifier:?} {invert}: {headers:?}"
            );
        }
        for headers in left {
            assert!(
                !rules.takes_with(headers).await,
                "{specifier:?} {invert}: {headers:?}"
            );
        }
    }

    // What is not text is not there for gRPC, and the content type is (gRFC A28).
    const BIN: &str = "x-word-bin";
    rules.rule(header(BIN, present(true), false)).await;
    let binary = rules.takes_with(&[(BIN, "AAEC")]).await;
    assert_eq!(binary, way != Way::Grpc);
    rules
        .rule(header("content-type", exact("application/grpc"), false))
        .await;
    assert_eq!(rules.takes_with(&[]).await, way == Way::Grpc);
}

async fn the_first_rule_that_matches_wins_and_all_its_parts_must(way: Way) {
    let (one, two, rest) = (
        Backend::start("one").await,
        Backend::start("two").await,
        Backend::start("rest").await,
    );
    let fixture = Fixture::over(way).await;
    fixture
        .service()
        .version("one")
        .endpoint(one.address())
        .version("two")
        .endpoint(two.address())
        .version("rest")
        .endpoint(rest.address())
        .route(
            Route::path(UNARY)
                .header("x-a", "1")
                .header_prefix("x-b", "2")
                .to("one"),
        )
        .route(
            Route::prefix("/mesh.test.Echo/")
                .header("x-a", "1")
                .to("two"),
        )
        .route(Route::path(EXPAND).header_regex("x-a", "[2-9]").to("one"))
        .split(&[("one", 0), ("two", 0), ("rest", 1)])
        .apply();
    let caller = fixture.caller();
    for (path, headers, server) in [
        (UNARY, &[("x-a", "1"), ("x-b", "23")][..], "one"),
        (UNARY, &[("x-a", "1"), ("x-b", "32")], "two"),
        (UNARY, &[("x-a", "1")], "two"),
        (UNARY, &[("x-a", "3")], "rest"),
        (UNARY, &[], "rest"),
        (EXPAND, &[("x-a", "3")], "one"),
        (EXPAND, &[("x-a", "1")], "two"),
        (EXPAND, &[], "rest"),
    ] {
        let ask = Rules::request(headers).path(path);
        let reply = within(caller.ask(ask)).await.unwrap();
        assert_eq!(reply.server, server, "{path}: {headers:?}");
    }
}

/// psm-interop's traffic_splitting: 20/80 over 1000 calls, and what follows it.
async fn weights_are_shares(way: Way) {
    const CALLS: u64 = 1_000;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let fixture = Fixture::over(way).await;
    fixture
        .service()
        .version("one")
        .weight(20)
        .endpoint(one.address())
        .version("two")
        .weight(80)
        .endpoint(two.address())
        .apply();
    let caller = fixture.caller();
    for (weights, percent) in [
        ([20, 80], 20.0),
        ([1, 1], 50.0),
        ([0, 7], 0.0),
        ([9, 0], 100.0),
    ] {
        let split = [("one", weights[0]), ("two", weights[1])];
        fixture.service().split(&split).apply();
        fixture.control_plane.acked(Kind::Route).await;
        // A version that comes back has to be resolved first, and connected.
        within(async {
            while percent != 100.0 && call(&caller).await.unwrap() != "two" {}
            while percent != 0.0 && call(&caller).await.unwrap() != "one" {}
        })
        .await;
        let before = one.calls();
        within(spread(&caller, CALLS as usize)).await;
        let count = one.calls() - before;
        assert!(is_share(count, CALLS, percent), "{weights:?}: {count}");
    }
}

async fn a_rule_may_take_a_share_of_its_calls(way: Way) {
    const CALLS: u64 = 1_000;
    let rules = Rules::start(way).await;
    let service = rules
        .fixture
        .service()
        .route(Route::prefix("").percent(25.0).to("yes"));
    service
        .split(&[("yes", 0), ("no", 1)])
        .apply()
        .acked()
        .await;
    let taken = within(spread(&rules.caller, CALLS as usize)).await;
    let count = taken["yes"] as u64;
    assert!(is_share(count, CALLS, 25.0), "{count}");
}

/// What the mesh adds after routing is not seen by it.
async fn headers_of_the_transport_do_not_match(way: Way) {
    let rules = Rules::start(way).await;
    for name in [
        "user-agent",
        "te",
        "grpc-timeout",
        "x-envoy-expected-rq-timeout-ms",
    ] {
        rules
            .rule(header(
                name,
                HeaderMatchSpecifier::PresentMatch(true),
                false,
            ))
            .await;
        let taken = rules.takes_with(&[]).await;
        assert!(!taken, "{name}");
    }
}

every_way!(
    routes_by_path,
    routes_by_header,
    the_first_rule_that_matches_wins_and_all_its_parts_must,
    weights_are_shares,
    a_rule_may_take_a_share_of_its_calls,
    headers_of_the_transport_do_not_match,
);
