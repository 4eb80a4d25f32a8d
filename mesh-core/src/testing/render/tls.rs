//! TLS contexts in the dialect of gRPC: certificate provider instances.

use envoy_types::pb::{
    envoy::{
        config::core::v3::{TransportSocket, transport_socket},
        extensions::transport_sockets::tls::v3::{
            CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
            DownstreamTlsContext, SubjectAltNameMatcher, UpstreamTlsContext,
            certificate_validation_context::SystemRootCerts,
            common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType,
        },
    },
    google::protobuf::{Any, BoolValue},
};

use super::{pack, string_matcher};
use crate::{
    config::SanKind,
    testing::tls::{
        Clients, Downstream, ListenerTls, ListenerTlsState, SanMatch, Tls, TlsState, Upstream,
    },
};

pub(super) fn upstream(tls: &Tls) -> TransportSocket {
    match &tls.0 {
        TlsState::Described(described) => socket(pack(&upstream_context(described))),
        TlsState::Given(context) => socket(pack(&**context)),
    }
}

pub(super) fn downstream(tls: &ListenerTls) -> TransportSocket {
    match &tls.0 {
        ListenerTlsState::Described(described) => socket(pack(&downstream_context(described))),
        ListenerTlsState::Given(context) => socket(pack(&**context)),
    }
}

fn socket(context: Any) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(context)),
    }
}

fn upstream_context(tls: &Upstream) -> UpstreamTlsContext {
    let mut validation = CertificateValidationContext {
        ca_certificate_provider_instance: tls.roots.as_deref().map(instance),
        system_root_certs: tls.roots.is_none().then(SystemRootCerts::default),
        ..CertificateValidationContext::default()
    };
    if tls.deprecated_sans {
        fill_deprecated(&mut validation, &tls.sans);
    } else {
        validation.match_typed_subject_alt_names = typed_sans(&tls.sans).collect();
    }
    UpstreamTlsContext {
        common_tls_context: Some(common(tls.identity.as_deref(), Some(validation))),
        sni: tls.sni.clone(),
        auto_host_sni: tls.auto_host_sni,
        auto_sni_san_validation: tls.auto_sni_san_validation,
        ..UpstreamTlsContext::default()
    }
}

fn downstream_context(tls: &Downstream) -> DownstreamTlsContext {
    let (roots, required) = match &tls.clients {
        Clients::Nothing => (None, false),
        Clients::Ask(roots) => (Some(roots), false),
        Clients::Require(roots) => (Some(roots), true),
    };
    let validation = roots.map(|roots| CertificateValidationContext {
        ca_certificate_provider_instance: Some(instance(roots)),
        ..CertificateValidationContext::default()
    });
    DownstreamTlsContext {
        common_tls_context: Some(common(Some(&tls.identity), validation)),
        require_client_certificate: Some(BoolValue { value: required }),
        ..DownstreamTlsContext::default()
    }
}

fn common(
    identity: Option<&str>,
    validation: Option<CertificateValidationContext>,
) -> CommonTlsContext {
    CommonTlsContext {
        tls_certificate_provider_instance: identity.map(instance),
        validation_context_type: validation.map(ValidationContextType::ValidationContext),
        ..CommonTlsContext::default()
    }
}

fn instance(name: &str) -> CertificateProviderPluginInstance {
    CertificateProviderPluginInstance {
        instance_name: name.to_owned(),
        certificate_name: String::new(),
    }
}

/// A test of names of any kind is one for each kind.
fn typed_sans(sans: &[SanMatch]) -> impl Iterator<Item = SubjectAltNameMatcher> {
    sans.iter().flat_map(|san| {
        let kinds = match san.kind {
            SanKind::Any => &[
                SanType::Dns,
                SanType::Uri,
                SanType::Email,
                SanType::IpAddress,
            ][..],
            SanKind::Dns => &[SanType::Dns],
            SanKind::Uri => &[SanType::Uri],
            SanKind::Email => &[SanType::Email],
            SanKind::Ip => &[SanType::IpAddress],
        };
        kinds.iter().map(|&kind| SubjectAltNameMatcher {
            san_type: kind.into(),
            matcher: Some(string_matcher(&san.text)),
            ..SubjectAltNameMatcher::default()
        })
    })
}

// The field is deprecated, and still what Istio writes.
#[allow(deprecated)]
fn fill_deprecated(validation: &mut CertificateValidationContext, sans: &[SanMatch]) {
    let matchers = sans.iter().map(|san| string_matcher(&san.text));
    validation.match_subject_alt_names = matchers.collect();
}
