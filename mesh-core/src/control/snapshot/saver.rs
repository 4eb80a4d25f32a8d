//! When and what is saved.

use std::{
    collections::BTreeSet,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    Snapshot, SnapshotError,
    relay::{Effect, Watches},
};
use crate::{
    bootstrap::Bootstrap,
    config::ResourceId,
    control::{
        Event,
        xds::{ServerStatus, XdsClient},
    },
};

/// How long nothing has changed when changes are saved.
const QUIET: Duration = Duration::from_secs(1);
/// How long a change waits for others at most.
const LONGEST: Duration = Duration::from_secs(15);
/// How often it is noted that what is in force still is.
const REFRESH: Duration = Duration::from_secs(3600);
/// When it is tried again to write what could not be written.
const AGAIN: Duration = Duration::from_secs(60);

/// Takes what is accepted to the disk.
pub(super) struct Saver {
    bootstrap: Arc<Bootstrap>,
    store: Arc<Snapshot>,
    xds: Arc<XdsClient>,
    watches: Watches,
    pending: Mutex<Pending>,
    wake: Notify,
}

/// What has happened and is not on disk.
#[derive(Debug, Default)]
struct Pending {
    /// Not yet known to the store.
    changed: BTreeSet<ResourceId>,
    unsaved: Option<Unsaved>,
}

/// When something was changed that is not on disk.
#[derive(Debug, Clone, Copy)]
struct Unsaved {
    first: Instant,
    last: Instant,
}

// === impl Saver ===

impl Saver {
    pub(super) fn new(
        bootstrap: Arc<Bootstrap>,
        store: Arc<Snapshot>,
        xds: Arc<XdsClient>,
    ) -> Arc<Self> {
        let saver = Arc::new(Self {
            bootstrap,
            store,
            xds,
            watches: Watches::default(),
            pending: Mutex::default(),
            wake: Notify::new(),
        });
        saver.store.serve(&saver);
        saver
    }

    pub(super) fn store(&self) -> &Snapshot {
        &self.store
    }

    pub(super) fn xds(&self) -> &Arc<XdsClient> {
        &self.xds
    }

    pub(super) fn watches(&self) -> &Watches {
        &self.watches
    }

    /// What the watchers of `id` through `relay` are told of `event`.
    pub(super) fn pass(&self, relay: u64, id: &ResourceId, event: Event) -> Event {
        let servers = self.bootstrap.servers_for(&id.name).unwrap_or_default();
        let strict = servers
            .first()
            .is_some_and(|server| server.features.fail_on_data_errors);
        let (event, effect) = self.watches.pass(relay, id, event, strict);
        match effect {
            Effect::None => {}
            Effect::Changed => {
                let mut pending = self.pending.lock();
                pending.changed.insert(id.clone());
                pending.touch();
            }
            Effect::Removed => {
                if self.store.remove(id, SystemTime::now()) {
                    self.pending.lock().touch();
                }
            }
        }
        if effect != Effect::None {
            self.wake.notify_one();
        }
        event
    }

    /// Follows the changes, until it is aborted.
    pub(super) async fn run(self: Arc<Self>) {
        let mut again = Instant::now() + self.store.refresh(REFRESH);
        loop {
            let changed = std::mem::take(&mut self.pending.lock().changed);
            if !changed.is_empty() {
                // At once: who watches it may be gone before it is time to write.
                self.take(Some(changed)).await;
                continue;
            }
            let due = self.pending.lock().due().filter(|due| *due < again);
            tokio::select! {
                () = self.wake.notified() => continue,
                () = sleep_until(due.unwrap_or(again)) => {}
            }
            // Told where it fails.
            match due {
                Some(_) => {
                    if self.save_changes().await.is_err() {
                        again = again.min(Instant::now() + AGAIN);
                    }
                }
                None => {
                    let pause = match self.save().await {
                        Ok(()) => self.store.refresh(REFRESH),
                        Err(_) => AGAIN,
                    };
                    again = Instant::now() + pause;
                }
            }
        }
    }

    /// Saves what is in force.
    pub(super) async fn save(&self) -> Result<(), SnapshotError> {
        let pending = std::mem::take(&mut *self.pending.lock());
        self.take(None).await;
        self.write(pending).await
    }

    /// Saves what has changed, with the rest as it was last known: to ask the client for all that it
    /// has takes its time, in which it follows nothing.
    async fn save_changes(&self) -> Result<(), SnapshotError> {
        let pending = std::mem::take(&mut *self.pending.lock());
        if !pending.changed.is_empty() {
            self.take(Some(pending.changed.clone())).await;
        }
        self.write(pending).await
    }

    async fn write(&self, pending: Pending) -> Result<(), SnapshotError> {
        let in_use: BTreeSet<_> = self.watches.ids().into_iter().collect();
        if in_use.is_empty() && pending.unsaved.is_none() {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let write = move || store.write(&in_use, SystemTime::now());
        match tokio::task::spawn_blocking(write).await {
            Ok(written) => written,
            Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
            // The runtime ends: so does the source, which writes what is left.
            Err(_) => {
                *self.pending.lock() = pending;
                Ok(())
            }
        }
    }

    /// Writes what is not on disk, here and now: nobody is left to wait for it.
    pub(super) fn finish(&self) {
        let unsaved = self.pending.lock().unsaved.take();
        if unsaved.is_some() {
            let in_use = self.watches.ids().into_iter().collect();
            // Told there.
            let _ = self.store.write(&in_use, SystemTime::now());
        }
    }

    /// Takes what is in force of these resources, or of all, to the store.
    async fn take(&self, of: Option<BTreeSet<ResourceId>>) {
        let dump = match of {
            Some(of) => self.xds.dump_of(of).await,
            None => self.xds.dump().await,
        };
        let connected: BTreeSet<String> = self
            .xds
            .statuses()
            .filter(|(_, status)| *status == ServerStatus::Connected)
            .map(|(config, _)| config.uri.clone())
            .collect();
        let is_connected = |server: &str| connected.contains(server);
        self.store.take(&dump, is_connected, SystemTime::now());
    }
}

impl fmt::Debug for Saver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saver")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

// === impl Pending ===

impl Pending {
    fn touch(&mut self) {
        let now = Instant::now();
        let first = self.unsaved.map_or(now, |unsaved| unsaved.first);
        self.unsaved = Some(Unsaved { first, last: now });
    }

    fn due(&self) -> Option<Instant> {
        let Unsaved { first, last } = self.unsaved?;
        Some((last + QUIET).min(first + LONGEST))
    }
}
