//! Why a snapshot was refused or not written.

use std::{fmt, path::Path, sync::Arc};

/// Why what was saved is not used, or what is in force is not saved. Neither changes what is in
/// force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotError {
    kind: SnapshotErrorKind,
    file: Option<Arc<Path>>,
    problem: Arc<str>,
}

/// Kinds of [`SnapshotError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotErrorKind {
    /// The options cannot be met: a key of a length that none has, or no cryptography.
    Options,
    /// The file is there and cannot be read, or is no file. Without a key also: it is another user's
    /// than ours and root's, or everybody may write to it.
    Unreadable,
    /// More bytes than [`SnapshotOptions::max_bytes`](super::SnapshotOptions::max_bytes) allows, in
    /// the file or of what is to be saved.
    TooLarge,
    /// Not a snapshot, or one of a format that is not known.
    Format,
    /// Cut off, or its checksum is not that of what it holds.
    Corrupt,
    /// Its authentication code is missing, or was not made with our key.
    Unauthentic,
    /// Of another node, or of other control planes.
    Foreign,
    /// All of it is older than [`SnapshotOptions::max_age`](super::SnapshotOptions::max_age).
    TooOld,
    /// The file cannot be written.
    Unwritable,
}

// === impl SnapshotError ===

impl SnapshotError {
    pub(super) fn new(kind: SnapshotErrorKind, problem: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            file: None,
            problem: problem.into(),
        }
    }

    /// The same of this file.
    pub(super) fn of(mut self, file: &Path) -> Self {
        self.file = Some(file.into());
        self
    }

    /// What kind of trouble.
    pub fn kind(&self) -> SnapshotErrorKind {
        self.kind
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "snapshot {}: {}", file.display(), self.problem),
            None => write!(f, "snapshot: {}", self.problem),
        }
    }
}

impl std::error::Error for SnapshotError {}
