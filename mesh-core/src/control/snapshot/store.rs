//! What is saved of one process, in memory and on disk.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;

use super::{
    SnapshotError, SnapshotErrorKind, SnapshotOptions,
    disk::{self, Disk},
    format::{self, Identity, Saved},
    key::Key,
    saver::Saver,
    table::Table,
};
use crate::{config::ResourceId, control::xds::ConfigDump};

/// The last accepted resources, kept on disk: see [`MeshBuilder::snapshot`](crate::MeshBuilder::snapshot).
pub struct Snapshot {
    identity: Identity,
    max_bytes: u64,
    max_age: Duration,
    key: Option<Key>,
    file: Arc<Path>,
    table: Mutex<Table>,
    /// One write at a time: an older one must not come after a newer one.
    disk: Mutex<Disk>,
    report: Mutex<Report>,
    saver: OnceLock<Weak<Saver>>,
}

/// How it stands with a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotStatus {
    /// The file.
    pub file: PathBuf,
    /// How many resources an earlier process had saved that could be used when this one began.
    pub loaded: usize,
    /// Why the file was not used then.
    pub refused: Option<SnapshotError>,
    /// How many resources are kept now.
    pub resources: usize,
    /// When this process last saved.
    pub saved: Option<SystemTime>,
    /// Why the last attempt to save failed; what was saved before stays.
    pub failed: Option<SnapshotError>,
}

/// What happened so far.
#[derive(Debug, Default)]
struct Report {
    loaded: usize,
    refused: Option<SnapshotError>,
    saved: Option<SystemTime>,
    failed: Option<SnapshotError>,
}

/// What a [`Snapshot`] is made from.
#[derive(Debug)]
pub(crate) struct SnapshotSeed {
    pub(crate) options: SnapshotOptions,
    pub(crate) identity: Identity,
}

// === impl Snapshot ===

impl Snapshot {
    /// Reads what there is.
    pub(crate) async fn start(
        seed: SnapshotSeed,
        crypto: Option<&Arc<CryptoProvider>>,
    ) -> Result<Arc<Self>, SnapshotError> {
        let snapshot = Arc::new(Self::new(seed, crypto)?);
        let reader = Arc::clone(&snapshot);
        let read = tokio::task::spawn_blocking(move || reader.load(SystemTime::now()));
        if let Err(panicked) = read.await {
            std::panic::resume_unwind(panicked.into_panic());
        }
        Ok(snapshot)
    }

    pub(super) fn new(
        seed: SnapshotSeed,
        crypto: Option<&Arc<CryptoProvider>>,
    ) -> Result<Self, SnapshotError> {
        let SnapshotSeed { options, identity } = seed;
        let key = options.key.as_deref().map(|key| Key::new(key, crypto));
        let file = options.directory.join(disk::name(identity.fingerprint()));
        let disk = Disk::new(file, options.max_bytes, key.is_some());
        Ok(Self {
            identity,
            max_bytes: options.max_bytes,
            max_age: options.max_age,
            key: key.transpose()?,
            file: Arc::clone(disk.file()),
            table: Mutex::default(),
            disk: Mutex::new(disk),
            report: Mutex::default(),
            saver: OnceLock::new(),
        })
    }

    /// Where it is, what became of it, and how much there is.
    pub fn status(&self) -> SnapshotStatus {
        let resources = self.table.lock().len();
        let report = self.report.lock();
        SnapshotStatus {
            file: self.file.to_path_buf(),
            loaded: report.loaded,
            refused: report.refused.clone(),
            resources,
            saved: report.saved,
            failed: report.failed.clone(),
        }
    }

    /// Saves what is in force now, in place of waiting for the time to do so. Before the first
    /// target is used there is nothing to be saved.
    ///
    /// # Errors
    /// If it cannot be written, or is too large: what was saved before stays.
    pub async fn save(self: &Arc<Self>) -> Result<(), SnapshotError> {
        match self.saver.get().and_then(Weak::upgrade) {
            Some(saver) => saver.save().await,
            None => Ok(()),
        }
    }

    pub(super) fn serve(&self, saver: &Arc<Saver>) {
        self.saver
            .set(Arc::downgrade(saver))
            .expect("a mesh has one source");
    }

    /// How often what is in force is to be confirmed on disk, `longest` at most: well before it
    /// counts as too old.
    pub(super) fn refresh(&self, longest: Duration) -> Duration {
        (self.max_age / 4).clamp(Duration::from_secs(1), longest)
    }

    pub(super) fn file(&self) -> &Arc<Path> {
        &self.file
    }

    /// What is saved of `id`, unless it is too old.
    pub(super) fn get(&self, id: &ResourceId, now: SystemTime) -> Option<Saved> {
        let saved = self.table.lock().get(id).cloned();
        saved.filter(|saved| saved.age(now) <= self.max_age)
    }

    /// The control plane took `id` away. Says whether that has to be saved.
    pub(super) fn remove(&self, id: &ResourceId, now: SystemTime) -> bool {
        self.table.lock().remove(id, now)
    }

    /// The resource cannot be used here.
    pub(super) fn discard(&self, id: &ResourceId) {
        self.table.lock().discard(id);
    }

    pub(super) fn take(
        &self,
        dump: &ConfigDump,
        is_connected: impl Fn(&str) -> bool,
        now: SystemTime,
    ) {
        self.table.lock().take(dump, is_connected, now);
    }

    /// Reads what earlier processes have saved. Blocks.
    pub(super) fn load(&self, now: SystemTime) {
        let mut disk = self.disk.lock();
        disk.tidy(self.max_age, now);
        let resources = self.read(&mut disk, now);
        match resources {
            Ok(None) => tracing::debug!(file = %self.file.display(), "nothing is saved yet"),
            Ok(Some(resources)) => {
                tracing::info!(
                    file = %self.file.display(), resources = resources.len(),
                    "read the resources that an earlier process has saved"
                );
                self.report.lock().loaded = resources.len();
                self.table.lock().merge(resources);
            }
            Err(error) => {
                tracing::warn!("refused saved resources, and goes on without them: {error}");
                self.report.lock().refused = Some(error);
            }
        }
    }

    fn read(
        &self,
        disk: &mut Disk,
        now: SystemTime,
    ) -> Result<Option<Vec<(ResourceId, Saved)>>, SnapshotError> {
        let Some(bytes) = disk.read()? else {
            return Ok(None);
        };
        let of_file = |error: SnapshotError| error.of(&self.file);
        let mut resources =
            format::decode(&bytes, &self.identity, self.key.as_ref()).map_err(of_file)?;
        let newest = resources.iter().map(|(_, saved)| saved.confirmed).max();
        resources.retain(|(_, saved)| saved.age(now) <= self.max_age);
        match newest.filter(|_| resources.is_empty()) {
            Some(newest) => {
                let age = now.duration_since(newest).unwrap_or_default();
                let problem = format!(
                    "last confirmed {} s ago: at most {} s are allowed",
                    age.as_secs(),
                    self.max_age.as_secs()
                );
                let error = SnapshotError::new(SnapshotErrorKind::TooOld, problem);
                Err(of_file(error))
            }
            None => Ok(Some(resources)),
        }
    }

    /// Writes what is known, where `in_use` is what this process cannot do without. Blocks.
    pub(super) fn write(
        &self,
        in_use: &BTreeSet<ResourceId>,
        now: SystemTime,
    ) -> Result<(), SnapshotError> {
        let mut disk = self.disk.lock();
        // What another process of this node has saved meanwhile. One that is refused is replaced.
        let others = self.read(&mut disk, now).ok().flatten();
        let resources = {
            let mut table = self.table.lock();
            table.merge(others.unwrap_or_default());
            table.expire(self.max_age, now);
            let room = self
                .max_bytes
                .saturating_sub(format::overhead(&self.identity));
            table.fit(room, in_use).map(|()| table.all())
        };
        // Not under the lock: watches must not wait for it.
        let written = resources
            .map_err(|error| error.of(&self.file))
            .and_then(|resources| {
                let bytes = format::encode(&self.identity, &resources, self.key.as_ref());
                disk.write(&bytes)
            });
        drop(disk);
        self.tell(&written, now);
        written
    }

    fn tell(&self, written: &Result<(), SnapshotError>, now: SystemTime) {
        let mut report = self.report.lock();
        match written {
            Ok(()) => {
                report.saved = Some(now);
                if report.failed.take().is_some() {
                    tracing::info!(file = %self.file.display(), "resources are saved again");
                }
            }
            Err(error) => {
                // Told once: the next attempts will go the same way.
                if report.failed.as_ref() != Some(error) {
                    tracing::warn!("cannot save resources: {error}");
                }
                report.failed = Some(error.clone());
            }
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
