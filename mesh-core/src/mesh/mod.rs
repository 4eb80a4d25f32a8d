mod builder;
mod options;
mod wiring;

use std::{
    any::TypeId,
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

#[cfg(feature = "files")]
use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use self::wiring::Targets;
pub use self::{
    builder::{BuildError, MeshBuilder},
    options::Options,
    wiring::{Plane, PlaneSeed, Registration},
};
#[cfg(feature = "files")]
use crate::control::files::Files;
use crate::{
    balance::Loads,
    bootstrap::Bootstrap,
    config::Workload,
    connections::{Connections, DrainReport},
    control::{
        Source,
        snapshot::{Snapshot, SnapshotSource},
        xds::{ConfigDump, XdsClient, decode::Decoder},
    },
    identity::{CertificateStatus, Identities},
    providers::LateSideCall,
    resolve::{Names, TargetStatus},
    runtime::{Resolve, SideCall},
    telemetry::{Metrics, Recorder, dialect::Reading},
};

/// The mesh as one process sees it: where configuration comes from, and how the process behaves
/// under it. One per process; cheap to clone.
///
/// Channels and clients keep the mesh they were made from. When the last handle is gone, so are
/// its streams, watches and connections.
///
/// It lives in the tokio runtime in which it was built: whatever runtime calls are made in, streams
/// and connections are driven there. When that runtime is shut down, calls fail and say so, whatever
/// they would wait for. A test with a runtime of its own (`#[tokio::test]`) needs a mesh of its own.
///
/// ```no_run
/// # async fn example() -> Result<(), mesh_core::BuildError> {
/// // From GRPC_XDS_BOOTSTRAP or GRPC_XDS_BOOTSTRAP_CONFIG, as every proxyless gRPC client reads it.
/// let mesh = mesh_core::Mesh::from_env().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Mesh(Arc<Inner>);

/// How long a process that drains waits for what it saves.
const SAVING: Duration = Duration::from_secs(5);

struct Inner {
    /// Where everything runs that is not a call's own.
    runtime: Handle,
    bootstrap: Arc<Bootstrap>,
    options: Options,
    decoder: Arc<Decoder>,
    metrics: Arc<Metrics>,
    workload: Arc<Workload>,
    recorder: Arc<dyn Recorder>,
    identities: Identities,
    /// Those that certificate providers make.
    calls: LateSideCall,
    /// Takes the place of the plane's.
    given_calls: Option<Arc<dyn SideCall>>,
    /// Takes the place of the system's.
    given_resolver: Option<Arc<dyn Resolve>>,
    names: OnceLock<Names>,
    /// Takes the place of the control planes of the bootstrap.
    given_source: Option<Arc<dyn Source>>,
    /// If that is it.
    #[cfg(feature = "files")]
    files: Option<Arc<Files>>,
    snapshot: Option<Arc<Snapshot>>,
    xds: OnceLock<Xds>,
    loads: Loads,
    planes: Mutex<HashMap<TypeId, Arc<dyn Plane>>>,
    targets: Arc<Targets>,
    connections: Connections,
}

/// How control planes are followed.
enum Xds {
    Live(Arc<XdsClient>),
    /// What is saved stands in for them until they answer.
    Saved(Arc<SnapshotSource>),
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

    /// What runs in this process, as metrics and peers are told: what [`MeshBuilder::workload`] gave,
    /// else what the bootstrap's node metadata says as Istio writes it.
    pub fn workload(&self) -> &Arc<Workload> {
        &self.0.workload
    }

    /// All that there is to tell at this moment, for exporters: what is recorded of calls, and how
    /// configuration, certificates, clusters and connections do.
    pub async fn reading(&self) -> Reading {
        let dump = self.config_dump().await;
        let mut reading = Reading::new(self.metrics().snapshot(), Arc::clone(self.workload()));
        reading.targets = self.targets();
        reading.certificates = self.certificates();
        reading.resources = dump.resources;
        reading.connections = self.connections().len();
        reading
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
            Some(Xds::Live(client)) => client.dump().await,
            Some(Xds::Saved(source)) => source.dump().await,
            None => ConfigDump::default(),
        }
    }

    /// The files and texts that configuration comes from, if it does.
    #[cfg(feature = "files")]
    pub fn files(&self) -> Option<&Arc<Files>> {
        self.0.files.as_ref()
    }

    /// The resources that are saved for the next process, if they are: see
    /// [`MeshBuilder::snapshot`].
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.0.snapshot.as_ref()
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
    /// `serve` was called for is over after that. What [`MeshBuilder::snapshot`] asks for is saved
    /// last, within 5 s.
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
        let report = self.0.connections.drain(limit).await;
        if let Some(snapshot) = self.snapshot() {
            // It tells where it fails; a disk that hangs must not keep the process.
            let _ = tokio::time::timeout(SAVING, snapshot.save()).await;
        }
        report
    }

    /// The targets in use.
    pub fn targets(&self) -> Vec<TargetStatus> {
        self.live_targets()
            .iter()
            .map(|target| target.status())
            .collect()
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh")
            .field("node", &self.0.bootstrap.node.id)
            .finish_non_exhaustive()
    }
}
