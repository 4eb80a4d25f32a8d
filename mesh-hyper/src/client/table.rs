//! The targets that requests have named: found by a look that takes no lock and allocates nothing,
//! few enough, and gone when nobody asks for them any more.

use std::{
    collections::VecDeque,
    fmt,
    hash::BuildHasher,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use foldhash::quality::RandomState;
use mesh_core::Mesh;
use parking_lot::Mutex;
use tokio::{task::AbortHandle, time::sleep};

use super::{Outside, name::Named};
use crate::{call::Caller, error::Error};

/// What a client keeps its targets by. Clients of one mesh with equal settings share them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) outside: Outside,
    /// At most so many; at least 1.
    pub(super) max_targets: usize,
    /// How long one is kept that nobody asks for. Zero: for as long as there is room.
    pub(super) target_idle: Duration,
}

/// The tables of one mesh that clients hold.
#[derive(Debug, Default)]
pub(crate) struct Tables(Mutex<Vec<Weak<Table>>>);

/// The targets of the clients that share them.
pub(super) struct Table {
    settings: Settings,
    hasher: RandomState,
    /// By hash. Readers load a shard; writers put another in its place.
    shards: [ArcSwap<Shard>; SHARDS],
    /// Grows whenever a target comes and at each tick. Uses are noted by it, not by a clock.
    epoch: AtomicU64,
    writer: Mutex<Writer>,
}

/// How a request names a target: whether by `https`, and its authority as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key<'a> {
    pub(super) https: bool,
    pub(super) authority: &'a str,
}

/// Sorted by hash.
pub(super) type Shard = Vec<Slot>;

#[derive(Clone)]
pub(super) struct Slot {
    hash: u64,
    entry: Arc<Entry>,
}

pub(super) struct Entry {
    https: bool,
    authority: Box<str>,
    caller: Caller,
    /// The epoch of its last use.
    used: AtomicU64,
}

/// A target that was looked for. Not to be kept.
pub(super) enum Found {
    /// In this place of its shard.
    Listed(Guard<Arc<Shard>>, usize),
    New(Arc<Entry>),
}

/// What only those that change a table look at.
#[derive(Default)]
struct Writer {
    count: usize,
    /// Ends by itself when there is nothing left to expire.
    sweeper: Option<AbortHandle>,
}

const SHARDS: usize = 32;
/// Ticks that a target outlives its last use by: it expires up to one tick late.
const TICKS: u32 = 4;

// === impl Tables ===

impl Tables {
    /// The table of clients with these settings.
    pub(super) fn get(&self, settings: Settings) -> Arc<Table> {
        let mut tables = self.0.lock();
        tables.retain(|table| table.strong_count() > 0);
        let found = tables.iter().filter_map(Weak::upgrade);
        let mut found = found.filter(|table| table.settings == settings);
        if let Some(table) = found.next() {
            return table;
        }
        drop(found);
        let table = Arc::new(Table::new(settings));
        tables.push(Arc::downgrade(&table));
        table
    }
}

// === impl Table ===

impl Table {
    fn new(settings: Settings) -> Self {
        let empty = Arc::<Shard>::default();
        Self {
            settings,
            hasher: RandomState::default(),
            shards: std::array::from_fn(|_| ArcSwap::new(Arc::clone(&empty))),
            epoch: AtomicU64::new(0),
            writer: Mutex::default(),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many targets there are.
    pub(super) fn len(&self) -> usize {
        self.writer.lock().count
    }

    /// The target of `key`, of which `name` says what it is if it is new.
    ///
    /// # Errors
    /// That of `name`, or there is no room for it.
    #[inline]
    pub(super) fn get(
        self: &Arc<Self>,
        mesh: &Mesh,
        key: Key<'_>,
        name: impl FnOnce() -> Result<Named, Error>,
    ) -> Result<Found, Error> {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash).load();
        if let Some(at) = find(&shard, hash, key) {
            shard[at].entry.touch(self.epoch.load(Ordering::Relaxed));
            return Ok(Found::Listed(shard, at));
        }
        drop(shard);
        self.add(mesh, hash, key, name).map(Found::New)
    }

    fn shard(&self, hash: u64) -> &ArcSwap<Shard> {
        // The low bits; shards are sorted by all of them.
        &self.shards[hash as usize % SHARDS]
    }

    #[cold]
    fn add(
        self: &Arc<Self>,
        mesh: &Mesh,
        hash: u64,
        key: Key<'_>,
        name: impl FnOnce() -> Result<Named, Error>,
    ) -> Result<Arc<Entry>, Error> {
        // Ends after the lock.
        let _evicted;
        let mut writer = self.writer.lock();
        let shard = self.shard(hash).load_full();
        // Of many that ask for the same at once, one makes it.
        if let Some(at) = find(&shard, hash, key) {
            return Ok(Arc::clone(&shard[at].entry));
        }
        let named = name()?;
        if writer.count >= self.settings.max_targets {
            _evicted = self.evict(&mut writer)?;
        }
        // Later than all uses before it, and earlier than all after it.
        let epoch = self.epoch.fetch_add(2, Ordering::Relaxed) + 1;
        let entry = Arc::new(Entry {
            https: key.https,
            authority: key.authority.into(),
            caller: named.open(mesh),
            used: AtomicU64::new(epoch),
        });
        // Loaded again: the evicted one may have been of the same shard.
        let mut shard = Shard::clone(&self.shard(hash).load());
        let at = shard.partition_point(|slot| slot.hash < hash);
        let slot = Slot {
            hash,
            entry: Arc::clone(&entry),
        };
        shard.insert(at, slot);
        self.shard(hash).store(Arc::new(shard));
        writer.count += 1;
        self.keep_time(&mut writer);
        Ok(entry)
    }

    /// Takes out the target that nobody has asked for longest, of those without a call under way.
    ///
    /// # Errors
    /// If there is none.
    fn evict(&self, writer: &mut Writer) -> Result<Arc<Entry>, Error> {
        let mut oldest: Option<(u64, Slot)> = None;
        for shard in &self.shards {
            for slot in shard.load().iter() {
                let used = slot.entry.used.load(Ordering::Relaxed);
                let older = oldest.as_ref().is_none_or(|&(oldest, _)| used < oldest);
                if older && !slot.entry.caller.is_busy() {
                    oldest = Some((used, slot.clone()));
                }
            }
        }
        let limit = self.settings.max_targets;
        let Some((_, Slot { hash, entry })) = oldest else {
            return Err(super::too_many_targets(limit));
        };
        self.retain(self.shard(hash), writer, |other| {
            !Arc::ptr_eq(other, &entry)
        });
        Ok(entry)
    }

    /// Takes out what `keep` does not want; gives it back, to be dropped outside of the lock.
    fn retain(
        &self,
        shard: &ArcSwap<Shard>,
        writer: &mut Writer,
        keep: impl Fn(&Arc<Entry>) -> bool,
    ) -> Vec<Slot> {
        let now = shard.load();
        let (kept, gone): (Shard, Shard) = now.iter().cloned().partition(|slot| keep(&slot.entry));
        if !gone.is_empty() {
            writer.count -= gone.len();
            shard.store(Arc::new(kept));
        }
        gone
    }

    fn keep_time(self: &Arc<Self>, writer: &mut Writer) {
        let idle = self.settings.target_idle;
        let running = writer.sweeper.as_ref();
        // One whose runtime has ended does not run either.
        if idle.is_zero() || running.is_some_and(|sweeper| !sweeper.is_finished()) {
            return;
        }
        let sweeping = sweep(Arc::downgrade(self), idle / TICKS);
        writer.sweeper = Some(tokio::spawn(sweeping).abort_handle());
    }

    /// Takes out the targets that were not used since the epoch `since`; whether any are left.
    fn expire(&self, since: u64) -> bool {
        let mut gone = Vec::new();
        let mut writer = self.writer.lock();
        let now = self.epoch.load(Ordering::Relaxed);
        for shard in &self.shards {
            gone.extend(self.retain(shard, &mut writer, |entry| {
                // One with a long call is in use for as long as that goes on.
                if entry.caller.is_busy() {
                    entry.touch(now);
                }
                entry.used.load(Ordering::Relaxed) >= since
            }));
        }
        let left = writer.count > 0;
        if !left {
            writer.sweeper = None;
        }
        drop(writer);
        left
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("settings", &self.settings)
            .field("targets", &self.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(sweeper) = &self.writer.get_mut().sweeper {
            sweeper.abort();
        }
    }
}

/// Expires targets for as long as there are any.
async fn sweep(table: Weak<Table>, tick: Duration) {
    // The epochs that began at the last ticks.
    let mut marks = VecDeque::with_capacity(TICKS as usize + 1);
    loop {
        sleep(tick).await;
        let Some(table) = table.upgrade() else {
            return;
        };
        marks.push_back(table.epoch.fetch_add(1, Ordering::Relaxed) + 1);
        if marks.len() > TICKS as usize
            && let Some(since) = marks.pop_front()
            && !table.expire(since)
        {
            return;
        }
    }
}

/// Where in the shard it is.
fn find(shard: &Shard, hash: u64, key: Key<'_>) -> Option<usize> {
    let at = shard.partition_point(|slot| slot.hash < hash);
    let mut equal = shard[at..].iter().take_while(|slot| slot.hash == hash);
    equal
        .position(|slot| slot.entry.is(key))
        .map(|more| at + more)
}

// === impl Found ===

impl Found {
    #[inline]
    pub(super) fn caller(&self) -> &Caller {
        match self {
            Self::Listed(shard, at) => &shard[*at].entry.caller,
            Self::New(entry) => &entry.caller,
        }
    }
}

// === impl Entry ===

impl Entry {
    fn is(&self, key: Key<'_>) -> bool {
        self.https == key.https && *self.authority == *key.authority
    }

    /// Notes a use. Written only when it says something new: all cores read it.
    #[inline]
    fn touch(&self, epoch: u64) {
        if self.used.load(Ordering::Relaxed) != epoch {
            self.used.store(epoch, Ordering::Relaxed);
        }
    }
}
