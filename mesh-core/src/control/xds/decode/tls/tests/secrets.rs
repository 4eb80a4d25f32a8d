//! Certificates and roots that the control plane delivers.

use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, SelfConfigSource, config_source::ConfigSourceSpecifier,
};

use super::*;

fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ads()),
    }
}

fn from(specifier: ConfigSourceSpecifier) -> SdsSecretConfig {
    SdsSecretConfig {
        name: "s".into(),
        sds_config: Some(source(specifier)),
    }
}

#[test]
fn both_from_the_same_stream() {
    let of_the_same_server = from(ConfigSourceSpecifier::Self_(SelfConfigSource::default()));
    let wire = edited(|wire| {
        let common = common(wire);
        common.tls_certificate_sds_secret_configs = vec![secret("default")];
        common.validation_context_type =
            Some(Trust::ValidationContextSdsSecretConfig(of_the_same_server));
    });
    let tls = accepted(&wire);
    assert_eq!(tls.identity, Some(IdentitySource::Secret("default".into())));
    assert_eq!(tls.roots, CaSource::Secret("s".into()));
    assert_eq!(tls.sans, []);
}

/// As Istio configures Envoy.
#[test]
fn roots_beside_names() {
    let wire = edited(|wire| {
        combine(
            wire,
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    match_subject_alt_names: vec![exact("spiffe://a/ns/b/sa/c")],
                    system_root_certs: Some(SystemRootCerts::default()),
                    ..Default::default()
                }),
                validation_context_sds_secret_config: Some(secret("ROOTCA")),
                ..Default::default()
            },
        );
    });
    let (tls, findings) = decode_socket(&socket(any(&wire))).unwrap();
    assert_eq!(tls.roots, CaSource::Secret("ROOTCA".into()));
    assert_eq!(tls.sans, [san(SanKind::Any, "spiffe://a/ns/b/sa/c")]);
    assert_eq!(
        findings,
        [
            "typed_config.common_tls_context.combined_validation_context.\
             default_validation_context.system_root_certs - a secret is in force"
        ]
    );
}

#[test]
fn refusals() {
    let identity = |secrets: Vec<SdsSecretConfig>| {
        edited(|wire| common(wire).tls_certificate_sds_secret_configs = secrets)
    };
    let roots = |secret| {
        edited(|wire| {
            common(wire).validation_context_type =
                Some(Trust::ValidationContextSdsSecretConfig(secret));
        })
    };
    let combined = |combined| edited(|wire| combine(wire, combined));
    let elsewhere = || {
        from(ConfigSourceSpecifier::ApiConfigSource(
            ApiConfigSource::default(),
        ))
    };
    let in_the_bootstrap = SdsSecretConfig {
        name: "s".into(),
        sds_config: None,
    };
    let beside = "set beside a certificate provider: only one can say whom to trust";
    let cases = [
        (
            identity(vec![secret("a"), secret("b")]),
            "tls_certificate_sds_secret_configs: must be one: there are 2".to_owned(),
        ),
        (
            identity(vec![secret("")]),
            "tls_certificate_sds_secret_configs[0].name: must not be empty".to_owned(),
        ),
        (
            identity(vec![elsewhere()]),
            "tls_certificate_sds_secret_configs[0].sds_config: must be ads or self".to_owned(),
        ),
        (
            identity(vec![in_the_bootstrap]),
            "tls_certificate_sds_secret_configs[0].sds_config: must be ads or self".to_owned(),
        ),
        (
            roots(secret("")),
            "validation_context_sds_secret_config.name: must not be empty".to_owned(),
        ),
        (
            roots(elsewhere()),
            "validation_context_sds_secret_config.sds_config: must be ads or self".to_owned(),
        ),
        (
            combined(CombinedCertificateValidationContext {
                validation_context_sds_secret_config: Some(elsewhere()),
                ..Default::default()
            }),
            "combined_validation_context.validation_context_sds_secret_config.sds_config: must be \
             ads or self"
                .to_owned(),
        ),
        (
            combined(CombinedCertificateValidationContext {
                validation_context_sds_secret_config: Some(secret("s")),
                validation_context_certificate_provider_instance: old("default"),
                ..Default::default()
            }),
            format!("combined_validation_context.validation_context_sds_secret_config: {beside}"),
        ),
        (
            combined(CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    ca_certificate_provider_instance: new("default"),
                    ..Default::default()
                }),
                validation_context_sds_secret_config: Some(secret("s")),
                ..Default::default()
            }),
            format!("combined_validation_context.validation_context_sds_secret_config: {beside}"),
        ),
    ];
    for (wire, expected) in cases {
        let error = decode_socket(&socket(any(&wire))).expect_err(&expected);
        assert_eq!(error, format!("typed_config.common_tls_context.{expected}"));
    }
}
