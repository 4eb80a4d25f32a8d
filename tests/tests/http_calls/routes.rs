//! Routes by all that HTTP has to tell requests apart, and all that they change, by hand: where the words
//! of the control plane's builders do not reach.

use mesh_core::testing::{
    cluster_name,
    envoy_types::pb::{
        envoy::{
            config::{
                core::v3::{
                    DataSource, HeaderValue, HeaderValueOption, data_source::Specifier,
                    header_value_option::HeaderAppendAction,
                },
                endpoint::v3::lb_endpoint::HostIdentifier,
                route::v3::{
                    DirectResponseAction, HeaderMatcher, QueryParameterMatcher, Route as WireRoute,
                    RouteAction, RouteConfiguration, RouteMatch,
                    header_matcher::HeaderMatchSpecifier,
                    query_parameter_matcher::QueryParameterMatchSpecifier,
                    route::Action,
                    route_action::{ClusterSpecifier, HostRewriteSpecifier},
                    route_match::PathSpecifier,
                },
            },
            r#type::matcher::v3::{
                RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
            },
        },
        google::protobuf::BoolValue,
    },
    route_name,
};
use mesh_tests::xds;

use super::*;

/// The client follows what is said of the service from then on.
async fn serving(world: &World) {
    world.service().apply();
    world.get("/").await.unwrap();
    world.seen();
}

fn routes(routes: Vec<WireRoute>) -> RouteConfiguration {
    xds::routes(&route_name(TARGET), "*", routes)
}

fn exact(text: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::Exact(text.to_owned())),
        ..StringMatcher::default()
    }
}

/// A route that answers with its own name.
fn named(name: &str, headers: Vec<HeaderMatcher>, query: Vec<QueryParameterMatcher>) -> WireRoute {
    WireRoute {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            headers,
            query_parameters: query,
            ..RouteMatch::default()
        }),
        action: Some(Action::DirectResponse(DirectResponseAction {
            status: 200,
            body: Some(DataSource {
                specifier: Some(Specifier::InlineString(name.to_owned())),
                ..DataSource::default()
            }),
            ..DirectResponseAction::default()
        })),
        ..WireRoute::default()
    }
}

fn header(name: &str, value: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact(value))),
        ..HeaderMatcher::default()
    }
}

fn query(name: &str, how: QueryParameterMatchSpecifier) -> QueryParameterMatcher {
    QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(how),
    }
}

#[tokio::test]
async fn methods_schemes_authorities_and_queries_tell_requests_apart() {
    let present = QueryParameterMatchSpecifier::PresentMatch(true);
    let is_red = QueryParameterMatchSpecifier::StringMatch(exact("red"));
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        serving(&world).await;
        let set = world.control_plane.set(&routes(vec![
            named("post", vec![header(":method", "POST")], vec![]),
            named("https", vec![header(":scheme", "https")], vec![]),
            named("red", vec![], vec![query("color", is_red.clone())]),
            named(
                "debug",
                vec![header(":scheme", "http")],
                vec![query("debug", present.clone())],
            ),
            named("upper", vec![header(":authority", "Catalog.shop")], vec![]),
            named("path", vec![header(":path", "/exact?a=b")], vec![]),
            named("rest", vec![], vec![]),
        ]));
        set.acked().await;
        let ask = async |method: &str, path: &str| {
            let request = Request::builder().method(method);
            let request = request.uri(format!("http://catalog.shop{path}"));
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let body = within(world.client.request(request))
                .await
                .unwrap()
                .into_body();
            within(body.collect()).await.unwrap().to_bytes()
        };
        for (method, path, expected) in [
            ("POST", "/?color=red", "post"),
            ("GET", "/?color=red", "red"),
            ("GET", "/?color=redder", "rest"),
            ("GET", "/?colour=red", "rest"),
            // The first of a name counts (Envoy).
            ("GET", "/?color=red&color=blue", "red"),
            ("GET", "/?color=blue&color=red", "rest"),
            ("PUT", "/?debug", "debug"),
            ("GET", "/?debug=", "debug"),
            ("GET", "/exact?a=b", "path"),
            ("GET", "/exact", "rest"),
            ("GET", "/", "rest"),
        ] {
            assert_eq!(
                ask(method, path).await,
                expected,
                "{protocol:?} {method} {path}"
            );
        }
        assert_eq!(world.seen(), 0);
    }
}

fn rewrite(change: impl FnOnce(&mut RouteAction)) -> WireRoute {
    let mut action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster_name(TARGET, ""))),
        ..RouteAction::default()
    };
    change(&mut action);
    WireRoute {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(action)),
        ..WireRoute::default()
    }
}

fn substitute(regex: &str, by: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(RegexMatcher {
            regex: regex.to_owned(),
            ..RegexMatcher::default()
        }),
        substitution: by.to_owned(),
    }
}

#[tokio::test]
async fn paths_and_hosts_are_rewritten_by_expression_header_and_endpoint() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        serving(&world).await;
        let mut named = xds::endpoints(&cluster_name(TARGET, ""), &[world.address]);
        let endpoint = &mut named.endpoints[0].lb_endpoints[0];
        if let Some(HostIdentifier::Endpoint(endpoint)) = &mut endpoint.host_identifier {
            endpoint.hostname = "one.catalog.shop".to_owned();
        }
        world.control_plane.set(&named).acked().await;
        type Change = Box<dyn FnOnce(&mut RouteAction)>;
        let changes: [(&str, Change); 4] = [
            (
                "GET catalog.shop /v2/7/items?n=1 ",
                Box::new(|action| {
                    action.regex_rewrite = Some(substitute("^/(items)/([0-9]+)$", r"/v2/\2/\1"));
                }),
            ),
            (
                "GET one.catalog.shop /items/7?n=1 ",
                Box::new(|action| {
                    let auto = HostRewriteSpecifier::AutoHostRewrite(BoolValue { value: true });
                    action.host_rewrite_specifier = Some(auto);
                }),
            ),
            (
                "GET told.shop /items/7?n=1 ",
                Box::new(|action| {
                    let header = HostRewriteSpecifier::HostRewriteHeader("x-host".to_owned());
                    action.host_rewrite_specifier = Some(header);
                }),
            ),
            (
                "GET items.shop /items/7?n=1 ",
                Box::new(|action| {
                    let by = substitute("^/([a-z]+)/.*$", r"\1.shop");
                    action.host_rewrite_specifier =
                        Some(HostRewriteSpecifier::HostRewritePathRegex(by));
                }),
            ),
        ];
        for (expected, change) in changes {
            let set = world.control_plane.set(&routes(vec![rewrite(change)]));
            set.acked().await;
            let request = world.client.get("http://catalog.shop/items/7?n=1");
            let request = request.header("x-host", "told.shop");
            let body = within(request.send()).await.unwrap().into_body();
            let body = within(body.collect()).await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!(
                text.starts_with(expected),
                "{protocol:?}: {text} is not {expected}"
            );
        }
    }
}

fn put(name: &str, value: &str, append_action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        append_action: append_action.into(),
        ..HeaderValueOption::default()
    }
}

#[tokio::test]
async fn headers_are_appended_overwritten_added_and_removed() {
    use HeaderAppendAction::{
        AddIfAbsent, AppendIfExistsOrAdd, OverwriteIfExists, OverwriteIfExistsOrAdd,
    };
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        serving(&world).await;
        for (action, has_one, of_request, of_response) in [
            (AppendIfExistsOrAdd, true, "old,new", "yes,new"),
            (AppendIfExistsOrAdd, false, "new", "new"),
            (AddIfAbsent, true, "old", "yes"),
            (AddIfAbsent, false, "new", "new"),
            (OverwriteIfExistsOrAdd, true, "new", "new"),
            (OverwriteIfExistsOrAdd, false, "new", "new"),
            (OverwriteIfExists, true, "new", "new"),
            (OverwriteIfExists, false, "-", ""),
        ] {
            let mut route = rewrite(|_| {});
            route.request_headers_to_add = vec![put("x-added", "new", action)];
            // The server's answers always have the first of these, and never the other.
            let name = if has_one { "x-served" } else { "x-other" };
            route.response_headers_to_add = vec![put(name, "new", action)];
            route.response_headers_to_remove = vec!["x-asked".to_owned()];
            world.control_plane.set(&routes(vec![route])).acked().await;
            let mut request = world.client.get("http://catalog.shop/");
            if has_one {
                request = request.header("x-added", "old");
            }
            let response = within(request.send()).await.unwrap();
            let values: Vec<_> = response.headers().get_all(name).iter().collect();
            let values: Vec<_> = values.iter().map(|value| value.to_str().unwrap()).collect();
            let context = format!("{protocol:?} {action:?} {has_one}");
            assert_eq!(values.join(","), of_response, "{context}");
            assert!(!response.headers().contains_key("x-asked"), "{context}");
            let body = within(response.into_body().collect())
                .await
                .unwrap()
                .to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            let added = format!(" added={of_request} ");
            assert!(text.contains(&added), "{context}: {text}");
        }
    }
}
