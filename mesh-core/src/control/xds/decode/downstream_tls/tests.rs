#![expect(deprecated, reason = "Istio sends match_subject_alt_names")]

use envoy_types::pb::{
    envoy::{
        config::core::v3::{DataSource, transport_socket::ConfigType},
        extensions::transport_sockets::tls::v3::{
            CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
            SdsSecretConfig, TlsParameters,
            certificate_validation_context::SystemRootCerts,
            common_tls_context::{
                CertificateProvider as Plugin, CombinedCertificateValidationContext,
                ValidationContextType,
            },
        },
        r#type::matcher::v3::{StringMatcher as WireMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::BoolValue,
};

use super::{
    super::{
        fields::Findings,
        test_support::{ads, any, lines},
    },
    *,
};
use crate::{
    config::{
        CaSource, CertificateProvider, IdentitySource, San, SanKind, StringMatch, StringMatcher,
    },
    control::xds::FilterRegistry,
};

type Wire = DownstreamTlsContext;

const TRUE: Option<BoolValue> = Some(BoolValue { value: true });

fn instance(name: &str) -> Option<CertificateProviderPluginInstance> {
    Some(CertificateProviderPluginInstance {
        instance_name: name.into(),
        certificate_name: String::new(),
    })
}

fn provider(name: &str) -> CertificateProvider {
    CertificateProvider {
        instance: name.into(),
        certificate: "".into(),
    }
}

/// Presents the certificate of the provider `default`, and asks for none.
fn edited(edit: impl FnOnce(&mut Wire)) -> Wire {
    let mut wire = Wire {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_provider_instance: instance("default"),
            ..Default::default()
        }),
        ..Default::default()
    };
    edit(&mut wire);
    wire
}

fn common(wire: &mut Wire) -> &mut CommonTlsContext {
    wire.common_tls_context.as_mut().unwrap()
}

fn validate(wire: &mut Wire, context: CertificateValidationContext) {
    let context = ValidationContextType::ValidationContext(context);
    common(wire).validation_context_type = Some(context);
}

fn roots() -> CertificateValidationContext {
    CertificateValidationContext {
        ca_certificate_provider_instance: instance("other"),
        ..Default::default()
    }
}

fn name() -> WireMatcher {
    WireMatcher {
        match_pattern: Some(MatchPattern::Exact("spiffe://a/b".into())),
        ignore_case: false,
    }
}

fn decode_wire(wire: &Wire) -> Result<DownstreamTls, String> {
    let socket = TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(ConfigType::TypedConfig(any(wire))),
    };
    let filters = FilterRegistry::standard();
    let mut cx = Context::new(&filters);
    let providers = ["default", "other"].map(str::to_owned).into();
    let tls = decode(&socket, &providers, &mut cx).map_err(|error| error.to_string())?;
    let mut findings = Findings::default();
    cx.finish(&mut findings);
    assert_eq!(lines(&findings.finish()), [""; 0]);
    Ok(tls)
}

#[test]
fn clients_are_asked_for_a_certificate_or_not() {
    let plain = DownstreamTls {
        identity: IdentitySource::Provider(provider("default")),
        roots: None,
        require_client_certificate: false,
        sans: vec![],
    };
    let not_asked: [fn(&mut Wire); 2] = [
        |_| {},
        // It says nothing.
        |wire| validate(wire, CertificateValidationContext::default()),
    ];
    for edit in not_asked {
        assert_eq!(decode_wire(&edited(edit)).unwrap(), plain);
    }
    let asked = DownstreamTls {
        roots: Some(CaSource::Provider(provider("other"))),
        ..plain
    };
    let wire = edited(|wire| validate(wire, roots()));
    assert_eq!(decode_wire(&wire).unwrap(), asked);
    let wire = edited(|wire| {
        validate(wire, roots());
        wire.require_client_certificate = TRUE;
    });
    let required = DownstreamTls {
        require_client_certificate: true,
        ..asked
    };
    assert_eq!(decode_wire(&wire).unwrap(), required);
}

/// gRPC for Go refuses these.
#[test]
fn names_of_clients() {
    let wire = edited(|wire| {
        validate(
            wire,
            CertificateValidationContext {
                match_subject_alt_names: vec![name()],
                ..roots()
            },
        );
    });
    assert_eq!(
        decode_wire(&wire).unwrap().sans,
        [San {
            kind: SanKind::Any,
            matcher: StringMatcher::new(StringMatch::Exact("spiffe://a/b".into()), false),
        }]
    );
}

#[test]
fn secrets() {
    let secret = |name: &str| SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ads()),
    };
    let wire = edited(|wire| {
        wire.require_client_certificate = TRUE;
        let common = common(wire);
        common.tls_certificate_provider_instance = None;
        common.tls_certificate_sds_secret_configs = vec![secret("default")];
        common.validation_context_type = Some(
            ValidationContextType::ValidationContextSdsSecretConfig(secret("ROOTCA")),
        );
    });
    assert_eq!(
        decode_wire(&wire).unwrap(),
        DownstreamTls {
            identity: IdentitySource::Secret("default".into()),
            roots: Some(CaSource::Secret("ROOTCA".into())),
            require_client_certificate: true,
            sans: vec![],
        }
    );
}

#[test]
fn refusals() {
    type Case = (fn(&mut Wire), &'static str);
    const CASES: &[Case] = &[
        (
            |wire| wire.common_tls_context = None,
            "common_tls_context: must be set",
        ),
        (
            |wire| common(wire).tls_certificate_provider_instance = None,
            "common_tls_context.tls_certificate_provider_instance: must be set: a server presents \
             a certificate",
        ),
        (
            |wire| common(wire).tls_certificate_provider_instance = instance("gone"),
            "common_tls_context.tls_certificate_provider_instance.instance_name: certificate \
             provider \"gone\" is not in the bootstrap",
        ),
        (
            |wire| common(wire).tls_params = Some(TlsParameters::default()),
            "common_tls_context.tls_params: not supported",
        ),
        (|wire| wire.require_sni = TRUE, "require_sni: not supported"),
        (
            |wire| wire.ocsp_staple_policy = OcspStaplePolicy::MustStaple as i32,
            "ocsp_staple_policy: must be LENIENT_STAPLING: nothing is stapled",
        ),
        (
            |wire| wire.require_client_certificate = TRUE,
            "require_client_certificate: needs common_tls_context.validation_context: without it \
             nobody is trusted",
        ),
        (
            |wire| {
                wire.require_client_certificate = TRUE;
                validate(wire, CertificateValidationContext::default());
            },
            "require_client_certificate: needs common_tls_context.validation_context: without it \
             nobody is trusted",
        ),
        (
            |wire| {
                let context = CertificateValidationContext {
                    match_subject_alt_names: vec![name()],
                    ..Default::default()
                };
                validate(wire, context);
            },
            "common_tls_context.validation_context.ca_certificate_provider_instance: must be set: \
             it says whom to trust",
        ),
        (
            |wire| {
                let context = CertificateValidationContext {
                    trusted_ca: Some(DataSource::default()),
                    ..Default::default()
                };
                validate(wire, context);
            },
            "common_tls_context.validation_context.ca_certificate_provider_instance: must be set: \
             it says whom to trust",
        ),
        (
            |wire| {
                let combined = CombinedCertificateValidationContext {
                    validation_context_certificate_provider: Some(Plugin::default()),
                    ..Default::default()
                };
                common(wire).validation_context_type =
                    Some(ValidationContextType::CombinedValidationContext(combined));
            },
            "common_tls_context.combined_validation_context.\
             validation_context_certificate_provider: not supported: use \
             ca_certificate_provider_instance or system_root_certs",
        ),
        (
            |wire| {
                let context = CertificateValidationContext {
                    system_root_certs: Some(SystemRootCerts::default()),
                    ..Default::default()
                };
                validate(wire, context);
            },
            "common_tls_context.validation_context.system_root_certs: for clients only: use \
             ca_certificate_provider_instance",
        ),
    ];
    for (edit, expected) in CASES {
        let error = decode_wire(&edited(edit)).expect_err(expected);
        assert_eq!(error, format!("typed_config.{expected}"));
    }
    let harmless = edited(|wire| wire.require_sni = Some(BoolValue { value: false }));
    decode_wire(&harmless).unwrap();
}
