//! The files of a directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use notify::RecommendedWatcher;
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    Origin, Shared,
    document::MAX_FILE,
    store::{Judged, Text, judge},
};
use crate::{file_watch, regular_file};

/// How long files must be left alone before they count.
const SETTLE: Duration = Duration::from_millis(50);
/// How often that is waited for.
const SETTLE_TIMES: usize = 20;
/// The directory is read that often, whatever is heard of changes: not every file system tells.
const INTERVAL: Duration = Duration::from_secs(30);
/// Files that one directory may have.
const MAX_FILES: usize = 4096;
/// Bytes that they may have together.
const MAX_TOTAL: u64 = 256 << 20;

/// Whether a file of this name is read: `*.yaml`, `*.yml` and `*.json`, unless it is hidden. So what
/// editors leave behind is not: `.x.yaml.swp`, `x.yaml~`, `x.yaml.tmp`, `4913`.
fn is_read(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !name.starts_with(['.', '#']) && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Every file of `directory` that is read.
pub(super) fn scan(directory: &Path) -> io::Result<BTreeMap<Arc<str>, Text>> {
    scan_up_to(directory, MAX_TOTAL)
}

fn scan_up_to(directory: &Path, max_total: u64) -> io::Result<BTreeMap<Arc<str>, Text>> {
    let mut texts = BTreeMap::new();
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_read(name)) else {
            continue;
        };
        let Some(text) = text(&entry.path()) else {
            continue;
        };
        total += text.as_ref().map_or(0, |text| text.len() as u64);
        texts.insert(Arc::from(name), text);
        if texts.len() > MAX_FILES {
            let problem = format!("more than {MAX_FILES} files");
            return Err(io::Error::other(problem));
        }
        if total > max_total {
            let problem = format!("its files have more than {max_total} bytes together");
            return Err(io::Error::other(problem));
        }
    }
    Ok(texts)
}

/// Names in `directory` that [`scan`] passes over and that are neither hidden nor what editors leave
/// behind: somebody may have meant them to be read.
pub(super) fn not_read(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let leftover = name.starts_with(['.', '#']) || name.ends_with('~') || name == "4913";
        let is_file = fs::metadata(entry.path()).is_ok_and(|found| found.is_file());
        let read = is_file && is_read(&name);
        if !read && !leftover {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// `None` if there is no such file: a link may outlive what it leads to by a moment.
fn text(path: &Path) -> Option<Text> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let Some((file, _)) = regular_file::open(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    match read() {
        Ok(Some(bytes)) if bytes.len() as u64 > MAX_FILE => {
            Some(Err(format!("longer than the limit of {MAX_FILE} bytes")))
        }
        Ok(bytes) => bytes.map(|bytes| Ok(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(format!("cannot be read: {error}"))),
    }
}

/// Follows `directory` for as long as somebody has `shared`.
pub(super) async fn follow(directory: PathBuf, shared: Weak<Shared>) {
    let changes = Arc::new(Notify::new());
    let (mut watched, mut told) = (None, false);
    loop {
        // Before reading: no change between the two is missed.
        watched = match watch(watched, directory.clone(), Arc::clone(&changes)).await {
            Ok(watched) => watched,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        %error, directory = %directory.display(), interval = ?INTERVAL,
                        "cannot watch the directory of resources; it is read on the interval alone"
                    );
                }
                None
            }
        };
        if !update(&directory, &shared).await {
            return;
        }
        // A change of the link to the directory shows in its name alone.
        let _ = timeout(INTERVAL, changes.notified()).await;
    }
}

/// Reads the directory until it says the same twice, and applies that. Says whether anybody is left.
async fn update(directory: &Path, shared: &Weak<Shared>) -> bool {
    let read = || {
        let directory = directory.to_owned();
        async move { blocking(move || scan(&directory)).await }
    };
    let Some(mut first) = read().await else {
        return false;
    };
    for _ in 0..SETTLE_TIMES {
        let Some(known) = shared.upgrade() else {
            return false;
        };
        if first.as_ref().is_ok_and(|texts| known.is_current(texts)) {
            known.readable();
            return true;
        }
        drop(known);
        sleep(SETTLE).await;
        let Some(second) = read().await else {
            return false;
        };
        let same = matches!((&first, &second), (Ok(first), Ok(second)) if first == second);
        let failed = first.is_err() && second.is_err();
        first = second;
        if same || failed {
            break;
        }
    }
    let Some(shared) = shared.upgrade() else {
        return false;
    };
    match first {
        Ok(texts) => {
            let change = Arc::clone(&shared);
            let change = move || {
                change.replace_directory(&texts);
                Ok(())
            };
            match blocking(change).await {
                Some(Ok(())) => shared.readable(),
                Some(Err(error)) => shared.unreadable(&error),
                None => return false,
            }
        }
        Err(error) => shared.unreadable(&error),
    }
    true
}

/// What `work` comes to, where a panic is an error: it must not end the following of the directory.
/// `None` if the runtime ends.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Option<io::Result<T>> {
    match spawn_blocking(work).await {
        Ok(result) => Some(result),
        Err(stopped) if stopped.is_panic() => {
            let problem = format!("a panic, which is a bug: {stopped}");
            Some(Err(io::Error::other(problem)))
        }
        Err(_) => None,
    }
}

impl Shared {
    /// What the directory says now.
    pub(super) fn replace_directory(&self, texts: &BTreeMap<Arc<str>, Text>) {
        let (judged, removed) = self.judge_directory(texts);
        self.apply(Origin::Directory, judged, &removed, SystemTime::now());
    }

    /// What has changed, and what is gone.
    pub(super) fn judge_directory(
        &self,
        texts: &BTreeMap<Arc<str>, Text>,
    ) -> (Vec<Judged>, Vec<Arc<str>>) {
        let (changed, removed, decode) = {
            let store = self.store.lock();
            let in_code = self.in_code.lock();
            let gone = |name: &&Arc<str>| !texts.contains_key(*name) && !in_code.contains(*name);
            let removed: Vec<_> = store.names().filter(gone).cloned().collect();
            let mut changed = store.changed(texts);
            changed.retain(|name, _| !in_code.contains(name));
            (changed, removed, store.decode())
        };
        // Not under the lock: watches must not wait for it.
        (judge(changed, &*decode), removed)
    }

    fn is_current(&self, texts: &BTreeMap<Arc<str>, Text>) -> bool {
        let store = self.store.lock();
        let in_code = self.in_code.lock();
        let known = store.names().filter(|name| !in_code.contains(*name));
        store.changed(texts).is_empty() && known.count() == texts.len()
    }
}

/// Who tells of changes, and of what place.
type Watched = Option<(PathBuf, RecommendedWatcher)>;

/// Watches the directory that the path leads to now.
async fn watch(
    watched: Watched,
    directory: PathBuf,
    changes: Arc<Notify>,
) -> notify::Result<Watched> {
    let make = move || {
        let Ok(real) = fs::canonicalize(&directory) else {
            // Reading it says why.
            return Ok(None);
        };
        if let Some((place, watcher)) = watched
            && place == real
        {
            return Ok(Some((place, watcher)));
        }
        let mut places = BTreeSet::from([directory.clone()]);
        if fs::symlink_metadata(&directory).is_ok_and(|found| found.is_symlink()) {
            places.insert(file_watch::parent(&directory).to_owned());
        }
        let watcher = file_watch::watch(&places, |_| true, changes)?;
        Ok(Some((real, watcher)))
    };
    spawn_blocking(make).await.unwrap_or(Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_files_have_together_is_bounded() {
        let directory =
            std::env::temp_dir().join(format!("mesh-files-{}-total", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        for name in ["a.yaml", "b.yaml", "c.txt"] {
            fs::write(directory.join(name), "# 9 bytes").unwrap();
        }
        assert_eq!(scan_up_to(&directory, 18).unwrap().len(), 2);
        let error = scan_up_to(&directory, 17).unwrap_err();
        assert_eq!(
            error.to_string(),
            "its files have more than 17 bytes together"
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
