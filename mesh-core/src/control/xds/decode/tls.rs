//! TLS to the endpoints of a cluster (gRFC A29, A82, A101).

use std::{collections::BTreeSet, sync::Arc};

use envoy_types::pb::{
    envoy::{
        config::core::v3::{TransportSocket, transport_socket::ConfigType},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher,
            UpstreamTlsContext,
            common_tls_context::{
                CombinedCertificateValidationContext, ValidationContextType as Trust,
            },
            subject_alt_name_matcher::SanType,
        },
    },
    google::protobuf::Any,
};

use super::{
    Context, FieldError, ResultExt,
    bounds::quote,
    extension::{type_name, unpack},
    matcher,
};
use crate::config::{CaSource, CertificateProvider, IdentitySource, San, SanKind, UpstreamTls};

const TLS: &str = "envoy.transport_sockets.tls";
const PROXY: &str =
    "envoy.extensions.transport_sockets.http_11_proxy.v3.Http11ProxyUpstreamTransport";

/// Characters of a server name: what DNS allows.
const MAX_SNI: usize = 255;

/// Names of the certificate providers that the bootstrap configures.
pub(super) type Providers = BTreeSet<String>;

/// Decodes the field `transport_socket` of a cluster.
///
/// It is checked whether or not the channel uses it: what asks for TLS never becomes plaintext.
pub(super) fn decode(
    socket: &TransportSocket,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<UpstreamTls, FieldError> {
    let TransportSocket {
        name, config_type, ..
    } = socket;
    let config = config_type
        .as_ref()
        .map(|ConfigType::TypedConfig(config)| config);
    if config.is_some_and(|config| type_name(&config.type_url) == PROXY) {
        let problem = "Http11ProxyUpstreamTransport is not supported yet";
        return Err(FieldError::new(problem).field("typed_config"));
    }
    if name != TLS {
        return Err(FieldError::new(format!(
            "{:?} is not supported: only {TLS:?} is",
            quote(name)
        ))
        .field("name"));
    }
    cx.field("typed_config", |cx| match config {
        Some(config) => upstream(config, providers, cx),
        None => Err(FieldError::new("must be set")),
    })
}

fn upstream(
    config: &Any,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<UpstreamTls, FieldError> {
    let UpstreamTlsContext {
        common_tls_context,
        sni,
        auto_host_sni,
        auto_sni_san_validation,
        ..
    } = unpack(config)?;
    if sni.len() > MAX_SNI {
        return Err(FieldError::new(format!(
            "a server name has at most {MAX_SNI} characters, not {}",
            sni.len()
        ))
        .field("sni"));
    }
    let (identity, (roots, sans)) = cx.field("common_tls_context", |cx| {
        let Some(common) = common_tls_context else {
            return Err(FieldError::new("must be set"));
        };
        refuse_unsupported(&common)?;
        Ok((
            identity(&common, providers, cx)?,
            trust(&common, providers, cx)?,
        ))
    })?;
    Ok(UpstreamTls {
        roots,
        identity,
        sans,
        sni: (!sni.is_empty()).then(|| sni.into()),
        auto_host_sni,
        auto_sni_san_validation,
    })
}

fn refuse_unsupported(common: &CommonTlsContext) -> Result<(), FieldError> {
    let CommonTlsContext {
        tls_params,
        custom_handshaker,
        ..
    } = common;
    let refused = [
        ("tls_params", tls_params.is_some()),
        ("custom_handshaker", custom_handshaker.is_some()),
    ];
    refuse(&refused)
}

/// The certificate to present.
#[expect(deprecated, reason = "Istio sends the old field beside the new one")]
fn identity(
    common: &CommonTlsContext,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<Option<IdentitySource>, FieldError> {
    const NEW: &str = "tls_certificate_provider_instance";
    const OLD: &str = "tls_certificate_certificate_provider_instance";
    let CommonTlsContext {
        tls_certificate_provider_instance: new,
        tls_certificate_certificate_provider_instance: old,
        tls_certificates,
        tls_certificate_sds_secret_configs,
        tls_certificate_certificate_provider,
        custom_tls_certificate_selector,
        ..
    } = common;
    let old = old
        .as_ref()
        .map(|old| (&old.instance_name, &old.certificate_name));
    if let Some(new) = new {
        let new = (&new.instance_name, &new.certificate_name);
        if old.is_some_and(|old| old != new) {
            cx.ignored(OLD, format!("{NEW} is in force"));
        }
        let provider = provider(new, providers).field(NEW)?;
        return Ok(Some(IdentitySource::Provider(provider)));
    }
    if let Some(old) = old {
        let provider = provider(old, providers).field(OLD)?;
        return Ok(Some(IdentitySource::Provider(provider)));
    }
    // Calling without the certificate that is asked for would be another identity: none.
    let refused = [
        ("tls_certificates", !tls_certificates.is_empty()),
        (
            "tls_certificate_sds_secret_configs",
            !tls_certificate_sds_secret_configs.is_empty(),
        ),
        (
            "tls_certificate_certificate_provider",
            tls_certificate_certificate_provider.is_some(),
        ),
        (
            "custom_tls_certificate_selector",
            custom_tls_certificate_selector.is_some(),
        ),
    ];
    match refused.iter().find(|(_, set)| *set) {
        Some((name, _)) => Err(FieldError::new(format!("not supported: use {NEW}")).field(name)),
        None => Ok(None),
    }
}

/// Whom to trust, and which names.
#[expect(deprecated, reason = "Istio sends the old fields beside the new ones")]
fn trust(
    common: &CommonTlsContext,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<(CaSource, Vec<San>), FieldError> {
    match &common.validation_context_type {
        Some(Trust::ValidationContext(context)) => cx.field("validation_context", |cx| {
            validation(context, None, providers, cx)
        }),
        Some(Trust::CombinedValidationContext(combined)) => cx
            .field("combined_validation_context", |cx| {
                self::combined(combined, providers, cx)
            }),
        Some(Trust::ValidationContextCertificateProviderInstance(old)) => {
            let roots = provider((&old.instance_name, &old.certificate_name), providers)
                .field("validation_context_certificate_provider_instance")?;
            Ok((CaSource::Provider(roots), Vec::new()))
        }
        Some(Trust::ValidationContextSdsSecretConfig(_)) => {
            Err(FieldError::new(NO_OTHER_ROOTS).field("validation_context_sds_secret_config"))
        }
        Some(Trust::ValidationContextCertificateProvider(_)) => {
            Err(FieldError::new(NO_OTHER_ROOTS).field("validation_context_certificate_provider"))
        }
        None => {
            Err(FieldError::new("must be set: it says whom to trust").field("validation_context"))
        }
    }
}

const NO_OTHER_ROOTS: &str =
    "not supported: use ca_certificate_provider_instance or system_root_certs";

#[expect(deprecated, reason = "Istio sends the old field beside the new one")]
fn combined(
    combined: &CombinedCertificateValidationContext,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<(CaSource, Vec<San>), FieldError> {
    const OLD: &str = "validation_context_certificate_provider_instance";
    let CombinedCertificateValidationContext {
        default_validation_context,
        validation_context_sds_secret_config,
        validation_context_certificate_provider_instance: old,
        ..
    } = combined;
    if validation_context_sds_secret_config.is_some() {
        return Err(FieldError::new(NO_OTHER_ROOTS).field("validation_context_sds_secret_config"));
    }
    let old = match old {
        Some(old) => {
            let old = (&old.instance_name, &old.certificate_name);
            let new = default_validation_context
                .as_ref()
                .and_then(|context| context.ca_certificate_provider_instance.as_ref())
                .map(|new| (&new.instance_name, &new.certificate_name));
            match new {
                Some(new) if new != old => {
                    cx.ignored(OLD, "ca_certificate_provider_instance is in force");
                    None
                }
                Some(_) => None,
                None => Some(provider(old, providers).field(OLD)?),
            }
        }
        None => None,
    };
    let none = CertificateValidationContext::default();
    let context = default_validation_context.as_ref().unwrap_or(&none);
    cx.field("default_validation_context", |cx| {
        validation(context, old, providers, cx)
    })
}

/// A validation context; `old` is the certificate provider that a deprecated field names.
#[expect(deprecated, reason = "Istio sends match_subject_alt_names")]
fn validation(
    context: &CertificateValidationContext,
    old: Option<CertificateProvider>,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<(CaSource, Vec<San>), FieldError> {
    const CA: &str = "ca_certificate_provider_instance";
    let CertificateValidationContext {
        ca_certificate_provider_instance,
        system_root_certs,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names: typed,
        match_subject_alt_names: untyped,
        require_signed_certificate_timestamp,
        crl,
        custom_validator_config,
        max_verify_depth,
        ..
    } = context;
    refuse(&[
        (
            "verify_certificate_spki",
            !verify_certificate_spki.is_empty(),
        ),
        (
            "verify_certificate_hash",
            !verify_certificate_hash.is_empty(),
        ),
        (
            "require_signed_certificate_timestamp",
            require_signed_certificate_timestamp.is_some_and(|required| required.value),
        ),
        ("crl", crl.is_some()),
        ("custom_validator_config", custom_validator_config.is_some()),
        ("max_verify_depth", max_verify_depth.is_some()),
    ])?;
    let roots = match (ca_certificate_provider_instance, old) {
        (Some(ca), _) => CaSource::Provider(
            provider((&ca.instance_name, &ca.certificate_name), providers).field(CA)?,
        ),
        (None, Some(old)) => CaSource::Provider(old),
        (None, None) if system_root_certs.is_some() => CaSource::System,
        (None, None) => {
            let problem = "must be set, or system_root_certs: it says whom to trust";
            return Err(FieldError::new(problem).field(CA));
        }
    };
    if system_root_certs.is_some() && roots != CaSource::System {
        cx.ignored("system_root_certs", "a certificate provider is in force");
    }
    if !typed.is_empty() && !untyped.is_empty() {
        cx.ignored(
            "match_subject_alt_names",
            "match_typed_subject_alt_names is in force",
        );
    }
    let typed = typed.iter().enumerate().map(|(index, san)| {
        let name = "match_typed_subject_alt_names";
        cx.index(name, index, |cx| typed_san(san, cx))
    });
    let sans = typed.collect::<Result<Vec<_>, _>>()?;
    if !sans.is_empty() {
        return Ok((roots, sans));
    }
    let untyped = untyped.iter().enumerate().map(|(index, san)| {
        let matcher = cx.index("match_subject_alt_names", index, |cx| {
            matcher::string(san.clone(), cx)
        })?;
        Ok(San {
            kind: SanKind::Any,
            matcher,
        })
    });
    Ok((roots, untyped.collect::<Result<_, _>>()?))
}

fn typed_san(san: &SubjectAltNameMatcher, cx: &mut Context<'_>) -> Result<San, FieldError> {
    let SubjectAltNameMatcher {
        san_type, matcher, ..
    } = san;
    let kind = match SanType::try_from(*san_type) {
        Ok(SanType::Email) => SanKind::Email,
        Ok(SanType::Dns) => SanKind::Dns,
        Ok(SanType::Uri) => SanKind::Uri,
        Ok(SanType::IpAddress) => SanKind::Ip,
        Ok(other @ (SanType::OtherName | SanType::Unspecified)) => {
            let problem = format!("{} is not supported", other.as_str_name());
            return Err(FieldError::new(problem).field("san_type"));
        }
        Err(_) => {
            let problem = format!("{san_type} is not known");
            return Err(FieldError::new(problem).field("san_type"));
        }
    };
    let matcher = cx.field("matcher", |cx| match matcher {
        Some(matcher) => matcher::string(matcher.clone(), cx),
        None => Err(FieldError::new("must be set")),
    })?;
    Ok(San { kind, matcher })
}

fn provider(
    (instance, certificate): (&String, &String),
    providers: &Providers,
) -> Result<CertificateProvider, FieldError> {
    if !providers.contains(instance) {
        return Err(FieldError::new(format!(
            "certificate provider {:?} is not in the bootstrap",
            quote(instance)
        ))
        .field("instance_name"));
    }
    Ok(CertificateProvider {
        instance: Arc::from(instance.as_str()),
        certificate: Arc::from(certificate.as_str()),
    })
}

/// Refuses the first of these fields that is set.
fn refuse(fields: &[(&'static str, bool)]) -> Result<(), FieldError> {
    match fields.iter().find(|(_, set)| *set) {
        Some((name, _)) => Err(FieldError::new("not supported").field(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
