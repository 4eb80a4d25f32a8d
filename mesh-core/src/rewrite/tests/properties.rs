use proptest::prelude::*;

use super::*;

fn matcher() -> impl Strategy<Value = PathMatcher> {
    let path = "/[a-zA-Z/]{0,6}";
    (path, any::<bool>(), 0..4).prop_map(|(path, ignore_case, kind)| match kind {
        0 => PathMatcher::Exact { path, ignore_case },
        1 => PathMatcher::Prefix {
            prefix: path,
            ignore_case,
        },
        2 => PathMatcher::Segments {
            prefix: path,
            ignore_case,
        },
        _ => PathMatcher::Regex(Regex::new(".*").unwrap()),
    })
}

fn rewrite() -> impl Strategy<Value = PathRewrite> {
    let patterns =
        prop::sample::select(vec!["", "a", "/", "(a|b)?", "^/(.*)$", ".*", r"[^a]", "b*"]);
    let regex = (patterns, r"[a-z/? #\\0-9]{0,8}")
        .prop_map(|(pattern, by)| PathRewrite::Regex(regex_rewrite(pattern, &by)));
    prop_oneof![".{0,12}".prop_map(PathRewrite::Prefix), regex]
}

proptest! {
    /// Whatever the configuration and the request: what goes out is a path, and an authority, and
    /// the query stays unless the configuration brings its own.
    #[test]
    fn a_request_stays_one(
        matcher in matcher(),
        rewrite in rewrite(),
        host in ".{0,12}",
        value in ".{0,12}",
        path in "/[a-zA-Z%é/]{0,10}",
        query in prop::option::of("[a-z=&?/]{0,6}"),
    ) {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{path}{query}");
        prop_assume!(target.parse::<PathAndQuery>().is_ok());
        let mut config = Config::new(matcher);
        let own_query = format!("{rewrite:?}").contains(['?', '#']);
        config.forward.path_rewrite = Some(rewrite);
        config.forward.host_rewrite = http::HeaderValue::from_str(&host)
            .ok()
            .map(HostRewrite::Literal);
        config.route.headers.request = vec![append("x", &value)];
        let mut sent = Sent::new("a.example", &target);
        sent.pass(&config.compile());

        let written = sent.path.as_str();
        prop_assert!(written.starts_with('/'), "{}", written);
        prop_assert_eq!(&written.parse::<PathAndQuery>().unwrap(), &sent.path);
        prop_assert!(!written.contains([' ', '#', '\r', '\n']), "{}", written);
        if !own_query {
            prop_assert!(written.ends_with(&query), "{} {}", written, query);
        }
        prop_assert!(!sent.authority.as_str().is_empty());
        prop_assert!(!sent.authority.as_str().contains('@'));
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(sent.authority.clone())
            .path_and_query(sent.path.clone())
            .build();
        prop_assert!(uri.is_ok());
    }
}
