use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, UpstreamTlsContext,
};

use super::parts::Text;
use crate::config::SanKind;

/// TLS to the endpoints of a version, as [`Service::tls`](super::Service::tls) takes it
/// (gRFC A29). Certificates come from providers that the client's bootstrap names: see
/// [`ControlPlane::certificate_provider`](super::ControlPlane::certificate_provider).
#[derive(Debug, Clone, PartialEq)]
#[must_use = "TLS is set by `Service::tls`"]
pub struct Tls(pub(super) TlsState);

/// TLS of the connections that a server accepts (gRFC A36), as
/// [`ServerListener::tls`](super::ServerListener::tls) and
/// [`ConnectionChain::tls`](super::ConnectionChain::tls) take it.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "TLS is set by `ServerListener::tls` or `ConnectionChain::tls`"]
pub struct ListenerTls(pub(super) ListenerTlsState);

/// A test of a name in the peer's certificate, as [`Tls::san`] takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanMatch {
    pub(super) kind: SanKind,
    pub(super) text: Text,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TlsState {
    Described(Upstream),
    Given(Box<UpstreamTlsContext>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ListenerTlsState {
    Described(Downstream),
    Given(Box<DownstreamTlsContext>),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Upstream {
    /// A provider's instance; `None`: the roots of the operating system.
    pub(super) roots: Option<String>,
    pub(super) identity: Option<String>,
    pub(super) sans: Vec<SanMatch>,
    pub(super) deprecated_sans: bool,
    pub(super) sni: String,
    pub(super) auto_host_sni: bool,
    pub(super) auto_sni_san_validation: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Downstream {
    pub(super) identity: String,
    pub(super) clients: Clients,
}

/// What a server wants to know of its clients.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Clients {
    Nothing,
    /// A certificate that this provider's roots vouch for, if they have one.
    Ask(String),
    /// The same, and none without is let in.
    Require(String),
}

// === impl Tls ===

impl Tls {
    /// The server's certificate must be vouched for by the roots of this provider's instance.
    pub fn trust(instance: impl Into<String>) -> Self {
        Self(TlsState::Described(Upstream {
            roots: Some(instance.into()),
            ..Upstream::default()
        }))
    }

    /// ... by the roots of the client's operating system (gRFC A82).
    pub fn trust_system() -> Self {
        Self(TlsState::Described(Upstream::default()))
    }

    /// A context as it is, for what has no method here.
    pub fn given(context: UpstreamTlsContext) -> Self {
        Self(TlsState::Given(Box::new(context)))
    }

    /// The client presents the certificate of this provider's instance; none by default.
    ///
    /// # Panics
    /// As all that follow, for a context that was [`given`](Self::given).
    pub fn present(self, instance: impl Into<String>) -> Self {
        self.edit(|tls| tls.identity = Some(instance.into()))
    }

    /// The server's certificate must carry a name that passes this, or another one added so; any
    /// name by default.
    pub fn san(self, san: SanMatch) -> Self {
        self.edit(|tls| tls.sans.push(san))
    }

    /// Writes the matchers in the deprecated field (`match_subject_alt_names`), which knows no
    /// kinds of names; Istio does.
    pub fn deprecated_sans(self) -> Self {
        self.edit(|tls| tls.deprecated_sans = true)
    }

    /// The server name that is sent; none by default (gRFC A101).
    pub fn sni(self, name: impl Into<String>) -> Self {
        self.edit(|tls| tls.sni = name.into())
    }

    /// The endpoint's host name is sent as the server name (gRFC A101).
    pub fn auto_host_sni(self) -> Self {
        self.edit(|tls| tls.auto_host_sni = true)
    }

    /// The server name that was sent must be among the certificate's names (gRFC A101).
    pub fn auto_sni_san_validation(self) -> Self {
        self.edit(|tls| tls.auto_sni_san_validation = true)
    }

    #[track_caller]
    fn edit(mut self, edit: impl FnOnce(&mut Upstream)) -> Self {
        match &mut self.0 {
            TlsState::Described(tls) => edit(tls),
            TlsState::Given(_) => panic!("change the message that `Tls::given` took instead"),
        }
        self
    }
}

// === impl ListenerTls ===

impl ListenerTls {
    /// The server presents the certificate of this provider's instance, and asks for none.
    pub fn present(instance: impl Into<String>) -> Self {
        Self(ListenerTlsState::Described(Downstream {
            identity: instance.into(),
            clients: Clients::Nothing,
        }))
    }

    /// A context as it is, for what has no method here.
    pub fn given(context: DownstreamTlsContext) -> Self {
        Self(ListenerTlsState::Given(Box::new(context)))
    }

    /// Clients must present a certificate that the roots of this provider's instance vouch for:
    /// mTLS.
    ///
    /// # Panics
    /// As the next one, for a context that was [`given`](Self::given).
    pub fn require_client(self, instance: impl Into<String>) -> Self {
        self.clients(Clients::Require(instance.into()))
    }

    /// Clients may present a certificate; if they do, the roots of this provider's instance must
    /// vouch for it.
    pub fn ask_client(self, instance: impl Into<String>) -> Self {
        self.clients(Clients::Ask(instance.into()))
    }

    #[track_caller]
    fn clients(mut self, clients: Clients) -> Self {
        match &mut self.0 {
            ListenerTlsState::Described(tls) => tls.clients = clients,
            ListenerTlsState::Given(_) => {
                panic!("change the message that `ListenerTls::given` took instead")
            }
        }
        self
    }
}

// === impl SanMatch ===

impl SanMatch {
    /// This name, of a kind; a wildcard in the certificate stands for one label of a host name.
    pub fn exact(kind: SanKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            text: Text::Exact(name.into()),
        }
    }

    /// Names of a kind that start so.
    pub fn prefix(kind: SanKind, prefix: impl Into<String>) -> Self {
        Self {
            kind,
            text: Text::Prefix(prefix.into()),
        }
    }

    /// Names of a kind that match this RE2 expression whole.
    pub fn regex(kind: SanKind, expression: impl Into<String>) -> Self {
        Self {
            kind,
            text: Text::Regex(expression.into()),
        }
    }

    /// This URI, such as a SPIFFE identity.
    pub fn uri(uri: impl Into<String>) -> Self {
        Self::exact(SanKind::Uri, uri)
    }

    /// This host name.
    pub fn dns(name: impl Into<String>) -> Self {
        Self::exact(SanKind::Dns, name)
    }
}
