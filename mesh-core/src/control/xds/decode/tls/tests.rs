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

#[test]
fn refusals() {
    type Case = (fn(&mut Context_), &'static str);
    fn names(wire: &mut Context_, san_type: i32, matcher: Option<WireMatcher>) {
        validation_of(wire).match_typed_subject_alt_names = vec![SubjectAltNameMatcher {
            san_type,
            matcher,
            ..Default::default()
        }];
    }
    const CASES: &[Case] = &[
        (
            |wire| wire.sni = "a".repeat(256),
            "sni: a server name has at most 255 characters, not 256",
        ),
        (
            |wire| wire.common_tls_context = None,
            "common_tls_context: must be set",
        ),
        (
            |wire| common(wire).tls_params = Some(TlsParameters::default()),
            "common_tls_context.tls_params: not supported",
        ),
        (
            |wire| common(wire).custom_handshaker = Some(TypedExtensionConfig::default()),
            "common_tls_context.custom_handshaker: not supported",
        ),
        (
            |wire| common(wire).tls_certificates = vec![TlsCertificate::default()],
            "common_tls_context.tls_certificates: not supported: use \
             tls_certificate_provider_instance",
        ),
        (
            |wire| common(wire).tls_certificate_certificate_provider = Some(Plugin::default()),
            "common_tls_context.tls_certificate_certificate_provider: not supported: use \
             tls_certificate_provider_instance",
        ),
        (
            |wire| {
                common(wire).custom_tls_certificate_selector =
                    Some(TypedExtensionConfig::default());
            },
            "common_tls_context.custom_tls_certificate_selector: not supported: use \
             tls_certificate_provider_instance",
        ),
        (
            |wire| common(wire).tls_certificate_provider_instance = new("gone"),
            "common_tls_context.tls_certificate_provider_instance.instance_name: certificate \
             provider \"gone\" is not in the bootstrap",
        ),
        (
            |wire| common(wire).tls_certificate_certificate_provider_instance = old("gone"),
            "common_tls_context.tls_certificate_certificate_provider_instance.instance_name: \
             certificate provider \"gone\" is not in the bootstrap",
        ),
        (
            |wire| common(wire).validation_context_type = None,
            "common_tls_context.validation_context: must be set: it says whom to trust",
        ),
        (
            |wire| {
                common(wire).validation_context_type = Some(
                    Trust::ValidationContextCertificateProvider(Plugin::default()),
                );
            },
            "common_tls_context.validation_context_certificate_provider: not supported: use \
             ca_certificate_provider_instance or system_root_certs",
        ),
        (
            |wire| {
                common(wire).validation_context_type = Some(
                    Trust::ValidationContextCertificateProviderInstance(old("gone").unwrap()),
                );
            },
            "common_tls_context.validation_context_certificate_provider_instance.instance_name: \
             certificate provider \"gone\" is not in the bootstrap",
        ),
        (
            |wire| combine(wire, CombinedCertificateValidationContext::default()),
            "common_tls_context.combined_validation_context.default_validation_context.\
             ca_certificate_provider_instance: must be set, or system_root_certs: it says whom to \
             trust",
        ),
        (
            |wire| {
                combine(
                    wire,
                    CombinedCertificateValidationContext {
                        validation_context_certificate_provider_instance: old("gone"),
                        ..Default::default()
                    },
                );
            },
            "common_tls_context.combined_validation_context.\
             validation_context_certificate_provider_instance.instance_name: certificate provider \
             \"gone\" is not in the bootstrap",
        ),
        (
            |wire| validation_of(wire).ca_certificate_provider_instance = None,
            "common_tls_context.validation_context.ca_certificate_provider_instance: must be set, \
             or system_root_certs: it says whom to trust",
        ),
        (
            |wire| validation_of(wire).ca_certificate_provider_instance = new("gone"),
            "common_tls_context.validation_context.ca_certificate_provider_instance.\
             instance_name: certificate provider \"gone\" is not in the bootstrap",
        ),
        (
            |wire| validation_of(wire).verify_certificate_spki = vec!["x".into()],
            "common_tls_context.validation_context.verify_certificate_spki: not supported",
        ),
        (
            |wire| validation_of(wire).verify_certificate_hash = vec!["x".into()],
            "common_tls_context.validation_context.verify_certificate_hash: not supported",
        ),
        (
            |wire| {
                validation_of(wire).require_signed_certificate_timestamp =
                    Some(BoolValue { value: true });
            },
            "common_tls_context.validation_context.require_signed_certificate_timestamp: not \
             supported",
        ),
        (
            |wire| validation_of(wire).crl = Some(DataSource::default()),
            "common_tls_context.validation_context.crl: not supported",
        ),
        (
            |wire| {
                validation_of(wire).custom_validator_config = Some(TypedExtensionConfig::default());
            },
            "common_tls_context.validation_context.custom_validator_config: not supported",
        ),
        (
            |wire| validation_of(wire).max_verify_depth = Some(UInt32Value { value: 1 }),
            "common_tls_context.validation_context.max_verify_depth: not supported",
        ),
        (
            |wire| names(wire, SanType::OtherName as i32, Some(exact("x"))),
            "common_tls_context.validation_context.match_typed_subject_alt_names[0].san_type: \
             OTHER_NAME is not supported",
        ),
        (
            |wire| names(wire, 0, Some(exact("x"))),
            "common_tls_context.validation_context.match_typed_subject_alt_names[0].san_type: \
             SAN_TYPE_UNSPECIFIED is not supported",
        ),
        (
            |wire| names(wire, 77, Some(exact("x"))),
            "common_tls_context.validation_context.match_typed_subject_alt_names[0].san_type: 77 \
             is not known",
        ),
        (
            |wire| names(wire, SanType::Dns as i32, None),
            "common_tls_context.validation_context.match_typed_subject_alt_names[0].matcher: must \
             be set",
        ),
    ];
    for (edit, expected) in CASES {
        let error = decode_socket(&socket(any(&edited(edit)))).expect_err(expected);
        assert_eq!(error, format!("typed_config.{expected}"));
    }
    // What a matcher may be is for its own tests.
    let empty = edited(|wire| {
        validation_of(wire).match_subject_alt_names = vec![exact("x"), WireMatcher::default()];
    });
    let error = decode_socket(&socket(any(&empty))).unwrap_err();
    let path = "typed_config.common_tls_context.validation_context.match_subject_alt_names[1]";
    assert!(error.starts_with(path), "{error}");
}

#[test]
fn refused_sockets() {
    let raw = any(&RawBuffer::default());
    let cases = [
        (
            TransportSocket {
                name: "envoy.transport_sockets.raw_buffer".into(),
                ..socket(raw.clone())
            },
            "name: \"envoy.transport_sockets.raw_buffer\" is not supported: only \
             \"envoy.transport_sockets.tls\" is",
        ),
        (
            socket(raw),
            "typed_config: must be of type \
             envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, not \
             \"type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer\"",
        ),
        (
            TransportSocket {
                config_type: None,
                ..socket(Any::default())
            },
            "typed_config: must be set",
        ),
        (
            TransportSocket {
                name: "envoy.transport_sockets.http_11_proxy".into(),
                ..socket(any(&Http11ProxyUpstreamTransport::default()))
            },
            "typed_config: Http11ProxyUpstreamTransport is not supported yet",
        ),
    ];
    for (socket, expected) in cases {
        assert_eq!(decode_socket(&socket).unwrap_err(), expected);
    }
}

mod secrets;
