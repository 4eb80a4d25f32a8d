//! Certificates and trust that the control plane delivers (SDS over ADS).

use std::{fmt, sync::Arc};

use rustls::crypto::CryptoProvider;
use tokio::{sync::mpsc, task::AbortHandle};

use super::{CertificateSource, Identity, MaterialError, Publisher, Roots, Trust, Watched};
use crate::{
    config::{Kind, Resource, ResourceId, Secret, SecretMaterial},
    control::{Delivery, Event, Inbox, Source, Watch},
    weak_map::WeakMap,
};

/// Secrets of a control plane, by their resource names. Each is watched while somebody uses it, once
/// for all who do.
///
/// A secret that is refused, deleted or cannot be had leaves the last good one in force, with the
/// trouble told beside it; one that the control plane's rules take away (`fail_on_data_errors`,
/// gRFC A88) is withdrawn.
#[derive(Clone)]
pub struct SecretSource(Arc<Shared>);

struct Shared {
    source: Arc<dyn Source>,
    crypto: Arc<CryptoProvider>,
    identities: WeakMap<Arc<str>, Used<Identity>>,
    trust: WeakMap<Arc<str>, Used<Trust>>,
}

/// A secret in use as a `T`.
struct Used<T: Material> {
    name: Arc<str>,
    publisher: Arc<Publisher<T>>,
    shared: Arc<Shared>,
    task: AbortHandle,
    _watch: Watch,
}

/// What a secret can be.
trait Material: Sized + Send + Sync + 'static {
    /// Of `secret`, if it is one.
    fn of(secret: &Secret, crypto: &CryptoProvider) -> Result<Self, MaterialError>;

    /// The secrets in use as this.
    fn in_use(shared: &Shared) -> &WeakMap<Arc<str>, Used<Self>>;
}

// === impl SecretSource ===

impl SecretSource {
    /// The secrets of `source`.
    pub fn new(source: Arc<dyn Source>, crypto: Arc<CryptoProvider>) -> Self {
        Self(Arc::new(Shared {
            source,
            crypto,
            identities: WeakMap::new(),
            trust: WeakMap::new(),
        }))
    }

    /// How many secrets are in use as identities.
    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn identities_in_use(&self) -> usize {
        self.0.identities.len()
    }

    fn watch<T: Material>(&self, name: &str) -> Watched<T> {
        let name: Arc<str> = name.into();
        let used =
            T::in_use(&self.0).get_or_insert_with(Arc::clone(&name), || Used::start(name, &self.0));
        used.publisher.watch(Arc::clone(&used))
    }
}

impl CertificateSource for SecretSource {
    fn identity(&self, name: &str) -> Watched<Identity> {
        self.watch(name)
    }

    fn trust(&self, name: &str) -> Watched<Trust> {
        self.watch(name)
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSource")
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

// === impl Used ===

impl<T: Material> Used<T> {
    fn start(name: Arc<str>, shared: &Arc<Shared>) -> Arc<Self> {
        let (inbox, deliveries): (Inbox, _) = mpsc::unbounded_channel();
        let id = ResourceId::new(Kind::Secret, Arc::clone(&name));
        let watch = shared.source.watch(id, inbox);
        let publisher = Arc::new(Publisher::new());
        let crypto = Arc::clone(&shared.crypto);
        let task = tokio::spawn(publish(Arc::clone(&publisher), deliveries, crypto));
        Arc::new(Self {
            name,
            publisher,
            shared: Arc::clone(shared),
            task: task.abort_handle(),
            _watch: watch,
        })
    }
}

impl<T: Material> Drop for Used<T> {
    fn drop(&mut self) {
        self.task.abort();
        T::in_use(&self.shared).forget(&self.name);
    }
}

impl<T: Material> fmt::Debug for Used<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Used({:?})", self.name)
    }
}

/// Publishes what is delivered, for as long as it is not dropped.
async fn publish<T: Material>(
    publisher: Arc<Publisher<T>>,
    mut deliveries: mpsc::UnboundedReceiver<Delivery>,
    crypto: Arc<CryptoProvider>,
) {
    while let Some(Delivery {
        id,
        event,
        processed,
    }) = deliveries.recv().await
    {
        match event {
            Event::Update(Resource::Secret(secret)) => match T::of(&secret, &crypto) {
                Ok(value) => publisher.publish(Arc::new(value)),
                Err(error) => {
                    tracing::warn!("{id}: {error}");
                    publisher.trouble(format!("{id}: {error}"));
                }
            },
            Event::Update(other) => publisher.trouble(format!("{id}: is a {}", other.kind())),
            Event::Ambient(error) => publisher.trouble(error.text),
            Event::Gone(error) => publisher.withdraw(error.text),
        }
        drop(processed);
    }
}

// === impl Material ===

impl Material for Identity {
    fn of(secret: &Secret, crypto: &CryptoProvider) -> Result<Self, MaterialError> {
        match &secret.material {
            SecretMaterial::Certificate { chain, key } => {
                Identity::from_der(chain.to_vec(), key.der().clone_key(), crypto)
            }
            SecretMaterial::Trust(_) => Err(MaterialError::new(
                "holds a validation_context, and is used as a certificate",
            )),
        }
    }

    fn in_use(shared: &Shared) -> &WeakMap<Arc<str>, Used<Self>> {
        &shared.identities
    }
}

impl Material for Trust {
    fn of(secret: &Secret, _: &CryptoProvider) -> Result<Self, MaterialError> {
        match &secret.material {
            SecretMaterial::Trust(roots) => {
                Roots::from_der(roots.iter().cloned()).map(Trust::Roots)
            }
            SecretMaterial::Certificate { .. } => Err(MaterialError::new(
                "holds a tls_certificate, and is used to say whom to trust",
            )),
        }
    }

    fn in_use(shared: &Shared) -> &WeakMap<Arc<str>, Used<Self>> {
        &shared.trust
    }
}
