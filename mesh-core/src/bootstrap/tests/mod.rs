mod address;
mod builder;
mod parse;
mod property;
mod provider;
mod rejected;
mod source;
mod target;

use serde_json::{Value, json};

use super::{Bootstrap, BootstrapError};

/// What Istio's agent writes for a workload without a sidecar.
const ISTIO: &str = include_str!("istio.json");

fn parse(json: &Value) -> Result<Bootstrap, BootstrapError> {
    Bootstrap::from_json(&json.to_string())
}

/// A bootstrap that uses every field.
fn full() -> Value {
    json!({
        "xds_servers": [
            {
                "server_uri": "unix:///etc/istio/proxy/XDS",
                "channel_creds": [{"type": "insecure"}],
                "call_creds": [
                    {"type": "of_the_future", "config": 7},
                    {"type": "jwt_token_file", "config": {"jwt_token_file": "/t/one"}},
                    {"type": "jwt_token_file", "config": {"jwt_token_file": "/t/two"}}
                ],
                "server_features": ["xds_v3", "of_the_future", 7, null, {"a": []}, "delta"]
            },
            {
                "server_uri": "backup.xds:443",
                "channel_creds": [
                    {"type": "google_default"},
                    {"type": "tls", "config": {
                        "ca_certificate_file": "/c/ca.pem",
                        "certificate_file": "/c/cert.pem",
                        "private_key_file": "/c/key.pem",
                        "refresh_interval": "600s"
                    }},
                    {"type": "insecure"}
                ],
                "server_features": [
                    "trusted_xds_server", "fail_on_data_errors", "ignore_resource_deletion",
                    "resource_timer_is_transient_error"
                ]
            }
        ],
        "node": {
            "id": "me",
            "cluster": "c",
            "locality": {"region": "r", "zone": "z", "sub_zone": "s"},
            "metadata": {"a": [1, 2.5, "x", null, true, {"b": {}}]}
        },
        "certificate_providers": {
            "default": {"plugin_name": "file_watcher", "config": {
                "certificate_file": "/d/cert.pem",
                "private_key_file": "/d/key.pem",
                "ca_certificate_file": "/d/ca.pem",
                "spiffe_trust_bundle_map_file": "/d/bundles.json",
                "refresh_interval": "900.5s"
            }},
            "roots": {"plugin_name": "file_watcher", "config": {"ca_certificate_file": "/d/ca.pem"}},
            "cloud": {"plugin_name": "google_cloud_private_spiffe", "config": [1]}
        },
        "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
        "client_default_listener_resource_name_template": "%s",
        "authorities": {
            "xds.other.com": {
                "xds_servers": [{"server_uri": "x:443", "channel_creds": [{"type": "tls"}]}],
                "client_listener_resource_name_template":
                    "xdstp://xds.other.com/envoy.config.listener.v3.Listener/client/%s?p=1",
                "fallback_on_reachability_only": true
            },
            "": {}
        },
        "allowed_grpc_services": {"dns:///side:1": {"channel_creds": []}},
        "of_the_future": {"a": 1}
    })
}
