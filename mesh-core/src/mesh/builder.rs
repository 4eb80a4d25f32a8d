use std::sync::{Arc, OnceLock};

#[cfg(feature = "files")]
use std::path::PathBuf;

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use tokio::runtime::Handle;

use super::{Inner, Mesh, Options};
#[cfg(feature = "files")]
use crate::control::files::{Files, FilesError, FilesSeed};
use crate::{
    balance::Loads,
    bootstrap::{Bootstrap, BootstrapError},
    config::Workload,
    connections::Connections,
    control::{
        Source,
        snapshot::{Identity, Snapshot, SnapshotError, SnapshotOptions, SnapshotSeed},
        xds::{
            FilterRegistry,
            decode::{Decoder, PolicyRegistry, workload::of_node},
        },
    },
    identity::{CertificateSource, Identities, default_crypto_provider},
    providers::{self, LateSideCall, Providers},
    runtime::{Resolve, SideCall},
    telemetry::{Metrics, Recorder},
};

/// Makes a [`Mesh`].
#[derive(Debug, Default)]
pub struct MeshBuilder {
    bootstrap: Option<Bootstrap>,
    options: Options,
    filters: Option<FilterRegistry>,
    policies: Option<PolicyRegistry>,
    recorder: Option<Arc<dyn Recorder>>,
    workload: Option<Workload>,
    source: Option<Arc<dyn Source>>,
    #[cfg(feature = "files")]
    files: Option<FilesSeed>,
    snapshot: Option<SnapshotOptions>,
    side_calls: Option<Arc<dyn SideCall>>,
    resolver: Option<Arc<dyn Resolve>>,
    certificates: Providers,
    crypto: Option<Arc<CryptoProvider>>,
}

/// Why a [`Mesh`] could not be built.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BuildError(#[from] Problem);

impl From<BootstrapError> for BuildError {
    fn from(error: BootstrapError) -> Self {
        Self(error.into())
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[cfg(feature = "files")]
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

// === impl MeshBuilder ===

impl MeshBuilder {
    /// Uses this bootstrap in place of the environment's.
    pub fn bootstrap(mut self, bootstrap: Bootstrap) -> Self {
        self.bootstrap = Some(bootstrap);
        self
    }

    /// Changes [`Options`].
    pub fn options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// Uses these filters: [`FilterRegistry::standard`] with more registered.
    pub fn filters(mut self, filters: FilterRegistry) -> Self {
        self.filters = Some(filters);
        self
    }

    /// Uses these endpoint-picking policies: [`PolicyRegistry::standard`] with more registered.
    pub fn policies(mut self, policies: PolicyRegistry) -> Self {
        self.policies = Some(policies);
        self
    }

    /// Records calls here in place of [`Mesh::metrics`].
    pub fn recorder(mut self, recorder: Arc<dyn Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Says what runs in this process, in metrics and to peers, in place of the bootstrap's node
    /// metadata.
    pub fn workload(mut self, workload: Workload) -> Self {
        self.workload = Some(workload);
        self
    }

    /// Takes configuration from here in place of xDS. No bootstrap is needed then, and the
    /// environment's is not read; one that is given names listeners by its templates and
    /// authorities, and its servers are not asked.
    pub fn source(mut self, source: Arc<dyn Source>) -> Self {
        self.source = Some(source);
        self
    }

    /// Takes configuration from the files of `directory` in place of xDS, followed as they change:
    /// see [`control::files`](crate::control::files). As with [`source`](Self::source), which goes
    /// first, no bootstrap is needed.
    #[cfg(feature = "files")]
    pub fn files(mut self, directory: impl Into<PathBuf>) -> Self {
        self.files.get_or_insert_default().directory = Some(directory.into());
        self
    }

    /// Adds resources given in code as the text of a file called `name`, beside those of
    /// [`files`](Self::files). [`Files::set`] changes them later.
    #[cfg(feature = "files")]
    pub fn resources(mut self, name: impl Into<Arc<str>>, text: impl Into<String>) -> Self {
        let seed = self.files.get_or_insert_default();
        seed.texts.insert(name.into(), text.into());
        self
    }

    /// Saves the last accepted resources of the control planes, so that a new process serves while
    /// they are down: see [`control::snapshot`](crate::control::snapshot). Default: what
    /// [`SnapshotOptions::from_env`] says if the bootstrap comes from the environment too, else
    /// nothing is saved. Without effect where configuration comes from
    /// [`source`](Self::source) or files.
    pub fn snapshot(mut self, options: SnapshotOptions) -> Self {
        self.snapshot = Some(options);
        self
    }

    /// Makes the calls of the mesh itself this way, in place of connections of its own: streams to
    /// control planes, requests for certificates. In tests with paused time those of
    /// `ControlPlane::in_memory` of the feature `testing`, else to reach a control plane by a way that
    /// is not TCP or a Unix domain socket.
    pub fn side_calls(mut self, calls: Arc<dyn SideCall>) -> Self {
        self.side_calls = Some(calls);
        self
    }

    /// Looks up the host names of clusters here in place of the system's resolver.
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Takes the certificates of the provider instance of this name from here. Resources may then
    /// refer to it, whether the bootstrap has it or not; the bootstrap's is not used.
    pub fn certificates(
        mut self,
        instance: impl Into<Arc<str>>,
        source: Arc<dyn CertificateSource>,
    ) -> Self {
        self.certificates.insert(instance.into(), source);
        self
    }

    /// Uses this cryptography for TLS in place of [`default_crypto_provider`]'s. The process's
    /// default of rustls is never looked at.
    pub fn crypto_provider(mut self, crypto: Arc<CryptoProvider>) -> Self {
        self.crypto = Some(crypto);
        self
    }

    /// Builds the mesh. Nothing is connected before the first target is used.
    ///
    /// # Errors
    /// If neither a bootstrap nor a source was given, and the environment's bootstrap is missing or
    /// not valid. If the directory of [`files`](Self::files) cannot be read, or
    /// [`resources`](Self::resources) cannot be applied. If a key of [`snapshot`](Self::snapshot) is
    /// too short or too long, or there is no cryptography to use it with; a snapshot that cannot be
    /// used is no error: see [`Mesh::snapshot`].
    pub async fn build(self) -> Result<Mesh, BuildError> {
        #[cfg(feature = "files")]
        let from_files = self.files.is_some();
        #[cfg(not(feature = "files"))]
        let from_files = false;
        let mut snapshot = self.snapshot;
        let bootstrap = match self.bootstrap {
            Some(bootstrap) => bootstrap,
            None if from_files || self.source.is_some() => Bootstrap::without_servers(),
            None => {
                snapshot = snapshot.or_else(SnapshotOptions::from_env);
                Bootstrap::from_env()?
            }
        };
        if bootstrap.servers.is_empty() && !from_files && self.source.is_none() {
            return Err(BootstrapError::without_servers().into());
        }
        let decoder = Decoder::new(
            self.filters.unwrap_or_else(FilterRegistry::standard),
            self.policies.unwrap_or_else(PolicyRegistry::standard),
            bootstrap
                .provider_instances()
                .chain(self.certificates.keys().map(|instance| &**instance))
                .map(str::to_owned),
        );
        let environment = self.options.environment.iter().cloned();
        let decoder = Arc::new(decoder.environment(environment));
        #[cfg(feature = "files")]
        let files = match self.files.filter(|_| self.source.is_none()) {
            Some(seed) => {
                let files = Files::start(seed, decoder.clone(), &bootstrap.node.id).await;
                Some(files.map_err(Problem::from)?)
            }
            None => None,
        };
        #[cfg(feature = "files")]
        let source = self
            .source
            .or_else(|| files.clone().map(|files| files as _));
        #[cfg(not(feature = "files"))]
        let source = self.source;
        let crypto = self.crypto.or_else(default_crypto_provider);
        let snapshot = match snapshot.filter(|_| source.is_none()) {
            Some(options) => {
                let identity = Identity::of(&bootstrap);
                let seed = SnapshotSeed { options, identity };
                let snapshot = Snapshot::start(seed, crypto.as_ref()).await;
                Some(snapshot.map_err(Problem::from)?)
            }
            None => None,
        };
        let calls = LateSideCall::default();
        let providers = providers::of(&bootstrap, self.certificates, crypto.as_ref(), &calls);
        let identities = match self.options.tls13_only {
            true => Identities::tls13_only(crypto, providers),
            false => Identities::new(crypto, providers),
        };
        let metrics = Metrics::new();
        let recorder = self.recorder.unwrap_or_else(|| Arc::clone(&metrics) as _);
        let workload = match self.workload {
            Some(workload) => Arc::new(workload),
            None => of_node(&bootstrap.node.metadata),
        };
        Ok(Mesh(Arc::new(Inner {
            runtime: Handle::current(),
            bootstrap: Arc::new(bootstrap),
            options: self.options,
            decoder,
            metrics,
            workload,
            recorder,
            identities,
            calls,
            given_calls: self.side_calls,
            given_resolver: self.resolver,
            names: OnceLock::new(),
            given_source: source,
            #[cfg(feature = "files")]
            files,
            snapshot,
            xds: OnceLock::new(),
            loads: Loads::default(),
            planes: Mutex::default(),
            targets: Arc::default(),
            connections: Connections::new(),
        })))
    }
}
