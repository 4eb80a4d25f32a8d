//! The fields of a TLS context.
//!
//! A field that is not known here may be one more check of who is at the other end, as
//! `auto_sni_san_validation` was (gRFC A101): it is never left out.

use super::{
    fields::{ANY, Field, Message},
    listener::CONFIG_SOURCE,
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
        Field::ignored(4, "max_session_keys", NOT_RESUMED),
        Field::ignored(5, "enforce_rsa_key_usage", "the TLS library decides"),
        Field::enforced(6, "auto_host_sni"),
        Field::enforced(7, "auto_sni_san_validation"),
        Field::others_restrict(TRUSTED),
    ],
};

pub(super) static DOWNSTREAM_TLS_CONTEXT: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    fields: &[
        Field::message(1, "common_tls_context", &COMMON_TLS_CONTEXT),
        Field::enforced(2, "require_client_certificate"),
        Field::enforced(3, "require_sni"),
        Field::ignored(4, "session_ticket_keys", NOT_RESUMED),
        Field::ignored(5, "session_ticket_keys_sds_secret_config", NOT_RESUMED),
        Field::ignored(6, "session_timeout", NOT_RESUMED),
        Field::ignored(7, "disable_stateless_session_resumption", NOT_RESUMED),
        Field::enforced(8, "ocsp_staple_policy"),
        Field::ignored(
            9,
            "full_scan_certs_on_sni_mismatch",
            "there is one certificate",
        ),
        Field::ignored(10, "disable_stateful_session_resumption", NOT_RESUMED),
        Field::ignored(11, "prefer_client_ciphers", "the TLS library decides"),
        Field::others_restrict(TRUSTED),
    ],
};

const NOT_RESUMED: &str = "sessions are not resumed";

static COMMON_TLS_CONTEXT: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
    fields: &[
        Field::enforced(1, "tls_params"),
        Field::ignored(2, "tls_certificates", PROVIDER),
        Field::message(3, "validation_context", &VALIDATION_CONTEXT),
        Field::ignored(4, "alpn_protocols", "the protocol in use is offered"),
        Field::repeated(6, "tls_certificate_sds_secret_configs", &SDS_SECRET_CONFIG),
        Field::message(
            7,
            "validation_context_sds_secret_config",
            &SDS_SECRET_CONFIG,
        ),
        Field::message(8, "combined_validation_context", &COMBINED_CONTEXT),
        Field::ignored(9, "tls_certificate_certificate_provider", PROVIDER),
        Field::enforced(10, "validation_context_certificate_provider"),
        Field::enforced(11, "tls_certificate_certificate_provider_instance"),
        Field::enforced(12, "validation_context_certificate_provider_instance"),
        Field::enforced(13, "custom_handshaker"),
        Field::enforced(14, "tls_certificate_provider_instance"),
        Field::ignored(15, "key_log", "keys are not logged"),
        Field::ignored(16, "custom_tls_certificate_selector", PROVIDER),
        Field::others_restrict(TRUSTED),
    ],
};

static COMBINED_CONTEXT: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.\
           CombinedCertificateValidationContext",
    fields: &[
        Field::message(1, "default_validation_context", &VALIDATION_CONTEXT),
        Field::message(
            2,
            "validation_context_sds_secret_config",
            &SDS_SECRET_CONFIG,
        ),
        Field::ignored(3, "validation_context_certificate_provider", PROVIDER),
        Field::enforced(4, "validation_context_certificate_provider_instance"),
        Field::others_restrict(TRUSTED),
    ],
};

static SDS_SECRET_CONFIG: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
    fields: &[
        Field::enforced(1, "name"),
        Field::message(2, "sds_config", &CONFIG_SOURCE),
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
        Field::ignored(
            18,
            "suppress_client_ca_list",
            "what a server tells its clients of whom it trusts is not configurable",
        ),
        Field::others_restrict(TRUSTED),
    ],
};

static SUBJECT_ALT_NAME: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
    fields: &[
        Field::enforced(1, "san_type"),
        Field::message(2, "matcher", &STRING_MATCHER),
        Field::ignored(3, "oid", "for OTHER_NAME only"),
        Field::others_restrict(TRUSTED),
    ],
};

const PROVIDER: &str = "certificates come from a certificate provider or a secret";
const TRUSTED: &str = "whom to trust";

#[cfg(all(test, feature = "testing"))]
mod tests;
