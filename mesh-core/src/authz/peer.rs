use std::ops::RangeInclusive;

use crate::{
    config::{Cidr, StringMatcher},
    identity::{Peer, PeerCertificate},
};

/// A test of a connection: the same for all its requests.
#[derive(Debug)]
pub(super) enum PeerTest {
    Authenticated(Option<StringMatcher>),
    DestinationIp(Cidr),
    DestinationPort(RangeInclusive<u16>),
    ServerName(StringMatcher),
    SourceIp(Cidr),
}

impl PeerTest {
    pub(super) fn is_match(&self, peer: &Peer) -> bool {
        match self {
            PeerTest::Authenticated(matcher) => authenticated(matcher.as_ref(), peer),
            PeerTest::DestinationIp(range) => {
                peer.local.is_some_and(|local| range.contains(local.ip()))
            }
            PeerTest::DestinationPort(ports) => peer
                .local
                .is_some_and(|local| ports.contains(&local.port())),
            PeerTest::ServerName(matcher) => {
                let tls = peer.tls.as_ref();
                let name = tls.and_then(|tls| tls.server_name.as_deref());
                matcher.is_match(name.unwrap_or_default().as_bytes())
            }
            PeerTest::SourceIp(range) => peer
                .address
                .is_some_and(|address| range.contains(address.ip())),
        }
    }
}

/// A connection without TLS is not authenticated, whatever is asked of the name.
fn authenticated(matcher: Option<&StringMatcher>, peer: &Peer) -> bool {
    let (Some(tls), Some(matcher)) = (&peer.tls, matcher) else {
        return peer.tls.is_some();
    };
    match &tls.certificate {
        Some(certificate) => names(certificate).any(|name| matcher.is_match(name.as_bytes())),
        None => matcher.is_match(b""),
    }
}

/// The names that a client goes by: those of the first kind that its certificate has.
fn names(certificate: &PeerCertificate) -> impl Iterator<Item = &str> {
    let PeerCertificate {
        uris,
        dns_names,
        subject,
        ..
    } = certificate;
    let names = match (uris.as_slice(), dns_names.as_slice()) {
        ([], []) => std::slice::from_ref(subject),
        ([], names) => names,
        (uris, _) => uris,
    };
    names.iter().map(|name| &**name)
}

/// The first of the names that a client goes by; empty if it has none.
pub(super) fn principal(peer: &Peer) -> &str {
    let certificate = peer.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
    certificate
        .and_then(|certificate| names(certificate).next())
        .unwrap_or_default()
}
