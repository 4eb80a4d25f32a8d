use envoy_types::pb::envoy::{
    config::core::v3::{TypedExtensionConfig, WatchedDirectory},
    extensions::transport_sockets::tls::v3::{
        GenericSecret, PrivateKeyProvider, TlsParameters, TlsSessionTicketKeys,
    },
};

use super::{super::test_support::*, *};
use crate::{
    config::{Kind, Resource},
    control::xds::decode::Rejected,
    testing::{CertificateAuthority, Leaf},
};

fn inline(text: impl Into<Vec<u8>>) -> Option<DataSource> {
    source_of(Specifier::InlineBytes(text.into()))
}

fn source_of(specifier: Specifier) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(specifier),
        ..Default::default()
    })
}

fn pair() -> TlsCertificate {
    let issued = CertificateAuthority::new("root").issue(Leaf::spiffe("spiffe://a/b"));
    TlsCertificate {
        certificate_chain: inline(issued.chain_pem()),
        private_key: source_of(Specifier::InlineString(issued.key_pem())),
        ..Default::default()
    }
}

fn roots() -> CertificateValidationContext {
    CertificateValidationContext {
        trusted_ca: inline(CertificateAuthority::new("root").root_pem()),
        ..Default::default()
    }
}

fn secret(r#type: Type) -> WireSecret {
    WireSecret {
        name: "default".into(),
        r#type: Some(r#type),
    }
}

fn decoded(wire: Type) -> (Secret, Vec<String>) {
    let decoded = decode_resource(Kind::Secret, &secret(wire)).unwrap();
    assert_eq!(&*decoded.name, "default");
    let Resource::Secret(secret) = decoded.value else {
        panic!("another kind");
    };
    (Arc::unwrap_or_clone(secret), lines(&decoded.findings))
}

fn refused(wire: Type) -> Rejected {
    decode_resource(Kind::Secret, &secret(wire)).unwrap_err()
}

#[test]
fn a_certificate() {
    let (secret, findings) = decoded(Type::TlsCertificate(TlsCertificate {
        ocsp_staple: inline("x"),
        watched_directory: Some(WatchedDirectory::default()),
        ..pair()
    }));
    let SecretMaterial::Certificate { chain, key } = &secret.material else {
        panic!("{secret:?}");
    };
    assert_eq!(chain.len(), 1);
    assert!(!key.der().secret_der().is_empty());
    assert!(format!("{secret:?}").contains("SecretKey(..)"));
    assert_eq!(
        findings,
        [
            "tls_certificate.ocsp_staple - no OCSP response is stapled",
            "tls_certificate.watched_directory - no file is read",
        ]
    );
}

#[test]
fn whom_to_trust() {
    let two =
        CertificateAuthority::new("a").root_pem() + &CertificateAuthority::new("b").root_pem();
    let (secret, findings) = decoded(Type::ValidationContext(CertificateValidationContext {
        trusted_ca: inline(two),
        ..Default::default()
    }));
    let SecretMaterial::Trust(roots) = secret.material else {
        panic!("{secret:?}");
    };
    assert_eq!((roots.len(), findings.len()), (2, 0));
}

#[test]
fn certificates_that_are_refused() {
    type Edit = fn(&mut TlsCertificate);
    let cases: [(Edit, &str, &str); 12] = [
        (
            |c| c.certificate_chain = None,
            "certificate_chain",
            "must be set",
        ),
        (|c| c.private_key = None, "private_key", "must be set"),
        (
            |c| c.private_key = c.certificate_chain.clone(),
            "private_key",
            "no private key in PEM",
        ),
        (
            |c| c.certificate_chain = inline("x"),
            "certificate_chain",
            "no certificate in PEM",
        ),
        (
            |c| {
                c.certificate_chain =
                    inline("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            },
            "certificate_chain",
            "certificate 0 is not X.509",
        ),
        (
            |c| c.private_key = source_of(Specifier::Filename("/etc/key".into())),
            "private_key.filename",
            "inline_bytes",
        ),
        (
            |c| c.private_key = source_of(Specifier::EnvironmentVariable("KEY".into())),
            "private_key.environment_variable",
            "inline_bytes",
        ),
        (|c| c.pkcs12 = inline("x"), "pkcs12", "private_key"),
        (|c| c.password = inline("x"), "password", "unencrypted"),
        (
            |c| c.private_key_provider = Some(PrivateKeyProvider::default()),
            "private_key_provider",
            "send private_key",
        ),
        (
            |c| c.tls_params = Some(TlsParameters::default()),
            "tls_params",
            "not supported",
        ),
        (
            |c| c.private_key = inline("-----BEGIN PRIVATE KEY-----\nc2VjcmV0"),
            "private_key",
            "a section has no end",
        ),
    ];
    for (edit, path, words) in cases {
        let mut wire = pair();
        edit(&mut wire);
        let error = refused(Type::TlsCertificate(wire));
        assert_eq!(error.path, format!("tls_certificate.{path}"), "{error}");
        assert!(error.problem.contains(words), "{error}");
        assert_eq!(error.name.as_deref(), Some("default"));
    }
}

#[test]
fn what_would_restrict_and_is_not_in_force_is_refused() {
    type Edit = fn(&mut CertificateValidationContext);
    let cases: [(Edit, &str); 7] = [
        (|c| c.trusted_ca = None, "trusted_ca"),
        (|c| c.crl = inline("x"), "crl"),
        (
            |c| c.verify_certificate_spki = vec!["x".into()],
            "verify_certificate_spki",
        ),
        (
            |c| c.verify_certificate_hash = vec!["x".into()],
            "verify_certificate_hash",
        ),
        (
            |c| c.match_typed_subject_alt_names = vec![Default::default()],
            "match_typed_subject_alt_names",
        ),
        (
            |c| c.custom_validator_config = Some(TypedExtensionConfig::default()),
            "custom_validator_config",
        ),
        (
            |c| c.system_root_certs = Some(Default::default()),
            "system_root_certs",
        ),
    ];
    for (edit, path) in cases {
        let mut wire = roots();
        edit(&mut wire);
        let error = refused(Type::ValidationContext(wire));
        assert_eq!(error.path, format!("validation_context.{path}"), "{error}");
    }
}

#[test]
fn other_secrets_are_refused_by_name() {
    for (wire, path) in [
        (
            Type::SessionTicketKeys(TlsSessionTicketKeys::default()),
            "session_ticket_keys",
        ),
        (
            Type::GenericSecret(GenericSecret::default()),
            "generic_secret",
        ),
    ] {
        assert_eq!(refused(wire).path, path);
    }
    let empty = WireSecret {
        name: "default".into(),
        r#type: None,
    };
    let error = decode_resource(Kind::Secret, &empty).unwrap_err();
    assert_eq!(error.path, "type");
}

#[test]
fn no_error_quotes_a_key() {
    for key in [
        "-----BEGIN PRIVATE KEY-----c2VjcmV0",
        "-----BEGIN PRIVATE KEY----\nc2VjcmV0\n",
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0!\n-----END PRIVATE KEY-----\n",
    ] {
        let mut wire = pair();
        wire.private_key = inline(key);
        let text = refused(Type::TlsCertificate(wire)).to_string();
        let bytes = format!("{:?}", b"c2Vj").replace(['[', ']'], "");
        assert!(!text.contains("c2Vj") && !text.contains(&bytes), "{text}");
    }
}
