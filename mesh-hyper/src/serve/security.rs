use std::sync::Arc;

use mesh_core::{
    config::{CaSource, CertificateProvider, DownstreamTls, IdentitySource, San},
    identity::{DownstreamContext, Identities},
    resolve::InboundChain,
};

/// The TLS of a server that no listener of a control plane gives one. There is no default: a server
/// whose connections are not encrypted says so.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ServerTls {
    /// No TLS: whoever is on the way reads and changes everything, and nobody is known.
    Plaintext,
    /// TLS with these settings.
    Encrypted(Arc<DownstreamTls>),
}

/// What a server does when no listener resource arrives for it within
/// [`resource_timeout`](mesh_core::Options::resource_timeout): none exists, or no control plane can
/// be reached. A listener that is refused, or is deleted later, leaves the server not serving in
/// any case.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub enum OnMissing {
    /// Accept nothing, until one arrives (gRFC A36).
    #[default]
    NotServing,
    /// Serve all requests under this TLS, until one arrives.
    Use(ServerTls),
}

/// How one connection is secured. Decided by its filter chain before any byte is exchanged.
pub(super) enum Security {
    Plaintext,
    Tls(Arc<DownstreamTls>, Arc<DownstreamContext>),
}

// === impl ServerTls ===

impl ServerTls {
    /// TLS with the certificate of this provider, an instance of `certificate_providers` in the
    /// bootstrap or one given in code. Clients stay anonymous.
    pub fn tls(provider: &str) -> Self {
        Self::Encrypted(Arc::new(DownstreamTls {
            identity: IdentitySource::Provider(instance(provider)),
            roots: None,
            require_client_certificate: false,
            sans: Vec::new(),
        }))
    }

    /// Mutual TLS with the certificate and the trust of this provider: clients without a
    /// certificate that verifies are refused.
    pub fn mtls(provider: &str) -> Self {
        Self::mtls_for(provider, Vec::new())
    }

    /// Mutual TLS for clients whose certificate has a name that passes one of `sans`.
    pub fn mtls_for(provider: &str, sans: Vec<San>) -> Self {
        Self::Encrypted(Arc::new(DownstreamTls {
            identity: IdentitySource::Provider(instance(provider)),
            roots: Some(CaSource::Provider(instance(provider))),
            require_client_certificate: true,
            sans,
        }))
    }

    /// As [`mtls`](Self::mtls), but clients may come without a certificate: they are served, and
    /// nobody knows them ([`Peer::id`](mesh_core::identity::Peer::id) is `None`). One that is
    /// presented has to verify all the same, or the connection is refused. For the time in which
    /// clients move to mutual TLS; what anonymous ones may do is for the service, or for rules, to
    /// say.
    pub fn mtls_optional(provider: &str) -> Self {
        Self::Encrypted(Arc::new(DownstreamTls {
            identity: IdentitySource::Provider(instance(provider)),
            roots: Some(CaSource::Provider(instance(provider))),
            require_client_certificate: false,
            sans: Vec::new(),
        }))
    }

    pub(super) fn setting(&self) -> Option<Arc<DownstreamTls>> {
        match self {
            Self::Plaintext => None,
            Self::Encrypted(setting) => Some(Arc::clone(setting)),
        }
    }
}

fn instance(provider: &str) -> CertificateProvider {
    CertificateProvider {
        instance: provider.into(),
        certificate: "".into(),
    }
}

// === impl Security ===

impl Security {
    pub(super) fn of(chain: &InboundChain, identities: &Identities, alpn: &[&[u8]]) -> Self {
        match chain.tls() {
            None => Self::Plaintext,
            Some(setting) => {
                let context = identities.downstream(setting, alpn);
                Self::Tls(Arc::clone(setting), context)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutual_tls_requires_what_it_can_verify() {
        let ServerTls::Encrypted(mutual) = ServerTls::mtls("default") else {
            panic!("encrypted");
        };
        assert!(mutual.require_client_certificate && mutual.roots.is_some());
        let ServerTls::Encrypted(one_sided) = ServerTls::tls("default") else {
            panic!("encrypted");
        };
        assert!(!one_sided.require_client_certificate && one_sided.roots.is_none());
        let ServerTls::Encrypted(asking) = ServerTls::mtls_optional("default") else {
            panic!("encrypted");
        };
        assert!(!asking.require_client_certificate && asking.roots.is_some());
        assert!(ServerTls::Plaintext.setting().is_none());
    }
}
