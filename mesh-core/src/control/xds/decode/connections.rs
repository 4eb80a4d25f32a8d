//! How the connections of a cluster are made and kept.

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{Cluster, cluster::ClusterProtocolSelection},
            core::v3::{Http2ProtocolOptions, HttpProtocolOptions, KeepaliveSettings},
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions as UpstreamOptions,
            http_protocol_options::{
                UpstreamProtocolOptions as Choice, explicit_http_config::ProtocolConfig,
            },
        },
    },
    google::protobuf::UInt32Value,
};

use super::{
    Context, FieldError, ResultExt,
    bounds::{duration, positive_duration, quote},
    extension::{type_name, unpack},
};
use crate::config::{Connections, HttpProtocol, Treatment};

/// The key and type of the entry of `typed_extension_protocol_options` that is read.
const UPSTREAM: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const TYPED: &str = "typed_extension_protocol_options";

/// Decodes the fields of a cluster that concern its connections.
///
/// `tls` says whether the cluster asks for TLS.
#[expect(
    deprecated,
    reason = "the old fields are in force where the new one is not set"
)]
pub(super) fn decode(
    wire: &Cluster,
    tls: bool,
    cx: &mut Context<'_>,
) -> Result<Connections, FieldError> {
    let Cluster {
        connect_timeout,
        common_http_protocol_options: common,
        http2_protocol_options: http2_options,
        upstream_http_protocol_options: upstream_options,
        typed_extension_protocol_options,
        max_requests_per_connection,
        protocol_selection,
        ..
    } = wire;
    let mut misplaced: Vec<_> = typed_extension_protocol_options
        .iter()
        .filter(|(key, options)| *key != UPSTREAM && type_name(&options.type_url) == UPSTREAM)
        .map(|(key, _)| quote(key))
        .collect();
    misplaced.sort();
    for key in misplaced {
        cx.ignored(
            &format!("{TYPED}[{key:?}]"),
            format!("options of this type are read under the key {UPSTREAM:?}"),
        );
    }
    let mut connections = Connections::default();
    if let Some(wire) = connect_timeout {
        connections.connect_timeout = positive_duration(wire).field("connect_timeout")?;
    }
    connections.max_requests = at_most(max_requests_per_connection.as_ref());
    if let Some(options) = typed_extension_protocol_options.get(UPSTREAM) {
        let options: UpstreamOptions = unpack(options).key(TYPED, UPSTREAM)?;
        cx.key(TYPED, UPSTREAM, |cx| {
            upstream(&options, tls, &mut connections, cx)
        })?;
        one_limit(
            max_requests_per_connection.is_some(),
            options.common_http_protocol_options.as_ref(),
            cx,
        );
        for (name, set) in [
            ("common_http_protocol_options", common.is_some()),
            ("http2_protocol_options", http2_options.is_some()),
            ("upstream_http_protocol_options", upstream_options.is_some()),
        ] {
            if set {
                cx.ignored(name, format!("{TYPED} is in force"));
            }
        }
        return Ok(connections);
    }
    if let Some(options) = common {
        self::common(options, &mut connections).field("common_http_protocol_options")?;
        one_limit(max_requests_per_connection.is_some(), Some(options), cx);
    }
    if let Some(options) = http2_options {
        http2(options, &mut connections).field("http2_protocol_options")?;
        connections.protocol = HttpProtocol::Http2;
    }
    if *protocol_selection == ClusterProtocolSelection::UseDownstreamProtocol as i32 {
        cx.report("protocol_selection", Treatment::Approximated, NO_DOWNSTREAM);
    }
    if let Some(options) = upstream_options {
        san_validation(options.auto_san_validation, tls).field("upstream_http_protocol_options")?;
    }
    Ok(connections)
}

fn upstream(
    options: &UpstreamOptions,
    tls: bool,
    connections: &mut Connections,
    cx: &mut Context<'_>,
) -> Result<(), FieldError> {
    let UpstreamOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        upstream_protocol_options,
        ..
    } = options;
    if let Some(options) = common_http_protocol_options {
        common(options, connections).field("common_http_protocol_options")?;
    }
    if let Some(options) = upstream_http_protocol_options {
        san_validation(options.auto_san_validation, tls).field("upstream_http_protocol_options")?;
    }
    let (name, options) = match upstream_protocol_options {
        Some(Choice::ExplicitHttpConfig(explicit)) => match &explicit.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                connections.protocol = HttpProtocol::Http2;
                ("explicit_http_config", Some(options))
            }
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                connections.protocol = HttpProtocol::Auto;
                return Ok(());
            }
            Some(ProtocolConfig::HttpProtocolOptions(_)) | None => return Ok(()),
        },
        Some(Choice::UseDownstreamProtocolConfig(downstream)) => {
            const NAME: &str = "use_downstream_protocol_config";
            let options = downstream.http2_protocol_options.as_ref();
            if options.is_some() {
                connections.protocol = HttpProtocol::Http2;
            }
            cx.report(NAME, Treatment::Approximated, NO_DOWNSTREAM);
            (NAME, options)
        }
        Some(Choice::AutoConfig(auto)) => {
            const NAME: &str = "auto_config";
            connections.protocol = HttpProtocol::Auto;
            if !tls {
                let note = "nothing is agreed on without TLS: HTTP/1.1 is spoken under HTTP \
                            semantics";
                cx.report(NAME, Treatment::Approximated, note);
            }
            (NAME, auto.http2_protocol_options.as_ref())
        }
        None => return Ok(()),
    };
    match options {
        Some(options) => http2(options, connections)
            .field("http2_protocol_options")
            .field(name),
        None => Ok(()),
    }
}

fn common(options: &HttpProtocolOptions, connections: &mut Connections) -> Result<(), FieldError> {
    if let Some(wire) = &options.idle_timeout {
        connections.idle_timeout = duration(wire).field("idle_timeout")?;
    }
    if let Some(limit) = &options.max_requests_per_connection {
        connections.max_requests = at_most(Some(limit));
    }
    Ok(())
}

/// Requests that a connection takes; zero is no limit (Envoy).
fn at_most(limit: Option<&UInt32Value>) -> Option<u32> {
    limit.map(|limit| limit.value).filter(|&limit| limit != 0)
}

/// Envoy refuses a cluster that has both limits; gRPC looks at neither.
fn one_limit(old: bool, options: Option<&HttpProtocolOptions>, cx: &mut Context<'_>) {
    if old && options.is_some_and(|options| options.max_requests_per_connection.is_some()) {
        let note = "that of the HTTP protocol options is in force";
        cx.ignored("max_requests_per_connection", note);
    }
}

const NO_DOWNSTREAM: &str = "there is no downstream connection: under HTTP semantics HTTP/2 is \
                             spoken where it has options, else HTTP/1.1";

fn http2(options: &Http2ProtocolOptions, connections: &mut Connections) -> Result<(), FieldError> {
    let Http2ProtocolOptions {
        connection_keepalive,
        initial_stream_window_size,
        initial_connection_window_size,
        ..
    } = options;
    connections.initial_stream_window =
        window(*initial_stream_window_size).field("initial_stream_window_size")?;
    connections.initial_connection_window =
        window(*initial_connection_window_size).field("initial_connection_window_size")?;
    if let Some(keepalive) = connection_keepalive {
        self::keepalive(keepalive, connections).field("connection_keepalive")?;
    }
    Ok(())
}

fn keepalive(
    settings: &KeepaliveSettings,
    connections: &mut Connections,
) -> Result<(), FieldError> {
    let KeepaliveSettings {
        interval, timeout, ..
    } = settings;
    if let Some(wire) = interval {
        let interval = match duration(wire).field("interval")? {
            Duration::ZERO => None,
            interval => Some(at_least_one_ms(interval).field("interval")?),
        };
        connections.keepalive_interval = interval;
    }
    if let Some(wire) = timeout {
        connections.keepalive_timeout =
            duration(wire).and_then(at_least_one_ms).field("timeout")?;
    }
    Ok(())
}

/// A flow control window (RFC 9113, section 6.9), within Envoy's bounds.
fn window(size: Option<UInt32Value>) -> Result<Option<u32>, FieldError> {
    const MIN: u32 = 65_535;
    const MAX: u32 = (1 << 31) - 1;
    match size {
        None => Ok(None),
        Some(UInt32Value {
            value: value @ MIN..=MAX,
        }) => Ok(Some(value)),
        Some(UInt32Value { value }) => Err(FieldError::new(format!(
            "must be from {MIN} to {MAX}, not {value}"
        ))),
    }
}

fn at_least_one_ms(duration: Duration) -> Result<Duration, FieldError> {
    match duration < Duration::from_millis(1) {
        true => Err(FieldError::new("must be at least 1 ms")),
        false => Ok(duration),
    }
}

/// `auto_san_validation` restricts which servers are accepted, where there is TLS.
fn san_validation(auto_san_validation: bool, tls: bool) -> Result<(), FieldError> {
    match auto_san_validation && tls {
        true => Err(FieldError::new(
            "not supported: use auto_sni_san_validation of the TLS context",
        )
        .field("auto_san_validation")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
