use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use rustc_hash::FxHasher;

use super::{StringMatch, StringMatcher};

/// TLS to the endpoints of a cluster (gRFC A29, A82, A101).
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamTls {
    /// Whom to trust.
    pub roots: CaSource,
    /// The certificate to present; `None`: none.
    pub identity: Option<IdentitySource>,
    /// The server's certificate must carry a name that passes one of these; empty: any name.
    pub sans: Vec<San>,
    /// Server name to send; at most 255 characters.
    pub sni: Option<Arc<str>>,
    /// Send the endpoint's host name as the server name.
    pub auto_host_sni: bool,
    /// Require the server name that was sent among the certificate's names, in place of `sans`.
    pub auto_sni_san_validation: bool,
}

/// A test of a name in the peer's certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct San {
    /// Which names are tested.
    pub kind: SanKind,
    /// What a name must pass.
    pub matcher: StringMatcher,
}

/// Kinds of subject alternative names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SanKind {
    /// Those of every kind here.
    Any,
    /// Host names; a wildcard in the certificate stands for one label.
    Dns,
    /// URIs, such as SPIFFE identities.
    Uri,
    /// Email addresses.
    Email,
    /// IP addresses, in the form of RFC 5952.
    Ip,
}

/// TLS of connections that a server accepts (gRFC A29, A36).
#[derive(Debug, Clone, PartialEq)]
pub struct DownstreamTls {
    /// The certificate to present.
    pub identity: IdentitySource,
    /// Whom to trust as a client; `None`: clients are not asked for a certificate.
    pub roots: Option<CaSource>,
    /// Clients without a certificate are refused. Only with `roots`.
    pub require_client_certificate: bool,
    /// A client's certificate must carry a name that passes one of these; empty: any name.
    pub sans: Vec<San>,
}

/// Where the certificate to present comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IdentitySource {
    /// A certificate provider of the bootstrap, or one given in code.
    Provider(CertificateProvider),
    /// A secret of this name, delivered by the control plane (SDS over ADS).
    Secret(Arc<str>),
}

/// Where trusted roots come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CaSource {
    /// A certificate provider of the bootstrap, or one given in code.
    Provider(CertificateProvider),
    /// A secret of this name, delivered by the control plane (SDS over ADS).
    Secret(Arc<str>),
    /// The roots of the operating system (gRFC A82).
    System,
}

/// A certificate of a provider that the bootstrap names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateProvider {
    /// The instance, as in `certificate_providers` of the bootstrap.
    pub instance: Arc<str>,
    /// The certificate's name, which the provider may ignore.
    pub certificate: Arc<str>,
}

// === impl UpstreamTls ===

impl UpstreamTls {
    /// A digest by which equal settings are found: equal for equal ones, and hardly ever otherwise.
    pub(crate) fn digest(&self) -> u64 {
        let Self {
            roots,
            identity,
            sans,
            sni,
            auto_host_sni,
            auto_sni_san_validation,
        } = self;
        let mut hasher = FxHasher::default();
        let flags = (auto_host_sni, auto_sni_san_validation);
        (roots, identity, sni, flags, sans.len()).hash(&mut hasher);
        for San { kind, matcher } in sans {
            let pattern = match &matcher.pattern {
                StringMatch::Contains(text)
                | StringMatch::Exact(text)
                | StringMatch::Prefix(text)
                | StringMatch::Suffix(text) => text,
                StringMatch::Regex(regex) => regex.as_str(),
            };
            (kind, matcher.ignore_case, pattern).hash(&mut hasher);
        }
        hasher.finish()
    }
}
