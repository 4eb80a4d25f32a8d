//! The fields that concern the connections of a cluster.

use super::fields::{Field, Message};

pub(super) static UPSTREAM_OPTIONS: Message = Message {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    fields: &[
        Field::message(1, "common_http_protocol_options", &COMMON_OPTIONS),
        Field::message(2, "upstream_http_protocol_options", &UPSTREAM_HTTP_OPTIONS),
        Field::message(3, "explicit_http_config", &EXPLICIT_CONFIG),
        Field::message(4, "use_downstream_protocol_config", &DOWNSTREAM_CONFIG),
        Field::message(5, "auto_config", &AUTO_CONFIG),
        Field::ignored(6, "http_filters", "filters of clusters are not supported"),
        Field::ignored(7, "header_validation_config", "not supported"),
        Field::ignored(8, "outlier_detection", "not in force yet"),
        Field::ignored(9, "request_mirror_policies", "not in force yet"),
        Field::ignored(10, "hash_policy", "not in force yet"),
        Field::ignored(11, "retry_policy", "retries are configured in routes"),
    ],
};

static EXPLICIT_CONFIG: Message = Message {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
    fields: PROTOCOLS,
};

static DOWNSTREAM_CONFIG: Message = Message {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
    fields: PROTOCOLS,
};

static AUTO_CONFIG: Message = Message {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
    fields: &[
        HTTP1,
        HTTP2,
        HTTP3,
        Field::ignored(4, "alternate_protocols_cache_options", NO_HTTP3),
    ],
};

const PROTOCOLS: &[Field] = &[HTTP1, HTTP2, HTTP3];
const HTTP1: Field = Field::message(1, "http_protocol_options", &HTTP1_OPTIONS);
const HTTP2: Field = Field::message(2, "http2_protocol_options", &HTTP2_OPTIONS);
const HTTP3: Field = Field::ignored(3, "http3_protocol_options", NO_HTTP3);
const NO_HTTP3: &str = "HTTP/3 is not supported: under HTTP semantics the protocol is agreed on \
                        with the endpoint over TLS, and is HTTP/1.1 without";
/// What becomes under gRPC semantics of what connections do beyond gRPC.
pub(super) const NOT_GRPC: &str =
    "in force under HTTP semantics; gRPC ignores it (gRFC A27): calls are made over HTTP/2";

pub(super) static HTTP1_OPTIONS: Message = Message {
    name: "envoy.config.core.v3.Http1ProtocolOptions",
    fields: &[
        Field::ignored(1, "allow_absolute_url", FOR_SERVERS),
        Field::ignored(2, "accept_http_10", FOR_SERVERS),
        Field::ignored(3, "default_host_for_http_10", FOR_SERVERS),
        Field::ignored(4, "header_key_format", "names are sent in lower case"),
        Field::ignored(
            5,
            "enable_trailers",
            "trailers pass where the library lets them",
        ),
        Field::ignored(6, "allow_chunked_length", "such responses are not accepted"),
        Field::ignored(7, "override_stream_error_on_invalid_http_message", LIBRARY),
        Field::ignored(
            8,
            "send_fully_qualified_url",
            "requests name path and query only",
        ),
        Field::ignored(9, "use_balsa_parser", LIBRARY),
        Field::ignored(10, "allow_custom_methods", "all methods are sent"),
        Field::ignored(11, "ignore_http_11_upgrade", FOR_SERVERS),
    ],
};

const FOR_SERVERS: &str = "for servers only";

pub(super) static UPSTREAM_HTTP_OPTIONS: Message = Message {
    name: "envoy.config.core.v3.UpstreamHttpProtocolOptions",
    fields: &[
        Field::ignored(1, "auto_sni", NO_AUTO_SNI),
        Field::ignored(2, "auto_san_validation", "the cluster does not ask for TLS"),
        Field::ignored(3, "override_auto_sni_header", NO_AUTO_SNI),
    ],
};

const NO_AUTO_SNI: &str = "the TLS context says which server name is sent";

pub(super) static COMMON_OPTIONS: Message = Message {
    name: "envoy.config.core.v3.HttpProtocolOptions",
    fields: &[
        Field::enforced(1, "idle_timeout"),
        Field::ignored(2, "max_headers_count", "not configurable"),
        Field::ignored(3, "max_connection_duration", "not in force yet"),
        Field::ignored(4, "max_stream_duration", "that of listeners and routes is"),
        Field::ignored(5, "headers_with_underscores_action", "for servers only"),
        Field::enforced(6, "max_requests_per_connection").http_only(NOT_GRPC),
        Field::ignored(7, "max_response_headers_kb", "not configurable"),
        Field::ignored(8, "max_connection_duration_jitter", "not in force yet"),
    ],
};

pub(super) static HTTP2_OPTIONS: Message = Message {
    name: "envoy.config.core.v3.Http2ProtocolOptions",
    fields: &[
        Field::ignored(1, "hpack_table_size", LIBRARY),
        Field::ignored(
            2,
            "max_concurrent_streams",
            "the limit of the peer is in force",
        ),
        Field::enforced(3, "initial_stream_window_size"),
        Field::enforced(4, "initial_connection_window_size"),
        Field::ignored(5, "allow_connect", "no extended CONNECT is sent"),
        Field::ignored(6, "allow_metadata", "METADATA frames are not supported"),
        Field::ignored(7, "max_outbound_frames", LIBRARY),
        Field::ignored(8, "max_outbound_control_frames", LIBRARY),
        Field::ignored(
            9,
            "max_consecutive_inbound_frames_with_empty_payload",
            LIBRARY,
        ),
        Field::ignored(10, "max_inbound_priority_frames_per_stream", LIBRARY),
        Field::ignored(
            11,
            "max_inbound_window_update_frames_per_data_frame_sent",
            LIBRARY,
        ),
        Field::ignored(12, "stream_error_on_invalid_http_messaging", LIBRARY),
        Field::ignored(13, "custom_settings_parameters", LIBRARY),
        Field::ignored(14, "override_stream_error_on_invalid_http_message", LIBRARY),
        Field::message(15, "connection_keepalive", &KEEPALIVE),
        Field::ignored(16, "use_oghttp2_codec", LIBRARY),
        Field::ignored(17, "max_metadata_size", LIBRARY),
        Field::ignored(18, "enable_huffman_encoding", LIBRARY),
        Field::ignored(19, "max_header_field_size_kb", LIBRARY),
        Field::ignored(20, "disallow_obs_text", LIBRARY),
        Field::ignored(21, "stream_reset_burst", LIBRARY),
        Field::ignored(22, "stream_reset_rate", LIBRARY),
    ],
};

const LIBRARY: &str = "the HTTP library has its own limits and ways";

static KEEPALIVE: Message = Message {
    name: "envoy.config.core.v3.KeepaliveSettings",
    fields: &[
        Field::enforced(1, "interval"),
        Field::enforced(2, "timeout"),
        Field::ignored(3, "interval_jitter", "intervals are not jittered"),
        Field::ignored(4, "connection_idle_interval", "not supported"),
    ],
};
