use super::*;

/// What becomes of `path`.
fn rewritten(matcher: PathMatcher, rewrite: PathRewrite, path: &str) -> String {
    let mut config = Config::new(matcher);
    config.forward.path_rewrite = Some(rewrite);
    let mut sent = Sent::new("a", path);
    sent.pass(&config.compile());
    match sent.get("x-envoy-original-path")[..] {
        // One that was rewritten to itself was rewritten.
        [original] => assert_eq!(original, path),
        _ => assert_eq!(sent.path, path),
    }
    sent.path.to_string()
}

#[test]
fn what_matched_is_replaced() {
    let segments = |prefix: &str| PathMatcher::Segments {
        prefix: prefix.into(),
        ignore_case: false,
    };
    let folded = PathMatcher::Prefix {
        prefix: "/prefix".into(),
        ignore_case: true,
    };
    let whole = PathMatcher::Regex(Regex::new("/v[0-9]/.*").unwrap());
    for (matcher, by, path, expected) in [
        // Envoy's documentation of `prefix_rewrite`: slashes are the configuration's affair.
        (prefix("/prefix"), "/", "/prefix", "/"),
        (prefix("/prefix"), "/", "/prefix/etc", "//etc"),
        (prefix("/prefix/"), "/", "/prefix/etc", "/etc"),
        (prefix("/prefix"), "/other", "/prefix/etc", "/other/etc"),
        (prefix("/prefix"), "/other", "/prefixes", "/otheres"),
        (prefix("/"), "/api/", "/items?a=/b", "/api/items?a=/b"),
        (prefix("/prefix"), "/other", "/prefix?q", "/other?q"),
        (folded, "/other", "/PreFix/Etc", "/other/Etc"),
        (exact("/a/b"), "/c", "/a/b?x=1", "/c?x=1"),
        (segments("/a"), "/b", "/a/c", "/b/c"),
        (segments("/a"), "/", "/a/c", "//c"),
        (segments("/a"), "/b", "/a", "/b"),
        (whole, "/all", "/v1/x?y", "/all?y"),
        // Never a request without a slash, and never one that could not be sent.
        (prefix("/a"), "b", "/a/c", "/b/c"),
        (prefix("/a"), "/b c", "/a/c", "/a/c"),
        (prefix("/a"), "", "/a/c", "/a/c"),
    ] {
        let rewrite = PathRewrite::Prefix(by.into());
        assert_eq!(rewritten(matcher, rewrite, path), expected, "{by} {path}");
    }
}

#[test]
fn what_an_expression_finds_is_replaced() {
    for (pattern, substitution, path, expected) in [
        // From the documentation of `regex_rewrite`.
        (
            "^/service/([^/]+)(/.*)$",
            r"\2/instance/\1",
            "/service/foo/v1/api",
            "/v1/api/instance/foo",
        ),
        ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
        (
            "^(.*?)one(.*)$",
            r"\1two\2",
            "/xxx/one/yyy/one/zzz",
            "/xxx/two/yyy/one/zzz",
        ),
        ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
        // The query takes no part.
        ("a", "b", "/a?a=a", "/b?a=a"),
        (".*", r"/x\0", "/y?z", "/x/y?z"),
        (r"^/(a)?(b)$", r"/\1\2", "/b", "/b"),
        (r"/x", r"/$1${0}\\", "/x", r"/$1${0}\"),
        ("[0-9]*", "-", "/a1", "/-/-a-"),
        ("nothing", "b", "/a", "/a"),
        // A result of nothing is no rewrite.
        (".*", "", "/a?b", "/a?b"),
        ("^/", "", "/a", "/a"),
    ] {
        let rewrite = PathRewrite::Regex(regex_rewrite(pattern, substitution));
        let found = rewritten(prefix("/"), rewrite, path);
        assert_eq!(found, expected, "{pattern} {substitution} {path}");
    }
}
