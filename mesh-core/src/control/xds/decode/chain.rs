//! The filter chains of a server's listener (gRFC A36).

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::config::{
        core::v3::CidrRange,
        listener::v3::{
            Filter, FilterChain as WireChain, FilterChainMatch as WireMatch, filter::ConfigType,
            filter_chain_match::ConnectionSourceType,
        },
    },
    google::protobuf::BoolValue,
};

use super::{
    Context, FieldError,
    bounds::quote,
    downstream_tls,
    extension::{type_name, unpack},
    fields::{ANY, Field, Message},
    limits::Limit,
    listener::{HTTP_CONNECTION_MANAGER, http_manager},
    tls::Providers,
    tls_fields::TRANSPORT_SOCKET,
};
use crate::{
    config::{ChainMatch, Cidr, FilterChain, HttpManager, SourceType},
    control::xds::Side,
};

/// What the chains of one listener match, each combination with the chain that has it.
#[derive(Debug, Default)]
pub(super) struct Matches(HashMap<Combination, usize>);

/// Destination, source type, source, source port. No prefix is another thing than one of no bits.
type Combination = (Option<Cidr>, SourceType, Option<Cidr>, Option<u16>);

/// Entry `index` of `filter_chains`; `None` if it can never match.
pub(super) fn matched(
    mut wire: WireChain,
    index: usize,
    matches: &mut Matches,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<Option<FilterChain>, FieldError> {
    let wanted = wire.filter_chain_match.take().unwrap_or_default();
    let matcher = cx.field("filter_chain_match", |cx| {
        let Some(matcher) = matcher(wanted, cx)? else {
            return Ok(None);
        };
        matches.add(&matcher, index, cx)?;
        Ok(Some(matcher))
    })?;
    matcher
        .map(|matcher| chain(wire, matcher, providers, cx))
        .transpose()
}

/// The chain of the connections that no other takes.
pub(super) fn default(
    wire: WireChain,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<FilterChain, FieldError> {
    chain(wire, ChainMatch::default(), providers, cx)
}

fn chain(
    wire: WireChain,
    matcher: ChainMatch,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<FilterChain, FieldError> {
    #[expect(deprecated, reason = "it would change the peer's address")]
    let WireChain {
        name,
        filters,
        transport_socket,
        use_proxy_proto,
        ..
    } = wire;
    if use_proxy_proto.is_some_and(|BoolValue { value }| value) {
        let problem = "not supported: the peer is who connects";
        return Err(FieldError::new(problem).field("use_proxy_proto"));
    }
    let tls = transport_socket
        .map(|socket| {
            cx.field("transport_socket", |cx| {
                downstream_tls::decode(&socket, providers, cx)
            })
        })
        .transpose()?;
    Ok(FilterChain {
        name: name.into(),
        matcher,
        tls: tls.map(Into::into),
        http: network_filters(&filters, cx)?,
    })
}

/// The one network filter there can be.
fn network_filters(filters: &[Filter], cx: &mut Context<'_>) -> Result<HttpManager, FieldError> {
    const FILTERS: &str = "filters";
    let mut manager = None;
    for (index, filter) in filters.iter().enumerate() {
        let decoded = cx.index(FILTERS, index, |cx| network_filter(filter, cx))?;
        if manager.replace(decoded).is_some() {
            let problem = "a second HttpConnectionManager: a chain has one, at its end";
            return Err(FieldError::new(problem).index(FILTERS, index));
        }
    }
    manager.ok_or_else(|| {
        let problem = "must not be empty: a chain ends with an HttpConnectionManager";
        FieldError::new(problem).field(FILTERS)
    })
}

fn network_filter(filter: &Filter, cx: &mut Context<'_>) -> Result<HttpManager, FieldError> {
    let config = match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) => config,
        Some(ConfigType::ConfigDiscovery(_)) => {
            let problem = "filters in resources of their own are not supported";
            return Err(FieldError::new(problem).field("config_discovery"));
        }
        None => return Err(FieldError::new("must be set").field("typed_config")),
    };
    cx.field("typed_config", |cx| {
        if type_name(&config.type_url) != HTTP_CONNECTION_MANAGER.name {
            return Err(FieldError::new(format!(
                "the network filter {:?} is not supported: HttpConnectionManager is the only one",
                quote(&config.type_url)
            )));
        }
        http_manager(unpack(config)?, Side::Server, cx)
    })
}

/// What a chain matches; `None`: nothing, ever.
fn matcher(wire: WireMatch, cx: &mut Context<'_>) -> Result<Option<ChainMatch>, FieldError> {
    let WireMatch {
        destination_port,
        prefix_ranges,
        source_type,
        source_prefix_ranges,
        source_ports,
        server_names,
        transport_protocol,
        application_protocols,
        ..
    } = wire;
    let source_type = match ConnectionSourceType::try_from(source_type) {
        Ok(ConnectionSourceType::Any) => SourceType::Any,
        Ok(ConnectionSourceType::SameIpOrLoopback) => SourceType::SameIpOrLoopback,
        Ok(ConnectionSourceType::External) => SourceType::External,
        Err(_) => {
            let problem = format!("{source_type} is not known");
            return Err(FieldError::new(problem).field("source_type"));
        }
    };
    let matcher = ChainMatch {
        destinations: prefixes(&prefix_ranges, "prefix_ranges")?,
        source_type,
        sources: prefixes(&source_prefix_ranges, "source_prefix_ranges")?,
        source_ports: ports(&source_ports)?,
    };
    let other_protocol = !matches!(&*transport_protocol, "" | "raw_buffer");
    let never = [
        ("destination_port", destination_port.is_some()),
        ("server_names", !server_names.is_empty()),
        ("application_protocols", !application_protocols.is_empty()),
        ("transport_protocol", other_protocol),
    ];
    match never.iter().find(|(_, set)| *set) {
        Some((field, _)) => {
            cx.ignored(field, NEVER);
            Ok(None)
        }
        None => Ok(Some(matcher)),
    }
}

const NEVER: &str = "never matches where there are no listener filters: the chain is left out \
                     (gRFC A36)";

fn prefixes(wire: &[CidrRange], field: &str) -> Result<Vec<Cidr>, FieldError> {
    let prefix = |(index, wire): (usize, &CidrRange)| {
        let CidrRange {
            address_prefix,
            prefix_len,
        } = wire;
        let address = address_prefix.parse().map_err(|_| {
            let problem = format!("{:?} is not an IP address", quote(address_prefix));
            FieldError::new(problem)
                .field("address_prefix")
                .index(field, index)
        })?;
        Ok(Cidr::new(address, prefix_len.map_or(0, |len| len.value)))
    };
    wire.iter().enumerate().map(prefix).collect()
}

fn ports(wire: &[u32]) -> Result<Vec<u16>, FieldError> {
    let port = |(index, &port)| match u16::try_from(port) {
        Ok(port @ 1..) => Ok(port),
        _ => {
            let problem = format!("{port} is not a port: from 1 to {}", u16::MAX);
            Err(FieldError::new(problem).index("source_ports", index))
        }
    };
    wire.iter().enumerate().map(port).collect()
}

// === impl Matches ===

impl Matches {
    /// Adds what chain `index` matches, which nothing else may.
    fn add(
        &mut self,
        matcher: &ChainMatch,
        index: usize,
        cx: &mut Context<'_>,
    ) -> Result<(), FieldError> {
        let ChainMatch {
            destinations,
            source_type,
            sources,
            source_ports,
        } = matcher;
        let size = |len: usize| len.max(1);
        let combinations = size(destinations.len())
            .saturating_mul(size(sources.len()))
            .saturating_mul(size(source_ports.len()));
        cx.count(Limit::ChainMatches, combinations)?;
        for destination in any_or(destinations) {
            for source in any_or(sources) {
                for port in any_or(source_ports) {
                    let combination = (destination, *source_type, source, port);
                    if let Some(other) = self.0.insert(combination, index) {
                        return Err(FieldError::new(format!(
                            "matches {}, as does filter_chains[{other}]: which one takes a \
                             connection must not depend on their order",
                            describe(combination)
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Each of `list`, or once `None` if it is empty.
fn any_or<T: Copy>(list: &[T]) -> impl Iterator<Item = Option<T>> + '_ {
    let any = list.is_empty().then_some(None);
    any.into_iter().chain(list.iter().copied().map(Some))
}

fn describe((destination, source_type, source, port): Combination) -> String {
    let prefix = |prefix: Option<Cidr>| prefix.map_or_else(|| "any".to_owned(), |p| p.to_string());
    let port = port.map_or_else(|| "any".to_owned(), |port| port.to_string());
    format!(
        "destination {}, source type {source_type:?}, source {}, source port {port}",
        prefix(destination),
        prefix(source)
    )
}

pub(super) static FILTER_CHAIN: Message = Message {
    name: "envoy.config.listener.v3.FilterChain",
    fields: &[
        Field::message(1, "filter_chain_match", &FILTER_CHAIN_MATCH),
        Field::repeated(3, "filters", &FILTER),
        Field::enforced(4, "use_proxy_proto"),
        Field::ignored(5, "metadata", NOT_READ),
        Field::message(6, "transport_socket", &TRANSPORT_SOCKET),
        Field::enforced(7, "name"),
        Field::ignored(9, "transport_socket_connect_timeout", HANDSHAKE),
    ],
};

pub(super) static DEFAULT_FILTER_CHAIN: Message = Message {
    name: "envoy.config.listener.v3.FilterChain",
    fields: &[
        Field::ignored(
            1,
            "filter_chain_match",
            "the default chain takes every connection that no other does",
        ),
        Field::repeated(3, "filters", &FILTER),
        Field::enforced(4, "use_proxy_proto"),
        Field::ignored(5, "metadata", NOT_READ),
        Field::message(6, "transport_socket", &TRANSPORT_SOCKET),
        Field::enforced(7, "name"),
        Field::ignored(9, "transport_socket_connect_timeout", HANDSHAKE),
    ],
};

const NOT_READ: &str = "nothing here reads it";
const HANDSHAKE: &str = "how long a handshake may take is said in code";

static FILTER_CHAIN_MATCH: Message = Message {
    name: "envoy.config.listener.v3.FilterChainMatch",
    fields: &[
        Field::repeated(3, "prefix_ranges", &CIDR_RANGE),
        Field::restricts(4, "address_suffix", REACHED),
        Field::restricts(5, "suffix_len", REACHED),
        Field::repeated(6, "source_prefix_ranges", &CIDR_RANGE),
        Field::enforced(7, "source_ports"),
        Field::enforced(8, "destination_port"),
        Field::enforced(9, "transport_protocol"),
        Field::enforced(10, "application_protocols"),
        Field::enforced(11, "server_names"),
        Field::enforced(12, "source_type"),
        Field::restricts(
            13,
            "direct_source_prefix_ranges",
            "which peers a chain takes: use source_prefix_ranges",
        ),
        Field::others_restrict(TAKEN),
    ],
};

/// A chain that takes more connections than it should is open to them.
const TAKEN: &str = "which connections a chain takes";
const REACHED: &str = "which addresses a chain takes connections to: use prefix_ranges";

static CIDR_RANGE: Message = Message {
    name: "envoy.config.core.v3.CidrRange",
    fields: &[
        Field::enforced(1, "address_prefix"),
        Field::enforced(2, "prefix_len"),
        Field::others_restrict(TAKEN),
    ],
};

static FILTER: Message = Message {
    name: "envoy.config.listener.v3.Filter",
    fields: &[
        // A chain has one filter: nothing refers to it by name.
        Field::enforced(1, "name"),
        Field::message(4, "typed_config", &ANY),
        Field::enforced(5, "config_discovery"),
    ],
};

#[cfg(test)]
mod tests;
