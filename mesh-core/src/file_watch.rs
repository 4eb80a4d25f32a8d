//! Being told of changes to files.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

/// Tells `changes` of what happens in `directories` to whatever `concerns` us, until it is dropped.
pub(crate) fn watch(
    directories: &BTreeSet<PathBuf>,
    concerns: impl Fn(&Path) -> bool + Send + 'static,
    changes: Arc<Notify>,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerned = match event {
            Ok(event) => {
                // Our own reading is no change.
                let is_change = match event.kind {
                    EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
                    _ => true,
                };
                let paths = &event.paths;
                is_change && (paths.is_empty() || paths.iter().any(|path| concerns(path)))
            }
            // Something was missed.
            Err(_) => true,
        };
        if concerned {
            changes.notify_one();
        }
    })?;
    for directory in directories {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// The directory that `file` is in.
pub(crate) fn parent(file: &Path) -> &Path {
    let parent = file.parent().unwrap_or(Path::new(""));
    let here = parent.as_os_str().is_empty();
    if here { Path::new(".") } else { parent }
}
