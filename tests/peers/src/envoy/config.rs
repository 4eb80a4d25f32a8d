//! Parts of Envoy's configuration, as JSON.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::{
    Address, SocketAddress, address::Address as Of, socket_address::PortSpecifier,
};
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

/// The variant of the protocol in which a node follows a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// Bytes of one HTTP/2 stream, and of a connection, that may be under way unread: less than by
/// default, so that a reader who is slow is felt soon.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

/// The bootstrap of a node that has its listeners and clusters from the control plane at this
/// address, over one aggregated stream, and reports its loads to it.
pub fn dynamic(control_plane: SocketAddr, node: &str, variant: Variant) -> Value {
    const NAME: &str = "control-plane";
    let ads = || json!({ "resource_api_version": "V3", "ads": {} });
    let calls = |api: &str| {
        json!({
            "api_type": api,
            "transport_api_version": "V3",
            "grpc_services": [{ "envoy_grpc": {
                "cluster_name": NAME,
                // Soon in place of up to 30 s.
                "retry_policy": { "retry_back_off": {
                    "base_interval": "0.1s",
                    "max_interval": "0.5s",
                } },
            } }],
        })
    };
    let mut stream = calls(match variant {
        Variant::Sotw => "GRPC",
        Variant::Delta => "DELTA_GRPC",
    });
    stream["set_node_on_first_message_only"] = true.into();
    json!({
        "node": { "id": node, "cluster": "peers" },
        "dynamic_resources": {
            "ads_config": stream,
            "lds_config": ads(),
            "cds_config": ads(),
        },
        "cluster_manager": { "load_stats_config": calls("GRPC") },
        "static_resources": {
            "clusters": [cluster(NAME, control_plane, Protocol::Http2, None)],
        },
    })
}

/// An address.
pub fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": {
        "address": address.ip().to_string(),
        "port_value": address.port(),
    } })
}

/// The same as a message.
pub fn address(address: SocketAddr) -> Address {
    Address {
        address: Some(Of::SocketAddress(SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..SocketAddress::default()
        })),
    }
}

/// A listener on a port of the system's choice, for HTTP/1.1 and HTTP/2, with this route
/// configuration. With TLS it asks for a certificate.
pub fn listener(name: &str, tls: Option<&Files>, routes: Value) -> Value {
    let manager = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "route_config": routes,
        "http_protocol_options": { "enable_trailers": true },
        "http2_protocol_options": http2(),
        "access_log": [{
            "name": "envoy.access_loggers.stdout",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.access_loggers.stream.v3.StdoutAccessLog"),
                "log_format": { "text_format_source": {
                    "inline_string": "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS%\n",
                } },
            },
        }],
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

/// Options of the listener's connections, such as `max_connection_duration`.
pub fn connections(mut listener: Value, options: Value) -> Value {
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["common_http_protocol_options"] = options;
    listener
}

/// A cluster of one endpoint.
pub fn cluster(name: &str, endpoint: SocketAddr, protocol: Protocol, tls: Option<&Files>) -> Value {
    cluster_of(name, &[endpoint], protocol, tls)
}

/// A cluster of these endpoints.
pub fn cluster_of(
    name: &str,
    endpoints: &[SocketAddr],
    protocol: Protocol,
    tls: Option<&Files>,
) -> Value {
    let endpoints = endpoints.iter();
    let endpoints = endpoints.map(|&at| json!({ "endpoint": { "address": socket(at) } }));
    let endpoints: Vec<Value> = endpoints.collect();
    let (explicit, alpn) = match protocol {
        Protocol::Http1 => (
            json!({ "http_protocol_options": { "enable_trailers": true } }),
            "http/1.1",
        ),
        Protocol::Http2 => (json!({ "http2_protocol_options": http2() }), "h2"),
    };
    let options = format!("{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions");
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        // All that is under way may meet the same break.
        "circuit_breakers": { "thresholds": [{ "max_retries": 100 }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": endpoints }],
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

/// As [`all_to`], and requests that break off before their response begins are made again.
pub fn all_retried_to(cluster: &str) -> Value {
    let mut routes = all_to(cluster);
    routes["virtual_hosts"][0]["retry_policy"] = json!({
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": 5,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            },
        }],
        "host_selection_retry_max_attempts": 5,
    });
    routes
}

fn http2() -> Value {
    json!({
        "initial_stream_window_size": STREAM_WINDOW,
        "initial_connection_window_size": CONNECTION_WINDOW,
    })
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
