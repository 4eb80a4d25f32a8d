use super::*;

fn config(rewrite: HostRewrite, append: bool) -> Config {
    let mut config = Config::new(prefix("/"));
    config.forward.host_rewrite = Some(rewrite);
    config.forward.append_x_forwarded_host = append;
    config
}

#[test]
fn an_authority_is_replaced() {
    let header = || HostRewrite::Header(HeaderName::from_static("x-host"));
    let path = |pattern, by| HostRewrite::PathRegex(regex_rewrite(pattern, by));
    let literal = |host| HostRewrite::Literal(http::HeaderValue::from_static(host));
    for (rewrite, path, expected) in [
        (literal("b.example:81"), "/", Some("b.example:81")),
        (header(), "/", Some("first.example")),
        (
            HostRewrite::Header(HeaderName::from_static("x-none")),
            "/",
            None,
        ),
        // A user's name is none of a mesh's business, and a space not of an authority's.
        (
            HostRewrite::Header(HeaderName::from_static("x-user")),
            "/",
            None,
        ),
        (
            HostRewrite::Header(HeaderName::from_static("x-bad")),
            "/",
            None,
        ),
        (
            HostRewrite::Header(HeaderName::from_static("x-empty")),
            "/",
            None,
        ),
        // From the documentation of `host_rewrite_path_regex`.
        (
            path("^/(.+)/.+$", r"\1"),
            "/envoyproxy.io/some/path?q",
            Some("envoyproxy.io/some"),
        ),
        (
            path("^/([^/]+)/.+$", r"\1"),
            "/envoyproxy.io/some?q",
            Some("envoyproxy.io"),
        ),
        (path("^/x/(.+)$", r"\1"), "/y", None),
    ] {
        let mut sent = Sent::new("a.example", path)
            .header("x-host", "first.example")
            .header("x-host", "second.example")
            .header("x-user", "me@first.example")
            .header("x-bad", "first example")
            .header("x-empty", "");
        // An authority has no slash.
        let expected = expected.filter(|host| !host.contains('/'));
        sent.pass(&config(rewrite, false).compile());
        assert_eq!(
            sent.authority.as_str(),
            expected.unwrap_or("a.example"),
            "{path}"
        );
        let original = expected.map(|_| "a.example");
        assert_eq!(sent.get("x-envoy-original-host"), Vec::from_iter(original));
        assert!(sent.get("x-forwarded-host").is_empty());
    }
}

#[test]
fn x_forwarded_host_is_appended_once() {
    for (before, expected) in [
        (None, "a.example"),
        (Some("b,c"), "b,c,a.example"),
        (Some("b,a.example"), "b,a.example"),
        (Some("a.example,b"), "a.example,b,a.example"),
    ] {
        let literal = HostRewrite::Literal(http::HeaderValue::from_static("z"));
        let mut sent = Sent::new("a.example", "/");
        if let Some(before) = before {
            sent = sent.header("x-forwarded-host", before);
        }
        sent.pass(&config(literal, true).compile());
        assert_eq!(sent.get("x-forwarded-host"), [expected]);
    }
}

#[test]
fn the_endpoints_name_is_for_each_attempt() {
    let route = config(HostRewrite::Endpoint, true).compile();
    assert!(route.takes_host_of_endpoint());
    let mut sent = Sent::new("a.example", "/");
    sent.pass(&route);
    assert_eq!(sent.authority, "a.example");
    route.endpoint_host("e 1", &mut sent.authority, &mut sent.headers);
    assert_eq!(sent.authority, "a.example");
    route.endpoint_host("e-1.example", &mut sent.authority, &mut sent.headers);
    assert_eq!(sent.authority, "e-1.example");
    assert_eq!(sent.get("x-forwarded-host"), ["a.example"]);
    assert_eq!(sent.get("x-envoy-original-host"), ["a.example"]);
    assert!(!Config::new(prefix("/")).compile().takes_host_of_endpoint());
}

#[test]
fn headers_come_before_the_authority_and_that_before_the_path() {
    let mut config = config(HostRewrite::Header(HeaderName::from_static("x-to")), false);
    config.forward.path_rewrite = Some(PathRewrite::Prefix("/new".into()));
    config.route.matcher.path = prefix("/old");
    let seen = request_header(":path", None, None);
    config.route.headers.request = vec![
        overwrite("x-to", text("made.example")),
        overwrite("x-seen", operator(seen)),
    ];
    let mut sent = Sent::new("a", "/old/1?q");
    sent.pass(&config.compile());
    assert_eq!(sent.authority, "made.example");
    assert_eq!(sent.path, "/new/1?q");
    assert_eq!(sent.get("x-seen"), ["/old/1?q"]);
}

#[test]
fn a_weighted_cluster_gives_an_authority_that_all_after_it_see() {
    let authority = |of: &str| operator(request_header(":authority", None, Some(of.len())));
    let see = |name: &'static str| vec![overwrite(name, authority("cluster.example"))];
    let literal = |host| HostRewrite::Literal(http::HeaderValue::from_static(host));
    let header = |name| HostRewrite::Header(HeaderName::from_static(name));
    for (rewrite, expected, original) in [
        (None, "cluster.example", None),
        (
            Some(literal("route.example")),
            "route.example",
            Some("cluster.example"),
        ),
        (
            Some(header("x-host")),
            "header.example",
            Some("cluster.example"),
        ),
        (Some(header("x-none")), "cluster.example", None),
    ] {
        let mut config = Config::new(prefix("/"));
        config.cluster.host_rewrite = Some(http::HeaderValue::from_static("cluster.example"));
        config.cluster.headers.request = see("x-of-cluster");
        config.route.headers.request = see("x-of-route");
        config.forward.host_rewrite = rewrite;
        let mut sent = Sent::new("a.example", "/").header("x-host", "header.example");
        sent.pass(&config.compile());
        assert_eq!(sent.authority, expected);
        assert_eq!(sent.get("x-of-cluster"), ["a.example"]);
        assert_eq!(sent.get("x-of-route"), ["cluster.example"]);
        let original = Vec::from_iter(original);
        assert_eq!(sent.get("x-envoy-original-host"), original);
    }
    // The endpoint's own name is put in each attempt, later than all.
    let mut config = config(HostRewrite::Endpoint, false);
    config.cluster.host_rewrite = Some(http::HeaderValue::from_static("cluster.example"));
    let route = config.compile();
    let mut sent = Sent::new("a.example", "/");
    sent.pass(&route);
    assert_eq!(sent.authority, "cluster.example");
    route.endpoint_host("e-1.example", &mut sent.authority, &mut sent.headers);
    assert_eq!(sent.authority, "e-1.example");
}
