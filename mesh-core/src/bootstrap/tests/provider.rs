//! The certificate providers that are not of gRFC A29.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Bootstrap, parse};
use crate::bootstrap::{
    CallCreds, CertificatePlugin, IstioCaConfig, ServerConfig, SpiffeWorkloadApiConfig,
};

fn bootstrap(provider: &Value) -> Value {
    json!({
        "xds_servers": [{"server_uri": "plane:1", "channel_creds": [{"type": "insecure"}]}],
        "certificate_providers": {"default": provider}
    })
}

fn plugin(bootstrap: &Bootstrap) -> &CertificatePlugin {
    &bootstrap.certificate_providers["default"].config
}

#[test]
fn istio_ca() {
    let json = bootstrap(&json!({"plugin_name": "istio_ca", "config": {
        "ca_server": {
            "server_uri": "istiod.istio-system.svc:15012",
            "channel_creds": [{"type": "tls", "config": {"ca_certificate_file": "/r"}}],
            "call_creds": [{"type": "jwt_token_file", "config": {"jwt_token_file": "/t"}}]
        },
        "cluster_id": "Kubernetes",
        "validity": "5s",
        "spiffe_id": "spiffe://cluster.local/ns/shop/sa/greeter",
        "ca_certificate_file": "/roots.pem"
    }}));
    let parsed = parse(&json).unwrap();
    assert_eq!(parsed.provider_instances().collect::<Vec<_>>(), ["default"]);
    let istiod = ServerConfig::tls("istiod.istio-system.svc:15012")
        .ca_certificate_file("/r")
        .call_creds(CallCreds::JwtTokenFile("/t".into()))
        .build()
        .unwrap();
    let built = IstioCaConfig::new(istiod)
        .cluster_id("Kubernetes")
        .validity(Duration::from_secs(5))
        .spiffe_id("spiffe://cluster.local/ns/shop/sa/greeter")
        .ca_certificate_file("/roots.pem");
    assert_eq!(*plugin(&parsed), CertificatePlugin::IstioCa(built.clone()));

    let in_code = Bootstrap::builder()
        .server(ServerConfig::insecure("plane:1"))
        .certificate_provider("default", built)
        .build()
        .unwrap();
    assert_eq!(in_code, parsed);

    let least = json!({"plugin_name": "istio_ca", "config": {"ca_server": {
        "server_uri": "ca:1", "channel_creds": [{"type": "insecure"}]
    }}});
    let CertificatePlugin::IstioCa(least) = plugin(&parse(&bootstrap(&least)).unwrap()).clone()
    else {
        panic!("another plugin");
    };
    assert_eq!(least.validity, Duration::from_secs(86_400));
    assert_eq!(
        (least.cluster_id, least.spiffe_id, least.ca_certificate_file),
        (None, None, None)
    );
}

#[test]
fn bad_values_of_istio_ca_are_named_with_their_path() {
    let good = json!({
        "ca_server": {"server_uri": "ca:1", "channel_creds": [{"type": "insecure"}]}
    });
    let token = json!([{"type": "jwt_token_file", "config": {"jwt_token_file": "/t"}}]);
    for (pointer, value, field, words) in [
        ("", json!(null), "", "which certificate authority"),
        ("", json!({}), ".ca_server", "missing"),
        ("/ca_server", json!("ca:1"), ".ca_server", r#""ca:1""#),
        (
            "/ca_server/server_uri",
            json!("http://ca"),
            ".ca_server.server_uri",
            "http",
        ),
        (
            "/ca_server/channel_creds",
            json!([]),
            ".ca_server.channel_creds",
            "empty",
        ),
        (
            "/ca_server/call_creds",
            token,
            ".ca_server.call_creds",
            "clear text",
        ),
        ("/cluster_id", json!("a\nb"), ".cluster_id", r#""a\nb""#),
        ("/cluster_id", json!(""), ".cluster_id", "visible ASCII"),
        ("/validity", json!("0s"), ".validity", "positive"),
        ("/validity", json!("0.5s"), ".validity", "500ms"),
        ("/validity", json!("1.5s"), ".validity", "whole seconds"),
        ("/spiffe_id", json!("greeter"), ".spiffe_id", r#""greeter""#),
        (
            "/spiffe_id",
            json!("spiffe://"),
            ".spiffe_id",
            "trust-domain",
        ),
        (
            "/spiffe_id",
            json!("spiffe://A/b"),
            ".spiffe_id",
            "trust-domain",
        ),
        (
            "/spiffe_id",
            json!("spiffe://a//b"),
            ".spiffe_id",
            "trust-domain",
        ),
        (
            "/spiffe_id",
            json!("spiffe://a/../b"),
            ".spiffe_id",
            "trust-domain",
        ),
        (
            "/ca_certificate_file",
            json!(""),
            ".ca_certificate_file",
            "path",
        ),
    ] {
        let mut config = good.clone();
        if pointer.is_empty() {
            config = value;
        } else if let Some(place) = config.pointer_mut(pointer) {
            *place = value;
        } else {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[name] = value;
        }
        let json = bootstrap(&json!({"plugin_name": "istio_ca", "config": config}));
        let error = parse(&json).unwrap_err();
        let path = format!("certificate_providers.default.config{field}");
        assert_eq!(error.field(), Some(path.as_str()), "{error}");
        assert!(error.to_string().contains(words), "{words:?} in {error}");
    }
}

#[cfg(feature = "spiffe")]
#[test]
fn workload_api() {
    let with = |config: Value, variable: Option<&str>| {
        let provider = json!({"plugin_name": "spiffe_workload_api", "config": config});
        let json = bootstrap(&provider).to_string();
        Bootstrap::from_lookup(|name| match name {
            "GRPC_XDS_BOOTSTRAP_CONFIG" => Some(json.clone()),
            "SPIFFE_ENDPOINT_SOCKET" => variable.map(str::to_owned),
            _ => None,
        })
    };
    for (config, variable, socket) in [
        (
            json!({"socket": "unix:///a"}),
            Some("unix:///b"),
            "unix:///a",
        ),
        (json!({}), Some("unix:///b"), "unix:///b"),
        (json!(null), Some("tcp://127.0.0.1:1"), "tcp://127.0.0.1:1"),
    ] {
        let parsed = with(config, variable).unwrap();
        let expected = SpiffeWorkloadApiConfig::new(socket);
        assert_eq!(*plugin(&parsed), expected.into());
    }
    for (config, variable, words) in [
        (json!({}), None, "SPIFFE_ENDPOINT_SOCKET"),
        (json!({}), Some(""), "SPIFFE_ENDPOINT_SOCKET"),
        (json!({}), Some("/run/api.sock"), r#""/run/api.sock""#),
        (json!({"socket": "unix:"}), None, "unix:///path/to/socket"),
        (
            json!({"socket": "unix:relative"}),
            None,
            "unix:///path/to/socket",
        ),
        (json!({"socket": "tcp://agent:1"}), None, "tcp://ip:port"),
        (json!({"socket": 7}), None, "string"),
    ] {
        let error = with(config, variable).unwrap_err();
        let path = "certificate_providers.default.config.socket";
        assert_eq!(error.field(), Some(path), "{error}");
        assert!(error.to_string().contains(words), "{words:?} in {error}");
    }
}

#[cfg(not(feature = "spiffe"))]
#[test]
fn workload_api_needs_its_feature() {
    let config = json!({"socket": "unix:///a"});
    let json = bootstrap(&json!({"plugin_name": "spiffe_workload_api", "config": config}));
    let in_code = Bootstrap::builder()
        .server(ServerConfig::insecure("plane:1"))
        .certificate_provider("default", SpiffeWorkloadApiConfig::new("unix:///a"));
    for error in [parse(&json).unwrap_err(), in_code.build().unwrap_err()] {
        let path = "certificate_providers.default.plugin_name";
        assert_eq!(error.field(), Some(path));
        assert!(
            error.to_string().contains("the feature `spiffe`"),
            "{error}"
        );
    }
}
