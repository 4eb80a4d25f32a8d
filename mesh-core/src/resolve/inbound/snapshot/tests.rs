use super::{super::fixtures::*, *};
use crate::{
    config::{
        Domain, FilterOverrides, Forward, HttpFilter, RouteAction, RouteSource, ServerListener,
        WeightedCluster,
    },
    filter::Disabled,
};

fn inbound_config(chains: Vec<FilterChain>) -> Arc<InboundConfig> {
    Arc::new(InboundConfig {
        listener: Arc::new(listener(chains)),
        routes: Default::default(),
        ambient: None,
    })
}

fn compile(chains: Vec<FilterChain>, previous: Option<&InboundSnapshot>) -> InboundSnapshot {
    InboundSnapshot::compile(&spec(), inbound_config(chains), previous, None)
}

fn only_chain(snapshot: &InboundSnapshot) -> &Arc<InboundChain> {
    snapshot.chain(any_ends()).expect("a chain")
}

fn forward() -> RouteAction {
    RouteAction::Forward(Forward {
        clusters: vec![WeightedCluster {
            name: "c".into(),
            weight: 1,
            overrides: Default::default(),
            headers: Default::default(),
            host_rewrite: None,
        }],
        retry: None,
        max_stream_duration: None,
        grpc_timeout_header_max: None,
        http: Default::default(),
    })
}

#[test]
fn virtual_host_and_route_are_chosen_per_request() {
    let serve = |name, prefix| route(name, prefix, RouteAction::NonForwarding);
    let routes = config(
        "r",
        vec![
            host(
                "a",
                Domain::Exact("a:80".into()),
                vec![serve("x", "/x"), serve("", "/y")],
            ),
            host("b", Domain::Suffix(".b".into()), vec![serve("z", "/")]),
        ],
    );
    let snapshot = compile(vec![chain(0, inline(routes))], None);
    let chain = only_chain(&snapshot);
    for (authority, path, expected) in [
        ("a:80", "/x/1", Ok("x")),
        ("A:80", "/y", Ok("#1")),
        ("c.b", "/x", Ok("z")),
        (
            "a:80",
            "/z",
            Err("no route of virtual host \"a\" in route configuration \"r\" matches \"/z\""),
        ),
        (
            "a",
            "/x",
            Err("route configuration \"r\" has no virtual host for \"a\""),
        ),
    ] {
        let found = ask(chain, authority, path);
        let found = found.as_deref().map_err(String::as_str);
        assert_eq!(found, expected, "{authority} {path}");
    }
}

#[test]
fn fail_with_route_action_route() {
    let routes = vec![
        route("", "/forward", forward()),
        route("", "/redirect", RouteAction::Unsupported("redirect")),
    ];
    let config = config("r", vec![host("a", Domain::Any, routes)]);
    let snapshot = compile(vec![chain(0, inline(config))], None);
    let chain = only_chain(&snapshot);
    let error = ask(chain, "a", "/forward").unwrap_err();
    assert!(error.contains("non_forwarding_action"), "{error}");
    let error = ask(chain, "a", "/redirect").unwrap_err();
    assert!(error.contains("redirect is not supported"), "{error}");
}

#[test]
fn requests_fail_with_the_reason_while_there_are_no_routes() {
    let config = InboundConfig {
        listener: Arc::new(listener(vec![
            chain(7, named("gone")),
            chain(0, named("there")),
        ])),
        routes: [
            ("gone".into(), Err(missing())),
            ("there".into(), Ok(Arc::new(serving("there", "r")))),
        ]
        .into(),
        ambient: None,
    };
    let snapshot = InboundSnapshot::compile(&spec(), Arc::new(config), None, None);
    let gone = snapshot.chain(ends("10.9.9.9:7", "10.0.0.1:80")).unwrap();
    assert_eq!(
        ask(gone, "a", "/"),
        Err("the routes cannot be had: no such resource".to_owned())
    );
    assert_eq!(ask(only_chain(&snapshot), "a", "/"), Ok("r".to_owned()));
    assert_eq!(snapshot.trouble(), Some(&missing()));
}

#[test]
fn the_default_chain_takes_the_rest() {
    let of = |name| inline(serving("r", name));
    let wire = ServerListener {
        default_chain: Some(chain(0, of("default"))),
        ..listener(vec![chain(7, of("seven"))])
    };
    let config = InboundConfig {
        listener: Arc::new(wire),
        ..(*inbound_config(vec![])).clone()
    };
    let snapshot = InboundSnapshot::compile(&spec(), Arc::new(config), None, None);
    let seven = ends("10.9.9.9:7", "10.0.0.1:80");
    let found = |ends| ask(snapshot.chain(ends).unwrap(), "a", "/").unwrap();
    assert_eq!(found(seven), "seven");
    assert_eq!(found(any_ends()), "default");

    let without = compile(vec![chain(7, of("seven"))], None);
    assert!(without.chain(seven).is_some());
    assert!(without.chain(any_ends()).is_none());
}

/// A chain with these filters, and overrides of them at both levels.
fn filtered(
    filters: Vec<HttpFilter>,
    host_overrides: FilterOverrides,
    route_overrides: FilterOverrides,
) -> FilterChain {
    let mut routes = serving("r", "served");
    routes.virtual_hosts[0].overrides = host_overrides;
    Arc::make_mut(&mut routes.virtual_hosts[0].routes[0]).overrides = route_overrides;
    let mut chain = chain(0, inline(routes));
    chain.http.filters = filters.into();
    chain
}

fn served(snapshot: &InboundSnapshot) -> Arc<InboundRoute> {
    find(only_chain(snapshot), "a", "/").unwrap()
}

fn tags(route: &InboundRoute) -> Vec<String> {
    let text = |filter: &Arc<dyn Filter>| {
        let text = format!("{filter:?}");
        text.split('"').nth(1).unwrap().to_owned()
    };
    route.filters.iter().map(text).collect()
}

#[test]
fn the_most_specific_override_wins() {
    let filters = || ["a", "b", "c", "d", "e"].map(|name| filter(name, "chain"));
    let off = || crate::config::FilterConfig(Arc::new(Disabled));
    let host = [("b", "host"), ("c", "host")].map(|(name, of)| (name.into(), tag(of)));
    let mut route: FilterOverrides = [("c".into(), tag("route"))].into();
    route.insert("d".into(), off());
    route.insert("e".into(), tag(""));
    let chain = filtered(filters().into(), host.into(), route);
    let snapshot = compile(vec![chain], None);
    assert_eq!(tags(&served(&snapshot)), ["chain", "host", "route"]);
}

#[test]
fn what_does_not_change_stays_the_same() {
    let first = || {
        filtered(
            vec![filter("a", "1"), filter("b", "1")],
            [].into(),
            [].into(),
        )
    };
    let second = || {
        filtered(
            vec![filter("a", "1"), filter("b", "2")],
            [].into(),
            [].into(),
        )
    };
    let other = || chain(7, inline(serving("r", "other")));
    let seven = ends("10.9.9.9:7", "10.0.0.1:80");

    let one = compile(vec![first(), other()], None);
    let same = compile(vec![other(), first()], Some(&one));
    assert!(Arc::ptr_eq(only_chain(&one), only_chain(&same)));

    let two = compile(vec![second(), other()], Some(&one));
    assert!(!Arc::ptr_eq(only_chain(&one), only_chain(&two)));
    let chains = [&one, &two].map(|snapshot| snapshot.chain(seven).unwrap());
    assert!(Arc::ptr_eq(chains[0], chains[1]));
    // Of the route's filters, the one that changed is another.
    let routes = [&one, &two].map(served);
    assert!(!Arc::ptr_eq(&routes[0], &routes[1]));
    assert!(Arc::ptr_eq(&routes[0].filters[0], &routes[1].filters[0]));
    assert!(!Arc::ptr_eq(&routes[0].filters[1], &routes[1].filters[1]));
}

#[test]
fn a_route_stays_the_same_beside_others() {
    let with = |more: Option<&str>, over: FilterOverrides| {
        let mut chain = filtered(vec![filter("a", "1")], over, [].into());
        let RouteSource::Inline(routes) = &mut chain.http.routes else {
            unreachable!("made so");
        };
        let hosts = &mut Arc::get_mut(routes).unwrap().virtual_hosts;
        let more = more.map(|name| route(name, "/more", RouteAction::NonForwarding));
        hosts[0].routes.splice(0..0, more.map(Arc::new));
        chain
    };
    let one = compile(vec![with(None, [].into())], None);
    let two = compile(vec![with(Some("more"), [].into())], Some(&one));
    assert!(!Arc::ptr_eq(only_chain(&one), only_chain(&two)));
    assert!(Arc::ptr_eq(&served(&one), &served(&two)));
    // Another configuration by an override.
    let over = [("a".into(), tag("2"))].into();
    let three = compile(vec![with(Some("more"), over)], Some(&two));
    assert!(!Arc::ptr_eq(&served(&two), &served(&three)));
    assert_eq!(tags(&served(&three)), ["2"]);
}

#[test]
fn tls_that_does_not_change_stays_the_same() {
    let with = |name: &str, route: &str| FilterChain {
        tls: Some(Arc::new(DownstreamTls {
            identity: crate::config::IdentitySource::Secret(name.into()),
            roots: None,
            require_client_certificate: false,
            sans: vec![],
        })),
        ..chain(0, inline(serving("r", route)))
    };
    let tls = |snapshot: &InboundSnapshot| Arc::clone(only_chain(snapshot).tls().unwrap());
    let one = compile(vec![with("a", "first")], None);
    let two = compile(vec![with("a", "second")], Some(&one));
    assert!(Arc::ptr_eq(&tls(&one), &tls(&two)));
    let three = compile(vec![with("b", "second")], Some(&two));
    assert!(!Arc::ptr_eq(&tls(&two), &tls(&three)));
}

/// As [`compile`], under HTTP semantics.
fn compile_http(chain: FilterChain, previous: Option<&InboundSnapshot>) -> InboundSnapshot {
    let spec = InboundSpec {
        semantics: crate::Semantics::Http,
        ..spec()
    };
    InboundSnapshot::compile(&spec, inbound_config(vec![chain]), previous, None)
}

#[test]
fn what_routes_say_of_http_changes_the_route_and_leaves_its_filters() {
    use crate::config::{DirectResponse, HeaderMutation};
    let with = |remove: Option<&'static str>, action: RouteAction| {
        let mut chain = filtered(vec![filter("a", "1")], [].into(), [].into());
        let RouteSource::Inline(routes) = &mut chain.http.routes else {
            unreachable!("made so");
        };
        let routes = Arc::get_mut(routes).unwrap();
        let remove = remove.map(http::HeaderName::from_static);
        let remove = remove.map(HeaderMutation::Remove);
        routes.headers.request = Vec::from_iter(remove);
        Arc::make_mut(&mut routes.virtual_hosts[0].routes[0]).action = action;
        chain
    };
    let serve = || RouteAction::NonForwarding;
    let direct = |status| {
        RouteAction::DirectResponse(DirectResponse {
            status,
            body: Default::default(),
        })
    };
    let not_found = || direct(http::StatusCode::NOT_FOUND);
    let gone = || direct(http::StatusCode::GONE);
    let upgrading = |name: &str| FilterChain {
        http: crate::config::HttpManager {
            upgrades: vec![(name.into(), true)],
            strip_port: Default::default(),
            ..with(Some("y"), serve()).http
        },
        ..with(None, serve())
    };

    let plain = with(None, serve());
    let mut last = compile_http(plain.clone(), None);
    assert!(served(&last).http.is_none());
    // (the next configuration, whether headers or upgrades are at stake, whether it answers)
    for (next, edits, answers) in [
        (with(Some("x"), serve()), true, false),
        (with(Some("y"), serve()), true, false),
        (upgrading("websocket"), true, false),
        (with(Some("y"), not_found()), false, true),
        (with(Some("y"), gone()), false, true),
        (with(None, serve()), false, false),
    ] {
        let before = served(&last);
        last = compile_http(next.clone(), Some(&last));
        let now = served(&last);
        assert!(!Arc::ptr_eq(&before, &now));
        assert!(Arc::ptr_eq(&before.filters[0], &now.filters[0]));
        assert_eq!(now.http.is_some(), edits);
        assert_eq!(now.answer.is_some(), answers);
        // Beside another route, it stays as it is.
        let mut more = next;
        let RouteSource::Inline(routes) = &mut more.http.routes else {
            unreachable!("made so");
        };
        let routes = Arc::make_mut(routes);
        routes.virtual_hosts[0]
            .routes
            .push(route("more", "/more", serve()).into());
        last = compile_http(more, Some(&last));
        assert!(Arc::ptr_eq(&now, &served(&last)));
    }
    let websocket = served(&compile_http(upgrading("websocket"), None));
    let http = websocket.http.as_ref().unwrap();
    assert!(http.allows_upgrade("websocket") && !http.allows_upgrade("tunnel"));

    // gRPC semantics read none of it.
    let grpc = compile(vec![with(Some("x"), serve())], None);
    let again = compile(vec![with(Some("y"), serve())], Some(&grpc));
    assert!(served(&grpc).http.is_none());
    assert!(Arc::ptr_eq(&served(&grpc), &served(&again)));
    let refused = compile(vec![with(None, gone())], None);
    let error = ask(only_chain(&refused), "a", "/").unwrap_err();
    assert!(
        error.contains("direct_response is not supported"),
        "{error}"
    );
}
