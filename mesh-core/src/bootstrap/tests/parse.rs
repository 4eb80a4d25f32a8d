use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::{ISTIO, full, parse};
use crate::{
    bootstrap::{
        Bootstrap, CallCreds, CertificatePlugin, ChannelCreds, FileWatcherConfig, Node,
        ServerAddress, ServerFeatures,
    },
    config::LocalityId,
};

#[test]
fn every_field_is_read() {
    let bootstrap = parse(&full()).unwrap();

    let [first, second] = bootstrap.servers.as_slice() else {
        panic!("{:?}", bootstrap.servers);
    };
    assert_eq!(first.uri, "unix:///etc/istio/proxy/XDS");
    let socket = PathBuf::from("/etc/istio/proxy/XDS");
    assert_eq!(first.address(), &ServerAddress::Unix(socket));
    assert_eq!(first.channel_creds, ChannelCreds::Insecure);
    let tokens = ["/t/one", "/t/two"].map(|file| CallCreds::JwtTokenFile(file.into()));
    assert_eq!(first.call_creds, tokens);
    let delta = ServerFeatures {
        delta: true,
        ..ServerFeatures::default()
    };
    assert_eq!(first.features, delta);
    assert_eq!(
        second.channel_creds,
        ChannelCreds::Tls {
            ca_certificate_file: Some("/c/ca.pem".into()),
            identity_files: Some(("/c/cert.pem".into(), "/c/key.pem".into())),
        }
    );
    assert!(second.call_creds.is_empty());
    let all_but_delta = ServerFeatures {
        ignore_resource_deletion: true,
        fail_on_data_errors: true,
        resource_timer_is_transient_error: true,
        trusted_xds_server: true,
        delta: false,
    };
    assert_eq!(second.features, all_but_delta);

    let metadata = full()["node"]["metadata"].clone();
    assert_eq!(bootstrap.node.id, "me");
    assert_eq!(bootstrap.node.cluster, "c");
    let locality = LocalityId {
        region: "r".to_owned(),
        zone: "z".to_owned(),
        sub_zone: "s".to_owned(),
    };
    assert_eq!(bootstrap.node.locality, locality);
    assert_eq!(Value::Object(bootstrap.node.metadata.clone()), metadata);

    let usable: Vec<_> = bootstrap.provider_instances().collect();
    assert_eq!(usable, ["default", "roots"]);
    assert_eq!(
        bootstrap.certificate_providers["default"].config,
        CertificatePlugin::FileWatcher(
            FileWatcherConfig::new()
                .identity_files("/d/cert.pem", "/d/key.pem")
                .ca_certificate_file("/d/ca.pem")
                .spiffe_trust_bundle_map_file("/d/bundles.json")
                .refresh_interval(Duration::from_millis(900_500))
        )
    );
    assert_eq!(
        bootstrap.certificate_providers["roots"].config,
        CertificatePlugin::FileWatcher(FileWatcherConfig::new().ca_certificate_file("/d/ca.pem"))
    );
    let cloud = &bootstrap.certificate_providers["cloud"];
    assert_eq!(cloud.plugin_name, "google_cloud_private_spiffe");
    assert_eq!(cloud.config, CertificatePlugin::Unsupported);

    assert_eq!(
        bootstrap.server_listener_template.as_deref(),
        Some("xds.istio.io/grpc/lds/inbound/%s")
    );
    let other = &bootstrap.authorities["xds.other.com"];
    assert_eq!(other.servers.len(), 1);
    assert_eq!(
        other.client_listener_template,
        "xdstp://xds.other.com/envoy.config.listener.v3.Listener/client/%s?p=1"
    );
    assert!(other.fallback_on_reachability_only);
    let nameless = &bootstrap.authorities[""];
    assert!(nameless.servers.is_empty());
    assert!(!nameless.fallback_on_reachability_only);
    assert_eq!(
        nameless.client_listener_template,
        "xdstp:///envoy.config.listener.v3.Listener/%s"
    );
}

#[test]
fn defaults_hold_for_what_is_absent_or_null() {
    let absent = json!({
        "xds_servers": [{"server_uri": "xds", "channel_creds": [{"type": "tls"}]}]
    });
    let null = json!({
        "xds_servers": [{
            "server_uri": "xds",
            "channel_creds": [{"type": "tls", "config": null}],
            "call_creds": null,
            "server_features": null
        }],
        "node": null,
        "certificate_providers": null,
        "server_listener_resource_name_template": null,
        "client_default_listener_resource_name_template": null,
        "authorities": null
    });
    let bootstrap = parse(&absent).unwrap();
    assert_eq!(bootstrap, parse(&null).unwrap());

    assert_eq!(bootstrap.node, Node::default());
    assert_eq!(bootstrap.client_listener_template, "%s");
    assert_eq!(bootstrap.server_listener_template, None);
    assert!(bootstrap.certificate_providers.is_empty() && bootstrap.authorities.is_empty());
    let system_roots = ChannelCreds::Tls {
        ca_certificate_file: None,
        identity_files: None,
    };
    assert_eq!(bootstrap.servers[0].channel_creds, system_roots);
    assert_eq!(bootstrap.servers[0].features, ServerFeatures::default());
}

#[test]
fn the_first_supported_channel_creds_win() {
    let cases = [
        (json!([{"type": "insecure"}, {"type": "tls"}]), true),
        (json!([{"type": "tls"}, {"type": "insecure"}]), false),
        (
            json!([{"type": "x", "config": 1}, {"type": "insecure", "config": {"a": 1}}]),
            true,
        ),
    ];
    for (creds, insecure) in cases {
        let mut json = full();
        json["xds_servers"][1]["channel_creds"] = creds.clone();
        let chosen = &parse(&json).unwrap().servers[1].channel_creds;
        assert_eq!(
            matches!(chosen, ChannelCreds::Insecure),
            insecure,
            "{creds}"
        );
    }
}

#[test]
fn durations_are_those_of_protobuf() {
    let cases = [
        ("600s", Duration::from_secs(600)),
        ("0.5s", Duration::from_millis(500)),
        ("1.000000001s", Duration::new(1, 1)),
        ("315576000000s", Duration::from_secs(315_576_000_000)),
    ];
    for (text, expected) in cases {
        let mut json = full();
        json["certificate_providers"]["default"]["config"]["refresh_interval"] = text.into();
        let bootstrap = parse(&json).unwrap();
        match &bootstrap.certificate_providers["default"].config {
            CertificatePlugin::FileWatcher(watcher) => {
                assert_eq!(watcher.refresh_interval, expected, "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn istio_s_bootstrap_is_read_as_it_is() {
    let bootstrap = Bootstrap::from_json(ISTIO).unwrap();

    let server = &bootstrap.servers[0];
    assert_eq!(server.address().to_string(), "unix:/etc/istio/proxy/XDS");
    assert_eq!(server.channel_creds, ChannelCreds::Insecure);
    let written: Value = serde_json::from_str(ISTIO).unwrap();
    assert_eq!(bootstrap.node.id, written["node"]["id"]);
    assert_eq!(
        Value::Object(bootstrap.node.metadata.clone()),
        written["node"]["metadata"]
    );
    assert_eq!(bootstrap.node.locality.zone, "eu-west-1b");
    assert_eq!(bootstrap.node.locality.sub_zone, "");
    assert_eq!(
        bootstrap.provider_instances().collect::<Vec<_>>(),
        ["default"]
    );
    let listener = bootstrap
        .listener_name("xds:///echo.shop.svc.cluster.local:7070")
        .unwrap();
    assert_eq!(&*listener.resource, "echo.shop.svc.cluster.local:7070");
    assert_eq!(&*listener.authority, "echo.shop.svc.cluster.local:7070");
}

#[test]
fn istio_s_agent_may_be_away() {
    // Where the agent is not used, or its socket has a relative path.
    let cases = [
        (
            "unix:///./etc/istio/proxy/XDS",
            "unix:/./etc/istio/proxy/XDS",
        ),
        (
            "unix:////etc/istio/proxy/XDS",
            "unix:////etc/istio/proxy/XDS",
        ),
        (
            "istiod.istio-system.svc:15010",
            "istiod.istio-system.svc:15010",
        ),
    ];
    for (uri, address) in cases {
        let mut json: Value = serde_json::from_str(ISTIO).unwrap();
        json["xds_servers"][0]["server_uri"] = uri.into();
        let bootstrap = parse(&json).unwrap();
        assert_eq!(bootstrap.servers[0].address().to_string(), address);
    }
}
