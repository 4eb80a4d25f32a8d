//! Private keys stay out of what others may see.

use std::sync::Arc;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{
                DataSource, TransportSocket, data_source::Specifier, transport_socket::ConfigType,
            },
            listener::v3::Listener,
        },
        extensions::transport_sockets::tls::v3::{
            CommonTlsContext, DownstreamTlsContext, Secret, TlsCertificate, UpstreamTlsContext,
            downstream_tls_context::SessionTicketKeysType, secret::Type,
        },
    },
    google::protobuf::Any,
};
use prost::{Message, Name};

use super::type_url::type_url;
use crate::config::Kind;

/// What stands in place of a secret, as in Envoy's config dump.
const REDACTED: &str = "[redacted]";

/// `raw` without private keys, whatever it is sent as.
pub(super) fn redacted(kind: Kind, raw: &Arc<Any>) -> Arc<Any> {
    let url = type_url(Kind::Secret);
    if kind != Kind::Secret && raw.type_url != url {
        return match without_key_fields(raw) {
            Some(public) => without_inline_keys(&Arc::new(public)),
            None => without_inline_keys(raw),
        };
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

/// A listener or a cluster without the fields of its TLS contexts that hold keys, if there are any:
/// not all keys are text. What such a context says beside them is in force, they are not.
fn without_key_fields(raw: &Any) -> Option<Any> {
    // Most have none.
    find(&raw.value, b"TlsContext")?;
    let value = if raw.type_url == type_url(Kind::Cluster) {
        let mut cluster = Cluster::decode(raw.value.as_slice()).ok()?;
        let matches = cluster.transport_socket_matches.iter_mut();
        let matches = matches.filter_map(|other| other.transport_socket.as_mut());
        let sockets = matches.chain(cluster.transport_socket.as_mut());
        (strip(sockets) > 0).then(|| cluster.encode_to_vec())?
    } else if raw.type_url == type_url(Kind::Listener) {
        let mut listener = Listener::decode(raw.value.as_slice()).ok()?;
        let chains = listener.filter_chains.iter_mut();
        let chains = chains.chain(listener.default_filter_chain.as_mut());
        let sockets = chains.filter_map(|chain| chain.transport_socket.as_mut());
        (strip(sockets) > 0).then(|| listener.encode_to_vec())?
    } else {
        return None;
    };
    Some(Any {
        type_url: raw.type_url.clone(),
        value,
    })
}

/// Takes keys out of TLS contexts; says of how many.
fn strip<'a>(sockets: impl Iterator<Item = &'a mut TransportSocket>) -> usize {
    let configs = sockets.filter_map(|socket| socket.config_type.as_mut());
    configs
        .filter_map(|ConfigType::TypedConfig(context)| strip_context(context))
        .count()
}

fn strip_context(any: &mut Any) -> Option<()> {
    if any.type_url == DownstreamTlsContext::type_url() {
        let mut context = DownstreamTlsContext::decode(any.value.as_slice()).ok()?;
        let tickets = context
            .session_ticket_keys_type
            .take_if(|tickets| matches!(tickets, SessionTicketKeysType::SessionTicketKeys(_)));
        let keys = context
            .common_tls_context
            .as_mut()
            .and_then(strip_certificates);
        tickets.map(drop).or(keys)?;
        any.value = context.encode_to_vec();
    } else if any.type_url == UpstreamTlsContext::type_url() {
        let mut context = UpstreamTlsContext::decode(any.value.as_slice()).ok()?;
        strip_certificates(context.common_tls_context.as_mut()?)?;
        any.value = context.encode_to_vec();
    } else {
        return None;
    }
    Some(())
}

fn strip_certificates(context: &mut CommonTlsContext) -> Option<()> {
    for certificate in &mut context.tls_certificates {
        let public = TlsCertificate {
            certificate_chain: certificate.certificate_chain.take().map(without_keys),
            private_key: certificate.private_key.as_ref().map(|_| hidden()),
            ..Default::default()
        };
        *certificate = public;
    }
    (!context.tls_certificates.is_empty()).then_some(())
}

/// A TLS context of a listener or a cluster may hold a key elsewhere, too: one that is refused, or beside a
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
    use envoy_types::pb::envoy::{
        config::listener::v3::FilterChain,
        extensions::transport_sockets::tls::v3::TlsSessionTicketKeys,
    };

    use super::*;

    fn bytes(text: &[u8]) -> Option<DataSource> {
        Some(DataSource {
            specifier: Some(Specifier::InlineBytes(text.to_vec())),
            ..Default::default()
        })
    }

    fn socket<M: Message + Name>(context: &M) -> Option<TransportSocket> {
        Some(TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(ConfigType::TypedConfig(Any {
                type_url: M::type_url(),
                value: context.encode_to_vec(),
            })),
        })
    }

    fn pack<M: Message + Name>(message: &M) -> Arc<Any> {
        Arc::new(Any {
            type_url: M::type_url(),
            value: message.encode_to_vec(),
        })
    }

    #[test]
    fn keys_that_are_not_text_are_left_out_of_tls_contexts() {
        let common = CommonTlsContext {
            tls_certificates: vec![TlsCertificate {
                certificate_chain: bytes(b"chain"),
                private_key: bytes(b"\x30\x82secret-der"),
                pkcs12: bytes(b"secret-pkcs12"),
                password: bytes(b"secret-password"),
                ..Default::default()
            }],
            alpn_protocols: vec!["h2".to_owned()],
            ..Default::default()
        };
        let up = socket(&UpstreamTlsContext {
            common_tls_context: Some(common.clone()),
            sni: "kept.test".to_owned(),
            ..Default::default()
        });
        let cluster = Cluster {
            name: "c".to_owned(),
            transport_socket: up,
            ..Default::default()
        };
        let down = socket(&DownstreamTlsContext {
            common_tls_context: Some(common),
            session_ticket_keys_type: Some(SessionTicketKeysType::SessionTicketKeys(
                TlsSessionTicketKeys {
                    keys: bytes(b"secret-tickets").into_iter().collect(),
                },
            )),
            ..Default::default()
        });
        let tickets = socket(&DownstreamTlsContext {
            session_ticket_keys_type: Some(SessionTicketKeysType::SessionTicketKeys(
                TlsSessionTicketKeys {
                    keys: bytes(b"secret-tickets").into_iter().collect(),
                },
            )),
            ..Default::default()
        });
        let listener = Listener {
            name: "l".to_owned(),
            filter_chains: vec![FilterChain {
                transport_socket: down,
                ..Default::default()
            }],
            default_filter_chain: Some(FilterChain {
                transport_socket: tickets,
                ..Default::default()
            }),
            ..Default::default()
        };
        for (kind, raw) in [
            (Kind::Cluster, pack(&cluster)),
            (Kind::Listener, pack(&listener)),
        ] {
            assert!(find(&raw.value, b"secret").is_some());
            let shown = redacted(kind, &raw);
            assert!(find(&shown.value, b"secret").is_none(), "{kind}");
            assert!(find(&shown.value, b"chain").is_some(), "{kind}");
        }
        let shown = redacted(Kind::Cluster, &pack(&cluster));
        assert!(find(&shown.value, b"kept.test").is_some());
        // One without keys is as it was sent.
        let plain = pack(&Cluster {
            transport_socket: socket(&UpstreamTlsContext::default()),
            ..Default::default()
        });
        assert!(Arc::ptr_eq(&redacted(Kind::Cluster, &plain), &plain));
    }

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
