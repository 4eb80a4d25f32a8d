use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{AlertDescription, CertificateError, PeerIncompatible};
use x509_parser::time::ASN1Time;

/// Why no handshake can be made, or a certificate is not trusted. Says what was wanted, and what
/// was there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(pub(crate) Arc<str>);

impl IdentityError {
    /// This problem, in words that say what to do.
    pub fn new(problem: impl Into<Arc<str>>) -> Self {
        Self(problem.into())
    }

    /// Why a handshake failed, in words of its cause: what was wrong with the peer's certificate,
    /// what the peer said, or what became of the connection.
    pub fn of_handshake(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|error| (error as &dyn Error).downcast_ref::<rustls::Error>());
        match tls {
            Some(error) => explain(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::new("the peer closed the connection during the handshake")
            }
            None => Self::new(error.to_string()),
        }
    }
}

/// What rustls says, with dates that a reader understands.
pub(super) fn explain(error: &rustls::Error) -> IdentityError {
    let rustls::Error::InvalidCertificate(invalid) = error else {
        return IdentityError::new(match error {
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
            | rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => "the peer has no version of TLS in common with this process, which speaks 1.3, \
                  and 1.2 unless Options::tls13_only is set"
                .into(),
            rustls::Error::AlertReceived(alert) => {
                format!("the peer refused with the alert {alert:?}")
            }
            rustls::Error::NoCertificatesPresented => "the peer presented no certificate".into(),
            error => error.to_string(),
        });
    };
    let problem = match invalid {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the peer's certificate expired on {}", date_of(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the peer's certificate is not valid yet: it will be on {}",
            date_of(*not_before)
        ),
        CertificateError::UnknownIssuer => {
            "unknown CA: the peer's certificate does not lead to a trusted root".into()
        }
        CertificateError::BadSignature => {
            "unknown CA: the peer's certificate is not signed by the trusted root of that name"
                .into()
        }
        CertificateError::Other(error) => format!("the peer's certificate is refused: {error}"),
        error => format!("the peer's certificate is refused: {error}"),
    };
    IdentityError::new(problem)
}

/// `time` in UTC, for people.
pub(super) fn date(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs();
    match ASN1Time::from_timestamp(i64::try_from(seconds).unwrap_or(i64::MAX)) {
        Ok(time) => time.to_string(),
        Err(_) => format!("second {seconds} of the epoch"),
    }
}

fn date_of(time: rustls::pki_types::UnixTime) -> String {
    date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}
