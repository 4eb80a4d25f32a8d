//! Parts of Envoy's configuration, as JSON.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::Files;

/// The protocol that a cluster's endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

/// An address.
pub fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": {
        "address": address.ip().to_string(),
        "port_value": address.port(),
    } })
}

/// A listener on a port of the system's choice, for HTTP/1.1 and HTTP/2, with this route
/// configuration. With TLS it asks for a certificate.
pub fn listener(name: &str, tls: Option<&Files>, routes: Value) -> Value {
    let manager = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "route_config": routes,
        "http_protocol_options": { "enable_trailers": true },
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router") },
        }],
    });
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }] });
    if let Some(files) = tls {
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "require_client_certificate": true,
                "common_tls_context": tls_context(files, &["h2", "http/1.1"]),
            },
        });
    }
    json!({
        "name": name,
        "address": socket(([127, 0, 0, 1], 0).into()),
        "filter_chains": [chain],
    })
}

/// A cluster of one endpoint.
pub fn cluster(name: &str, endpoint: SocketAddr, protocol: Protocol, tls: Option<&Files>) -> Value {
    let (explicit, alpn) = match protocol {
        Protocol::Http1 => (
            json!({ "http_protocol_options": { "enable_trailers": true } }),
            "http/1.1",
        ),
        Protocol::Http2 => (json!({ "http2_protocol_options": {} }), "h2"),
    };
    let options = format!("{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions");
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(endpoint) } }] }],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": explicit,
            },
        },
    });
    if let Some(files) = tls {
        cluster["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext"),
                "common_tls_context": tls_context(files, &[alpn]),
            },
        });
    }
    cluster
}

/// All requests go to this cluster, for as long as they take.
pub fn all_to(cluster: &str) -> Value {
    json!({ "virtual_hosts": [{
        "name": "all",
        "domains": ["*"],
        "routes": [{
            "match": { "prefix": "/" },
            "route": { "cluster": cluster, "timeout": "0s" },
        }],
    }] })
}

fn tls_context(files: &Files, alpn: &[&str]) -> Value {
    json!({
        "alpn_protocols": alpn,
        "tls_certificates": [{
            "certificate_chain": { "filename": files.path("cert.pem") },
            "private_key": { "filename": files.path("key.pem") },
        }],
        "validation_context": { "trusted_ca": { "filename": files.path("roots.pem") } },
    })
}
