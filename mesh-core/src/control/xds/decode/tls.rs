//! TLS to the endpoints of a cluster (gRFC A29, A82, A101), and what it has in common with that of
//! accepted connections.

mod trust;

use std::{collections::BTreeSet, sync::Arc};

use envoy_types::pb::{
    envoy::{
        config::core::v3::{TransportSocket, transport_socket::ConfigType},
        extensions::transport_sockets::tls::v3::{
            CommonTlsContext, SdsSecretConfig, UpstreamTlsContext,
        },
    },
    google::protobuf::Any,
};

use super::{
    Context, FieldError, ResultExt,
    bounds::quote,
    extension::{type_name, unpack},
    listener::same_stream,
    matcher,
};
use crate::{
    config::{CaSource, CertificateProvider, IdentitySource, San, UpstreamTls},
    control::xds::Side,
};

const TLS: &str = "envoy.transport_sockets.tls";
const PROXY: &str =
    "envoy.extensions.transport_sockets.http_11_proxy.v3.Http11ProxyUpstreamTransport";

/// Why a field beside a certificate provider has no effect.
const PROVIDER: &str = "a certificate provider is in force";

/// Characters of a server name: what DNS allows.
const MAX_SNI: usize = 255;

/// Names of the certificate providers that the bootstrap configures.
pub(super) type Providers = BTreeSet<String>;

/// What TLS contexts of both sides have in common.
pub(super) struct Common {
    /// The certificate to present.
    pub(super) identity: Option<IdentitySource>,
    /// Whom to trust. Always there on the client's side.
    pub(super) roots: Option<CaSource>,
    /// The names of which the peer must have one.
    pub(super) sans: Vec<San>,
}

/// Decodes the field `transport_socket` of a cluster.
///
/// It is checked whether or not the channel uses it: what asks for TLS never becomes plaintext.
pub(super) fn decode(
    wire: &TransportSocket,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<UpstreamTls, FieldError> {
    socket(wire, cx, |config, cx| upstream(config, providers, cx))
}

/// Decodes a transport socket, the context of which `context` reads.
pub(super) fn socket<T>(
    socket: &TransportSocket,
    cx: &mut Context<'_>,
    context: impl FnOnce(&Any, &mut Context<'_>) -> Result<T, FieldError>,
) -> Result<T, FieldError> {
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
        Some(config) => context(config, cx),
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
    let Common {
        identity,
        roots,
        sans,
    } = common(common_tls_context.as_ref(), Side::Client, providers, cx)?;
    let roots = roots.ok_or_else(|| {
        FieldError::new("must be set: it says whom to trust")
            .field("validation_context")
            .field("common_tls_context")
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

/// Decodes the field `common_tls_context`.
pub(super) fn common(
    wire: Option<&CommonTlsContext>,
    side: Side,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<Common, FieldError> {
    cx.field("common_tls_context", |cx| {
        let Some(common) = wire else {
            return Err(FieldError::new("must be set"));
        };
        refuse_unsupported(common)?;
        let identity = identity(common, providers, cx)?;
        let (roots, sans) = trust::trust(common, side, providers, cx)?;
        Ok(Common {
            identity,
            roots,
            sans,
        })
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
    const SECRETS: &str = "tls_certificate_sds_secret_configs";
    let CommonTlsContext {
        tls_certificate_provider_instance: new,
        tls_certificate_certificate_provider_instance: old,
        tls_certificates,
        tls_certificate_sds_secret_configs: secrets,
        tls_certificate_certificate_provider,
        custom_tls_certificate_selector,
        ..
    } = common;
    let old = old
        .as_ref()
        .map(|old| (&old.instance_name, &old.certificate_name));
    let provider = match (new, old) {
        (Some(new), _) => {
            let new = (&new.instance_name, &new.certificate_name);
            if old.is_some_and(|old| old != new) {
                cx.ignored(OLD, format!("{NEW} is in force"));
            }
            Some(provider(new, providers).field(NEW)?)
        }
        (None, Some(old)) => Some(provider(old, providers).field(OLD)?),
        (None, None) => None,
    };
    if let Some(provider) = provider {
        if !secrets.is_empty() {
            cx.ignored(SECRETS, PROVIDER);
        }
        return Ok(Some(IdentitySource::Provider(provider)));
    }
    // Calling without the certificate that is asked for would be another identity: none.
    let refused = [
        ("tls_certificates", !tls_certificates.is_empty()),
        (
            "tls_certificate_certificate_provider",
            tls_certificate_certificate_provider.is_some(),
        ),
        (
            "custom_tls_certificate_selector",
            custom_tls_certificate_selector.is_some(),
        ),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, set)| *set) {
        return Err(FieldError::new(format!("not supported: use {NEW}")).field(name));
    }
    match &secrets[..] {
        [] => Ok(None),
        [one] => Ok(Some(IdentitySource::Secret(secret(one).index(SECRETS, 0)?))),
        more => {
            let problem = format!("must be one: there are {}", more.len());
            Err(FieldError::new(problem).field(SECRETS))
        }
    }
}

/// The name of a secret that the control plane delivers on its own stream.
fn secret(wire: &SdsSecretConfig) -> Result<Arc<str>, FieldError> {
    let SdsSecretConfig { name, sds_config } = wire;
    if name.is_empty() {
        return Err(FieldError::new("must not be empty").field("name"));
    }
    same_stream(sds_config.as_ref()).field("sds_config")?;
    Ok(name.as_str().into())
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
