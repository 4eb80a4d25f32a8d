//! The file that a snapshot is in. Blocks.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::error::{SnapshotError, SnapshotErrorKind};
use crate::{file_watch, regular_file};

/// What a process that was killed while it wrote has left behind is removed after this time.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A file that is replaced as a whole.
#[derive(Debug)]
pub(super) struct Disk {
    file: Arc<Path>,
    /// Bytes that are read at most.
    limit: u64,
    /// Whether what it holds tells who made it: else its owner and its mode do.
    has_key: bool,
    /// The file as we read or wrote it last.
    known: Option<Print>,
}

/// What changes with the content of a file that is replaced.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Print {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: u64,
}

// === impl Disk ===

impl Disk {
    pub(super) fn new(file: PathBuf, limit: u64, has_key: bool) -> Self {
        Self {
            file: file.into(),
            limit,
            has_key,
            known: None,
        }
    }

    pub(super) fn file(&self) -> &Arc<Path> {
        &self.file
    }

    /// What the file holds; `None` if there is none, or it is as it was when we last had it in
    /// hand.
    pub(super) fn read(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        self.read_changed().map_err(|error| error.of(&self.file))
    }

    fn read_changed(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        let failed = |error: io::Error| unreadable(error.to_string());
        let (file, found) = match regular_file::open(&self.file) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Err(unreadable("not a file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if self.known == Some(Print::of(&found)) {
            return Ok(None);
        }
        #[cfg(unix)]
        if !self.has_key {
            trusted(&found)?;
        }
        let mut read = Vec::new();
        // One byte more tells a file that is too long from one that just fits.
        let limit = self.limit.saturating_add(1);
        file.take(limit).read_to_end(&mut read).map_err(failed)?;
        if read.len() as u64 > self.limit {
            let problem = format!("longer than the limit of {} bytes", self.limit);
            return Err(SnapshotError::new(SnapshotErrorKind::TooLarge, problem));
        }
        self.known = Some(Print::of(&found));
        Ok(Some(read))
    }

    /// Replaces what the file holds: who reads it finds the old content or the new one, whatever
    /// happens meanwhile, and however many write to it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let written = self.replace(bytes).map_err(|(step, error)| {
            let problem = format!("cannot {step}: {error}; what was saved before stays");
            SnapshotError::new(SnapshotErrorKind::Unwritable, problem).of(&self.file)
        })?;
        self.known = Some(written);
        Ok(())
    }

    fn replace(&self, bytes: &[u8]) -> Result<Print, (&'static str, io::Error)> {
        let directory = file_watch::parent(&self.file);
        create(directory).map_err(|error| ("make its directory", error))?;
        let temporary = self.temporary();
        let print = write_new(&temporary, bytes)
            .map_err(|error| ("write it", error))
            .and_then(|print| {
                fs::rename(&temporary, &self.file).map_err(|error| ("replace it", error))?;
                Ok(print)
            });
        if print.is_err() {
            // What there is of it may be what has filled the disk.
            let _ = fs::remove_file(&temporary);
        }
        let print = print?;
        // Not before this is the new name sure to survive a crash of the machine.
        #[cfg(unix)]
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| ("sync its directory", error))?;
        Ok(print)
    }

    /// A name beside the file that no other process and no other write has.
    fn temporary(&self) -> PathBuf {
        let unique = format!("{}.{:016x}", std::process::id(), fastrand::u64(..));
        let name = format!("{}{unique}{TEMPORARY}", self.prefix());
        self.file.with_file_name(name)
    }

    fn prefix(&self) -> String {
        let name = self.file.file_name().unwrap_or_default();
        format!(".{}.", name.to_string_lossy())
    }

    /// Removes what killed processes have left of their writes, and the files of other nodes that have
    /// not been written for longer than `max_age`: a process that runs writes its own every hour.
    pub(super) fn tidy(&self, max_age: Duration, now: SystemTime) {
        let prefix = self.prefix();
        let Ok(entries) = fs::read_dir(file_watch::parent(&self.file)) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let limit = if name.starts_with(&prefix) && name.ends_with(TEMPORARY) {
                ABANDONED
            } else if is_name(&name) && self.file.file_name() != Some(&entry.file_name()) {
                max_age.max(ABANDONED)
            } else {
                continue;
            };
            // Of a link this is the link: what it points to is not ours to remove.
            let modified = entry.metadata().and_then(|found| found.modified());
            if modified.is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > limit)) {
                // Another process may have been quicker.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The name of the file of the node with this fingerprint.
pub(super) fn name(fingerprint: u64) -> String {
    format!("mesh-{fingerprint:016x}.snapshot")
}

/// Whether [`name`] gives that name to a node.
fn is_name(name: &str) -> bool {
    let digits = name.strip_prefix("mesh-");
    let digits = digits.and_then(|rest| rest.strip_suffix(".snapshot"));
    digits.is_some_and(|digits| {
        digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// How the names of files end that are not complete yet.
const TEMPORARY: &str = ".tmp";

/// Whether nobody else can have made what the file holds: it is ours, or root's, and not everybody
/// may write to it. A group may: that is how volumes are shared with a pod.
#[cfg(unix)]
fn trusted(found: &fs::Metadata) -> Result<(), SnapshotError> {
    use std::os::unix::fs::MetadataExt as _;

    owned_by_us(found.uid(), rustix::process::geteuid().as_raw())?;
    match found.mode() & 0o002 {
        0 => Ok(()),
        _ => Err(unreadable("everybody may write to it, and there is no key")),
    }
}

#[cfg(unix)]
fn owned_by_us(owner: u32, us: u32) -> Result<(), SnapshotError> {
    if owner == us || owner == 0 {
        return Ok(());
    }
    let problem =
        format!("of user {owner}, and we are user {us}: only a key would tell that it is ours");
    Err(unreadable(problem))
}

fn write_new(file: &Path, bytes: &[u8]) -> io::Result<Print> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(Print::of(&file.metadata()?))
}

fn create(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

// === impl Print ===

impl Print {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            length: found.len(),
            modified: found.modified().ok(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(found),
        }
    }
}

fn unreadable(problem: impl Into<Arc<str>>) -> SnapshotError {
    SnapshotError::new(SnapshotErrorKind::Unreadable, problem)
}

#[cfg(test)]
mod tests;
