use serde_json::{Value, json};

use super::{full, parse};

/// Replaces the value at `pointer` (RFC 6901) of the full bootstrap.
fn with(pointer: &str, value: Value) -> Value {
    let mut json = full();
    match json.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            json.pointer_mut(parent).unwrap()[name] = value;
        }
    }
    json
}

/// Each bad value, with the path and the words that its error must have.
#[test]
fn bad_values_are_named_with_their_path() {
    let creds = "/xds_servers/1/channel_creds";
    let tls = "/xds_servers/1/channel_creds/1/config";
    let watcher = "/certificate_providers/default/config";
    let other = "/authorities/xds.other.com";
    let cases: &[(&str, Value, &str, &[&str])] = &[
        (
            "/xds_servers",
            json!(null),
            "xds_servers",
            &["missing", "at least one"],
        ),
        ("/xds_servers", json!([]), "xds_servers", &["at least one"]),
        (
            "/xds_servers",
            json!({"a": 1}),
            "xds_servers",
            &[r#"{"a":1}"#, "list"],
        ),
        (
            "/xds_servers/1",
            json!("x:1"),
            "xds_servers[1]",
            &[r#""x:1""#, "object"],
        ),
        (
            "/xds_servers/1/server_uri",
            json!(null),
            "xds_servers[1].server_uri",
            &["missing", "host:port"],
        ),
        (
            "/xds_servers/1/server_uri",
            json!(443),
            "xds_servers[1].server_uri",
            &["443", "string"],
        ),
        (
            "/xds_servers/1/server_uri",
            json!("https://xds:443/"),
            "xds_servers[1].server_uri",
            &[r#""https://xds:443/""#, "`xds:443`"],
        ),
        (
            creds,
            json!(null),
            "xds_servers[1].channel_creds",
            &["missing", "insecure"],
        ),
        (
            creds,
            json!([]),
            "xds_servers[1].channel_creds",
            &["empty", "tls"],
        ),
        (
            creds,
            json!([{"type": "google_default"}, {"type": "alts"}]),
            "xds_servers[1].channel_creds",
            &[
                "google_default",
                "alts",
                "`google_default` is not supported",
                "add `tls`",
            ],
        ),
        (
            creds,
            json!([{"config": {}}]),
            "xds_servers[1].channel_creds[0].type",
            &["missing"],
        ),
        (
            creds,
            json!([{"type": 5}]),
            "xds_servers[1].channel_creds[0].type",
            &["5"],
        ),
        (
            creds,
            json!([{"type": "insecure"}, {"type": "tls", "config": {"certificate_file": "/c"}}]),
            "xds_servers[1].channel_creds[1].config",
            &["/c", "private_key_file"],
        ),
        (
            tls,
            json!("/c/ca.pem"),
            "xds_servers[1].channel_creds[1].config",
            &["/c/ca.pem"],
        ),
        (
            tls,
            json!({"private_key_file": "/k"}),
            "xds_servers[1].channel_creds[1].config",
            &["/k", "certificate_file"],
        ),
        (
            tls,
            json!({"ca_certificate_file": ""}),
            "xds_servers[1].channel_creds[1].config.ca_certificate_file",
            &[r#""""#, "remove"],
        ),
        (
            tls,
            json!({"refresh_interval": "10m"}),
            "xds_servers[1].channel_creds[1].config.refresh_interval",
            &[r#""10m""#, r#""600s""#],
        ),
        (
            tls,
            json!({"spiffe_trust_bundle_map_file": "/b"}),
            "xds_servers[1].channel_creds[1].config.spiffe_trust_bundle_map_file",
            &[r#""/b""#, "ca_certificate_file"],
        ),
        (
            "/xds_servers/0/call_creds",
            json!("x"),
            "xds_servers[0].call_creds",
            &["list"],
        ),
        (
            "/xds_servers/0/call_creds/1/config",
            json!(null),
            "xds_servers[0].call_creds[1].config",
            &["missing", "jwt_token_file"],
        ),
        (
            "/xds_servers/0/call_creds/1/config",
            json!({}),
            "xds_servers[0].call_creds[1].config.jwt_token_file",
            &["missing"],
        ),
        (
            "/xds_servers/0/call_creds/1/config/jwt_token_file",
            json!(true),
            "xds_servers[0].call_creds[1].config.jwt_token_file",
            &["true"],
        ),
        (
            "/xds_servers/0/server_uri",
            json!("xds:1000"),
            "xds_servers[0].server_uri",
            &["xds:1000", "itself"],
        ),
        (
            "/xds_servers/0/server_uri",
            json!("10.0.0.1:15010"),
            "xds_servers[0].call_creds",
            &["clear text", "tls"],
        ),
        (
            "/xds_servers/0/server_features",
            json!("delta"),
            "xds_servers[0].server_features",
            &[r#""delta""#, "list"],
        ),
        ("/node", json!([]), "node", &["[]", "object"]),
        ("/node/id", json!(7), "node.id", &["7", "string"]),
        (
            "/node/locality/zone",
            json!(7),
            "node.locality.zone",
            &["7"],
        ),
        (
            "/node/metadata",
            json!("m"),
            "node.metadata",
            &[r#""m""#, "object"],
        ),
        (
            "/certificate_providers",
            json!([]),
            "certificate_providers",
            &["[]"],
        ),
        (
            "/certificate_providers/cloud/plugin_name",
            json!(null),
            "certificate_providers.cloud.plugin_name",
            &["missing", "file_watcher"],
        ),
        (
            watcher,
            json!(null),
            "certificate_providers.default.config",
            &["names no file"],
        ),
        (
            watcher,
            json!({"refresh_interval": "5s"}),
            "certificate_providers.default.config",
            &["names no file"],
        ),
        (
            watcher,
            json!({"certificate_file": "/c"}),
            "certificate_providers.default.config",
            &["/c", "private_key_file"],
        ),
        (
            watcher,
            json!({"private_key_file": "/k", "ca_certificate_file": "/c"}),
            "certificate_providers.default.config",
            &["/k", "certificate_file"],
        ),
        (
            "/client_default_listener_resource_name_template",
            json!(""),
            "client_default_listener_resource_name_template",
            &[r#""""#, "%s"],
        ),
        (
            "/client_default_listener_resource_name_template",
            json!("xdstp:a/%s"),
            "client_default_listener_resource_name_template",
            &["xdstp:a/%s", "xdstp://"],
        ),
        (
            "/server_listener_resource_name_template",
            json!("xdstp://a"),
            "server_listener_resource_name_template",
            &["xdstp://a", "<authority>"],
        ),
        (
            other,
            json!(1),
            r#"authorities["xds.other.com"]"#,
            &["1", "object"],
        ),
        (
            "/authorities/xds.other.com/client_listener_resource_name_template",
            json!("xdstp://xds.other.com.evil/%s"),
            r#"authorities["xds.other.com"].client_listener_resource_name_template"#,
            &["xds.other.com.evil", "xdstp://xds.other.com/"],
        ),
        (
            "/authorities/xds.other.com/xds_servers/0/server_uri",
            json!("x:y"),
            r#"authorities["xds.other.com"].xds_servers[0].server_uri"#,
            &[r#""x:y""#, "65535"],
        ),
        (
            "/authorities/xds.other.com/xds_servers/0/channel_creds/0/type",
            json!("google_default"),
            r#"authorities["xds.other.com"].xds_servers[0].channel_creds"#,
            &["google_default"],
        ),
        (
            "/authorities/xds.other.com/fallback_on_reachability_only",
            json!("yes"),
            r#"authorities["xds.other.com"].fallback_on_reachability_only"#,
            &[r#""yes""#, "true"],
        ),
    ];
    for (pointer, value, field, words) in cases {
        let error = match parse(&with(pointer, value.clone())) {
            Err(error) => error,
            Ok(_) => panic!("{pointer} = {value} was accepted"),
        };
        let text = error.to_string();
        assert_eq!(error.field(), Some(*field), "{pointer} = {value}: {text}");
        for word in [field].into_iter().chain(*words) {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
        assert!(text.starts_with("bootstrap text: "), "{text}");
        assert!(!error.is_not_configured());
    }
}

#[test]
fn durations_that_are_not_positive_seconds_are_refused() {
    let cases = [
        "",
        "s",
        "600",
        "-1s",
        "+1s",
        "0s",
        "0.0s",
        "1.s",
        ".5s",
        "1.1234567890s",
        "1 s",
        "1e3s",
        "315576000001s",
        "99999999999999999999999s",
        "\u{661}s",
    ];
    for text in cases {
        for config in [
            "/certificate_providers/default/config",
            "/xds_servers/1/channel_creds/1/config",
        ] {
            let error = parse(&with(&format!("{config}/refresh_interval"), text.into()));
            let error = error.expect_err(text);
            assert!(error.field().unwrap().ends_with(".config.refresh_interval"));
            assert!(
                error.to_string().contains(&format!("{text:?}")) || !text.is_ascii(),
                "{error}"
            );
        }
    }
}

#[test]
fn a_long_value_is_cut() {
    let error = parse(&with("/node", Value::String("\u{e9}".repeat(10_000)))).unwrap_err();
    assert!(error.to_string().contains("..."));
    assert!(error.to_string().chars().count() < 300);
}
