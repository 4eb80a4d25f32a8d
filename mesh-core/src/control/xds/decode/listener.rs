//! Listeners, by what they are: for a client (gRFC A27) or for a server's socket (gRFC A36).

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::{
    config::{
        core::v3::{ConfigSource, HttpProtocolOptions, config_source::ConfigSourceSpecifier},
        listener::v3::{ApiListener, Listener as WireListener},
    },
    extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, Rds,
        http_connection_manager::{RouteSpecifier, StripPortMode},
    },
};

use super::{
    Context, FieldError, ResultExt,
    bounds::duration,
    extension::unpack,
    fields::{ANY, Field, Message},
    filter::{self, HTTP_FILTER},
    route,
    route_fields::{NOT_GRPC, ROUTE_CONFIGURATION},
    server_listener::{self, SERVER_LISTENER},
    tls::Providers,
    upgrade::upgrades,
    wire::Reader,
};
use crate::{
    config::{HttpManager, Listener, Resource, RouteSource, StripPort},
    control::xds::Side,
};

/// The number of the field that makes a listener one for clients.
const API: u32 = 19;

/// The fields of an encoded listener, by what it is for.
pub(super) fn table(listener: &[u8]) -> &'static Message {
    let api = |field| matches!(field, Ok((API, _)));
    match Reader::new(listener).any(api) {
        true => &LISTENER,
        false => &SERVER_LISTENER,
    }
}

/// Decodes a listener: one for clients if it has an API listener, else one for a server's socket.
/// Its fields are not walked here.
pub(super) fn decode(
    mut wire: WireListener,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<(Arc<str>, Resource), FieldError> {
    match wire.api_listener.take() {
        Some(api) => {
            let listener = client(wire.name, api, cx)?;
            Ok((listener.name.clone(), Resource::Listener(listener.into())))
        }
        None => {
            let listener = server_listener::decode(wire, providers, cx)?;
            let name = listener.name.clone();
            Ok((name, Resource::ServerListener(listener.into())))
        }
    }
}

fn client(name: String, api: ApiListener, cx: &mut Context<'_>) -> Result<Listener, FieldError> {
    let ApiListener { api_listener } = api;
    let http = cx.field("api_listener", |cx| {
        cx.field("api_listener", |cx| {
            let any = api_listener.ok_or_else(|| FieldError::new("must be set"))?;
            http_manager(unpack(&any)?, Side::Client, cx)
        })
    })?;
    Ok(Listener {
        name: name.into(),
        http,
    })
}

/// An HTTP connection manager, as the client or the server has it.
pub(super) fn http_manager(
    wire: HttpConnectionManager,
    side: Side,
    cx: &mut Context<'_>,
) -> Result<HttpManager, FieldError> {
    let HttpConnectionManager {
        route_specifier,
        http_filters,
        common_http_protocol_options,
        xff_num_trusted_hops,
        original_ip_detection_extensions,
        stream_idle_timeout,
        upgrade_configs,
        strip_matching_host_port,
        strip_port_mode,
        ..
    } = wire;
    // Authorization would see another address than the one configured (gRFC A41).
    if xff_num_trusted_hops != 0 {
        let problem = format!("must be 0, not {xff_num_trusted_hops} (gRFC A41)");
        return Err(FieldError::new(problem).field("xff_num_trusted_hops"));
    }
    if !original_ip_detection_extensions.is_empty() {
        let problem = "must be empty (gRFC A41)";
        return Err(FieldError::new(problem).field("original_ip_detection_extensions"));
    }
    let routes = match route_specifier {
        Some(RouteSpecifier::Rds(rds)) => route_source(rds).field("rds")?,
        Some(RouteSpecifier::RouteConfig(wire)) => {
            let config = cx.field("route_config", |cx| route::decode(wire, cx))?;
            RouteSource::Inline(Arc::new(config))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => {
            let problem = "not supported: use rds or route_config";
            return Err(FieldError::new(problem).field("scoped_routes"));
        }
        None => {
            return Err(FieldError::new("rds or route_config must be set").field("route_specifier"));
        }
    };
    let filters = filter::chain(http_filters, side, cx)?;
    let max_stream_duration = cx.field("common_http_protocol_options", |cx| {
        protocol_options(common_http_protocol_options, side, cx)
    })?;
    let stream_idle_timeout = match stream_idle_timeout {
        Some(wire) => {
            let limit = duration(&wire).field("stream_idle_timeout")?;
            Some(limit).filter(|limit| !limit.is_zero())
        }
        None => Some(HttpManager::DEFAULT_STREAM_IDLE_TIMEOUT),
    };
    // Without those filters such a request could pass what they are to stop.
    let upgrade_configs = upgrade_configs.into_iter().map(|wire| {
        let filters = (!wire.filters.is_empty())
            .then_some("filters of its own are not supported: requests may not upgrade to it");
        (wire.upgrade_type, wire.enabled, filters)
    });
    Ok(HttpManager {
        routes,
        filters,
        max_stream_duration,
        stream_idle_timeout,
        upgrades: upgrades(upgrade_configs, cx)?,
        strip_port: strip_port(strip_matching_host_port, strip_port_mode, side, cx),
    })
}

fn strip_port(
    matching: bool,
    mode: Option<StripPortMode>,
    side: Side,
    cx: &mut Context<'_>,
) -> StripPort {
    let any = matches!(mode, Some(StripPortMode::StripAnyHostPort(true)));
    if any {
        cx.http_only("strip_any_host_port", HOSTS);
    }
    // One thing is said of each field.
    if matching {
        const FIELD: &str = "strip_matching_host_port";
        match (any, side == Side::Client) {
            (true, _) => cx.ignored(FIELD, "strip_any_host_port is set, too"),
            (false, true) => cx.ignored(
                FIELD,
                "a client's requests reach no port of a listener: none is stripped",
            ),
            (false, false) => cx.http_only(FIELD, HOSTS),
        }
    }
    match (any, matching) {
        (true, _) => StripPort::Any,
        (false, true) => StripPort::Matching,
        (false, false) => StripPort::Never,
    }
}

/// The longest that a call may take.
fn protocol_options(
    wire: Option<HttpProtocolOptions>,
    side: Side,
    cx: &mut Context<'_>,
) -> Result<Option<Duration>, FieldError> {
    let HttpProtocolOptions {
        max_stream_duration,
        headers_with_underscores_action,
        ..
    } = wire.unwrap_or_default();
    let limit = max_stream_duration
        .map(|wire| duration(&wire))
        .transpose()
        .field("max_stream_duration")?;
    if side == Side::Client {
        return Ok(limit);
    }
    if headers_with_underscores_action != 0 {
        let problem = "not supported, and it restricts which headers a request may have";
        return Err(FieldError::new(problem).field("headers_with_underscores_action"));
    }
    if limit.is_some() {
        let note = "the time of a call is limited by its client (gRFC A31)";
        cx.ignored("max_stream_duration", note);
    }
    Ok(None)
}

fn route_source(rds: Rds) -> Result<RouteSource, FieldError> {
    let Rds {
        config_source,
        route_config_name,
        ..
    } = rds;
    same_stream(config_source.as_ref()).field("config_source")?;
    if route_config_name.is_empty() {
        return Err(FieldError::new("must not be empty").field("route_config_name"));
    }
    Ok(RouteSource::Named(route_config_name.into()))
}

/// Resources come from the stream that named them, or they cannot be had.
pub(super) fn same_stream(source: Option<&ConfigSource>) -> Result<(), FieldError> {
    match source.and_then(|source| source.config_source_specifier.as_ref()) {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Ok(()),
        _ => Err(FieldError::new("must be ads or self")),
    }
}

const SOCKET: &str = "concerns a socket that is listened on: an API listener has none";
pub(super) const STATISTICS: &str =
    "names or selects statistics, which have labels of their own here";
pub(super) const ACCESS_LOG: &str = "access logs are set up in code";

pub(super) static LISTENER: Message = Message {
    name: "envoy.config.listener.v3.Listener",
    fields: &[
        Field::enforced(1, "name"),
        Field::ignored(2, "address", SOCKET),
        Field::ignored(3, "filter_chains", SOCKET),
        Field::ignored(4, "use_original_dst", SOCKET),
        Field::ignored(5, "per_connection_buffer_limit_bytes", SOCKET),
        Field::ignored(6, "metadata", "no filter here reads it"),
        Field::ignored(7, "deprecated_v1", SOCKET),
        Field::ignored(8, "drain_type", SOCKET),
        Field::ignored(9, "listener_filters", SOCKET),
        Field::ignored(10, "transparent", SOCKET),
        Field::ignored(11, "freebind", SOCKET),
        Field::ignored(12, "tcp_fast_open_queue_length", SOCKET),
        Field::ignored(13, "socket_options", SOCKET),
        Field::ignored(15, "listener_filters_timeout", SOCKET),
        Field::ignored(16, "traffic_direction", "an API listener is outbound"),
        Field::ignored(17, "continue_on_listener_filters_timeout", SOCKET),
        Field::ignored(18, "udp_listener_config", SOCKET),
        Field::message(API, "api_listener", &API_LISTENER),
        Field::ignored(20, "connection_balance_config", SOCKET),
        Field::ignored(21, "reuse_port", SOCKET),
        Field::ignored(22, "access_log", ACCESS_LOG),
        Field::ignored(24, "tcp_backlog_size", SOCKET),
        Field::ignored(25, "default_filter_chain", SOCKET),
        Field::ignored(26, "bind_to_port", SOCKET),
        Field::ignored(27, "internal_listener", SOCKET),
        Field::ignored(28, "stat_prefix", STATISTICS),
        Field::ignored(29, "enable_reuse_port", SOCKET),
        Field::ignored(30, "enable_mptcp", SOCKET),
        Field::ignored(31, "ignore_global_conn_limit", SOCKET),
        Field::ignored(32, "filter_chain_matcher", SOCKET),
        Field::ignored(33, "additional_addresses", SOCKET),
        Field::ignored(34, "max_connections_to_accept_per_socket_event", SOCKET),
        Field::ignored(35, "bypass_overload_manager", SOCKET),
        Field::ignored(36, "fcds_config", SOCKET),
        Field::ignored(37, "tcp_keepalive", SOCKET),
        Field::ignored(38, "per_connection_buffer_high_watermark_timeout", SOCKET),
        Field::ignored(39, "stats_matcher", STATISTICS),
    ],
};

static API_LISTENER: Message = Message {
    name: "envoy.config.listener.v3.ApiListener",
    fields: &[Field::message(1, "api_listener", &ANY)],
};

const DOWNSTREAM: &str =
    "concerns connections that are accepted: clients have none, servers set this in code";
const CLIENT_IDENTITY: &str = "no header about the peer is added, read or removed here";
const PATHS: &str = "paths are matched as they come (gRFC A28), and servers refuse those that can be read in two ways";
const LOCAL_REPLY: &str = "the caller gets errors as they are, not as a proxy's replies";
const HEADERS: &str = "no such header is added or changed here";

pub(super) static HTTP_CONNECTION_MANAGER: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    fields: &[
        Field::ignored(1, "codec_type", DOWNSTREAM),
        Field::ignored(2, "stat_prefix", STATISTICS),
        Field::message(3, "rds", &RDS),
        Field::message(4, "route_config", &ROUTE_CONFIGURATION),
        Field::repeated(5, "http_filters", &HTTP_FILTER),
        Field::ignored(6, "add_user_agent", HEADERS),
        Field::ignored(7, "tracing", "tracing is set up in code"),
        Field::ignored(8, "http_protocol_options", DOWNSTREAM),
        Field::ignored(9, "http2_protocol_options", DOWNSTREAM),
        Field::ignored(10, "server_name", HEADERS),
        Field::ignored(12, "drain_timeout", DOWNSTREAM),
        Field::ignored(13, "access_log", ACCESS_LOG),
        Field::ignored(14, "use_remote_address", CLIENT_IDENTITY),
        Field::ignored(15, "generate_request_id", HEADERS),
        Field::ignored(16, "forward_client_cert_details", CLIENT_IDENTITY),
        Field::ignored(17, "set_current_client_cert_details", CLIENT_IDENTITY),
        Field::ignored(18, "proxy_100_continue", DOWNSTREAM),
        Field::enforced(19, "xff_num_trusted_hops"),
        Field::ignored(
            20,
            "represent_ipv4_remote_address_as_ipv4_mapped_ipv6",
            CLIENT_IDENTITY,
        ),
        Field::ignored(21, "skip_xff_append", CLIENT_IDENTITY),
        Field::ignored(22, "via", HEADERS),
        Field::repeated(23, "upgrade_configs", &UPGRADE_CONFIG).http_only(NOT_GRPC),
        Field::enforced(24, "stream_idle_timeout").http_only(NOT_IN_TIME),
        Field::ignored(25, "internal_address_config", CLIENT_IDENTITY),
        Field::ignored(26, "delayed_close_timeout", DOWNSTREAM),
        Field::ignored(28, "request_timeout", ONLY_MAX_STREAM_DURATION),
        Field::ignored(29, "max_request_headers_kb", DOWNSTREAM),
        Field::ignored(30, "normalize_path", PATHS),
        Field::enforced(31, "scoped_routes"),
        Field::ignored(32, "preserve_external_request_id", HEADERS),
        Field::ignored(33, "merge_slashes", PATHS),
        Field::ignored(34, "server_header_transformation", HEADERS),
        Field::message(35, "common_http_protocol_options", &HTTP_PROTOCOL_OPTIONS),
        Field::ignored(36, "request_id_extension", HEADERS),
        Field::ignored(37, "always_set_request_id_in_response", HEADERS),
        Field::ignored(38, "local_reply_config", LOCAL_REPLY),
        // What becomes of it, and of 42, is told by what decodes them.
        Field::enforced(39, "strip_matching_host_port"),
        Field::ignored(40, "stream_error_on_invalid_http_message", DOWNSTREAM),
        Field::ignored(41, "request_headers_timeout", ONLY_MAX_STREAM_DURATION),
        Field::enforced(42, "strip_any_host_port"),
        Field::ignored(43, "path_normalization_options", PATHS),
        Field::ignored(44, "http3_protocol_options", DOWNSTREAM),
        Field::ignored(45, "path_with_escaped_slashes_action", PATHS),
        Field::enforced(46, "original_ip_detection_extensions"),
        Field::ignored(47, "strip_trailing_host_dot", NOT_CHANGED),
        Field::ignored(48, "scheme_header_transformation", HEADERS),
        Field::ignored(49, "proxy_status_config", LOCAL_REPLY),
        Field::ignored(50, "typed_header_validation_config", DOWNSTREAM),
        Field::ignored(51, "append_x_forwarded_port", HEADERS),
        Field::ignored(52, "early_header_mutation_extensions", HEADERS),
        Field::ignored(53, "add_proxy_protocol_connection_state", DOWNSTREAM),
        Field::ignored(54, "access_log_flush_interval", ACCESS_LOG),
        Field::ignored(55, "flush_access_log_on_new_request", ACCESS_LOG),
        Field::ignored(56, "access_log_options", ACCESS_LOG),
        Field::ignored(57, "append_local_overload", HEADERS),
        Field::ignored(58, "http1_safe_max_connection_duration", DOWNSTREAM),
        Field::ignored(59, "stream_flush_timeout", ONLY_MAX_STREAM_DURATION),
        Field::ignored(60, "forward_client_cert_matcher", CLIENT_IDENTITY),
        Field::ignored(61, "forward_proto_config", HEADERS),
        Field::ignored(62, "drain_timeout_jitter", DOWNSTREAM),
    ],
};

const NOT_CHANGED: &str = "authorities go on with the dot that they come with";
pub(super) const HOSTS: &str =
    "under gRPC semantics authorities are matched as they come (gRFC A28)";
pub(super) const ONLY_MAX_STREAM_DURATION: &str =
    "only max_stream_duration and grpc_timeout_header_max limit the time of a call (gRFC A31)";

/// What becomes under gRPC semantics of other limits of time.
pub(super) const NOT_IN_TIME: &str =
    "in force under HTTP semantics; gRPC ignores it (gRFC A31): use max_stream_duration";

static RDS: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
    fields: &[
        Field::message(1, "config_source", &CONFIG_SOURCE),
        Field::enforced(2, "route_config_name"),
    ],
};

pub(super) static CONFIG_SOURCE: Message = Message {
    name: "envoy.config.core.v3.ConfigSource",
    fields: &[
        Field::enforced(1, "path"),
        Field::enforced(2, "api_config_source"),
        Field::enforced(3, "ads"),
        Field::ignored(
            4,
            "initial_fetch_timeout",
            "a resource is taken as missing 15 s after it was asked for (gRFC A57)",
        ),
        Field::enforced(5, "self"),
        Field::approximated(6, "resource_api_version", "always v3"),
        Field::ignored(7, "authorities", "the name says its authority (gRFC A47)"),
        Field::enforced(8, "path_config_source"),
    ],
};

static UPGRADE_CONFIG: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
    fields: &[
        Field::enforced(1, "upgrade_type"),
        // An upgrade with filters of its own is refused.
        Field::enforced(2, "filters"),
        Field::enforced(3, "enabled"),
    ],
};

static HTTP_PROTOCOL_OPTIONS: Message = Message {
    name: "envoy.config.core.v3.HttpProtocolOptions",
    fields: &[
        Field::ignored(1, "idle_timeout", DOWNSTREAM),
        Field::ignored(2, "max_headers_count", DOWNSTREAM),
        Field::ignored(3, "max_connection_duration", DOWNSTREAM),
        Field::enforced(4, "max_stream_duration"),
        Field::ignored(5, "headers_with_underscores_action", DOWNSTREAM),
        Field::ignored(6, "max_requests_per_connection", DOWNSTREAM),
        Field::ignored(7, "max_response_headers_kb", DOWNSTREAM),
        Field::ignored(8, "max_connection_duration_jitter", DOWNSTREAM),
    ],
};

#[cfg(test)]
mod tests;
