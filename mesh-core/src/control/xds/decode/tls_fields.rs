//! The fields of a TLS context.

use super::{
    fields::{ANY, Field, Message},
    matcher::STRING_MATCHER,
};

pub(super) static TRANSPORT_SOCKET: Message = Message {
    name: "envoy.config.core.v3.TransportSocket",
    fields: &[
        Field::enforced(1, "name"),
        Field::message(3, "typed_config", &ANY),
    ],
};

pub(super) static UPSTREAM_TLS_CONTEXT: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    fields: &[
        Field::message(1, "common_tls_context", &COMMON_TLS_CONTEXT),
        Field::enforced(2, "sni"),
        Field::ignored(3, "allow_renegotiation", "TLS is never renegotiated"),
        Field::ignored(4, "max_session_keys", "sessions are not resumed"),
        Field::ignored(5, "enforce_rsa_key_usage", "the TLS library decides"),
        Field::enforced(6, "auto_host_sni"),
        Field::enforced(7, "auto_sni_san_validation"),
    ],
};

static COMMON_TLS_CONTEXT: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
    fields: &[
        Field::enforced(1, "tls_params"),
        Field::ignored(2, "tls_certificates", PROVIDER),
        Field::message(3, "validation_context", &VALIDATION_CONTEXT),
        Field::ignored(4, "alpn_protocols", "the protocol in use is offered"),
        Field::ignored(6, "tls_certificate_sds_secret_configs", PROVIDER),
        Field::enforced(7, "validation_context_sds_secret_config"),
        Field::message(8, "combined_validation_context", &COMBINED_CONTEXT),
        Field::ignored(9, "tls_certificate_certificate_provider", PROVIDER),
        Field::enforced(10, "validation_context_certificate_provider"),
        Field::enforced(11, "tls_certificate_certificate_provider_instance"),
        Field::enforced(12, "validation_context_certificate_provider_instance"),
        Field::enforced(13, "custom_handshaker"),
        Field::enforced(14, "tls_certificate_provider_instance"),
        Field::ignored(15, "key_log", "keys are not logged"),
        Field::ignored(16, "custom_tls_certificate_selector", PROVIDER),
    ],
};

static COMBINED_CONTEXT: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.\
           CombinedCertificateValidationContext",
    fields: &[
        Field::message(1, "default_validation_context", &VALIDATION_CONTEXT),
        Field::enforced(2, "validation_context_sds_secret_config"),
        Field::ignored(3, "validation_context_certificate_provider", PROVIDER),
        Field::enforced(4, "validation_context_certificate_provider_instance"),
    ],
};

static VALIDATION_CONTEXT: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
    fields: &[
        Field::ignored(1, "trusted_ca", PROVIDER),
        Field::enforced(2, "verify_certificate_hash"),
        Field::enforced(3, "verify_certificate_spki"),
        Field::enforced(6, "require_signed_certificate_timestamp"),
        Field::enforced(7, "crl"),
        Field::ignored(8, "allow_expired_certificate", "none is accepted"),
        Field::repeated(9, "match_subject_alt_names", &STRING_MATCHER),
        Field::ignored(10, "trust_chain_verification", "chains are always verified"),
        Field::ignored(11, "watched_directory", PROVIDER),
        Field::enforced(12, "custom_validator_config"),
        Field::enforced(13, "ca_certificate_provider_instance"),
        Field::ignored(14, "only_verify_leaf_cert_crl", "no crl is accepted here"),
        Field::repeated(15, "match_typed_subject_alt_names", &SUBJECT_ALT_NAME),
        Field::enforced(16, "max_verify_depth"),
        Field::enforced(17, "system_root_certs"),
        Field::ignored(18, "suppress_client_ca_list", "for servers only"),
    ],
};

static SUBJECT_ALT_NAME: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
    fields: &[
        Field::enforced(1, "san_type"),
        Field::message(2, "matcher", &STRING_MATCHER),
        Field::ignored(3, "oid", "for OTHER_NAME only"),
    ],
};

const PROVIDER: &str = "a certificate provider of the bootstrap is in force";
