//! Private keys stay out of what others may see.

use std::sync::Arc;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret::Type},
    },
    google::protobuf::Any,
};
use prost::Message;

use super::type_url::type_url;
use crate::config::Kind;

/// What stands in place of a secret, as in Envoy's config dump.
const REDACTED: &str = "[redacted]";

/// `raw` without private keys, whatever it is sent as.
pub(super) fn redacted(kind: Kind, raw: &Arc<Any>) -> Arc<Any> {
    let url = type_url(Kind::Secret);
    if kind != Kind::Secret && raw.type_url != url {
        return without_inline_keys(raw);
    }
    let public = match Secret::decode(raw.value.as_slice()) {
        Ok(secret) if raw.type_url == url => Secret {
            name: secret.name,
            r#type: secret.r#type.and_then(public),
        },
        // What cannot be read may hold anything.
        _ => Secret::default(),
    };
    Arc::new(Any {
        type_url: raw.type_url.clone(),
        value: public.encode_to_vec(),
    })
}

/// The public part of a secret; `None` if it has none.
fn public(secret: Type) -> Option<Type> {
    match secret {
        Type::TlsCertificate(wire) => Some(Type::TlsCertificate(TlsCertificate {
            certificate_chain: wire.certificate_chain.map(without_keys),
            private_key: wire.private_key.map(|_| hidden()),
            ..Default::default()
        })),
        Type::ValidationContext(mut wire) => {
            wire.trusted_ca = wire.trusted_ca.map(without_keys);
            Some(Type::ValidationContext(wire))
        }
        Type::SessionTicketKeys(_) | Type::GenericSecret(_) => None,
    }
}

/// A TLS context of a listener or a cluster may hold a key too: one that is refused, or beside a
/// certificate provider that is in force. It is written over, so that the message stays one.
fn without_inline_keys(raw: &Arc<Any>) -> Arc<Any> {
    const END: &[u8] = b"-----END";
    if find(&raw.value, KEY).is_none() {
        return Arc::clone(raw);
    }
    let mut value = raw.value.clone();
    let mut rest = &mut value[..];
    while let Some(at) = find(rest, KEY) {
        rest = &mut rest[at + KEY.len()..];
        // Without an end, nobody knows where it stops.
        let key = find(rest, END).unwrap_or(rest.len());
        rest[..key].fill(b'*');
        rest = &mut rest[key..];
        // Past its last line, which names what it was as the first does.
        let line = find(rest, KEY).filter(|&at| at < 2 * KEY.len());
        rest = &mut rest[line.map_or(0, |at| at + KEY.len())..];
    }
    Arc::new(Any {
        type_url: raw.type_url.clone(),
        value,
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// What the first and the last line of each private key in PEM have.
const KEY: &[u8] = b"PRIVATE KEY";

/// A file of certificates may have a key in it by mistake.
fn without_keys(source: DataSource) -> DataSource {
    let bytes = match &source.specifier {
        Some(Specifier::InlineBytes(bytes)) => bytes.as_slice(),
        Some(Specifier::InlineString(text)) => text.as_bytes(),
        _ => return source,
    };
    if find(bytes, KEY).is_some() {
        return hidden();
    }
    source
}

fn hidden() -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineString(REDACTED.to_owned())),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};

    use super::*;

    #[test]
    fn a_key_in_a_listener_is_written_over_and_nothing_else_is() {
        let key = |name: &str| {
            format!("-----BEGIN {name}-----\nc2VjcmV0\nc2VjcmV0\n-----END {name}-----\n")
        };
        let wire = |text: String| TransportSocket {
            name: text,
            config_type: Some(ConfigType::TypedConfig(Any {
                type_url: "after".to_owned(),
                value: b"it".to_vec(),
            })),
        };
        let text = [
            key("CERTIFICATE"),
            key("PRIVATE KEY"),
            key("EC PRIVATE KEY"),
            key("CERTIFICATE"),
        ];
        let raw = Arc::new(Any {
            type_url: "listener".to_owned(),
            value: wire(text.concat()).encode_to_vec(),
        });
        let shown = redacted(Kind::Listener, &raw);
        let shown = TransportSocket::decode(shown.value.as_slice()).unwrap();
        let hidden = text.map(|text| match text.contains("KEY") {
            true => text.replace("-----\nc2VjcmV0\nc2VjcmV0\n", &"*".repeat(24)),
            false => text,
        });
        assert_eq!(shown, wire(hidden.concat()));

        // One that is cut off takes what follows with it.
        let cut = wire("-----BEGIN PRIVATE KEY-----\nc2Vj".to_owned());
        let raw = Arc::new(Any {
            type_url: "listener".to_owned(),
            value: cut.encode_to_vec(),
        });
        let shown = redacted(Kind::Listener, &raw);
        assert!(find(&shown.value, b"c2Vj").is_none());
        let plain = Arc::new(Any::default());
        assert!(Arc::ptr_eq(&redacted(Kind::Cluster, &plain), &plain));
    }
}
