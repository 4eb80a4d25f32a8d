//! Certificates and trust of a SPIFFE Workload API, such as that of SPIRE's agent.

#[cfg(all(test, unix, feature = "testing"))]
mod tests;

use std::{
    collections::BTreeMap,
    error::Error,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use spiffe::{WorkloadApiClient, WorkloadApiError, X509BundleSet, X509Context, X509Svid};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};

use super::{CertificateSource, Identity, MaterialError, Publisher, Roots, Trust, Watched};
use crate::{bootstrap::SpiffeWorkloadApiConfig, resilience::Backoff};

/// The certificate of this workload, and the bundles of its trust domain and of those federated
/// with it, as a SPIFFE Workload API streams them: the provider `spiffe_workload_api` of the
/// bootstrap.
///
/// Of several identities, the first is used: the default one (SPIFFE Workload API section 5.2.2).
/// The name of a certificate is ignored. What was received last stays in force while the API is
/// away, refuses (also with `PERMISSION_DENIED`) or sends what cannot be used: the certificate's
/// end is what revokes it. The API is asked again after pauses that grow from 1 s to 120 s.
#[derive(Debug)]
pub struct SpiffeSource {
    socket: Arc<str>,
    crypto: Arc<CryptoProvider>,
    running: Mutex<Weak<Running>>,
}

/// The stream, followed until nobody watches any more.
#[derive(Debug)]
struct Running {
    published: Arc<Published>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Published {
    identity: Publisher<Identity>,
    trust: Publisher<Trust>,
}

/// What the task knows.
struct Follower {
    socket: Arc<str>,
    crypto: Arc<CryptoProvider>,
    published: Arc<Published>,
}

/// How long the first message of a stream may take, connecting included.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

// === impl SpiffeSource ===

impl SpiffeSource {
    /// The Workload API of `config`, asked first when something of it is watched.
    pub fn new(config: &SpiffeWorkloadApiConfig, crypto: Arc<CryptoProvider>) -> Self {
        Self {
            socket: config.socket.as_str().into(),
            crypto,
            running: Mutex::default(),
        }
    }

    fn running(&self) -> Arc<Running> {
        let mut running = self.running.lock();
        if let Some(running) = running.upgrade() {
            return running;
        }
        let published = Arc::<Published>::default();
        let follower = Follower {
            socket: Arc::clone(&self.socket),
            crypto: Arc::clone(&self.crypto),
            published: Arc::clone(&published),
        };
        let started = Arc::new(Running {
            published,
            task: tokio::spawn(follower.run()).abort_handle(),
        });
        *running = Arc::downgrade(&started);
        started
    }
}

impl CertificateSource for SpiffeSource {
    fn identity(&self, _name: &str) -> Watched<Identity> {
        let running = self.running();
        running.published.identity.watch(Arc::clone(&running))
    }

    fn trust(&self, _name: &str) -> Watched<Trust> {
        let running = self.running();
        running.published.trust.watch(Arc::clone(&running))
    }
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Follower ===

impl Follower {
    /// Follows one stream after the other. Ends by being aborted.
    async fn run(self) {
        let mut backoff = Backoff::control_plane();
        loop {
            if let Err(error) = self.follow(&mut backoff).await {
                self.tell(&causes(&error));
            }
            sleep(backoff.next_pause()).await;
        }
    }

    /// Publishes what one stream says, in its order, until it ends.
    ///
    /// The crate's `X509Source` would do the same, but hides why it cannot connect.
    async fn follow(&self, backoff: &mut Backoff) -> Result<(), WorkloadApiError> {
        let deadline = Instant::now() + FIRST_MESSAGE;
        let opened = timeout_at(deadline, async {
            let client = WorkloadApiClient::connect_to(&*self.socket).await?;
            let stream = client.stream_x509_contexts().await?;
            Ok::<_, WorkloadApiError>((client, stream))
        });
        let Ok(opened) = opened.await else {
            self.tell_silence();
            return Ok(());
        };
        // The connection is kept as long as the client is.
        let (_client, stream) = opened?;
        let mut stream = pin!(stream);
        let Ok(mut next) = timeout_at(deadline, stream.next()).await else {
            self.tell_silence();
            return Ok(());
        };
        let mut healthy = false;
        while let Some(message) = next {
            healthy = message.is_ok();
            match message {
                Ok(context) => {
                    backoff.reset();
                    self.publish(&context);
                }
                // Of a message that cannot be read, or the stream's last words.
                Err(error) => self.tell(&causes(&error)),
            }
            next = stream.next().await;
        }
        if healthy {
            self.tell("it ended the stream; it is asked again");
        }
        Ok(())
    }

    fn publish(&self, context: &X509Context) {
        // Trust first: who is shown the new certificate can already verify its like.
        match bundles(context.bundle_set()) {
            Ok(bundles) => {
                let trust = Trust::Bundles(bundles);
                self.published.trust.publish(Arc::new(trust));
            }
            Err(error) => {
                let text = self.text(&format!("its trust bundles are refused: {error}"));
                tracing::warn!("{text}");
                self.published.trust.trouble(text);
            }
        }
        // A message without one is an error, and does not come here.
        let Some(svid) = context.default_svid() else {
            return;
        };
        match self.identity(svid) {
            Ok(identity) => self.published.identity.publish(Arc::new(identity)),
            Err(error) => {
                let text = self.text(&format!("{} is refused: {error}", svid.spiffe_id()));
                tracing::warn!("{text}");
                self.published.identity.trouble(text);
            }
        }
    }

    fn identity(&self, svid: &X509Svid) -> Result<Identity, MaterialError> {
        let chain = svid.cert_chain().iter();
        let chain = chain.map(|certificate| certificate.as_bytes().to_vec().into());
        let key = PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec());
        Identity::from_der(chain.collect(), key.into(), &self.crypto)
    }

    fn tell_silence(&self) {
        self.tell(&format!(
            "it sent nothing within {FIRST_MESSAGE:?}; is this workload registered?"
        ));
    }

    fn tell(&self, problem: &str) {
        let text = self.text(problem);
        tracing::warn!("{text}");
        self.published.identity.trouble(Arc::clone(&text));
        self.published.trust.trouble(text);
    }

    fn text(&self, problem: &str) -> Arc<str> {
        format!("the SPIFFE Workload API at {}: {problem}", self.socket).into()
    }
}

/// By trust domain. One without authorities is trusted by nobody, and left out.
fn bundles(set: &X509BundleSet) -> Result<BTreeMap<Arc<str>, Roots>, MaterialError> {
    set.iter()
        .filter(|(_, bundle)| !bundle.authorities().is_empty())
        .map(|(domain, bundle)| {
            let authorities = bundle.authorities().iter();
            let roots = authorities.map(|root| CertificateDer::from(root.as_bytes().to_vec()));
            let roots = Roots::from_der(roots)
                .map_err(|error| MaterialError::new(format!("{domain}: {error}")))?;
            Ok((Arc::from(domain.as_str()), roots))
        })
        .collect()
}

/// What `error` says, and each of its causes that it does not quote itself.
fn causes(error: &WorkloadApiError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
