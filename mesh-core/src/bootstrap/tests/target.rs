use crate::bootstrap::{AuthorityConfig, Bootstrap, BootstrapBuilder, ServerConfig};

fn builder() -> BootstrapBuilder {
    Bootstrap::builder()
        .server(ServerConfig::insecure("top:1"))
        .authority("plain", AuthorityConfig::builder())
        .authority(
            "own",
            AuthorityConfig::builder()
                .client_listener_template("xdstp://own/envoy.config.listener.v3.Listener/c/%s?p=1")
                .server(ServerConfig::insecure("own:1")),
        )
}

/// Resource and data-plane authority of `target`.
fn names(bootstrap: &Bootstrap, target: &str) -> (String, String) {
    let name = bootstrap.listener_name(target).unwrap();
    (name.resource.to_string(), name.authority.to_string())
}

#[test]
fn targets_without_authority_go_through_the_default_template() {
    let bootstrap = builder().build().unwrap();
    for (target, expected) in [
        ("greeter.shop:8080", "greeter.shop:8080"),
        ("xds:greeter.shop:8080", "greeter.shop:8080"),
        ("xds:/greeter.shop:8080", "greeter.shop:8080"),
        ("xds:///greeter.shop:8080", "greeter.shop:8080"),
        ("xds:///xds.istio.io/grpc", "xds.istio.io/grpc"),
    ] {
        let (resource, _) = names(&bootstrap, target);
        assert_eq!(resource, expected, "{target}");
    }
    let templated = builder()
        .client_listener_template("a/%s/b/%s")
        .build()
        .unwrap();
    assert_eq!(
        names(&templated, "xds:///x:1"),
        ("a/x:1/b/x:1".to_owned(), "x:1".to_owned())
    );
    let fixed = builder().client_listener_template("one").build().unwrap();
    assert_eq!(names(&fixed, "%s"), ("one".to_owned(), "%25s".to_owned()));
}

#[test]
fn names_are_encoded_only_in_xdstp_templates() {
    let plain = builder().build().unwrap();
    let (resource, authority) = names(&plain, "a b/[::]:80");
    assert_eq!(resource, "a b/[::]:80");
    assert_eq!(authority, "a%20b%2F[::]:80");

    let template = "xdstp://plain/envoy.config.listener.v3.Listener/%s";
    let xdstp = builder()
        .client_listener_template(template)
        .build()
        .unwrap();
    let prefix = "xdstp://plain/envoy.config.listener.v3.Listener/";
    for (target, expected) in [
        ("a/b:80", "a/b:80"),
        ("a b/[::]:80", "a%20b/%5B::%5D:80"),
        ("a?b#c%d", "a%3Fb%23c%25d"),
        ("h\u{f6}st", "h%C3%B6st"),
        ("xds:///a%20b%3F", "a%20b%3F"),
        ("a-._~!$&'()*+,;=:@/", "a-._~!$&'()*+,;=:@/"),
        ("%s", "%25s"),
    ] {
        assert_eq!(names(&xdstp, target).0, format!("{prefix}{expected}"));
    }
}

#[test]
fn authorities_choose_template_and_servers() {
    let bootstrap = builder().build().unwrap();
    let (resource, authority) = names(&bootstrap, "xds://own/greeter:80");
    assert_eq!(
        resource,
        "xdstp://own/envoy.config.listener.v3.Listener/c/greeter:80?p=1"
    );
    assert_eq!(authority, "greeter:80");
    assert_eq!(bootstrap.servers_for(&resource).unwrap()[0].uri, "own:1");

    let (resource, authority) = names(&bootstrap, "xds://plain/a/greeter");
    assert_eq!(
        resource,
        "xdstp://plain/envoy.config.listener.v3.Listener/a/greeter"
    );
    assert_eq!(authority, "a%2Fgreeter");
    assert_eq!(bootstrap.servers_for(&resource).unwrap()[0].uri, "top:1");
    assert_eq!(bootstrap.servers_for("greeter").unwrap()[0].uri, "top:1");
    assert!(bootstrap.servers_for("xdstp://else/a/b").is_none());
    assert!(bootstrap.servers_for("xdstp:a").is_none());
}

#[test]
fn bad_targets_say_what_to_write() {
    let elsewhere = "xdstp://else/envoy.config.listener.v3.Listener/%s";
    let plain = builder().build().unwrap();
    let unknown_default = builder()
        .client_listener_template(elsewhere)
        .build()
        .unwrap();
    for (bootstrap, target, words) in [
        (&plain, "", "write `xds:///name`"),
        (&plain, "xds:", "names nothing"),
        (&plain, "xds:///", "names nothing"),
        (&plain, "xds://greeter:80", "`xds:///greeter:80`"),
        (&plain, "xds://own/", "`xds://own/name`"),
        (
            &plain,
            "xds://else/greeter",
            r#"authority "else" is not in the bootstrap's"#,
        ),
        (&plain, "xds://else/greeter", r#"["own", "plain"]"#),
        (&plain, "xds:///a?b", "query"),
        (&plain, "xds:///a#b", "fragment"),
        (&plain, "xds:///a%2", "`%25`"),
        (&plain, "xds:///a%zz", "`%25`"),
        (&plain, "xds:///a%+1", "`%25`"),
        (&plain, "xds:///%ff", "UTF-8"),
        (&plain, "dns:///greeter:80", r#"scheme "dns""#),
        (&plain, "http://greeter:80", r#"scheme "http""#),
        (&plain, "xdstp://own/l/greeter", r#"scheme "xdstp""#),
        (
            &unknown_default,
            "greeter",
            r#"authority "else" is not in the bootstrap's"#,
        ),
    ] {
        let text = bootstrap
            .listener_name(target)
            .expect_err(target)
            .to_string();
        assert!(text.contains(words), "{words:?} is not in {text:?}");
        assert!(text.starts_with(&format!("target {target:?}: ")), "{text}");
    }
}

#[test]
fn servers_go_through_their_template() {
    let name = |template: Option<&str>, address: &str| {
        let builder = match template {
            Some(template) => builder().server_listener_template(template),
            None => builder(),
        };
        let bootstrap = builder.build().unwrap();
        let name = bootstrap.server_listener_name(address.parse().unwrap());
        name.map(|name| name.to_string())
    };
    let istio = Some("xds.istio.io/grpc/lds/inbound/%s");
    let query = Some("grpc/server?xds.resource.listening_address=%s");
    let xdstp = Some("xdstp://own/envoy.config.listener.v3.Listener/server/%s");
    for (template, address, expected) in [
        (
            istio,
            "10.0.0.1:80",
            "xds.istio.io/grpc/lds/inbound/10.0.0.1:80",
        ),
        (
            query,
            "[::]:80",
            "grpc/server?xds.resource.listening_address=[::]:80",
        ),
        (
            xdstp,
            "[::1]:80",
            "xdstp://own/envoy.config.listener.v3.Listener/server/%5B::1%5D:80",
        ),
        (Some("fixed"), "0.0.0.0:80", "fixed"),
    ] {
        assert_eq!(name(template, address).as_deref(), Some(expected));
    }
    assert_eq!(name(None, "0.0.0.0:80"), None);
}
