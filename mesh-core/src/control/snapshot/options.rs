use std::{ffi::OsString, fmt, path::PathBuf, time::Duration};

/// The variable that names the directory where nothing is said in code.
const VARIABLE: &str = "MESH_SNAPSHOT_DIRECTORY";

/// Where and how the last accepted resources are saved: see
/// [`MeshBuilder::snapshot`](crate::MeshBuilder::snapshot).
#[derive(Clone)]
pub struct SnapshotOptions {
    pub(super) directory: PathBuf,
    pub(super) max_bytes: u64,
    pub(super) max_age: Duration,
    pub(super) key: Option<Box<[u8]>>,
}

// === impl SnapshotOptions ===

impl SnapshotOptions {
    /// Saves in `directory`, which is made when it is first needed.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_bytes: 64 << 20,
            max_age: Duration::from_secs(7 * 24 * 3600),
            key: None,
        }
    }

    /// What the environment asks for: saves in the directory of `MESH_SNAPSHOT_DIRECTORY`. `None` if it
    /// is not set, or empty.
    pub fn from_env() -> Option<Self> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// As [`from_env`](Self::from_env), with `lookup` in place of the process environment.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        lookup(VARIABLE)
            .filter(|directory| !directory.is_empty())
            .map(Self::new)
    }

    /// Bytes that the file may have, read or written; default 64 MiB. What is not in use is left out
    /// first; if the rest is more, it is not saved, and what was saved before stays.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a resource is kept after the control plane that sent it was last connected with
    /// it in force; default 7 days. By the wall clock.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Authenticates the file with HMAC-SHA256 (RFC 2104) under this key of 16 to 64 bytes: one
    /// without the right code is refused. Default: none, and a checksum tells what is corrupt.
    /// The key must be the same in the next process, and out of reach for whom it is against.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().into());
        self
    }
}

impl fmt::Debug for SnapshotOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotOptions")
            .field("directory", &self.directory)
            .field("max_bytes", &self.max_bytes)
            .field("max_age", &self.max_age)
            .field("has_key", &self.key.is_some())
            .finish()
    }
}
