//! What the tests of the decoders share.

use std::sync::Arc;

use envoy_types::pb::{
    envoy::config::{
        core::v3::{ConfigSource, config_source::ConfigSourceSpecifier},
        listener::v3::Listener as WireListener,
    },
    google::protobuf::{Any, Duration, UInt32Value},
};
use prost::Message;

pub(super) use super::fixtures::{ads, any};
use super::{Decode, Decoded, Decoder, PolicyRegistry, Rejected, type_url};
use crate::{
    config::{Finding, Kind, Resource, ServerListener, Treatment},
    control::xds::FilterRegistry,
};

/// A decoder with what this crate has, and the certificate providers `default` and `other`.
pub(super) fn decoder() -> Decoder {
    decoder_with(PolicyRegistry::standard())
}

pub(super) fn decoder_with(policies: PolicyRegistry) -> Decoder {
    Decoder::new(FilterRegistry::standard(), policies, providers())
}

fn providers() -> [String; 2] {
    ["default", "other"].map(str::to_owned)
}

/// The listener of a server, and the findings about it.
pub(super) fn decode_server_listener(
    wire: &WireListener,
    filters: &FilterRegistry,
) -> Result<(Arc<ServerListener>, Vec<String>), String> {
    let decoder = Decoder::new(filters.clone(), PolicyRegistry::standard(), providers());
    let raw = resource(Kind::Listener, wire);
    let decoded = decoder
        .decode(Kind::Listener, &raw)
        .map_err(|error| error.to_string())?;
    match decoded.value {
        Resource::ServerListener(listener) => Ok((listener, lines(&decoded.findings))),
        other => panic!("not for a server: {other:?}"),
    }
}

pub(super) fn resource(kind: Kind, message: &impl Message) -> Any {
    Any {
        type_url: type_url(kind).to_owned(),
        value: message.encode_to_vec(),
    }
}

pub(super) fn decode_resource(kind: Kind, message: &impl Message) -> Result<Decoded, Rejected> {
    decoder().decode(kind, &resource(kind, message))
}

/// Findings, one a line: `path - note`, with `~` in place of `-` where the field is approximated,
/// and `h` where it is in force under HTTP semantics alone.
pub(super) fn lines(findings: &[Finding]) -> Vec<String> {
    let line = |finding: &Finding| {
        let sign = match finding.treatment {
            Treatment::Ignored => '-',
            Treatment::Approximated => '~',
            Treatment::HttpOnly => 'h',
        };
        format!("{} {sign} {}", finding.path, finding.note)
    };
    findings.iter().map(line).collect()
}

pub(super) fn source(specifier: ConfigSourceSpecifier) -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(specifier),
        ..Default::default()
    }
}

pub(super) fn u32_value(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}
