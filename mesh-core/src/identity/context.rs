use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion, client::Resumption,
    pki_types::ServerName, server::NoServerSessionStorage, sign::SingleCertAndKey,
};

use super::{
    Identities, IdentityError, PeerCertificate,
    clock::Clock,
    joined::{Cache, Current, Joined},
    verify::{Names, Side},
};
use crate::config::{DownstreamTls, UpstreamTls};

type Versions = &'static [&'static SupportedProtocolVersion];

/// TLS to the endpoints of a cluster, current at every handshake.
#[derive(Debug)]
pub struct UpstreamContext {
    settings: Arc<UpstreamTls>,
    /// The server name to send.
    sni: Option<Arc<str>>,
    alpn: Vec<Vec<u8>>,
    versions: Versions,
    joined: Joined,
    cache: Cache<ClientHandshake>,
}

/// What the next handshake with an endpoint uses.
#[derive(Debug, Clone)]
pub struct ClientHandshake {
    /// The settings: certificate, trust, names to check. No session is resumed: it would bypass
    /// them.
    pub config: Arc<ClientConfig>,
    /// The server name to send; an address where none is sent.
    pub server_name: ServerName<'static>,
}

/// TLS of accepted connections, current at every handshake.
#[derive(Debug)]
pub struct DownstreamContext {
    settings: Arc<DownstreamTls>,
    alpn: Vec<Vec<u8>>,
    versions: Versions,
    joined: Joined,
    cache: Cache<Arc<ServerConfig>>,
}

// === impl UpstreamContext ===

impl UpstreamContext {
    pub(super) fn new(
        identities: &Identities,
        tls: &Arc<UpstreamTls>,
        sni: Option<&str>,
        alpn: &[&[u8]],
    ) -> Self {
        let sni = sni.map(Arc::<str>::from);
        let names = match &sni {
            Some(name) if tls.auto_sni_san_validation => Names::ServerName(Arc::clone(name)),
            _ => Names::Matchers(tls.sans.as_slice().into()),
        };
        Self {
            settings: Arc::clone(tls),
            sni,
            alpn: owned(alpn),
            versions: identities.versions(),
            joined: Joined::new(
                Side::Servers,
                names,
                identities.required_crypto().cloned(),
                tls.identity.as_ref().map(|id| identities.identity(id)),
                Some(identities.trust(&tls.roots)),
            ),
            cache: Cache::default(),
        }
    }

    pub(super) fn is_of(&self, tls: &Arc<UpstreamTls>, sni: Option<&str>, alpn: &[&[u8]]) -> bool {
        self.sni.as_deref() == sni
            && self.alpn == alpn
            && (Arc::ptr_eq(&self.settings, tls) || self.settings == *tls)
    }

    /// What the next handshake uses; waits until everything for it has arrived once. The caller
    /// limits the time.
    ///
    /// # Errors
    /// If something of it cannot be had.
    pub async fn handshake(&self) -> Result<ClientHandshake, IdentityError> {
        let current = self.joined.current().await?;
        self.cache.get(current, |current| self.build(current))
    }

    /// Whether the certificate of a connection would still be accepted now, its dates aside.
    ///
    /// # Errors
    /// If not: why.
    pub fn recheck(&self, peer: &PeerCertificate) -> Result<(), IdentityError> {
        self.joined.recheck(peer)
    }

    /// Waits until whom to trust changes after this call. Does not keep the context alive, but what
    /// it watches.
    pub fn trust_changed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.joined.trust_changed()
    }

    fn build(&self, current: &Current) -> Result<ClientHandshake, IdentityError> {
        let server_name = match &self.sni {
            Some(name) => ServerName::try_from(name.to_string()).map_err(|_| {
                IdentityError::new(format!("{name:?} cannot be sent as a server name (SNI)"))
            })?,
            // rustls wants one. An address is never sent (RFC 6066 section 3).
            None => IpAddr::from(Ipv4Addr::UNSPECIFIED).into(),
        };
        let Some(verifier) = &current.verifier else {
            return Err(IdentityError::new("nothing says whom to trust"));
        };
        let builder =
            ClientConfig::builder_with_details(Arc::clone(&current.crypto), Arc::new(Clock))
                .with_protocol_versions(self.versions)
                .map_err(unusable)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::clone(verifier) as _);
        let mut config = match &current.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
                Arc::clone(&identity.certified),
            ))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = self.sni.is_some();
        Ok(ClientHandshake {
            config: Arc::new(config),
            server_name,
        })
    }
}

/// The server name to send to an endpoint of this host name (gRFC A101).
pub(super) fn sni<'a>(tls: &'a UpstreamTls, hostname: Option<&'a str>) -> Option<&'a str> {
    let host = hostname
        .filter(|_| tls.auto_host_sni)
        .map(without_port)
        // An address cannot be sent (RFC 6066 section 3).
        .filter(|host| !host.is_empty() && host.parse::<IpAddr>().is_err());
    host.or(tls.sni.as_deref()).filter(|name| !name.is_empty())
}

fn without_port(hostname: &str) -> &str {
    if let Some((host, _)) = hostname
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return host;
    }
    match hostname.split_once(':') {
        // Two colons make an address of version 6.
        Some((host, port)) if !port.contains(':') => host,
        _ => hostname,
    }
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

fn unusable(error: rustls::Error) -> IdentityError {
    IdentityError::new(format!(
        "the cryptography cannot do the versions of TLS that are to be spoken: {error}"
    ))
}

// === impl DownstreamContext ===

impl DownstreamContext {
    pub(super) fn new(identities: &Identities, tls: &Arc<DownstreamTls>, alpn: &[&[u8]]) -> Self {
        let joined = Joined::new(
            Side::Clients,
            Names::Matchers(tls.sans.as_slice().into()),
            identities.required_crypto().cloned(),
            Some(identities.identity(&tls.identity)),
            tls.roots.as_ref().map(|roots| identities.trust(roots)),
        );
        Self {
            settings: Arc::clone(tls),
            alpn: owned(alpn),
            versions: identities.versions(),
            joined: joined.required(tls.require_client_certificate),
            cache: Cache::default(),
        }
    }

    pub(super) fn is_of(&self, tls: &Arc<DownstreamTls>, alpn: &[&[u8]]) -> bool {
        self.alpn == alpn && (Arc::ptr_eq(&self.settings, tls) || self.settings == *tls)
    }

    /// What the next handshake uses; waits until everything for it has arrived once. The caller
    /// limits the time.
    ///
    /// # Errors
    /// If something of it cannot be had.
    pub async fn handshake(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let current = self.joined.current().await?;
        self.cache.get(current, |current| self.build(current))
    }

    /// Whether the certificate of a connection would still be accepted now, its dates aside.
    ///
    /// # Errors
    /// If not: why.
    pub fn recheck(&self, peer: &PeerCertificate) -> Result<(), IdentityError> {
        self.joined.recheck(peer)
    }

    /// Whether clients without a certificate are refused.
    pub fn requires_certificate(&self) -> bool {
        self.settings.require_client_certificate
    }

    /// Waits until it is known whom to trust; at once where nobody is asked for a certificate.
    ///
    /// # Errors
    /// If that cannot be had now.
    pub async fn trust_arrived(&self) -> Result<(), IdentityError> {
        self.joined.trust_arrived().await
    }

    /// Waits until whom to trust changes after this call. Does not keep the context alive, but what
    /// it watches.
    pub fn trust_changed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.joined.trust_changed()
    }

    fn build(&self, current: &Current) -> Result<Arc<ServerConfig>, IdentityError> {
        let Some(identity) = &current.identity else {
            return Err(IdentityError::new("a server needs a certificate"));
        };
        let builder =
            ServerConfig::builder_with_details(Arc::clone(&current.crypto), Arc::new(Clock))
                .with_protocol_versions(self.versions)
                .map_err(unusable)?;
        let builder = match &current.verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier) as _),
            None => builder.with_no_client_auth(),
        };
        let identity = SingleCertAndKey::from(Arc::clone(&identity.certified));
        let mut config = builder.with_cert_resolver(Arc::new(identity));
        // A resumed session would bypass the verifier.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = self.alpn.clone();
        Ok(Arc::new(config))
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
