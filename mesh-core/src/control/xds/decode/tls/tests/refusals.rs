//! What a TLS context must not ask for.

use super::*;

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
