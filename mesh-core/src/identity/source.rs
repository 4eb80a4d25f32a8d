use std::{any::Any, fmt, sync::Arc};

use tokio::sync::watch;

use super::{Identity, Trust};

/// Where certificates come from: files, a control plane, a certificate authority, code.
///
/// A source starts its work when something of it is first asked for, to be called in a tokio
/// runtime, and ends it when nothing of it is watched any more.
pub trait CertificateSource: fmt::Debug + Send + Sync + 'static {
    /// The certificate to present called `name`, which a source with one only may ignore.
    fn identity(&self, name: &str) -> Watched<Identity>;

    /// Whom to trust, by the set called `name`, which a source with one only may ignore.
    fn trust(&self, name: &str) -> Watched<Trust>;
}

/// What is known of something that a source delivers.
#[derive(Debug)]
pub struct Known<T> {
    /// The newest good value. Kept while newer ones cannot be had.
    pub value: Option<Arc<T>>,
    /// Why there is none, or none newer.
    pub trouble: Option<Arc<str>>,
}

/// Something that a source delivers, as it changes. Watched until this is dropped.
#[derive(Debug)]
pub struct Watched<T> {
    known: watch::Receiver<Known<T>>,
    _kept: Arc<dyn Kept>,
}

/// Where a source puts what it delivers.
#[derive(Debug)]
pub struct Publisher<T>(watch::Sender<Known<T>>);

/// What a watcher keeps alive.
trait Kept: Any + fmt::Debug + Send + Sync {}

impl<T: Any + fmt::Debug + Send + Sync> Kept for T {}

// === impl Known ===

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            trouble: self.trouble.clone(),
        }
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            value: None,
            trouble: None,
        }
    }
}

// === impl Watched ===

impl<T> Watched<T> {
    /// Something that never changes.
    pub fn fixed(value: Arc<T>) -> Self {
        let publisher = Publisher::new();
        publisher.publish(value);
        publisher.watch(Arc::new(()))
    }

    /// Something that there will never be.
    pub fn missing(why: impl Into<Arc<str>>) -> Self {
        let publisher = Publisher::new();
        publisher.trouble(why);
        publisher.watch(Arc::new(()))
    }

    /// What is known now.
    pub fn known(&self) -> Known<T> {
        self.known.borrow().clone()
    }

    /// Waits for news after what this has seen last. Never ends if the source has ended.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self {
            known: self.known.clone(),
            _kept: Arc::clone(&self._kept),
        }
    }
}

// === impl Publisher ===

impl<T> Publisher<T> {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(Known::default()))
    }

    /// Delivers a new value: the trouble is over.
    pub fn publish(&self, value: Arc<T>) {
        self.0.send_replace(Known {
            value: Some(value),
            trouble: None,
        });
    }

    /// Says why there is no value, or none newer.
    pub fn trouble(&self, why: impl Into<Arc<str>>) {
        let why = why.into();
        self.0.send_modify(|known| known.trouble = Some(why));
    }

    /// Takes the value away: it is not to be used any more.
    pub fn withdraw(&self, why: impl Into<Arc<str>>) {
        self.0.send_replace(Known {
            value: None,
            trouble: Some(why.into()),
        });
    }

    /// What is known now.
    pub fn known(&self) -> Known<T> {
        self.0.borrow().clone()
    }

    /// A watcher, which keeps `kept` alive: what ends the source's work when it is dropped.
    pub fn watch(&self, kept: Arc<impl fmt::Debug + Send + Sync + 'static>) -> Watched<T> {
        Watched {
            known: self.0.subscribe(),
            _kept: kept,
        }
    }
}

impl<T> Default for Publisher<T> {
    fn default() -> Self {
        Self::new()
    }
}
