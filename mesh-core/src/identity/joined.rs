use std::{future::Future, sync::Arc};

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;

use super::{
    Identity, IdentityError, Known, PeerCertificate, Trust, Watched,
    verify::{Names, Side, Verifier},
};

/// A certificate and whom to trust, as they change, with what stays: the settings.
#[derive(Debug)]
pub(super) struct Joined {
    side: Side,
    names: Names,
    /// Clients without a certificate are refused.
    required: bool,
    crypto: Result<Arc<CryptoProvider>, IdentityError>,
    identity: Option<Watched<Identity>>,
    trust: Option<Watched<Trust>>,
    verifier: Mutex<Option<(Arc<Trust>, Arc<Verifier>)>>,
}

/// What a handshake is made of.
pub(super) struct Current {
    pub(super) crypto: Arc<CryptoProvider>,
    pub(super) identity: Option<Arc<Identity>>,
    /// The same one as long as the trust is the same.
    pub(super) verifier: Option<Arc<Verifier>>,
}

/// What is built from [`Current`], until that changes.
#[derive(Debug)]
pub(super) struct Cache<T>(Mutex<Option<Built<T>>>);

#[derive(Debug)]
struct Built<T> {
    identity: Option<Arc<Identity>>,
    verifier: Option<Arc<Verifier>>,
    value: T,
}

const WHOM: &str = "whom to trust";

// === impl Joined ===

impl Joined {
    pub(super) fn new(
        side: Side,
        names: Names,
        crypto: Result<Arc<CryptoProvider>, IdentityError>,
        identity: Option<Watched<Identity>>,
        trust: Option<Watched<Trust>>,
    ) -> Self {
        Self {
            side,
            names,
            required: false,
            crypto,
            identity,
            trust,
            verifier: Mutex::default(),
        }
    }

    pub(super) fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// What there is, once all of it has arrived.
    pub(super) async fn current(&self) -> Result<Current, IdentityError> {
        let crypto = Arc::clone(self.crypto.as_ref().map_err(Clone::clone)?);
        let identity = arrived(&self.identity, "the certificate to present").await?;
        let trust = arrived(&self.trust, WHOM).await?;
        let verifier = trust.map(|trust| self.verifier(&trust)).transpose()?;
        Ok(Current {
            crypto,
            identity,
            verifier,
        })
    }

    pub(super) async fn trust_arrived(&self) -> Result<(), IdentityError> {
        arrived(&self.trust, WHOM).await.map(drop)
    }

    pub(super) fn recheck(&self, peer: &PeerCertificate) -> Result<(), IdentityError> {
        let Some(trust) = &self.trust else {
            return Ok(());
        };
        let Known { value, trouble } = trust.known();
        match value {
            Some(trust) => self.verifier(&trust)?.recheck(peer),
            None => {
                Err(IdentityError::new(trouble.unwrap_or_else(|| {
                    "it is not known yet whom to trust".into()
                })))
            }
        }
    }

    pub(super) fn trust_changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut trust = self.trust.clone();
        let before = trust.as_mut().map(|trust| trust.seen().value);
        async move {
            let (Some(mut trust), Some(before)) = (trust, before) else {
                return std::future::pending().await;
            };
            loop {
                trust.changed().await;
                if !is_same(&trust.seen().value, &before) {
                    return;
                }
            }
        }
    }

    fn verifier(&self, trust: &Arc<Trust>) -> Result<Arc<Verifier>, IdentityError> {
        let mut cached = self.verifier.lock();
        if let Some((of, verifier)) = &*cached
            && Arc::ptr_eq(of, trust)
        {
            return Ok(Arc::clone(verifier));
        }
        let crypto = self.crypto.as_ref().map_err(Clone::clone)?;
        let verifier = Verifier::new(self.side, trust, self.names.clone(), crypto)?;
        let verifier = Arc::new(verifier.required(self.required));
        *cached = Some((Arc::clone(trust), Arc::clone(&verifier)));
        Ok(verifier)
    }
}

/// What is watched, once it is there; `None` if nothing is.
async fn arrived<T>(
    watched: &Option<Watched<T>>,
    what: &str,
) -> Result<Option<Arc<T>>, IdentityError> {
    let Some(watched) = watched else {
        return Ok(None);
    };
    let mut watched = watched.clone();
    loop {
        match watched.seen() {
            Known {
                value: Some(value), ..
            } => return Ok(Some(value)),
            Known {
                trouble: Some(why), ..
            } => return Err(IdentityError::new(format!("{what} cannot be had: {why}"))),
            _ => watched.changed().await,
        }
    }
}

fn is_same<T>(a: &Option<Arc<T>>, b: &Option<Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

// === impl Cache ===

impl<T: Clone> Cache<T> {
    /// What was built of this, else what `build` builds.
    pub(super) fn get(
        &self,
        current: Current,
        build: impl FnOnce(&Current) -> Result<T, IdentityError>,
    ) -> Result<T, IdentityError> {
        let mut built = self.0.lock();
        if let Some(built) = &*built
            && is_same(&built.identity, &current.identity)
            && is_same(&built.verifier, &current.verifier)
        {
            return Ok(built.value.clone());
        }
        let value = build(&current)?;
        *built = Some(Built {
            identity: current.identity,
            verifier: current.verifier,
            value: value.clone(),
        });
        Ok(value)
    }
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
