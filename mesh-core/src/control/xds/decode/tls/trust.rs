//! Whom a TLS context trusts.

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType as Trust},
    subject_alt_name_matcher::SanType,
};

use super::{
    Context, FieldError, PROVIDER, Providers, ResultExt, matcher, provider, refuse, secret,
};
use crate::{
    config::{CaSource, San, SanKind},
    control::xds::Side,
};

/// What [`trust`] reads. A server without roots does not ask for certificates.
type Trusted = (Option<CaSource>, Vec<San>);

/// Whom to trust, and which names.
#[expect(deprecated, reason = "Istio sends the old fields beside the new ones")]
pub(super) fn trust(
    common: &CommonTlsContext,
    side: Side,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<Trusted, FieldError> {
    match &common.validation_context_type {
        Some(Trust::ValidationContext(context)) => cx.field("validation_context", |cx| {
            validation(context, None, side, providers, cx)
        }),
        Some(Trust::CombinedValidationContext(combined)) => cx
            .field("combined_validation_context", |cx| {
                self::combined(combined, side, providers, cx)
            }),
        Some(Trust::ValidationContextCertificateProviderInstance(old)) => {
            let roots = provider((&old.instance_name, &old.certificate_name), providers)
                .field("validation_context_certificate_provider_instance")?;
            Ok((Some(CaSource::Provider(roots)), Vec::new()))
        }
        Some(Trust::ValidationContextSdsSecretConfig(wire)) => {
            let roots = CaSource::Secret(secret(wire).field(SDS)?);
            Ok((Some(roots), Vec::new()))
        }
        Some(Trust::ValidationContextCertificateProvider(_)) => {
            Err(FieldError::new(NO_OTHER_ROOTS).field("validation_context_certificate_provider"))
        }
        None => Ok((None, Vec::new())),
    }
}

const SDS: &str = "validation_context_sds_secret_config";
const NO_OTHER_ROOTS: &str =
    "not supported: use ca_certificate_provider_instance or system_root_certs";

#[expect(deprecated, reason = "Istio sends the old field beside the new one")]
fn combined(
    combined: &CombinedCertificateValidationContext,
    side: Side,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<Trusted, FieldError> {
    const OLD: &str = "validation_context_certificate_provider_instance";
    let CombinedCertificateValidationContext {
        default_validation_context,
        validation_context_sds_secret_config: secret_config,
        validation_context_certificate_provider_instance: old,
        validation_context_certificate_provider: plugin,
        ..
    } = combined;
    let new = default_validation_context
        .as_ref()
        .and_then(|context| context.ca_certificate_provider_instance.as_ref())
        .map(|new| (&new.instance_name, &new.certificate_name));
    let old = old
        .as_ref()
        .map(|old| (&old.instance_name, &old.certificate_name));
    let other = match (secret_config, new, old) {
        // Which of them the control plane means cannot be told.
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            let problem = "set beside a certificate provider: only one can say whom to trust";
            return Err(FieldError::new(problem).field(SDS));
        }
        (Some(wire), None, None) => Some(CaSource::Secret(secret(wire).field(SDS)?)),
        (None, Some(new), Some(old)) if new != old => {
            cx.ignored(OLD, "ca_certificate_provider_instance is in force");
            None
        }
        (None, None, Some(old)) => Some(CaSource::Provider(provider(old, providers).field(OLD)?)),
        (None, _, _) => None,
    };
    let none = CertificateValidationContext::default();
    let context = default_validation_context.as_ref().unwrap_or(&none);
    let (roots, sans) = cx.field("default_validation_context", |cx| {
        validation(context, other, side, providers, cx)
    })?;
    if roots.is_none() && plugin.is_some() {
        let error = FieldError::new(NO_OTHER_ROOTS);
        return Err(error.field("validation_context_certificate_provider"));
    }
    Ok((roots, sans))
}

/// A validation context; `other` are the roots that a field beside it names.
#[expect(deprecated, reason = "Istio sends match_subject_alt_names")]
fn validation(
    context: &CertificateValidationContext,
    other: Option<CaSource>,
    side: Side,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<Trusted, FieldError> {
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
    let roots = match (ca_certificate_provider_instance, other) {
        (Some(ca), _) => {
            let ca = (&ca.instance_name, &ca.certificate_name);
            Some(CaSource::Provider(provider(ca, providers).field(CA)?))
        }
        (None, Some(other)) => Some(other),
        (None, None) if system_root_certs.is_none() => None,
        // Whoever has a certificate for any name on the web would be let in (gRFC A82).
        (None, None) if side == Side::Server => {
            let problem = format!("for clients only: use {CA}");
            return Err(FieldError::new(problem).field("system_root_certs"));
        }
        (None, None) => Some(CaSource::System),
    };
    // A server that says nothing about certificates of clients does not ask for them. Whatever is
    // said there, in force or not, means that not everybody is to be trusted.
    let open = side == Side::Server && *context == CertificateValidationContext::default();
    if roots.is_none() && !open {
        let or = match side {
            Side::Server => "",
            Side::Client | Side::Both => ", or system_root_certs",
        };
        let problem = format!("must be set{or}: it says whom to trust");
        return Err(FieldError::new(problem).field(CA));
    }
    if system_root_certs.is_some() && roots != Some(CaSource::System) {
        let note = match &roots {
            Some(CaSource::Secret(_)) => "a secret is in force",
            _ => PROVIDER,
        };
        cx.ignored("system_root_certs", note);
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
