//! Whether a peer's certificate is accepted: its chain by rustls, its names by ourselves.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    IdentityError, PeerCertificate, Roots, Trust, bundle::trust_domain, clock, explain,
    names::Wanted,
};
use crate::config::San;

/// Accepts peers whose chain leads to a trusted root and whose names pass.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Anchors,
    names: Names,
    crypto: Arc<CryptoProvider>,
    /// Clients without a certificate are refused.
    required: bool,
    hints: Vec<DistinguishedName>,
}

/// Which names a peer's certificate must carry.
#[derive(Debug, Clone)]
pub(super) enum Names {
    /// One that passes one of these; any if there are none.
    Matchers(Arc<[San]>),
    /// This host name, which is sent to the server.
    ServerName(Arc<str>),
}

/// Who is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Servers, by us as a client.
    Servers,
    /// Clients, by us as a server.
    Clients,
}

/// Whom to trust, ready to verify.
#[derive(Debug)]
enum Anchors {
    Roots(Anchor),
    /// By SPIFFE trust domain.
    Bundles(BTreeMap<Arc<str>, Anchor>),
}

#[derive(Debug)]
enum Anchor {
    OfServers(Roots),
    /// rustls has no function for these but a verifier.
    OfClients(Arc<dyn ClientCertVerifier>),
}

// === impl Verifier ===

impl Verifier {
    /// # Errors
    /// If the trust cannot be used with this cryptography.
    pub(super) fn new(
        side: Side,
        trust: &Trust,
        names: Names,
        crypto: &Arc<CryptoProvider>,
    ) -> Result<Self, IdentityError> {
        let mut hints = Vec::new();
        let trust = match trust {
            Trust::Roots(roots) => {
                hints = roots.0.subjects();
                Anchors::Roots(Anchor::new(side, roots, crypto)?)
            }
            Trust::Bundles(bundles) => Anchors::Bundles(
                bundles
                    .iter()
                    .map(|(domain, roots)| {
                        Ok((Arc::clone(domain), Anchor::new(side, roots, crypto)?))
                    })
                    .collect::<Result<_, IdentityError>>()?,
            ),
        };
        Ok(Self {
            trust,
            names,
            crypto: Arc::clone(crypto),
            required: false,
            hints,
        })
    }

    /// Refuses clients without a certificate if `required`.
    pub(super) fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// Whether `peer` is accepted now, its dates aside.
    pub(super) fn recheck(&self, peer: &PeerCertificate) -> Result<(), IdentityError> {
        // Within its validity, and as near to now as that is. The certificates between it and the
        // root were valid when it was issued.
        let near = clock::now().clamp(peer.not_before, peer.not_after.max(peer.not_before));
        match self.verify(peer, near) {
            Err(Error::InvalidCertificate(error)) if is_of_dates(&error) => {
                self.verify(peer, peer.not_before)
            }
            verified => verified,
        }
        .map_err(|error| explain(&error))
    }

    /// Whether `peer` is accepted at this time.
    pub(super) fn verify(&self, peer: &PeerCertificate, at: SystemTime) -> Result<(), Error> {
        let (leaf, intermediates) = peer
            .chain
            .split_first()
            .ok_or(Error::NoCertificatesPresented)?;
        self.accept(peer, leaf, intermediates, clock::unix(at))
    }

    fn accept(
        &self,
        peer: &PeerCertificate,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let anchor = match &self.trust {
            Anchors::Roots(anchor) => anchor,
            Anchors::Bundles(bundles) => of_domain(bundles, peer).map_err(other)?,
        };
        anchor.verify(leaf, intermediates, now, &self.crypto)?;
        let wanted = match &self.names {
            Names::Matchers(sans) => Wanted::Matchers(sans),
            Names::ServerName(name) => Wanted::ServerName(name),
        };
        wanted.check(peer).map_err(other)
    }

    fn accept_presented(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let peer = PeerCertificate::parse(&[leaf.clone().into_owned()])
            .map_err(|error| other(error.to_string()))?;
        self.accept(&peer, leaf, intermediates, now)
    }
}

/// The roots for a peer: its only URI name is a SPIFFE identity of one of the trust domains
/// (gRFC A87).
fn of_domain<'a>(
    bundles: &'a BTreeMap<Arc<str>, Anchor>,
    peer: &PeerCertificate,
) -> Result<&'a Anchor, String> {
    let [uri] = &*peer.uris else {
        let names = peer.uris.len();
        return Err(format!(
            "no SPIFFE identity: the certificate has {names} URI names, and must have one"
        ));
    };
    let domain = trust_domain(uri)
        .ok_or_else(|| format!("no SPIFFE identity: the URI name of the certificate is {uri:?}"))?;
    bundles.get(domain).ok_or_else(|| {
        let known: Vec<_> = bundles.keys().map(|known| &**known).collect();
        format!(
            "unknown trust domain {domain:?} of {uri:?}; known are: {}",
            known.join(", ")
        )
    })
}

fn is_of_dates(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

fn other(problem: String) -> Error {
    let error = IdentityError::new(problem);
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.accept_presented(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.accept_presented(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

// === impl Anchor ===

impl Anchor {
    fn new(side: Side, roots: &Roots, crypto: &Arc<CryptoProvider>) -> Result<Self, IdentityError> {
        match side {
            Side::Servers => Ok(Anchor::OfServers(roots.clone())),
            Side::Clients => WebPkiClientVerifier::builder_with_provider(
                Arc::clone(&roots.0),
                Arc::clone(crypto),
            )
            .build()
            .map(Anchor::OfClients)
            .map_err(|error| IdentityError::new(format!("the trusted roots: {error}"))),
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        crypto: &CryptoProvider,
    ) -> Result<(), Error> {
        match self {
            Anchor::OfServers(roots) => verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(leaf)?,
                &roots.0,
                intermediates,
                now,
                crypto.signature_verification_algorithms.all,
            ),
            Anchor::OfClients(verifier) => verifier
                .verify_client_cert(leaf, intermediates, now)
                .map(drop),
        }
    }
}
