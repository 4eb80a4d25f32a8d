//! Which names of a certificate pass (gRFC A29, A101).

use std::fmt;

use super::PeerCertificate;
use crate::config::{San, SanKind, StringMatch, StringMatcher};

/// How many names an error tells of.
const TOLD: usize = 8;

/// Which names a peer's certificate must carry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// One that passes one of these; any if there are none.
    Matchers(&'a [San]),
    /// This host name, which was asked for.
    ServerName(&'a str),
}

/// The names that a certificate offers, and what was wanted in vain.
struct Mismatch<'a> {
    certificate: &'a PeerCertificate,
    wanted: Wanted<'a>,
}

// === impl Wanted ===

impl Wanted<'_> {
    /// # Errors
    /// If no name of the certificate passes: what it offers, and what was wanted.
    pub(super) fn check(self, certificate: &PeerCertificate) -> Result<(), String> {
        let passes = match self {
            Wanted::Matchers(sans) => {
                sans.is_empty() || sans.iter().any(|san| carries(san, certificate))
            }
            Wanted::ServerName(name) => {
                let mut names = certificate.dns_names.iter();
                names.any(|offered| is_host(offered, name))
            }
        };
        if passes {
            return Ok(());
        }
        Err(Mismatch {
            certificate,
            wanted: self,
        }
        .to_string())
    }
}

/// Whether a name of the certificate passes.
fn carries(san: &San, certificate: &PeerCertificate) -> bool {
    let any = san.kind == SanKind::Any;
    let matcher = &san.matcher;
    let passes = |name: &str| !name.is_empty() && matcher.is_match(name.as_bytes());
    let asked = |kind| any || san.kind == kind;
    asked(SanKind::Dns) && certificate.dns_names.iter().any(|n| dns(matcher, n))
        || asked(SanKind::Uri) && certificate.uris.iter().any(|n| passes(n))
        || asked(SanKind::Email) && certificate.emails.iter().any(|n| passes(n))
        || asked(SanKind::Ip)
            && certificate
                .addresses
                .iter()
                .any(|address| passes(&address.to_string()))
}

/// Whether a DNS name passes: a wildcard does for each exact name it stands for.
fn dns(matcher: &StringMatcher, offered: &str) -> bool {
    if offered.is_empty() {
        return false;
    }
    match &matcher.pattern {
        StringMatch::Exact(name) => is_host(offered, name),
        _ => matcher.is_match(offered.as_bytes()),
    }
}

/// Whether `offered`, a DNS name of a certificate, stands for the host `name`: is it but for case
/// and a final dot, or has a wildcard for its first label (RFC 6125 section 6.4.3).
fn is_host(offered: &str, name: &str) -> bool {
    let offered = offered.strip_suffix('.').unwrap_or(offered);
    let name = name.strip_suffix('.').unwrap_or(name);
    if offered.is_empty() || name.is_empty() {
        return false;
    }
    if offered.eq_ignore_ascii_case(name) {
        return true;
    }
    let (Some(suffix), Some((label, rest))) = (offered.strip_prefix("*."), name.split_once('.'))
    else {
        return false;
    };
    !label.is_empty() && !suffix.is_empty() && suffix.eq_ignore_ascii_case(rest)
}

// === impl Mismatch ===

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeerCertificate {
            uris,
            dns_names,
            emails,
            addresses,
            ..
        } = self.certificate;
        let offered = uris
            .iter()
            .map(|name| format!("URI {name:?}"))
            .chain(dns_names.iter().map(|name| format!("DNS {name:?}")))
            .chain(emails.iter().map(|name| format!("email {name:?}")))
            .chain(addresses.iter().map(|address| format!("IP {address}")));
        f.write_str("wrong SAN: the certificate offers ")?;
        list(f, offered)?;
        f.write_str("; wanted is ")?;
        match self.wanted {
            Wanted::Matchers(sans) => list(f, sans.iter().map(describe)),
            Wanted::ServerName(name) => write!(f, "DNS {name:?}, the server name that was sent"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, mut items: impl Iterator<Item = String>) -> fmt::Result {
    let told: Vec<_> = items.by_ref().take(TOLD).collect();
    match told.as_slice() {
        [] => f.write_str("no name")?,
        told => f.write_str(&told.join(" or "))?,
    }
    match items.count() {
        0 => Ok(()),
        more => write!(f, " or {more} more"),
    }
}

fn describe(san: &San) -> String {
    let kind = match san.kind {
        SanKind::Any => "any name",
        SanKind::Dns => "DNS",
        SanKind::Uri => "URI",
        SanKind::Email => "email",
        SanKind::Ip => "IP",
    };
    let (how, what) = match &san.matcher.pattern {
        StringMatch::Exact(what) => ("", what.as_str()),
        StringMatch::Prefix(what) => ("starting with ", what.as_str()),
        StringMatch::Suffix(what) => ("ending with ", what.as_str()),
        StringMatch::Contains(what) => ("containing ", what.as_str()),
        StringMatch::Regex(what) => ("matching ", what.as_str()),
    };
    let case = if san.matcher.ignore_case {
        ", in any case"
    } else {
        ""
    };
    format!("{kind} {how}{what:?}{case}")
}

#[cfg(all(test, feature = "testing"))]
mod tests;
