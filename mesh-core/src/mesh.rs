use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "files")]
use std::path::PathBuf;

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;

#[cfg(feature = "files")]
use crate::control::files::{Files, FilesError, FilesSeed};
use crate::{
    bootstrap::{Bootstrap, BootstrapError},
    connections::{Connections, DrainReport},
    control::{
        Source,
        xds::{
            ConfigDump, FilterRegistry, XdsClient, XdsOptions,
            decode::{Decoder, PolicyRegistry},
        },
    },
    identity::{
        CertificateSource, CertificateStatus, Identities, SecretSource, default_crypto_provider,
    },
    providers::{self, LateSideCall, Providers},
    resolve::{Names, Readiness, TargetStatus},
    runtime::{Resolve, SideCall},
    telemetry::{Metrics, Recorder},
};

/// The mesh as one process sees it: where configuration comes from, and how the process behaves
/// under it. One per process; cheap to clone.
///
/// Channels and clients keep the mesh they were made from. When the last handle is gone, so are
/// its streams, watches and connections.
///
/// ```no_run
/// # async fn example() -> Result<(), mesh_core::BuildError> {
/// // From GRPC_XDS_BOOTSTRAP or GRPC_XDS_BOOTSTRAP_CONFIG, as every proxyless gRPC client reads it.
/// let mesh = mesh_core::Mesh::from_env().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Mesh(Arc<Inner>);

struct Inner {
    bootstrap: Arc<Bootstrap>,
    options: Options,
    decoder: Arc<Decoder>,
    metrics: Arc<Metrics>,
    recorder: Arc<dyn Recorder>,
    identities: Identities,
    /// Those that certificate providers make.
    calls: LateSideCall,
    /// Takes the place of the system's.
    given_resolver: Option<Arc<dyn Resolve>>,
    names: OnceLock<Names>,
    /// Takes the place of the control planes of the bootstrap.
    given_source: Option<Arc<dyn Source>>,
    /// If that is it.
    #[cfg(feature = "files")]
    files: Option<Arc<Files>>,
    xds: OnceLock<Arc<XdsClient>>,
    planes: Mutex<HashMap<TypeId, Arc<dyn Plane>>>,
    targets: Arc<Targets>,
    connections: Connections,
}

/// The targets in use, in the order in which they came.
#[derive(Default)]
struct Targets {
    last: AtomicU64,
    in_use: Mutex<BTreeMap<u64, Weak<dyn Readiness>>>,
}

/// A target's place among those in use, which it has until this is dropped. Does not keep the
/// mesh alive.
// Hidden as `Mesh::register` is.
#[doc(hidden)]
#[must_use = "the target counts among those in use until this is dropped"]
pub struct Registration {
    number: u64,
    targets: Weak<Targets>,
}

/// How a mesh behaves where configuration does not say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long a resource may take to arrive before it counts as missing; default 15 s
    /// (gRFC A57).
    pub resource_timeout: Duration,
    /// Bytes a message of the control plane may have; default 64 MiB.
    pub max_config_message: usize,
    /// Connections to one endpoint where its cluster does not say; default 1, at most 10
    /// (gRFC A105).
    pub connections_per_endpoint: u32,
    /// First pause after a failed connection attempt; default 1 s (gRPC connection backoff).
    pub connect_backoff_base: Duration,
    /// Longest such pause; default 120 s.
    pub connect_backoff_max: Duration,
    /// Bytes of a request kept for a retry; default 256 KiB. A longer request is not tried again.
    pub retry_buffer: usize,
    /// Whether nothing older than TLS 1.3 is spoken with endpoints and with clients; default
    /// `false`: TLS 1.2 too, the newest that an Envoy offers as a client unless it is told
    /// otherwise. If so, a peer that has nothing newer is refused, and the error says so. The calls
    /// that the mesh makes for itself, such as those to a control plane, are not concerned.
    pub tls13_only: bool,
}

/// Makes a [`Mesh`].
#[derive(Debug, Default)]
pub struct MeshBuilder {
    bootstrap: Option<Bootstrap>,
    options: Options,
    filters: Option<FilterRegistry>,
    policies: Option<PolicyRegistry>,
    recorder: Option<Arc<dyn Recorder>>,
    source: Option<Arc<dyn Source>>,
    #[cfg(feature = "files")]
    files: Option<FilesSeed>,
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
}

/// What carries requests for a mesh: connections and the calls the mesh makes for itself.
/// `mesh-hyper` is one.
///
/// Who writes another finds its wiring in the source of [`Mesh`], as `plane`, `source` and
/// `register`, and that of a server's connections in the source of [`Connections`]. It is left out
/// of these pages: a service has no use for it.
pub trait Plane: Any + fmt::Debug + Send + Sync {
    /// The calls that the mesh makes for itself.
    fn side_calls(&self) -> Arc<dyn SideCall>;
}

/// What a plane is made from: the parts of a mesh that do not keep it alive.
#[derive(Debug)]
pub struct PlaneSeed<'a> {
    /// How the mesh behaves.
    pub options: &'a Options,
    /// The certificates and the trust of the process.
    pub identities: &'a Identities,
}

/// A target that has no configuration, when [`Mesh::ready`] was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("target {target:?} is not ready: {reason}")]
pub struct NotReady {
    /// The listener's name.
    pub target: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
}

// === impl Mesh ===

impl Mesh {
    /// A mesh from the bootstrap that the environment names: the file of `GRPC_XDS_BOOTSTRAP`,
    /// else the JSON of `GRPC_XDS_BOOTSTRAP_CONFIG`. Read now, not at start-up.
    ///
    /// # Errors
    /// If there is none, or it is not valid; says which field of which file.
    pub async fn from_env() -> Result<Self, BuildError> {
        Self::builder().build().await
    }

    /// A mesh without a control plane, under the resources in the files of `directory`, followed
    /// as they change: see [`control::files`](crate::control::files). No bootstrap is read;
    /// [`MeshBuilder::bootstrap`] gives one, of whose control planes nothing is asked.
    ///
    /// # Errors
    /// If the directory cannot be read. A file that is bad is no error: see
    /// [`files`](Self::files).
    #[cfg(feature = "files")]
    pub async fn from_files(directory: impl Into<PathBuf>) -> Result<Self, BuildError> {
        Self::builder().files(directory).build().await
    }

    /// A mesh with settings given in code.
    pub fn builder() -> MeshBuilder {
        MeshBuilder::default()
    }

    /// Who this process is and where its control plane is. Without servers if
    /// [`MeshBuilder::source`] made it unnecessary and none was given.
    pub fn bootstrap(&self) -> &Bootstrap {
        &self.0.bootstrap
    }

    /// How it behaves.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// What has been recorded of calls, unless [`MeshBuilder::recorder`] chose another recorder.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Where calls are recorded.
    pub fn recorder(&self) -> &Arc<dyn Recorder> {
        &self.0.recorder
    }

    /// Every watched xDS resource with its state: what was asked for, accepted and refused. Empty
    /// before the first target is used, and where [`MeshBuilder::source`] is in force.
    pub async fn config_dump(&self) -> ConfigDump {
        #[cfg(feature = "files")]
        if let Some(files) = &self.0.files {
            return files.dump();
        }
        match self.0.xds.get() {
            Some(xds) => xds.dump().await,
            None => ConfigDump::default(),
        }
    }

    /// The files and texts that configuration comes from, if it does.
    #[cfg(feature = "files")]
    pub fn files(&self) -> Option<&Arc<Files>> {
        self.0.files.as_ref()
    }

    /// The certificates and the trust of the process.
    pub fn identities(&self) -> &Identities {
        &self.0.identities
    }

    /// The certificates to present that are in use: whose they are, how far they are in their
    /// life, and what is wrong, such as a renewal that fails.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        self.0.identities.certificates()
    }

    /// Waits until every target in use has a configuration. Resolves at once if none is in use.
    ///
    /// # Errors
    /// If one cannot be had: its name and the reason. If the process drains.
    pub async fn ready(&self) -> Result<(), NotReady> {
        if self.0.connections.is_draining() {
            return Err(NotReady {
                target: "this process".into(),
                reason: "it drains".into(),
            });
        }
        for target in self.live_targets() {
            target.settled().await;
            let status = target.status();
            if !status.ready {
                let reason = status
                    .trouble
                    .map_or("nothing received".into(), |error| error.text);
                return Err(NotReady {
                    target: status.spec.listener,
                    reason,
                });
            }
        }
        Ok(())
    }

    /// The connections that servers of this process have accepted.
    pub fn connections(&self) -> &Connections {
        &self.0.connections
    }

    /// Takes the process out of service. From now on [`ready`](Self::ready) says no, servers accept
    /// nothing more, and every connection is told to go away (GOAWAY). Waits until all requests
    /// under way are answered, or until `limit` has passed: then the rest is cut. What a server's
    /// `serve` was called for is over after that.
    ///
    /// For SIGTERM:
    ///
    /// ```no_run
    /// # async fn example(mesh: mesh_core::Mesh) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let mut terminate = tokio::signal::unix::signal(
    ///     tokio::signal::unix::SignalKind::terminate(),
    /// )?;
    /// terminate.recv().await;
    /// // Shorter than the platform's own patience, such as Kubernetes' 30 s.
    /// let report = mesh.drain(Duration::from_secs(25)).await;
    /// println!("{} connections finished, {} were cut", report.finished, report.cut);
    /// # Ok(()) }
    /// ```
    pub async fn drain(&self, limit: Duration) -> DrainReport {
        self.0.connections.drain(limit).await
    }

    /// The targets in use.
    pub fn targets(&self) -> Vec<TargetStatus> {
        self.live_targets()
            .iter()
            .map(|target| target.status())
            .collect()
    }

    /// The plane of type `P`, made on first use.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn plane<P: Plane>(&self, make: impl FnOnce(PlaneSeed<'_>) -> P) -> Arc<P> {
        let mut planes = self.0.planes.lock();
        let plane = planes.entry(TypeId::of::<P>()).or_insert_with(|| {
            let plane = make(PlaneSeed {
                options: &self.0.options,
                identities: &self.0.identities,
            });
            self.0.calls.provide(plane.side_calls());
            Arc::new(plane)
        });
        let any: Arc<dyn Any + Send + Sync> = Arc::clone(plane) as _;
        any.downcast().expect("planes are kept by their type")
    }

    /// Where configuration comes from: what [`MeshBuilder::source`] gave, else the control planes
    /// of the bootstrap, reached through `plane`.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn source(&self, plane: &dyn Plane) -> Arc<dyn Source> {
        let source = self.source_of_resources(plane);
        if let Some(crypto) = self.0.identities.crypto() {
            let secrets = SecretSource::new(Arc::clone(&source), Arc::clone(crypto));
            self.0.identities.provide_secrets(Arc::new(secrets));
        }
        source
    }

    /// The names that clusters are looked up by: by what [`MeshBuilder::resolver`] gave, else by what
    /// `system` makes.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn names(&self, system: impl FnOnce() -> Arc<dyn Resolve>) -> Names {
        let names = self.0.names.get_or_init(|| {
            let given = self.0.given_resolver.clone();
            Names::new(given.unwrap_or_else(system))
        });
        names.clone()
    }

    fn source_of_resources(&self, plane: &dyn Plane) -> Arc<dyn Source> {
        if let Some(source) = &self.0.given_source {
            return Arc::clone(source);
        }
        let xds = self.0.xds.get_or_init(|| {
            let options = XdsOptions {
                resource_timeout: self.0.options.resource_timeout,
                max_message: self.0.options.max_config_message,
                ..XdsOptions::default()
            };
            let decoder = Arc::clone(&self.0.decoder);
            XdsClient::new(
                Arc::clone(&self.0.bootstrap),
                decoder,
                plane.side_calls(),
                options,
            )
        });
        Arc::clone(xds) as _
    }

    /// Counts `target` among those in use.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn register(&self, target: Weak<dyn Readiness>) -> Registration {
        let targets = &self.0.targets;
        let number = targets.last.fetch_add(1, Ordering::Relaxed);
        targets.in_use.lock().insert(number, target);
        Registration {
            number,
            targets: Arc::downgrade(targets),
        }
    }

    fn live_targets(&self) -> Vec<Arc<dyn Readiness>> {
        let in_use = self.0.targets.in_use.lock();
        in_use.values().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh")
            .field("node", &self.0.bootstrap.node.id)
            .finish_non_exhaustive()
    }
}

// === impl Registration ===

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(targets) = self.targets.upgrade() {
            targets.in_use.lock().remove(&self.number);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({})", self.number)
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            resource_timeout: Duration::from_secs(15),
            max_config_message: 64 << 20,
            connections_per_endpoint: 1,
            connect_backoff_base: Duration::from_secs(1),
            connect_backoff_max: Duration::from_secs(120),
            retry_buffer: 256 << 10,
            tls13_only: false,
        }
    }
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
    /// [`resources`](Self::resources) cannot be applied.
    pub async fn build(self) -> Result<Mesh, BuildError> {
        #[cfg(feature = "files")]
        let from_files = self.files.is_some();
        #[cfg(not(feature = "files"))]
        let from_files = false;
        let bootstrap = match self.bootstrap {
            Some(bootstrap) => bootstrap,
            None if from_files || self.source.is_some() => Bootstrap::without_servers(),
            None => Bootstrap::from_env()?,
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
        let decoder = Arc::new(decoder);
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
        let calls = LateSideCall::default();
        let providers = providers::of(&bootstrap, self.certificates, crypto.as_ref(), &calls);
        let identities = match self.options.tls13_only {
            true => Identities::tls13_only(crypto, providers),
            false => Identities::new(crypto, providers),
        };
        let metrics = Metrics::new();
        let recorder = self.recorder.unwrap_or_else(|| Arc::clone(&metrics) as _);
        Ok(Mesh(Arc::new(Inner {
            bootstrap: Arc::new(bootstrap),
            options: self.options,
            decoder,
            metrics,
            recorder,
            identities,
            calls,
            given_resolver: self.resolver,
            names: OnceLock::new(),
            given_source: source,
            #[cfg(feature = "files")]
            files,
            xds: OnceLock::new(),
            planes: Mutex::default(),
            targets: Arc::default(),
            connections: Connections::new(),
        })))
    }
}
