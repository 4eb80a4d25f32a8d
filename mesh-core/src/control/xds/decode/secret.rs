//! Secrets (SDS over ADS): certificates and trust, inline.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret as WireSecret, TlsCertificate, secret::Type,
    },
};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::{
    FieldError, ResultExt,
    fields::{Field, Message},
};
use crate::config::{Secret, SecretKey, SecretMaterial};

/// Certificates that one secret may hold.
const MAX_CERTIFICATES: usize = 1_000;

/// Decodes a secret. No error says what a private key, or what may be one, contains.
pub(super) fn decode(wire: WireSecret) -> Result<Secret, FieldError> {
    let WireSecret { name, r#type, .. } = wire;
    let material = match r#type {
        Some(Type::TlsCertificate(wire)) => certificate(wire).field("tls_certificate")?,
        Some(Type::ValidationContext(wire)) => trust(wire).field("validation_context")?,
        Some(Type::SessionTicketKeys(_)) => {
            let problem = "not supported: TLS sessions are not resumed";
            return Err(FieldError::new(problem).field("session_ticket_keys"));
        }
        Some(Type::GenericSecret(_)) => {
            let problem = "not supported: only certificates and validation contexts are";
            return Err(FieldError::new(problem).field("generic_secret"));
        }
        None => {
            let problem = "must hold a tls_certificate or a validation_context";
            return Err(FieldError::new(problem).field("type"));
        }
    };
    Ok(Secret {
        name: name.into(),
        material,
    })
}

fn certificate(wire: TlsCertificate) -> Result<SecretMaterial, FieldError> {
    let TlsCertificate {
        certificate_chain,
        private_key,
        pkcs12,
        private_key_provider,
        password,
        tls_params,
        ..
    } = wire;
    for (name, set, instead) in [
        (
            "pkcs12",
            pkcs12.is_some(),
            "send certificate_chain and private_key",
        ),
        (
            "private_key_provider",
            private_key_provider.is_some(),
            "send private_key",
        ),
        (
            "password",
            password.is_some(),
            "send the private key unencrypted",
        ),
        ("tls_params", tls_params.is_some(), "the process decides"),
    ] {
        if set {
            let problem = format!("not supported: {instead}");
            return Err(FieldError::new(problem).field(name));
        }
    }
    let chain = data(certificate_chain)
        .and_then(|pem| certificates(&pem))
        .field("certificate_chain")?;
    let key = data(private_key)
        .and_then(|pem| private_key_in(&pem))
        .field("private_key")?;
    Ok(SecretMaterial::Certificate { chain, key })
}

fn trust(wire: CertificateValidationContext) -> Result<SecretMaterial, FieldError> {
    let CertificateValidationContext {
        trusted_ca,
        ca_certificate_provider_instance,
        system_root_certs,
        ..
    } = wire;
    for (name, set) in [
        (
            "ca_certificate_provider_instance",
            ca_certificate_provider_instance.is_some(),
        ),
        ("system_root_certs", system_root_certs.is_some()),
    ] {
        if set {
            let problem = "not supported in a secret: send trusted_ca";
            return Err(FieldError::new(problem).field(name));
        }
    }
    let roots = data(trusted_ca).and_then(|pem| certificates(&pem));
    Ok(SecretMaterial::Trust(roots.field("trusted_ca")?))
}

/// What a data source holds.
fn data(source: Option<DataSource>) -> Result<Vec<u8>, FieldError> {
    let Some(specifier) = source.and_then(|source| source.specifier) else {
        return Err(FieldError::new(
            "must be set, as inline_bytes or inline_string",
        ));
    };
    // What is read on this machine is not for a control plane to choose.
    let elsewhere = |name| {
        let problem = "not supported: send inline_bytes, or use a certificate provider of the \
                       bootstrap";
        Err(FieldError::new(problem).field(name))
    };
    match specifier {
        Specifier::InlineBytes(bytes) => Ok(bytes),
        Specifier::InlineString(text) => Ok(text.into_bytes()),
        Specifier::Filename(_) => elsewhere("filename"),
        Specifier::EnvironmentVariable(_) => elsewhere("environment_variable"),
    }
}

fn certificates(pem: &[u8]) -> Result<Arc<[CertificateDer<'static>]>, FieldError> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        if certificates.len() == MAX_CERTIFICATES {
            let problem = format!("more certificates than the limit of {MAX_CERTIFICATES}");
            return Err(FieldError::new(problem));
        }
        certificates.push(certificate.map_err(|error| not_pem(&error))?);
    }
    if certificates.is_empty() {
        return Err(FieldError::new("no certificate in PEM"));
    }
    // Read now, so that what cannot be read is refused and not found out by a handshake.
    for (index, certificate) in certificates.iter().enumerate() {
        if x509_parser::parse_x509_certificate(certificate).is_err() {
            let problem = format!("certificate {index} is not X.509");
            return Err(FieldError::new(problem));
        }
    }
    Ok(certificates.into())
}

fn private_key_in(pem: &[u8]) -> Result<SecretKey, FieldError> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(SecretKey::new(key)),
        Err(pem::Error::NoItemsFound) => Err(FieldError::new(
            "no private key in PEM: PKCS #8, PKCS #1 or SEC1, unencrypted",
        )),
        Err(error) => Err(not_pem(&error)),
    }
}

/// The library's text may quote what it has read.
fn not_pem(error: &pem::Error) -> FieldError {
    FieldError::new(match error {
        pem::Error::MissingSectionEnd { .. } => "not PEM: a section has no end",
        pem::Error::IllegalSectionStart { .. } => "not PEM: a section begins wrongly",
        pem::Error::Base64Decode(_) => "not PEM: a section is not base64",
        _ => "not PEM",
    })
}

pub(super) static SECRET: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.Secret",
    fields: &[
        Field::enforced(1, "name"),
        Field::message(2, "tls_certificate", &TLS_CERTIFICATE),
        Field::enforced(3, "session_ticket_keys"),
        Field::message(4, "validation_context", &VALIDATION_CONTEXT),
        Field::enforced(5, "generic_secret"),
    ],
};

static TLS_CERTIFICATE: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
    fields: &[
        Field::message(1, "certificate_chain", &DATA_SOURCE),
        Field::message(2, "private_key", &DATA_SOURCE),
        Field::enforced(3, "password"),
        Field::ignored(4, "ocsp_staple", "no OCSP response is stapled"),
        Field::ignored(5, "signed_certificate_timestamp", "none is sent"),
        Field::enforced(6, "private_key_provider"),
        Field::ignored(7, "watched_directory", NO_FILES),
        Field::enforced(8, "pkcs12"),
        Field::enforced(9, "tls_params"),
    ],
};

/// Of a secret. What it says beyond roots would be lost: the resource that names it says it.
static VALIDATION_CONTEXT: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext (of a secret)",
    fields: &[
        Field::message(1, "trusted_ca", &DATA_SOURCE),
        Field::restricts(2, "verify_certificate_hash", ACCEPTED),
        Field::restricts(3, "verify_certificate_spki", ACCEPTED),
        Field::restricts(6, "require_signed_certificate_timestamp", ACCEPTED),
        Field::restricts(7, "crl", ACCEPTED),
        Field::ignored(8, "allow_expired_certificate", "none is accepted"),
        Field::restricts(9, "match_subject_alt_names", ACCEPTED),
        Field::ignored(10, "trust_chain_verification", "chains are always verified"),
        Field::ignored(11, "watched_directory", NO_FILES),
        Field::restricts(12, "custom_validator_config", ACCEPTED),
        Field::enforced(13, "ca_certificate_provider_instance"),
        Field::ignored(14, "only_verify_leaf_cert_crl", "no crl is accepted here"),
        Field::restricts(15, "match_typed_subject_alt_names", ACCEPTED),
        Field::restricts(16, "max_verify_depth", ACCEPTED),
        Field::enforced(17, "system_root_certs"),
        Field::ignored(18, "suppress_client_ca_list", "none is sent"),
        Field::others_restrict(ACCEPTED),
    ],
};

static DATA_SOURCE: Message = Message {
    name: "envoy.config.core.v3.DataSource",
    fields: &[
        Field::enforced(1, "filename"),
        Field::enforced(2, "inline_bytes"),
        Field::enforced(3, "inline_string"),
        Field::enforced(4, "environment_variable"),
        Field::ignored(5, "watched_directory", NO_FILES),
    ],
};

const ACCEPTED: &str = "which certificates are accepted";
const NO_FILES: &str = "no file is read";

#[cfg(all(test, feature = "testing"))]
mod tests;
