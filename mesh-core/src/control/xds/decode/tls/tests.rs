#![expect(deprecated, reason = "deprecated fields are tested too")]

use envoy_types::pb::{
    envoy::{
        config::core::v3::{DataSource, TypedExtensionConfig},
        extensions::transport_sockets::{
            http_11_proxy::v3::Http11ProxyUpstreamTransport,
            raw_buffer::v3::RawBuffer,
            tls::v3::{
                CertificateProviderPluginInstance as New, CertificateValidationContext,
                SubjectAltNameMatcher, TlsCertificate, TlsParameters,
                certificate_validation_context::SystemRootCerts,
                common_tls_context::{
                    CertificateProvider as Plugin, CertificateProviderInstance as Old,
                    CombinedCertificateValidationContext, ValidationContextType as Trust,
                },
                subject_alt_name_matcher::SanType,
            },
        },
        r#type::matcher::v3::{StringMatcher as WireMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::{BoolValue, UInt32Value},
};

use super::{super::test_support::*, *};
use crate::{
    config::{SanKind, StringMatch, StringMatcher},
    control::xds::FilterRegistry,
};

type Context_ = UpstreamTlsContext;

fn new(instance: &str) -> Option<New> {
    Some(New {
        instance_name: instance.into(),
        certificate_name: "name".into(),
    })
}

fn old(instance: &str) -> Option<Old> {
    Some(Old {
        instance_name: instance.into(),
        certificate_name: "name".into(),
    })
}

fn config(instance: &str) -> CertificateProvider {
    CertificateProvider {
        instance: instance.into(),
        certificate: "name".into(),
    }
}

fn exact(text: &str) -> WireMatcher {
    WireMatcher {
        match_pattern: Some(MatchPattern::Exact(text.into())),
        ignore_case: false,
    }
}

fn san(kind: SanKind, text: &str) -> San {
    San {
        kind,
        matcher: StringMatcher::new(StringMatch::Exact(text.into()), false),
    }
}

/// Trusts the roots of the provider `default`, and presents nothing.
fn context() -> Context_ {
    Context_ {
        common_tls_context: Some(CommonTlsContext {
            validation_context_type: Some(Trust::ValidationContext(CertificateValidationContext {
                ca_certificate_provider_instance: new("default"),
                ..Default::default()
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn common(wire: &mut Context_) -> &mut CommonTlsContext {
    wire.common_tls_context.as_mut().unwrap()
}

fn validation_of(wire: &mut Context_) -> &mut CertificateValidationContext {
    match &mut common(wire).validation_context_type {
        Some(Trust::ValidationContext(context)) => context,
        other => panic!("{other:?}"),
    }
}

fn combine(wire: &mut Context_, combined: CombinedCertificateValidationContext) {
    common(wire).validation_context_type = Some(Trust::CombinedValidationContext(combined));
}

fn edited(edit: impl FnOnce(&mut Context_)) -> Context_ {
    let mut wire = context();
    edit(&mut wire);
    wire
}

fn socket(config: Any) -> TransportSocket {
    TransportSocket {
        name: TLS.into(),
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}

fn decode_socket(socket: &TransportSocket) -> Result<(UpstreamTls, Vec<String>), String> {
    let filters = FilterRegistry::standard();
    let mut cx = Context::new(&filters);
    let providers = ["default", "other"].map(str::to_owned).into();
    let tls = decode(socket, &providers, &mut cx).map_err(|error| error.to_string())?;
    let mut findings = super::super::fields::Findings::default();
    cx.finish(&mut findings);
    Ok((tls, lines(&findings.finish())))
}

fn accepted(wire: &Context_) -> UpstreamTls {
    let (tls, findings) = decode_socket(&socket(any(wire))).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    tls
}

#[test]
fn roots_only() {
    assert_eq!(
        accepted(&context()),
        UpstreamTls {
            roots: CaSource::Provider(config("default")),
            identity: None,
            sans: vec![],
            sni: None,
            auto_host_sni: false,
            auto_sni_san_validation: false,
        }
    );
}

/// Old and new fields beside each other, and SPIFFE identities in the deprecated list.
#[test]
fn a_context_of_istio() {
    let wire = edited(|wire| {
        wire.sni = "outbound_.8080_._.greeter".into();
        let common = common(wire);
        common.tls_certificate_provider_instance = new("default");
        common.tls_certificate_certificate_provider_instance = old("default");
        combine(
            wire,
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    ca_certificate_provider_instance: new("default"),
                    match_subject_alt_names: vec![exact("spiffe://a/ns/b/sa/c")],
                    ..Default::default()
                }),
                validation_context_certificate_provider_instance: old("default"),
                ..Default::default()
            },
        );
    });
    assert_eq!(
        accepted(&wire),
        UpstreamTls {
            roots: CaSource::Provider(config("default")),
            identity: Some(IdentitySource::Provider(config("default"))),
            sans: vec![san(SanKind::Any, "spiffe://a/ns/b/sa/c")],
            sni: Some("outbound_.8080_._.greeter".into()),
            auto_host_sni: false,
            auto_sni_san_validation: false,
        }
    );
}

#[test]
fn only_the_old_fields() {
    let wire = edited(|wire| {
        common(wire).tls_certificate_certificate_provider_instance = old("other");
        common(wire).validation_context_type = Some(
            Trust::ValidationContextCertificateProviderInstance(old("default").unwrap()),
        );
    });
    let tls = accepted(&wire);
    assert_eq!(
        tls.identity,
        Some(IdentitySource::Provider(config("other")))
    );
    assert_eq!(tls.roots, CaSource::Provider(config("default")));

    let wire = edited(|wire| {
        combine(
            wire,
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    match_subject_alt_names: vec![exact("x")],
                    ..Default::default()
                }),
                validation_context_certificate_provider_instance: old("other"),
                ..Default::default()
            },
        );
    });
    let tls = accepted(&wire);
    assert_eq!(tls.roots, CaSource::Provider(config("other")));
    assert_eq!(tls.sans, [san(SanKind::Any, "x")]);
}

#[test]
fn new_fields_win() {
    let wire = edited(|wire| {
        let common = common(wire);
        common.tls_certificate_provider_instance = new("default");
        common.tls_certificate_certificate_provider_instance = old("gone");
        combine(
            wire,
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    ca_certificate_provider_instance: new("default"),
                    system_root_certs: Some(SystemRootCerts::default()),
                    match_subject_alt_names: vec![exact("x")],
                    match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
                        san_type: SanType::Uri as i32,
                        matcher: Some(exact("y")),
                        ..Default::default()
                    }],
                    ..Default::default()
                }),
                validation_context_certificate_provider_instance: old("gone"),
                ..Default::default()
            },
        );
    });
    let (tls, findings) = decode_socket(&socket(any(&wire))).unwrap();
    assert_eq!(
        tls.identity,
        Some(IdentitySource::Provider(config("default")))
    );
    assert_eq!(tls.roots, CaSource::Provider(config("default")));
    assert_eq!(tls.sans, [san(SanKind::Uri, "y")]);
    let common = "typed_config.common_tls_context";
    let combined = format!("{common}.combined_validation_context");
    assert_eq!(
        findings,
        [
            format!(
                "{common}.tls_certificate_certificate_provider_instance - \
                 tls_certificate_provider_instance is in force"
            ),
            format!(
                "{combined}.validation_context_certificate_provider_instance - \
                 ca_certificate_provider_instance is in force"
            ),
            format!(
                "{combined}.default_validation_context.system_root_certs - a certificate \
                 provider is in force"
            ),
            format!(
                "{combined}.default_validation_context.match_subject_alt_names - \
                 match_typed_subject_alt_names is in force"
            ),
        ]
    );
}

#[test]
fn system_roots() {
    let wire = edited(|wire| {
        let context = validation_of(wire);
        context.ca_certificate_provider_instance = None;
        context.system_root_certs = Some(SystemRootCerts::default());
        wire.sni = "a".repeat(255);
        wire.auto_host_sni = true;
        wire.auto_sni_san_validation = true;
    });
    let tls = accepted(&wire);
    assert_eq!(tls.roots, CaSource::System);
    assert_eq!(tls.sni.map(|sni| sni.len()), Some(255));
    assert!(tls.auto_host_sni && tls.auto_sni_san_validation);
}

#[test]
fn kinds_of_names() {
    let kinds = [
        (SanType::Email, SanKind::Email),
        (SanType::Dns, SanKind::Dns),
        (SanType::Uri, SanKind::Uri),
        (SanType::IpAddress, SanKind::Ip),
    ];
    let wire = edited(|wire| {
        let typed = kinds.map(|(kind, _)| SubjectAltNameMatcher {
            san_type: kind as i32,
            matcher: Some(exact("x")),
            ..Default::default()
        });
        validation_of(wire).match_typed_subject_alt_names = typed.into();
    });
    assert_eq!(accepted(&wire).sans, kinds.map(|(_, kind)| san(kind, "x")));
}

#[test]
fn other_certificates_are_ignored_beside_a_provider() {
    let wire = edited(|wire| {
        let common = common(wire);
        common.tls_certificates = vec![TlsCertificate::default()];
        common.tls_certificate_sds_secret_configs = vec![SdsSecretConfig::default()];
        common.tls_certificate_provider_instance = new("default");
    });
    let (tls, findings) = decode_socket(&socket(any(&wire))).unwrap();
    assert_eq!(
        tls.identity,
        Some(IdentitySource::Provider(config("default")))
    );
    assert_eq!(
        findings,
        [
            "typed_config.common_tls_context.tls_certificate_sds_secret_configs - a certificate \
             provider is in force"
        ]
    );
}

#[test]
fn nothing_is_required_where_a_requirement_is_false() {
    let wire = edited(|wire| {
        validation_of(wire).require_signed_certificate_timestamp = Some(BoolValue { value: false });
    });
    accepted(&wire);
}

mod refusals;
mod secrets;
