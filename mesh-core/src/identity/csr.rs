//! Certificates that a certificate authority signs for keys made here.

mod request;
#[cfg(all(test, feature = "testing"))]
mod tests;

use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use rustls::{crypto::CryptoProvider, pki_types::CertificateDer};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{CertificateSource, Identity, MaterialError, Publisher, Roots, Trust, Watched, clock};
use crate::resilience::Backoff;

pub use request::SigningRequest;

/// A certificate authority, whatever its protocol.
pub trait CertificateSigner: fmt::Debug + Send + Sync + 'static {
    /// Asks for a certificate. Dropping the future gives up.
    fn sign(&self, request: &SigningRequest) -> SignFuture;
}

/// What [`CertificateSigner::sign`] returns.
pub type SignFuture = Pin<Box<dyn Future<Output = Result<Signed, SignError>> + Send>>;

/// What a certificate authority answers.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate, then what leads to a root, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom to trust.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why a certificate authority signs nothing. Says who was asked, and what to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignError(Arc<str>);

/// What to ask a certificate authority for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CsrOptions {
    /// How long a certificate is to be valid; default 24 hours. The authority may give less.
    pub validity: Duration,
    /// The identity to ask for, as a URI; `None`: the authority knows it. Default `None`.
    pub uri: Option<Arc<str>>,
    /// Trusted roots, PEM, in place of those that come with each certificate. Read for each.
    /// Default `None`.
    pub roots_file: Option<PathBuf>,
}

/// Certificates that a [`CertificateSigner`] signs, for keys that never leave this process.
///
/// A certificate is asked for when somebody watches, with a new key each time, and again when half
/// of its life is over, give or take 1 %. It is published if it belongs to the key, is valid now,
/// and leads to a root. While the authority fails, the last certificate is kept, and tries follow
/// each other after growing, jittered pauses of at most 150 s, and none later than the
/// certificate's end (as Istio's ztunnel does).
#[derive(Debug, Clone)]
pub struct CsrSource(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    signer: Arc<dyn CertificateSigner>,
    options: CsrOptions,
    crypto: Arc<CryptoProvider>,
    identity: Publisher<Identity>,
    trust: Publisher<Trust>,
    /// Of the certificate in force.
    life: Mutex<Option<Life>>,
    renewal: Mutex<Weak<Renewal>>,
}

/// A certificate's time, on tokio's clock.
#[derive(Debug, Clone, Copy)]
struct Life {
    renew: Instant,
    end: Instant,
}

/// The task that renews. Ends when this is dropped.
#[derive(Debug)]
struct Renewal(AbortHandle);

/// The part of a certificate's life that passes before it is renewed, and how much more or less of
/// it chance may add: a fleet that started together must not ask together for ever.
const RENEW_AT: f64 = 0.5;
const RENEW_JITTER: f64 = 0.01;

/// A try takes no longer.
const MAX_TRY: Duration = Duration::from_secs(20);

/// Neither a try nor a pause before one is made shorter than this for the sake of a certificate
/// that is about to end.
const SHORTEST: Duration = Duration::from_millis(250);

// === impl SignError ===

impl SignError {
    /// Why: who was asked, what happened, what to look at.
    pub fn new(problem: impl Into<Arc<str>>) -> Self {
        Self(problem.into())
    }
}

impl From<MaterialError> for SignError {
    fn from(error: MaterialError) -> Self {
        Self(error.0)
    }
}

// === impl CsrOptions ===

impl Default for CsrOptions {
    fn default() -> Self {
        Self {
            validity: Duration::from_secs(24 * 3600),
            uri: None,
            roots_file: None,
        }
    }
}

// === impl CsrSource ===

impl CsrSource {
    /// A source that asks `signer`. Nothing is asked for before somebody watches.
    pub fn new(
        signer: Arc<dyn CertificateSigner>,
        options: CsrOptions,
        crypto: Arc<CryptoProvider>,
    ) -> Self {
        Self(Arc::new(Shared {
            signer,
            options,
            crypto,
            identity: Publisher::new(),
            trust: Publisher::new(),
            life: Mutex::new(None),
            renewal: Mutex::new(Weak::new()),
        }))
    }

    /// The running renewal, or a new one.
    fn renewal(&self) -> Arc<Renewal> {
        let mut running = self.0.renewal.lock();
        running.upgrade().unwrap_or_else(|| {
            let task = tokio::spawn(renew(Arc::clone(&self.0)));
            let renewal = Arc::new(Renewal(task.abort_handle()));
            *running = Arc::downgrade(&renewal);
            renewal
        })
    }
}

impl CertificateSource for CsrSource {
    fn identity(&self, _: &str) -> Watched<Identity> {
        self.0.identity.watch(self.renewal())
    }

    fn trust(&self, _: &str) -> Watched<Trust> {
        self.0.trust.watch(self.renewal())
    }
}

// === impl Shared ===

impl Shared {
    /// Asks for a certificate and publishes it.
    async fn try_once(&self, limit: Duration) -> Result<Life, SignError> {
        let (request, key) = SigningRequest::new(&self.options)?;
        let signed = timeout(limit, self.signer.sign(&request)).await;
        let signed =
            signed.map_err(|_| SignError::new(format!("no answer within {limit:?}")))??;
        let roots = match &self.options.roots_file {
            Some(path) => read_roots(path).await?,
            None => Roots::from_der(signed.roots)?,
        };
        let identity = Identity::from_der(signed.chain, key, &self.crypto)?;
        let life = check(&identity, &roots, &self.crypto)?;
        // Trust first: who presents the new certificate can already verify its like.
        let known = self.trust.known();
        let same = matches!(
            known.value.as_deref(),
            Some(Trust::Roots(old)) if old.0.roots == roots.0.roots
        );
        if !same || known.trouble.is_some() {
            let kept = known.value.filter(|_| same);
            let new = kept.unwrap_or_else(|| Arc::new(Trust::Roots(roots)));
            self.trust.publish(new);
        }
        self.identity.publish(Arc::new(identity));
        *self.life.lock() = Some(life);
        Ok(life)
    }

    fn tell(&self, error: &SignError, end: Option<Instant>) {
        let now = Instant::now();
        let text: Arc<str> = match end {
            None => format!("no certificate yet: {error}"),
            Some(end) if end <= now => format!("the certificate has expired: {error}"),
            Some(end) => format!(
                "the certificate is not renewed, and expires in {} s: {error}",
                (end - now).as_secs()
            ),
        }
        .into();
        tracing::warn!(signer = ?self.signer, "{text}");
        self.identity.trouble(Arc::clone(&text));
        self.trust.trouble(text);
    }
}

/// Keeps the certificate fresh, for as long as it is not dropped.
async fn renew(shared: Arc<Shared>) {
    let mut backoff = Backoff::certificate_authority();
    // A certificate from an earlier watch is as good as ever.
    let mut life = *shared.life.lock();
    let mut next = life.map_or_else(Instant::now, |life| life.renew);
    loop {
        sleep_until(next).await;
        let left = life.map(|life| life.end.saturating_duration_since(Instant::now()));
        match shared.try_once(try_limit(left)).await {
            Ok(new) => {
                backoff.reset();
                life = Some(new);
                next = new.renew;
            }
            Err(error) => {
                let now = Instant::now();
                let end = life.map(|life| life.end);
                shared.tell(&error, end);
                let left = end.map(|end| end.saturating_duration_since(now));
                let grown = backoff.next_pause();
                let pause = pause(grown, left);
                if pause < grown {
                    // The short pauses before the certificate's end do not make those after it long.
                    backoff.reset();
                }
                next = now + pause;
            }
        }
    }
}

/// How long a try may take while a certificate is valid for `left`: another one must fit in.
fn try_limit(left: Option<Duration>) -> Duration {
    match left {
        Some(left) if !left.is_zero() => MAX_TRY.min((left / 2).max(SHORTEST)),
        _ => MAX_TRY,
    }
}

/// The pause before the next try while a certificate is valid for `left`: it is over before the
/// certificate is.
fn pause(pause: Duration, left: Option<Duration>) -> Duration {
    match left {
        Some(left) if !left.is_zero() => pause.min((left / 2).max(SHORTEST)).min(left),
        _ => pause,
    }
}

// === impl Renewal ===

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether an identity can be used: it is valid now, and `roots` lead to it. Says for how long.
fn check(
    identity: &Identity,
    roots: &Roots,
    crypto: &CryptoProvider,
) -> Result<Life, MaterialError> {
    let (from, to) = identity.validity();
    let now = clock::now();
    let seconds = |a: std::time::SystemTime, b| a.duration_since(b).unwrap_or_default().as_secs();
    if from > now {
        return Err(MaterialError::new(format!(
            "the certificate is not valid before another {} s: compare the clocks of this machine \
             and of the certificate authority",
            seconds(from, now)
        )));
    }
    let left = to.duration_since(now).unwrap_or_default();
    if left.is_zero() {
        return Err(MaterialError::new(format!(
            "the certificate has expired {} s ago: compare the clocks of this machine and of the \
             certificate authority",
            seconds(now, to)
        )));
    }
    verify(identity, roots, crypto, now)?;
    let part = RENEW_AT + RENEW_JITTER * (2.0 * fastrand::f64() - 1.0);
    let received = Instant::now();
    Ok(Life {
        renew: received + left.mul_f64(part),
        end: received + left,
    })
}

/// Whether `roots` lead to an identity: what a server's peer would check, its names aside.
fn verify(
    identity: &Identity,
    roots: &Roots,
    crypto: &CryptoProvider,
    now: std::time::SystemTime,
) -> Result<(), MaterialError> {
    let problem = |error: rustls::Error| {
        MaterialError::new(format!(
            "the certificate does not lead to the root that came with it: {error}"
        ))
    };
    let [leaf, intermediates @ ..] = &*identity.leaf.chain else {
        return Err(MaterialError::new("there is no certificate"));
    };
    let leaf = rustls::server::ParsedCertificate::try_from(leaf).map_err(problem)?;
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &leaf,
        &roots.0,
        intermediates,
        clock::unix(now),
        crypto.signature_verification_algorithms.all,
    )
    .map_err(problem)
}

async fn read_roots(path: &Path) -> Result<Roots, SignError> {
    let pem = tokio::fs::read(path).await.map_err(|error| {
        SignError::new(format!(
            "cannot read the roots in {}: {error}",
            path.display()
        ))
    })?;
    Roots::from_pem(&pem)
        .map_err(|error| SignError::new(format!("the roots in {}: {error}", path.display())))
}
