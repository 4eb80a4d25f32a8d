use super::*;

/// The values of `x` after the mutations of one level, which was there with these values.
fn after(before: &[&'static str], mutations: Vec<HeaderMutation>) -> Vec<String> {
    let mut config = Config::new(prefix("/"));
    config.route.headers.request = mutations;
    let mut sent = Sent::new("a", "/");
    for value in before {
        sent = sent.header("x", value);
    }
    sent.pass(&config.compile());
    sent.get("x").into_iter().map(str::to_owned).collect()
}

#[test]
fn append_actions() {
    use AppendAction::*;
    for (action, absent, present) in [
        (AppendIfExistsOrAdd, vec!["new"], vec!["1", "2", "new"]),
        (AddIfAbsent, vec!["new"], vec!["1", "2"]),
        (OverwriteIfExistsOrAdd, vec!["new"], vec!["new"]),
        (OverwriteIfExists, vec![], vec!["new"]),
    ] {
        let mutation = || vec![put("x", text("new"), action)];
        assert_eq!(after(&[], mutation()), absent, "{action:?}");
        assert_eq!(after(&["1", "2"], mutation()), present, "{action:?}");
    }
}

#[test]
fn an_empty_value_counts_only_if_it_is_kept() {
    let empty = |keep_empty| HeaderMutation::Put {
        name: HeaderName::from_static("x"),
        value: text(""),
        append: AppendAction::OverwriteIfExistsOrAdd,
        keep_empty,
    };
    assert_eq!(after(&["1"], vec![empty(false)]), ["1"]);
    assert_eq!(after(&["1"], vec![empty(true)]), [""]);
    assert_eq!(after(&[], vec![empty(true)]), [""]);
    // An operator that has nothing to say.
    let absent = operator(request_header("x-none", None, None));
    assert_eq!(after(&["1"], vec![overwrite("x", absent)]), ["1"]);
}

#[test]
fn in_a_level_removals_come_first_then_overwriting_then_adding() {
    assert_eq!(after(&["1"], vec![append("x", "2"), remove("x")]), ["2"]);
    let both = vec![append("x", "2"), overwrite("x", text("3"))];
    assert_eq!(after(&["1"], both), ["3", "2"]);
    // Values are made from what is there before any is put.
    let itself = operator(request_header("x", None, None));
    let both = vec![
        overwrite("x", text("3")),
        put("x", itself, AppendAction::AppendIfExistsOrAdd),
    ];
    assert_eq!(after(&["1"], both), ["3", "1"]);
    let twice = ["2", "3"].map(|value| put("x", text(value), AppendAction::AddIfAbsent));
    assert_eq!(after(&[], twice.into()), ["2", "3"]);
}

#[test]
fn levels_follow_each_other() {
    for (most_specific_wins, order, last) in [
        (false, "cluster route host config", "config"),
        (true, "cluster config host route", "route"),
    ] {
        let mut config = Config::new(prefix("/"));
        config.config.most_specific_wins = most_specific_wins;
        for (level, of) in [
            (&mut config.cluster.headers, "cluster"),
            (&mut config.route.headers, "route"),
            (&mut config.host.headers, "host"),
            (&mut config.config.headers, "config"),
        ] {
            let mutations = || vec![append("all", of), overwrite("last", text(of))];
            (level.request, level.response) = (mutations(), mutations());
        }
        let route = config.compile();
        let mut sent = Sent::new("a", "/");
        let remembered = sent.pass(&route);
        let mut response = HeaderMap::new();
        route.response(StatusCode::OK, &mut response, &remembered, None);
        for headers in [&sent.headers, &response] {
            assert_eq!(values(headers, "all").join(" "), order);
            assert_eq!(values(headers, "last"), [last]);
        }
    }
}

#[test]
fn a_level_sees_what_the_one_before_made() {
    let mut config = Config::new(prefix("/"));
    config.route.headers.request = vec![append("x", "route")];
    config.host.headers.request = vec![remove("x"), append("y", "host")];
    let y = operator(request_header("y", None, None));
    config.config.headers.request = vec![overwrite("z", y)];
    let mut sent = Sent::new("a", "/").header("x", "sent");
    sent.pass(&config.compile());
    assert!(sent.get("x").is_empty());
    assert_eq!(sent.get("z"), ["host"]);
}

fn peer() -> Arc<Peer> {
    let address = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
    Arc::new(Peer::new(
        address("10.1.2.3:44"),
        address("[::1]:80"),
        Some(PeerTls::default()),
    ))
}

#[test]
fn operators_of_requests() {
    use FormatOperator::*;
    for (of, expected) in [
        (request_header(":authority", None, None), "a.example"),
        (request_header("host", None, None), "a.example"),
        (request_header(":method", None, None), "PUT"),
        (request_header(":scheme", None, None), "http"),
        (request_header(":path", None, None), "/p?q=1"),
        (request_header(":path", None, Some(2)), "/p"),
        (request_header("x-id", None, None), "first"),
        (request_header("x-id", None, Some(3)), "fir"),
        (request_header("x-none", Some("x-id"), None), "first"),
        (request_header("x-id", Some(":path"), None), "first"),
        (request_header("x-none", Some(":path"), Some(0)), ""),
        (request_header(":unknown", None, None), ""),
        (Protocol, "HTTP/2"),
        (DownstreamRemoteAddress, "10.1.2.3:44"),
        (DownstreamRemoteAddressWithoutPort, "10.1.2.3"),
        (DownstreamLocalAddress, "[::1]:80"),
        (DownstreamLocalAddressWithoutPort, "::1"),
        (DownstreamPeerUriSan, ""),
        (DownstreamPeerSubject, ""),
        (UpstreamCluster, "the-cluster"),
        (RouteName, "the-route"),
        (Environment("CARGO_PKG_NAME".into()), "mesh-core"),
        (Environment("MESH_TEST_NOT_SET".into()), ""),
        (UpstreamHost, ""),
        (ResponseCode, ""),
    ] {
        let mut config = Config::new(prefix("/"));
        let parts = [
            FormatPart::Text("<".into()),
            FormatPart::Operator(of.clone()),
            FormatPart::Text(">".into()),
        ];
        config.route.headers.request = vec![overwrite("out", HeaderFormat(parts.into()))];
        let mut sent = Sent::new("a.example", "/p?q=1")
            .header("x-id", "first")
            .header("x-id", "second");
        sent.peer = Some(peer());
        sent.pass(&config.compile());
        assert_eq!(sent.get("out"), [format!("<{expected}>")], "{of:?}");
    }
}

#[cfg(feature = "testing")]
#[test]
fn operators_of_certificates() {
    use crate::testing::{CertificateAuthority, Leaf};
    let ca = CertificateAuthority::new("root");
    let leaf = Leaf::spiffe("spiffe://shop/a").uri("spiffe://shop/b");
    let tls = PeerTls {
        certificate: Some(ca.issue(leaf).identity().leaf.clone().into()),
        ..Default::default()
    };
    let mut config = Config::new(prefix("/"));
    config.route.headers.request = vec![overwrite(
        "uris",
        operator(FormatOperator::DownstreamPeerUriSan),
    )];
    let mut sent = Sent::new("a", "/");
    sent.peer = Some(Arc::new(Peer::new(None, None, Some(tls))));
    sent.pass(&config.compile());
    assert_eq!(sent.get("uris"), ["spiffe://shop/a,spiffe://shop/b"]);
}

#[test]
fn operators_of_responses_and_what_they_need_of_requests() {
    use FormatOperator::*;
    let response_header = |name: &str| Response {
        name: name.into(),
        alternative: Some("x-other".into()),
        max_length: Some(4),
    };
    let endpoint = Address::Socket("10.0.0.9:8080".parse().unwrap());
    for (of, expected, remembers) in [
        (response_header("x-id"), "resp", false),
        (response_header("x-none"), "othe", false),
        (response_header(":status"), "503", false),
        (ResponseCode, "503", false),
        (UpstreamHost, "10.0.0.9:8080", false),
        (UpstreamCluster, "the-cluster", false),
        // The request as it went out.
        (request_header("x-id", None, None), "changed", true),
        (request_header(":path", None, None), "/new/1", true),
        (Protocol, "HTTP/2", true),
    ] {
        let mut config = Config::new(prefix("/old"));
        config.forward.path_rewrite = Some(PathRewrite::Prefix("/new".into()));
        config.route.headers.request = vec![overwrite("x-id", text("changed"))];
        let all = ["out", "again"].map(|name| overwrite(name, operator(of.clone())));
        config.route.headers.response = all.into();
        let route = config.compile();
        let remembered = Sent::new("a", "/old/1").pass(&route);
        let slots = remembered.0.as_ref().map(|slots| slots.len());
        assert_eq!(slots, remembers.then_some(1), "{of:?}");
        let mut headers = HeaderMap::new();
        headers.insert("x-id", http::HeaderValue::from_static("response"));
        headers.insert("x-other", http::HeaderValue::from_static("other"));
        let status = StatusCode::SERVICE_UNAVAILABLE;
        route.response(status, &mut headers, &remembered, Some(&endpoint));
        assert_eq!(values(&headers, "out"), [expected], "{of:?}");
        assert_eq!(values(&headers, "again"), [expected], "{of:?}");
    }
}

#[test]
fn a_value_that_no_header_can_have_is_left_out() {
    assert_eq!(
        after(&["1"], vec![overwrite("x", text("a\r\nb: c"))]),
        ["1"]
    );
}

#[test]
fn times_are_written_as_envoy_does() {
    use std::time::UNIX_EPOCH;
    for (millis, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_200_001, "2024-03-01T00:00:00.001Z"),
        (1_795_426_200_123, "2026-11-23T09:30:00.123Z"),
        (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
    ] {
        assert_eq!(
            time::format(UNIX_EPOCH + Duration::from_millis(millis)),
            expected
        );
    }
}

#[test]
fn a_server_changes_headers() {
    let mut config = Config::new(prefix("/"));
    let path = request_header(":path", None, None);
    config.host.headers.request = vec![overwrite("x", operator(path.clone()))];
    config.host.headers.response = vec![overwrite("y", operator(path))];
    let route = HttpRoute::serve(&config.place()).unwrap();
    let mut headers = HeaderMap::new();
    let mut head = RequestHead {
        method: &Method::GET,
        authority: "a",
        path: "/p",
        query: Some("q"),
        headers: &mut headers,
        peer: None,
    };
    let remembered = route.served(&mut head, "https", Version::HTTP_11);
    assert_eq!(values(&headers, "x"), ["/p?q"]);
    let mut response = HeaderMap::new();
    route.response(StatusCode::OK, &mut response, &remembered, None);
    assert_eq!(values(&response, "y"), ["/p?q"]);
}
