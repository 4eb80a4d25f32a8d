//! The listener of a server's socket (gRFC A36).

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::{
    core::v3::{Address as WireAddress, address::Address as AddressKind},
    listener::v3::{Listener as WireListener, listener::ListenerSpecifier},
};

use super::{
    Context, FieldError, ResultExt,
    chain::{self, DEFAULT_FILTER_CHAIN, FILTER_CHAIN, Matches},
    endpoints::socket_address,
    endpoints_fields::ADDRESS,
    fields::{Field, Message},
    listener::{ACCESS_LOG, STATISTICS},
    tls::Providers,
};
use crate::config::ServerListener;

/// Decodes the listener of a server. Its fields are not walked here.
pub(super) fn decode(
    wire: WireListener,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<ServerListener, FieldError> {
    let WireListener {
        name,
        address,
        filter_chains,
        default_filter_chain,
        use_original_dst,
        listener_filters,
        listener_specifier,
        ..
    } = wire;
    let address = self::address(address).field("address")?;
    if !listener_filters.is_empty() {
        let problem = "must be empty: connections are read by nobody before TLS (gRFC A36)";
        return Err(FieldError::new(problem).field("listener_filters"));
    }
    if use_original_dst.is_some_and(|wanted| wanted.value) {
        let problem = "must not be true: connections come as they are (gRFC A36)";
        return Err(FieldError::new(problem).field("use_original_dst"));
    }
    if let Some(ListenerSpecifier::InternalListener(_)) = listener_specifier {
        let problem = "not supported: the listener of a server has a socket";
        return Err(FieldError::new(problem).field("internal_listener"));
    }
    let mut matches = Matches::default();
    let mut chains = Vec::with_capacity(filter_chains.len());
    for (index, wire) in filter_chains.into_iter().enumerate() {
        let chain = cx.index("filter_chains", index, |cx| {
            chain::matched(wire, index, &mut matches, providers, cx)
        })?;
        chains.extend(chain);
    }
    let default_chain = default_filter_chain
        .map(|wire| {
            cx.field("default_filter_chain", |cx| {
                chain::default(wire, providers, cx)
            })
        })
        .transpose()?;
    if chains.is_empty() && default_chain.is_none() {
        let problem = "has no chain that can match, and there is no default_filter_chain: every \
                       connection would be closed";
        return Err(FieldError::new(problem).field("filter_chains"));
    }
    Ok(ServerListener {
        name: name.into(),
        address,
        chains,
        default_chain,
    })
}

fn address(wire: Option<WireAddress>) -> Result<SocketAddr, FieldError> {
    let Some(WireAddress { address }) = wire else {
        return Err(FieldError::new(
            "must be set for a server, or api_listener for a client (istiod sends API listeners \
             to nodes with the metadata GENERATOR=grpc)",
        ));
    };
    match address {
        Some(AddressKind::SocketAddress(wire)) => socket_address(&wire).field("socket_address"),
        Some(AddressKind::Pipe(_)) => {
            Err(FieldError::new("not supported: use socket_address").field("pipe"))
        }
        Some(AddressKind::EnvoyInternalAddress(_)) => {
            let problem = "not supported: use socket_address";
            Err(FieldError::new(problem).field("envoy_internal_address"))
        }
        None => Err(FieldError::new("must be set").field("socket_address")),
    }
}

const BOUND: &str = "how a socket is bound is said in code";
const ACCEPTED: &str = "how connections are accepted and limited is said in code";
const NO_FILTERS: &str = "there are no listener filters";

pub(super) static SERVER_LISTENER: Message = Message {
    name: "envoy.config.listener.v3.Listener",
    fields: &[
        Field::enforced(1, "name"),
        Field::message(2, "address", &ADDRESS),
        Field::repeated(3, "filter_chains", &FILTER_CHAIN),
        Field::enforced(4, "use_original_dst"),
        Field::ignored(5, "per_connection_buffer_limit_bytes", ACCEPTED),
        Field::ignored(6, "metadata", "no filter here reads it"),
        Field::ignored(7, "deprecated_v1", BOUND),
        Field::ignored(8, "drain_type", "a changed listener drains its connections"),
        Field::enforced(9, "listener_filters"),
        Field::ignored(10, "transparent", BOUND),
        Field::ignored(11, "freebind", BOUND),
        Field::ignored(12, "tcp_fast_open_queue_length", BOUND),
        Field::ignored(13, "socket_options", BOUND),
        Field::ignored(15, "listener_filters_timeout", NO_FILTERS),
        Field::ignored(16, "traffic_direction", "a server's listener is inbound"),
        Field::ignored(17, "continue_on_listener_filters_timeout", NO_FILTERS),
        Field::ignored(18, "udp_listener_config", "the address is one of TCP"),
        Field::enforced(19, "api_listener"),
        Field::ignored(20, "connection_balance_config", ACCEPTED),
        Field::ignored(21, "reuse_port", BOUND),
        Field::ignored(22, "access_log", ACCESS_LOG),
        Field::ignored(24, "tcp_backlog_size", BOUND),
        Field::message(25, "default_filter_chain", &DEFAULT_FILTER_CHAIN),
        Field::ignored(26, "bind_to_port", BOUND),
        Field::enforced(27, "internal_listener"),
        Field::ignored(28, "stat_prefix", STATISTICS),
        Field::ignored(29, "enable_reuse_port", BOUND),
        Field::ignored(30, "enable_mptcp", BOUND),
        Field::ignored(31, "ignore_global_conn_limit", ACCEPTED),
        Field::restricts(
            32,
            "filter_chain_matcher",
            "which chain takes a connection: use filter_chain_match",
        ),
        Field::ignored(
            33,
            "additional_addresses",
            "a server is bound to one address",
        ),
        Field::ignored(34, "max_connections_to_accept_per_socket_event", ACCEPTED),
        Field::ignored(35, "bypass_overload_manager", ACCEPTED),
        Field::restricts(
            36,
            "fcds_config",
            "connections by filter chains in resources of their own: use filter_chains",
        ),
        Field::ignored(37, "tcp_keepalive", BOUND),
        Field::ignored(38, "per_connection_buffer_high_watermark_timeout", ACCEPTED),
        Field::ignored(39, "stats_matcher", STATISTICS),
    ],
};

#[cfg(test)]
mod tests;
