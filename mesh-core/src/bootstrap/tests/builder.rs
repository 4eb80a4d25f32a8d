use std::time::Duration;

use serde_json::json;

use super::parse;
use crate::{
    bootstrap::{
        AuthorityConfig, Bootstrap, CallCreds, FileWatcherConfig, Origin, ServerConfig,
        ServerFeatures,
    },
    config::LocalityId,
};

#[test]
fn code_builds_what_json_says() {
    let features = ServerFeatures {
        delta: true,
        ..ServerFeatures::default()
    };
    let built = Bootstrap::builder()
        .server(
            ServerConfig::tls("a:1")
                .ca_certificate_file("/ca")
                .identity_files("/cert", "/key")
                .call_creds(CallCreds::JwtTokenFile("/token".into()))
                .features(features),
        )
        .server(ServerConfig::insecure("unix:/b"))
        .node_id("id")
        .node_cluster("cluster")
        .locality(LocalityId {
            zone: "z".to_owned(),
            ..LocalityId::default()
        })
        .metadata("GENERATOR", "grpc")
        .certificate_provider(
            "default",
            FileWatcherConfig::new()
                .ca_certificate_file("/roots")
                .refresh_interval(Duration::from_secs(5)),
        )
        .client_listener_template("l/%s")
        .server_listener_template("s/%s")
        .authority(
            "auth",
            AuthorityConfig::builder()
                .server(ServerConfig::tls("c:3"))
                .fallback_on_reachability_only(true),
        )
        .build()
        .unwrap();

    let json = json!({
        "xds_servers": [
            {
                "server_uri": "a:1",
                "channel_creds": [{"type": "tls", "config": {
                    "ca_certificate_file": "/ca", "certificate_file": "/cert",
                    "private_key_file": "/key"
                }}],
                "call_creds": [{"type": "jwt_token_file", "config": {"jwt_token_file": "/token"}}],
                "server_features": ["delta"]
            },
            {"server_uri": "unix:/b", "channel_creds": [{"type": "insecure"}]}
        ],
        "node": {
            "id": "id", "cluster": "cluster", "locality": {"zone": "z"},
            "metadata": {"GENERATOR": "grpc"}
        },
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": {
            "ca_certificate_file": "/roots", "refresh_interval": "5s"
        }}},
        "client_default_listener_resource_name_template": "l/%s",
        "server_listener_resource_name_template": "s/%s",
        "authorities": {"auth": {
            "xds_servers": [{"server_uri": "c:3", "channel_creds": [{"type": "tls"}]}],
            "fallback_on_reachability_only": true
        }}
    });
    assert_eq!(built, parse(&json).unwrap());
}

#[test]
fn a_finished_server_is_taken_as_it_is() {
    let server = ServerConfig::tls("a:1")
        .identity_files("/cert", "/key")
        .call_creds(CallCreds::JwtTokenFile("/token".into()))
        .build()
        .unwrap();
    let bootstrap = Bootstrap::builder().server(server.clone()).build().unwrap();
    assert_eq!(bootstrap.servers, [server]);
}

#[test]
fn code_is_held_to_the_rules_of_the_json() {
    let good = || Bootstrap::builder().server(ServerConfig::insecure("a:1"));
    let tls = ServerConfig::tls("b:1");
    let cases = [
        (Bootstrap::builder(), "xds_servers"),
        (
            good().server(ServerConfig::tls("b:x")),
            "xds_servers[1].server_uri",
        ),
        (
            good().server(ServerConfig::insecure("b:1").ca_certificate_file("/ca")),
            "xds_servers[1].channel_creds",
        ),
        (
            good().server(ServerConfig::insecure("b:1").identity_files("/cert", "/key")),
            "xds_servers[1].channel_creds",
        ),
        (
            good().server(tls.clone().identity_files("/cert", "")),
            "xds_servers[1].channel_creds",
        ),
        (
            good().server(tls.call_creds(CallCreds::JwtTokenFile("".into()))),
            "xds_servers[1].call_creds[0]",
        ),
        (
            good().certificate_provider("a.b", FileWatcherConfig::new()),
            r#"certificate_providers["a.b"].config"#,
        ),
        (
            good().certificate_provider("a", FileWatcherConfig::new().ca_certificate_file("")),
            "certificate_providers.a.config",
        ),
        (
            good().certificate_provider(
                "a",
                FileWatcherConfig::new()
                    .ca_certificate_file("/ca")
                    .refresh_interval(Duration::ZERO),
            ),
            "certificate_providers.a.config.refresh_interval",
        ),
        (
            good().client_listener_template("xdstp:x"),
            "client_default_listener_resource_name_template",
        ),
        (
            good().server_listener_template(""),
            "server_listener_resource_name_template",
        ),
        (
            good().authority(
                "a",
                AuthorityConfig::builder().client_listener_template("%s"),
            ),
            "authorities.a.client_listener_resource_name_template",
        ),
        (
            good().authority(
                "a",
                AuthorityConfig::builder().server(ServerConfig::tls("")),
            ),
            "authorities.a.xds_servers[0].server_uri",
        ),
    ];
    for (builder, field) in cases {
        let error = builder.build().expect_err(field);
        assert_eq!(error.field(), Some(field), "{error}");
        assert_eq!(error.origin(), &Origin::Builder);
    }
}

#[test]
fn a_token_does_not_go_over_a_network_in_clear_text() {
    let token = || CallCreds::JwtTokenFile("/token".into());
    for uri in ["a:1", "127.0.0.1:1"] {
        let error = ServerConfig::insecure(uri).call_creds(token()).build();
        assert_eq!(error.unwrap_err().field(), Some("call_creds"));
        assert!(ServerConfig::tls(uri).call_creds(token()).build().is_ok());
    }
    assert!(
        ServerConfig::insecure("unix:/a")
            .call_creds(token())
            .build()
            .is_ok()
    );
}
