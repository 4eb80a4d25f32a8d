use super::*;
use crate::config::VirtualHost;

fn domain(pattern: &str) -> Domain {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => Domain::Any,
        (Some(end), _) => Domain::Suffix(end.to_owned()),
        (_, Some(start)) => Domain::Prefix(start.to_owned()),
        _ => Domain::Exact(pattern.to_owned()),
    }
}

fn config(hosts: &[Vec<Domain>]) -> RouteConfig {
    RouteConfig {
        name: "r".into(),
        virtual_hosts: hosts
            .iter()
            .map(|domains| VirtualHost {
                name: "v".into(),
                domains: domains.clone(),
                routes: Vec::new(),
                overrides: Default::default(),
                headers: Default::default(),
            })
            .collect(),
        headers: Default::default(),
        most_specific_wins: false,
        ignore_port: false,
    }
}

fn hosts(patterns: &[&[&str]]) -> RouteConfig {
    let hosts: Vec<Vec<Domain>> = patterns
        .iter()
        .map(|host| host.iter().copied().map(domain).collect())
        .collect();
    config(&hosts)
}

#[test]
fn exact_then_longest_suffix_then_longest_prefix_then_any() {
    let config = hosts(&[
        &["*"],
        &["foo.bar.*", "foo.*"],
        &["*.com", "*.bar.com"],
        &["*.foo.bar.com"],
        &["foo.bar.com", "other:8080"],
        &["foo.bar.baz.*"],
        &["foo.bar.com"],
    ]);
    let table = HostTable::compile(Semantics::Http, &config);
    for (authority, expected) in [
        ("foo.bar.com", 4),
        ("FOO.Bar.com", 4),
        ("other:8080", 4),
        ("other", 0),
        ("a.foo.bar.com", 3),
        ("a.bar.com", 2),
        (".bar.com", 2),
        (".com", 0),
        ("foo.bar.baz.net", 5),
        ("foo.bar.net", 1),
        ("Foo.net", 1),
        ("foo.", 0),
        ("", 0),
    ] {
        assert_eq!(
            virtual_host(Semantics::Http, &config, authority),
            Some(expected),
            "{authority}"
        );
        assert_eq!(table.find(authority), Some(expected), "{authority}");
    }
}

#[test]
fn a_wildcard_stands_for_at_least_one_character() {
    let config = hosts(&[&["*.a", "*-b.c", "d.*", "e-*"]]);
    let table = HostTable::compile(Semantics::Http, &config);
    for (authority, expected) in [
        (".a", None),
        ("x.a", Some(0)),
        ("-b.c", None),
        ("x-b.c", Some(0)),
        ("d.", None),
        ("d.x", Some(0)),
        ("e-", None),
        ("e-x", Some(0)),
        ("unknown", None),
    ] {
        assert_eq!(
            virtual_host(Semantics::Http, &config, authority),
            expected,
            "{authority}"
        );
        assert_eq!(table.find(authority), expected, "{authority}");
    }
}

#[test]
fn table_and_function_agree() {
    let mut rng = fastrand::Rng::with_seed(7);
    let text = |rng: &mut fastrand::Rng, letters: &[u8]| -> String {
        let len = rng.usize(0..6);
        (0..len)
            .map(|_| char::from(letters[rng.usize(0..letters.len())]))
            .collect()
    };
    for _ in 0..2_000 {
        let hosts: Vec<Vec<Domain>> = (0..rng.usize(0..6))
            .map(|_| {
                (0..rng.usize(1..5))
                    .map(|_| match rng.u8(0..16) {
                        0 => Domain::Any,
                        1..6 => Domain::Exact(text(&mut rng, b"ab.:8")),
                        6..11 => Domain::Suffix(text(&mut rng, b"ab.:8")),
                        _ => Domain::Prefix(text(&mut rng, b"ab.:8")),
                    })
                    .collect()
            })
            .collect();
        let plain = config(&hosts);
        let mut config = plain.clone();
        config.ignore_port = rng.bool();
        for semantics in [Semantics::Grpc, Semantics::Http] {
            let table = HostTable::compile(semantics, &config);
            for _ in 0..20 {
                let authority = text(&mut rng, b"aAbB.:8");
                let found = table.find(&authority);
                assert_eq!(
                    found,
                    virtual_host(semantics, &config, &authority),
                    "{authority:?} in {hosts:?}"
                );
                // To ignore a port is to ask without one.
                let asked = match (semantics, config.ignore_port, authority.rsplit_once(':')) {
                    (Semantics::Http, true, Some((host, _))) => host,
                    _ => &authority,
                };
                assert_eq!(
                    found,
                    virtual_host(semantics, &plain, asked),
                    "{authority:?}"
                );
            }
        }
    }
}

#[test]
fn a_port_does_not_count_if_the_configuration_says_so() {
    let mut config = hosts(&[
        &["a.shop"],
        &["a.shop:80"],
        &["*.shop"],
        &["b.*"],
        &["[::1]", "d"],
        &["*"],
    ]);
    config.ignore_port = true;
    let table = HostTable::compile(Semantics::Http, &config);
    for (authority, expected) in [
        ("a.shop", 0),
        ("a.shop:80", 0),
        ("A.shop:8080", 0),
        ("x.shop:1", 2),
        ("b.x:1", 3),
        // What follows the last colon need not be a port (Envoy).
        ("a.shop:", 0),
        ("a.shop:http", 0),
        ("a.shop:80:80", 1),
        ("d:1", 4),
        ("[::1]", 4),
        ("[::1]:80", 4),
        ("[::2]:80", 5),
        (":80", 5),
        ("", 5),
    ] {
        let http = virtual_host(Semantics::Http, &config, authority);
        assert_eq!(http, Some(expected), "{authority}");
        assert_eq!(table.find(authority), Some(expected), "{authority}");
    }
    // gRPC does not read it (gRFC A28).
    let grpc = HostTable::compile(Semantics::Grpc, &config);
    for (authority, expected) in [("a.shop:80", 1), ("a.shop:8080", 5), ("a.shop", 0)] {
        let found = virtual_host(Semantics::Grpc, &config, authority);
        assert_eq!(found, Some(expected), "{authority}");
        assert_eq!(grpc.find(authority), Some(expected), "{authority}");
    }
}
