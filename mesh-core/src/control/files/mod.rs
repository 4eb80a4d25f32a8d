//! Configuration from a directory of xDS resources, or from code: a mesh without a control plane.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = mesh_core::Mesh::builder()
//!     .resources(
//!         "greeter",
//!         r#"
//! - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
//!   name: greeter
//!   type: EDS
//!   eds_cluster_config: {eds_config: {ads: {}}}
//! - "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
//!   cluster_name: greeter
//!   endpoints:
//!   - locality: {zone: a}
//!     load_balancing_weight: 1
//!     lb_endpoints:
//!     - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}
//! "#,
//!     )
//!     .build()
//!     .await?;
//! let files = mesh.files().expect("that is where its configuration comes from");
//! assert_eq!(files.status()[0].resources.len(), 2);
//!
//! let errors = files.set("greeter", "- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n  nam: x").unwrap_err();
//! assert_eq!(errors[0].to_string(), "greeter:2:3: nam: unrecognized field name 'nam'");
//! # Ok(()) }
//! ```
//!
//! # What is read
//!
//! The files `*.yaml`, `*.yml` and `*.json` of the directory, those that links lead to included, and
//! of no other below it: a volume that Kubernetes mounts has its files a second time in hidden
//! directories, and what is in force is to be seen by `ls`. Hidden files and what editors leave behind
//! are not read; [`check()`] names what else is not. A file holds one
//! resource with its `@type`, a list of them, or them in `resources:`, as the file of an Envoy's
//! `path_config_source` does, in one YAML document or several. They are the resources that a
//! control plane would send, and mean the same: `envoy.config.listener.v3.Listener`,
//! `envoy.config.route.v3.RouteConfiguration`, `envoy.config.cluster.v3.Cluster`,
//! `envoy.config.endpoint.v3.ClusterLoadAssignment`,
//! `envoy.extensions.transport_sockets.tls.v3.Secret`.
//!
//! Fields follow the [JSON mapping of protobuf](https://protobuf.dev/programming-guides/json/), in
//! `snake_case` or `camelCase`; a field that is not known is an error. Text stays text: a number
//! where a string is expected must be put in quotes. Anchors and aliases are understood, merge keys
//! (`<<`) and tags are not. Extensions are those that Envoy's own packages define; one of your own
//! is configured by an `xds.type.v3.TypedStruct`.
//!
//! A source within a resource is `ads: {}` (or `self: {}`): where the resource itself comes from.
//!
//! # What is in force
//!
//! - A file is applied as a whole or not at all. If it cannot be, what was in force of it stays, and
//!   the errors say file, line and field: [`Files::status`], [`Mesh::config_dump`](crate::Mesh::config_dump), `tracing`.
//! - The name of a resource is unique among the files. Where it is not, the file that had it keeps
//!   it, and the other one is bad; of two new ones, the first by name is good.
//! - A resource that is in no file any more stays in force for those who use it, with an error that
//!   says so (gRFC A88). It is forgotten with its last user. The server feature `fail_on_data_errors`,
//!   under which a control plane's resources would be gone at once, has no counterpart here: a file
//!   that is moved or half-written is no reason to end calls.
//! - A resource may refer to one that is in no file: calls that need it fail, until it is there.
//!   [`check()`] says so beforehand.
//! - A file that had resources and is empty now is bad: it may be about to be written. To remove its
//!   resources, remove the file.
//! - A change is read once the directory has been the same for 50 ms, or after a second of changes:
//!   files that are written in place may be read half-written before that, and a YAML file that is cut
//!   between two resources is a good one. Write to a temporary name and rename, or swap a link, as
//!   Kubernetes does. The directory is read every 30 s besides.
//!
//! # Limits
//!
//! 64 MiB per file and resource, 4096 files, 256 MiB in all files together, 160 levels, 4 Mi values per file, 64 errors told per
//! file. A surrogate pair written as `\ud83d\ude00` is not understood: write the character.

mod check;
mod directory;
mod document;
mod error;
mod message;
mod references;
mod store;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::PathBuf,
    sync::{Arc, Weak},
    time::SystemTime,
};

#[cfg(feature = "testing")]
use envoy_types::pb::google::protobuf::Any;
use parking_lot::Mutex;
use tokio::{sync::watch, task::AbortHandle};

use self::store::{Judged, Store, judge};
pub use self::{
    check::{Checker, FileFinding, Report, check},
    error::{FileError, Position},
    store::FileStatus,
};
use super::{
    Inbox, Source, Watch,
    xds::{ConfigDump, decode::Decode},
};
use crate::config::ResourceId;

/// Resources from files and from code.
pub struct Files {
    shared: Arc<Shared>,
    following: Option<AbortHandle>,
}

/// What the files say.
#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    /// The names of texts that were given in code.
    in_code: Mutex<BTreeSet<Arc<str>>>,
    /// Why the directory cannot be read.
    trouble: Mutex<Option<Arc<str>>>,
    /// Counts the changes.
    version: watch::Sender<u64>,
}

/// Who changes what the files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Directory,
    Code,
}

/// What [`Files`] are made from.
#[derive(Debug, Default)]
pub(crate) struct FilesSeed {
    pub(crate) directory: Option<PathBuf>,
    pub(crate) texts: BTreeMap<Arc<str>, String>,
}

/// Why there are no [`Files`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("resources in {}: {error}", .directory.display())]
    Directory {
        directory: PathBuf,
        error: io::Error,
    },
    #[error("resources given in code: {}", list(.0))]
    InCode(Vec<FileError>),
}

fn list(errors: &[FileError]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// Reads a file: for fuzzing.
#[cfg(feature = "testing")]
pub(crate) fn read_bytes(bytes: &[u8], decode: &dyn Decode) {
    let _ = document::read(&"file".into(), bytes, decode);
}

/// The messages of a good file, for fuzzing what reads them.
///
/// # Panics
/// If it is not good.
#[cfg(feature = "testing")]
pub(crate) fn messages(text: &str, decode: &dyn Decode) -> Vec<(ResourceId, Any)> {
    let content = document::read(&"file".into(), text.as_bytes(), decode);
    let found = content.expect("a good file").resources.into_iter();
    let mut messages: Vec<_> = found.map(|(id, found)| (id, found.decoded.raw)).collect();
    messages.sort_by(|(a, _), (b, _)| a.cmp(b));
    messages
}

// === impl Files ===

impl Files {
    /// Reads what there is, and follows what comes.
    pub(crate) async fn start(
        seed: FilesSeed,
        decode: Arc<dyn Decode>,
        node: &str,
    ) -> Result<Arc<Self>, FilesError> {
        let FilesSeed { directory, texts } = seed;
        let origin = match &directory {
            Some(directory) => format!("resources in {}", directory.display()),
            None => "resources given in code".to_owned(),
        };
        let shared = Arc::new(Shared::new(decode, origin.into(), node.into()));
        let mut errors = Vec::new();
        for (name, text) in texts {
            errors.extend(shared.set(name, &text).err().into_iter().flatten());
        }
        if !errors.is_empty() {
            return Err(FilesError::InCode(errors));
        }
        if let Some(directory) = directory.clone() {
            let first = Arc::clone(&shared);
            let read = tokio::task::spawn_blocking(move || match directory::scan(&directory) {
                Ok(texts) => {
                    first.replace_directory(&texts);
                    Ok(())
                }
                Err(error) => Err(FilesError::Directory { directory, error }),
            });
            match read.await {
                Ok(result) => result?,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
        let following = directory.map(|directory| {
            let shared = Arc::downgrade(&shared);
            tokio::spawn(directory::follow(directory, shared)).abort_handle()
        });
        Ok(Arc::new(Self { shared, following }))
    }

    /// Every file, sorted by name.
    pub fn status(&self) -> Vec<FileStatus> {
        self.shared.store.lock().status()
    }

    /// Why the directory cannot be read; what was in force stays.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.shared.trouble.lock().clone()
    }

    /// Counts the changes that were applied or refused; to wait for the next.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Gives the text of a file called `name` in code, in place of what was given before. Takes the
    /// place of a file of that name in the directory.
    ///
    /// # Errors
    /// If it cannot be applied: what was in force of it stays.
    pub fn set(&self, name: impl Into<Arc<str>>, text: &str) -> Result<(), Vec<FileError>> {
        self.shared.set(name.into(), text)
    }

    /// Removes the text that was given as `name` in code. Says whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let Some(name) = self.shared.in_code.lock().take(name) else {
            return false;
        };
        self.shared
            .apply(Origin::Code, Vec::new(), &[name], SystemTime::now());
        true
    }

    pub(crate) fn dump(&self) -> ConfigDump {
        self.shared.store.lock().dump()
    }
}

impl Source for Files {
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        let watcher = self.shared.store.lock().watch(id, inbox);
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        Watch::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.store.lock().unwatch(watcher);
            }
        })
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn new(decode: Arc<dyn Decode>, origin: Arc<str>, node: Arc<str>) -> Self {
        Self {
            store: Mutex::new(Store::new(decode, origin, node)),
            in_code: Mutex::default(),
            trouble: Mutex::default(),
            version: watch::Sender::new(0),
        }
    }

    fn set(&self, name: Arc<str>, text: &str) -> Result<(), Vec<FileError>> {
        self.in_code.lock().insert(Arc::clone(&name));
        let decode = self.store.lock().decode();
        let changed = BTreeMap::from([(Arc::clone(&name), Ok(text.as_bytes().into()))]);
        let judged = judge(changed, &*decode);
        self.apply(Origin::Code, judged, &[], SystemTime::now());
        let status = self.store.lock().status();
        let errors = status.into_iter().find(|status| status.file == name);
        match errors.map(|status| status.errors).unwrap_or_default() {
            errors if errors.is_empty() => Ok(()),
            errors => Err(errors),
        }
    }

    fn apply(&self, origin: Origin, mut judged: Vec<Judged>, removed: &[Arc<str>], at: SystemTime) {
        let mut removed = removed.to_vec();
        let mut store = self.store.lock();
        if origin == Origin::Directory {
            // What was given in code while the files were judged takes their place.
            let in_code = self.in_code.lock();
            judged.retain(|file| !in_code.contains(&file.name));
            removed.retain(|name| !in_code.contains(name));
        }
        if judged.is_empty() && removed.is_empty() {
            return;
        }
        let changed: BTreeSet<_> = judged.iter().map(|file| Arc::clone(&file.name)).collect();
        store.apply(judged, &removed, at);
        let status = store.status();
        drop(store);
        for file in status.iter().filter(|file| changed.contains(&file.file)) {
            for error in &file.errors {
                tracing::warn!(file = %file.file, "refused a file of resources: {error}");
            }
            if file.errors.is_empty() {
                tracing::debug!(
                    file = %file.file, resources = file.resources.len(), "applied a file of resources"
                );
            }
        }
        self.version.send_modify(|version| *version += 1);
    }

    fn unreadable(&self, error: &io::Error) {
        let text: Arc<str> = error.to_string().into();
        let known = self.trouble.lock().replace(Arc::clone(&text));
        if known != Some(text) {
            tracing::warn!(%error, "cannot read the directory of resources: what was in force stays");
            self.version.send_modify(|version| *version += 1);
        }
    }

    fn readable(&self) {
        if self.trouble.lock().take().is_some() {
            tracing::info!("the directory of resources can be read again");
            self.version.send_modify(|version| *version += 1);
        }
    }
}
