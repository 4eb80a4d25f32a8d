use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::Mutex;
use rustls::{
    SupportedProtocolVersion,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};

use super::{
    CertificateSource, CertificateStatus, DownstreamContext, Identity, IdentityError, Trust,
    UpstreamContext, Watched, context, default_crypto_provider, gate::Gate, system::SystemRoots,
};
use crate::config::{CaSource, CertificateProvider, DownstreamTls, IdentitySource, UpstreamTls};

/// The certificates and the trust of a process. Cheap to clone; does not keep the mesh alive.
///
/// Certificates are looked for when a context that needs them is first asked for, once for all
/// who need the same, and no longer than somebody does.
#[derive(Clone)]
pub struct Identities(Arc<Registry>);

struct Registry {
    crypto: Option<Arc<CryptoProvider>>,
    tls13_only: bool,
    /// By the name of the instance.
    providers: BTreeMap<Arc<str>, Arc<dyn CertificateSource>>,
    secrets: OnceLock<Arc<dyn CertificateSource>>,
    system: SystemRoots,
    gates: Mutex<HashMap<IdentitySource, Weak<Gate>>>,
    /// By the digest of their settings.
    upstream: Mutex<HashMap<u64, Vec<Weak<UpstreamContext>>>>,
    downstream: Mutex<Vec<Weak<DownstreamContext>>>,
}

const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];
const TLS12_TOO: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

// === impl Identities ===

impl Identities {
    /// With these certificate providers, by the name of the instance.
    pub fn new(
        crypto: Option<Arc<CryptoProvider>>,
        providers: BTreeMap<Arc<str>, Arc<dyn CertificateSource>>,
    ) -> Self {
        Self::of(crypto, false, providers)
    }

    /// As [`new`](Self::new), and TLS 1.2 is not spoken: peers that have nothing newer are refused,
    /// servers and clients.
    pub fn tls13_only(
        crypto: Option<Arc<CryptoProvider>>,
        providers: BTreeMap<Arc<str>, Arc<dyn CertificateSource>>,
    ) -> Self {
        Self::of(crypto, true, providers)
    }

    fn of(
        crypto: Option<Arc<CryptoProvider>>,
        tls13_only: bool,
        providers: BTreeMap<Arc<str>, Arc<dyn CertificateSource>>,
    ) -> Self {
        Self(Arc::new(Registry {
            crypto,
            tls13_only,
            providers,
            secrets: OnceLock::new(),
            system: SystemRoots::default(),
            gates: Mutex::default(),
            upstream: Mutex::default(),
            downstream: Mutex::default(),
        }))
    }

    /// Takes secrets that the control plane delivers from here (SDS). The first source given stays.
    pub fn provide_secrets(&self, source: Arc<dyn CertificateSource>) {
        let _ = self.0.secrets.set(source);
    }

    /// The cryptography in use; `None`: there is none, and no TLS.
    pub fn crypto(&self) -> Option<&Arc<CryptoProvider>> {
        self.0.crypto.as_ref()
    }

    /// TLS to an endpoint of this host name, which may have a port, with these protocols offered
    /// (ALPN), such as `h2`. Shared while the settings are equal.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn upstream(
        &self,
        tls: &Arc<UpstreamTls>,
        hostname: Option<&str>,
        alpn: &[&[u8]],
    ) -> Arc<UpstreamContext> {
        let sni = context::sni(tls, hostname);
        let mut contexts = self.0.upstream.lock();
        if contexts.len() == contexts.capacity() {
            // Instead of growing for those that nobody uses any more.
            contexts.retain(|_, alike| alike.iter().any(|context| context.strong_count() != 0));
        }
        let alike = contexts.entry(tls.digest()).or_default();
        alike.retain(|context| context.strong_count() != 0);
        let mut known = alike.iter().filter_map(Weak::upgrade);
        if let Some(context) = known.find(|context| context.is_of(tls, sni, alpn)) {
            return context;
        }
        let context = Arc::new(UpstreamContext::new(self, tls, sni, alpn));
        alike.push(Arc::downgrade(&context));
        context
    }

    /// TLS of accepted connections that agree on one of these protocols (ALPN), such as `h2`.
    /// Shared while the settings are equal.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn downstream(&self, tls: &Arc<DownstreamTls>, alpn: &[&[u8]]) -> Arc<DownstreamContext> {
        let mut contexts = self.0.downstream.lock();
        contexts.retain(|context| context.strong_count() != 0);
        let mut known = contexts.iter().filter_map(Weak::upgrade);
        if let Some(context) = known.find(|context| context.is_of(tls, alpn)) {
            return context;
        }
        let context = Arc::new(DownstreamContext::new(self, tls, alpn));
        contexts.push(Arc::downgrade(&context));
        context
    }

    /// The certificates to present that are in use, in no particular order.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        let gates: Vec<_> = {
            let gates = self.0.gates.lock();
            gates.values().filter_map(Weak::upgrade).collect()
        };
        gates.iter().map(|gate| gate.status()).collect()
    }

    /// The versions of TLS that are spoken.
    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        match self.0.tls13_only {
            true => TLS13_ONLY,
            false => TLS12_TOO,
        }
    }

    /// A certificate to present, checked.
    pub(super) fn identity(&self, source: &IdentitySource) -> Watched<Identity> {
        let crypto = match self.required_crypto() {
            Ok(crypto) => Arc::clone(crypto),
            Err(error) => return Watched::missing(error.0),
        };
        let mut gates = self.0.gates.lock();
        gates.retain(|_, gate| gate.strong_count() != 0);
        let known = gates.get(source).and_then(Weak::upgrade);
        let gate = known.unwrap_or_else(|| {
            let (instance, name, identity, trust) = match source {
                IdentitySource::Provider(CertificateProvider {
                    instance,
                    certificate,
                }) => {
                    let (identity, trust) = match self.provider(instance) {
                        Ok(source) => (source.identity(certificate), source.trust(certificate)),
                        Err(error) => neither(&error),
                    };
                    (instance, Arc::clone(certificate), identity, Some(trust))
                }
                IdentitySource::Secret(name) => {
                    let identity = match self.secrets() {
                        Ok(secrets) => secrets.identity(name),
                        Err(error) => Watched::missing(error.0),
                    };
                    (name, Arc::default(), identity, None)
                }
            };
            let gate = Gate::new(Arc::clone(instance), name, identity, trust, crypto);
            let gate = Arc::new(gate);
            gates.insert(source.clone(), Arc::downgrade(&gate));
            gate
        });
        gate.watch()
    }

    /// Whom to trust.
    pub(super) fn trust(&self, source: &CaSource) -> Watched<Trust> {
        let source = match source {
            CaSource::System => return self.0.system.watch(),
            CaSource::Provider(CertificateProvider {
                instance,
                certificate,
            }) => self.provider(instance).map(|s| s.trust(certificate)),
            CaSource::Secret(name) => self.secrets().map(|secrets| secrets.trust(name)),
        };
        source.unwrap_or_else(|error| Watched::missing(error.0))
    }

    pub(super) fn required_crypto(&self) -> Result<&Arc<CryptoProvider>, IdentityError> {
        self.0.crypto.as_ref().ok_or_else(|| {
            IdentityError::new(
                "there is no cryptography for TLS: turn on the feature aws-lc-rs or ring of \
                 mesh-core, or call MeshBuilder::crypto_provider",
            )
        })
    }

    fn provider(&self, instance: &str) -> Result<&Arc<dyn CertificateSource>, IdentityError> {
        self.0.providers.get(instance).ok_or_else(|| {
            IdentityError::new(format!(
                "there is no certificate provider instance {instance:?}; add it to \
                 certificate_providers of the bootstrap, or call MeshBuilder::certificates"
            ))
        })
    }

    fn secrets(&self) -> Result<&Arc<dyn CertificateSource>, IdentityError> {
        self.0.secrets.get().ok_or_else(|| {
            IdentityError::new("secrets (SDS) are not to be had from this source of configuration")
        })
    }
}

impl Default for Identities {
    /// Without any certificate provider, with the cryptography of this crate's features.
    fn default() -> Self {
        Self::new(default_crypto_provider(), BTreeMap::new())
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities")
            .field("providers", &self.0.providers)
            .finish_non_exhaustive()
    }
}

fn neither(error: &IdentityError) -> (Watched<Identity>, Watched<Trust>) {
    (
        Watched::missing(Arc::clone(&error.0)),
        Watched::missing(Arc::clone(&error.0)),
    )
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::identity::InCode;

    #[tokio::test]
    async fn a_certificate_is_shared_and_ends_with_its_last_user() {
        let given: Arc<dyn CertificateSource> = Arc::new(InCode::new());
        let given = BTreeMap::from([("a".into(), given)]);
        let identities = Identities::new(default_crypto_provider(), given);
        let source = IdentitySource::Provider(CertificateProvider {
            instance: "a".into(),
            certificate: "".into(),
        });
        let both = [(); 2].map(|()| identities.identity(&source));
        assert_eq!(identities.certificates().len(), 1);
        drop(both);
        assert!(identities.certificates().is_empty());
    }
}
