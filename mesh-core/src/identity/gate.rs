//! The certificates in use: checked before they are, and watched until they expire.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use tokio::task::AbortHandle;

use super::{
    Identity, Known, PeerCertificate, Publisher, Trust, Watched, clock,
    error::{date, explain},
    verify::{Names, Side, Verifier},
};

/// A certificate to present, as an operator sees it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// The certificate provider's instance, or the name of the secret.
    pub instance: Arc<str>,
    /// The certificate's name with the provider; may be empty.
    pub name: Arc<str>,
    /// The certificate in use: its names, serial number and dates. `None`: there is none yet.
    pub leaf: Option<PeerCertificate>,
    /// How much of its life is used: 0 when it is issued, 1 and more when it has expired.
    pub used: f64,
    /// Which alarm it has reached.
    pub stage: LifeStage,
    /// Why there is none, or none newer.
    pub trouble: Option<Arc<str>>,
}

/// How far a certificate is in its life. `tracing` is told of each change: half of it at the level
/// of information, since that is when many sources renew, and the rest as a warning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LifeStage {
    /// Less than half of its life is used.
    #[default]
    Fresh,
    /// Half of it is used.
    Half,
    /// 80 % of it are used.
    Late,
    /// 95 % of it are used.
    Last,
    /// It has expired.
    Expired,
}

/// A certificate of a source, on its way to those who present it. Ends when this is dropped.
#[derive(Debug)]
pub(super) struct Gate {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    instance: Arc<str>,
    name: Arc<str>,
    /// What passed.
    passed: Publisher<Identity>,
    stage: Mutex<LifeStage>,
}

/// What the task has besides.
struct Check {
    shared: Arc<Shared>,
    identity: Watched<Identity>,
    /// Whom the same source trusts.
    trust: Option<Watched<Trust>>,
    crypto: Arc<CryptoProvider>,
}

/// Why a certificate is not used.
struct Refused {
    why: String,
    /// When it may be looked at again, though nothing changes.
    again: Option<SystemTime>,
}

// === impl LifeStage ===

impl LifeStage {
    const ALL: [LifeStage; 5] = [
        LifeStage::Fresh,
        LifeStage::Half,
        LifeStage::Late,
        LifeStage::Last,
        LifeStage::Expired,
    ];

    /// The percentage of life with which it begins.
    fn percent(self) -> u32 {
        match self {
            LifeStage::Fresh => 0,
            LifeStage::Half => 50,
            LifeStage::Late => 80,
            LifeStage::Last => 95,
            LifeStage::Expired => 100,
        }
    }

    /// When a certificate reaches it.
    fn begins(self, leaf: &PeerCertificate) -> SystemTime {
        leaf.not_before + life(leaf) * self.percent() / 100
    }

    fn at(leaf: &PeerCertificate, now: SystemTime) -> Self {
        let reached = |stage: &LifeStage| stage.begins(leaf) <= now;
        let stage = Self::ALL.into_iter().rev().find(reached);
        stage.unwrap_or_default()
    }

    fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|&stage| stage > self)
    }
}

fn life(leaf: &PeerCertificate) -> Duration {
    let life = leaf.not_after.duration_since(leaf.not_before);
    life.unwrap_or_default()
}

// === impl Gate ===

impl Gate {
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(
        instance: Arc<str>,
        name: Arc<str>,
        identity: Watched<Identity>,
        trust: Option<Watched<Trust>>,
        crypto: Arc<CryptoProvider>,
    ) -> Self {
        let shared = Arc::new(Shared {
            instance,
            name,
            passed: Publisher::new(),
            stage: Mutex::default(),
        });
        let check = Check {
            shared: Arc::clone(&shared),
            identity,
            trust,
            crypto,
        };
        Self {
            shared,
            task: tokio::spawn(check.run()).abort_handle(),
        }
    }

    /// What passes.
    pub(super) fn watch(self: &Arc<Self>) -> Watched<Identity> {
        self.shared.passed.watch(Arc::clone(self))
    }

    pub(super) fn status(&self) -> CertificateStatus {
        let Known { value, trouble } = self.shared.passed.known();
        let leaf = value.map(|identity| identity.leaf.clone());
        let used = leaf.as_ref().map_or(0.0, |leaf| {
            let age = clock::now().duration_since(leaf.not_before);
            let life = life(leaf).max(Duration::from_secs(1));
            age.unwrap_or_default().as_secs_f64() / life.as_secs_f64()
        });
        CertificateStatus {
            instance: Arc::clone(&self.shared.instance),
            name: Arc::clone(&self.shared.name),
            leaf,
            used,
            stage: *self.shared.stage.lock(),
            trouble,
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Check ===

impl Check {
    async fn run(mut self) {
        loop {
            let again = self.look();
            let alarm = self.alarm();
            let wake = again.into_iter().chain(alarm).min();
            let clock = async {
                match wake {
                    Some(moment) => clock::sleep_until(moment).await,
                    None => std::future::pending().await,
                }
            };
            let trust = async {
                match &mut self.trust {
                    Some(trust) => trust.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.identity.changed() => {}
                () = trust => {}
                () = clock => {}
            }
        }
    }

    /// Lets the newest certificate pass if it is good; else says when to look again.
    fn look(&mut self) -> Option<SystemTime> {
        let offered = self.identity.seen();
        let trust = self.trust.as_mut().and_then(|trust| trust.seen().value);
        let passed = &self.shared.passed;
        let current = passed.known();
        let is_current = |new: &Arc<Identity>| {
            let current = current.value.as_ref();
            current.is_some_and(|current| Arc::ptr_eq(current, new))
        };
        let mut trouble = offered.trouble;
        let mut again = None;
        if let Some(new) = offered.value.filter(|new| !is_current(new)) {
            match self.check(&new, current.value.as_deref(), trust.as_deref()) {
                Ok(()) => {
                    *self.shared.stage.lock() = LifeStage::Fresh;
                    passed.publish(new);
                }
                Err(refused) => {
                    trouble = Some(refused.why.into());
                    again = refused.again;
                }
            }
        }
        if let Some(trouble) = trouble
            && current.trouble.as_ref() != Some(&trouble)
        {
            tracing::warn!(instance = %self.shared.instance, %trouble, "certificate trouble");
            passed.trouble(trouble);
        }
        again
    }

    /// Whether a new certificate is better than what there is. Its key was checked when it was
    /// read.
    fn check(
        &self,
        new: &Identity,
        current: Option<&Identity>,
        trust: Option<&Trust>,
    ) -> Result<(), Refused> {
        let now = clock::now();
        let (from, to) = new.validity();
        if now > to {
            return Err(Refused {
                why: format!("the new certificate has expired already, on {}", date(to)),
                again: None,
            });
        }
        if now < from {
            return Err(Refused {
                why: format!(
                    "the new certificate is not valid yet: it will be on {}",
                    date(from)
                ),
                again: Some(from),
            });
        }
        let Some(trust) = trust else { return Ok(()) };
        match (self.leads_to(new, trust), current) {
            // Where peers have another authority than we have, the trust says nothing of our own.
            (Err(why), Some(current)) if self.leads_to(current, trust).is_ok() => Err(Refused {
                why: format!("the new certificate does not pass our own check: {why}"),
                again: None,
            }),
            _ => Ok(()),
        }
    }

    /// Whether a peer with our own trust would accept this certificate.
    fn leads_to(&self, identity: &Identity, trust: &Trust) -> Result<(), String> {
        let accepts = |side| {
            let names = Names::Matchers(Arc::new([]));
            let verifier = Verifier::new(side, trust, names, &self.crypto);
            let verifier = verifier.map_err(|error| error.to_string())?;
            let verified = verifier.verify(&identity.leaf, clock::now());
            verified.map_err(|error| explain(&error).to_string())
        };
        // It may be one for servers or for clients only.
        accepts(Side::Servers).or_else(|_| accepts(Side::Clients))
    }

    /// Tells of each stage that the certificate in use has reached; when the next one is.
    fn alarm(&self) -> Option<SystemTime> {
        let identity = self.shared.passed.known().value?;
        let leaf = &identity.leaf;
        let stage = LifeStage::at(leaf, clock::now());
        let before = std::mem::replace(&mut *self.shared.stage.lock(), stage);
        if stage > before {
            let instance = &self.shared.instance;
            let (serial, percent) = (&leaf.serial, stage.percent());
            let id = leaf.spiffe_id().unwrap_or(&leaf.subject);
            let until = date(leaf.not_after);
            if stage == LifeStage::Expired {
                tracing::warn!(%instance, id, %serial, until, "the certificate has expired");
                let why = format!("the certificate expired on {until} and there is no newer one");
                self.shared.passed.trouble(why);
            } else if stage == LifeStage::Half {
                tracing::info!(
                    %instance, id, %serial, until, percent,
                    "this much of the certificate's life is used"
                );
            } else {
                tracing::warn!(
                    %instance, id, %serial, until, percent,
                    "this much of the certificate's life is used and there is no newer one"
                );
            }
        }
        stage.next().map(|next| next.begins(leaf))
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
