use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{ProtocolVersion, ServerConnection, pki_types::CertificateDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{MaterialError, bundle::trust_domain, subject::rfc2253};

/// Who is at the other end of a connection: parsed once per connection, in the extensions of each of
/// its requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its address; `None` where a connection has none, such as one over a Unix domain socket.
    pub address: Option<SocketAddr>,
    /// The address that it reached.
    pub local: Option<SocketAddr>,
    /// What TLS says of it; `None`: the connection is plaintext.
    pub tls: Option<PeerTls>,
}

/// What TLS says of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerTls {
    /// The version of TLS.
    pub version: Option<ProtocolVersion>,
    /// The protocol agreed on.
    pub alpn: Option<Arc<[u8]>>,
    /// The server name it asked for.
    pub server_name: Option<Arc<str>>,
    /// Its certificate, which was verified; `None`: it presented none.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// A certificate, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCertificate {
    /// URI names, such as SPIFFE identities, in the certificate's order.
    pub uris: Vec<Arc<str>>,
    /// DNS names.
    pub dns_names: Vec<Arc<str>>,
    /// Email addresses.
    pub emails: Vec<Arc<str>>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// The subject in the form of RFC 2253, such as `CN=greeter,O=shop`, as OpenSSL, gRPC C-core
    /// and Envoy write it; empty if it has none.
    pub subject: Arc<str>,
    /// The serial number in hexadecimal.
    pub serial: Arc<str>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// The chain as presented, the leaf first.
    pub chain: Arc<[CertificateDer<'static>]>,
}

// === impl Peer ===

impl Peer {
    /// A peer at `address` that reached `local`; plaintext unless `tls` is given.
    pub fn new(
        address: Option<SocketAddr>,
        local: Option<SocketAddr>,
        tls: Option<PeerTls>,
    ) -> Self {
        Self {
            address,
            local,
            tls,
        }
    }

    /// Its SPIFFE identity, if its certificate has one. Other names are in the certificate.
    pub fn id(&self) -> Option<&str> {
        let certificate = self.tls.as_ref()?.certificate.as_ref()?;
        certificate.spiffe_id()
    }
}

// === impl PeerTls ===

impl PeerTls {
    /// What a connection says whose handshake is done. Whether the certificate is to be trusted was
    /// its verifier's to say.
    ///
    /// # Errors
    /// If the peer's certificate is not X.509.
    pub fn of(connection: &ServerConnection) -> Result<Self, MaterialError> {
        let certificate = match connection.peer_certificates() {
            Some(chain) => Some(Arc::new(PeerCertificate::parse(chain)?)),
            None => None,
        };
        Ok(Self {
            version: connection.protocol_version(),
            alpn: connection.alpn_protocol().map(Arc::from),
            server_name: connection.server_name().map(Arc::from),
            certificate,
        })
    }
}

// === impl PeerCertificate ===

impl PeerCertificate {
    /// Parses the first certificate of `chain`.
    ///
    /// # Errors
    /// If there is none or it is not X.509.
    pub fn parse(chain: &[CertificateDer<'static>]) -> Result<Self, MaterialError> {
        let leaf = chain
            .first()
            .ok_or_else(|| MaterialError::new("there is no certificate"))?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| MaterialError::new(format!("not an X.509 certificate: {error}")))?;
        let mut certificate = Self {
            uris: Vec::new(),
            dns_names: Vec::new(),
            emails: Vec::new(),
            addresses: Vec::new(),
            subject: rfc2253(parsed.subject()).into(),
            serial: parsed.raw_serial_as_string().into(),
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            chain: chain.into(),
        };
        let names = parsed.subject_alternative_name().map_err(|error| {
            MaterialError::new(format!(
                "its subject alternative names are not valid: {error}"
            ))
        })?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => certificate.uris.push((*uri).into()),
                GeneralName::DNSName(name) => certificate.dns_names.push((*name).into()),
                GeneralName::RFC822Name(email) => certificate.emails.push((*email).into()),
                GeneralName::IPAddress(bytes) => certificate.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(certificate)
    }

    /// The SPIFFE identity: the only URI name, if it is one. `None` for a certificate with several
    /// URI names: who it is for cannot be told (X509-SVID section 2).
    pub fn spiffe_id(&self) -> Option<&str> {
        let [uri] = &*self.uris else { return None };
        trust_domain(uri).map(|_| &**uri)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn time(seconds: i64) -> SystemTime {
    match u64::try_from(seconds) {
        Ok(after) => SystemTime::UNIX_EPOCH + Duration::from_secs(after),
        Err(_) => SystemTime::UNIX_EPOCH,
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use crate::testing::{CertificateAuthority, Leaf};

    #[test]
    fn an_identity_is_the_only_uri_name() {
        let ca = CertificateAuthority::new("root");
        let id = |leaf: Leaf| {
            let identity = ca.issue(leaf).identity();
            identity.leaf.spiffe_id().map(str::to_owned)
        };
        let a = "spiffe://shop/a";
        assert_eq!(id(Leaf::spiffe(a).dns("a.shop")), Some(a.to_owned()));
        assert_eq!(id(Leaf::spiffe(a).uri("spiffe://shop/b")), None);
        assert_eq!(id(Leaf::unnamed().uri("spiffe://shop/%61")), None);
        assert_eq!(id(Leaf::dns_name("a.shop")), None);
    }
}
