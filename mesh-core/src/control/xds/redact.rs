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
        return Arc::clone(raw);
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

/// A file of certificates may have a key in it by mistake.
fn without_keys(source: DataSource) -> DataSource {
    const KEY: &[u8] = b"PRIVATE KEY";
    let bytes = match &source.specifier {
        Some(Specifier::InlineBytes(bytes)) => bytes.as_slice(),
        Some(Specifier::InlineString(text)) => text.as_bytes(),
        _ => return source,
    };
    if bytes.windows(KEY.len()).any(|window| window == KEY) {
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
