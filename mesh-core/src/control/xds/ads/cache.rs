//! What is watched, and what is known of it. Knows nothing of how either travels.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use envoy_types::pb::google::protobuf::Any;
use tokio::time::Instant;

use super::{
    WatcherId,
    entry::{Bad, Contents, Deadlines, Entry, Value},
};
use crate::{
    config::{Kind, ResourceId, canonical_name},
    control::{
        Event,
        xds::{
            decode::Decoded,
            dump::{AcceptedDump, ResourceDump, ResourceStatus},
        },
    },
};

/// Every watched resource, with its watchers and its time limit.
#[derive(Debug, Default)]
pub(in crate::control) struct Cache {
    shelves: [Shelf; Kind::ALL.len()],
    watchers: HashMap<WatcherId, ResourceId>,
    deadlines: Deadlines,
}

/// The resources of one kind.
#[derive(Debug, Default)]
struct Shelf {
    /// Ordered, so that requests name them in the same order every time.
    entries: BTreeMap<Arc<str>, Entry>,
    contents: Contents,
    /// Names may have been added or removed since the last request of the stream.
    touched: bool,
}

/// What to ask the control plane for.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Every name, sorted.
    pub(super) names: Vec<Arc<str>>,
    /// Those that the current stream has not asked for before.
    pub(super) added: Vec<Arc<str>>,
    /// Those that it has asked for and that nobody watches any more.
    pub(super) removed: Vec<Arc<str>>,
    /// Names were added or removed since the last request of the stream.
    pub(super) changed: bool,
    /// The last accepted version tells the state of every name: nothing is outstanding.
    pub(super) complete: bool,
}

// === impl Cache ===

impl Cache {
    /// Adds a watcher; the entry says what is known already.
    pub(in crate::control) fn watch(&mut self, watcher: WatcherId, id: ResourceId) -> &Entry {
        let shelf = &mut self.shelves[id.kind as usize];
        let entry = shelf
            .entries
            .entry(Arc::clone(&id.name))
            .or_insert_with(Entry::new);
        entry.watchers.insert(watcher);
        shelf.touched |= !entry.subscribed;
        self.watchers.insert(watcher, id);
        entry
    }

    /// Removes a watcher. Its resource stays known until the control plane is told that nobody
    /// wants it: a watch that comes back before that would not be answered.
    pub(in crate::control) fn unwatch(&mut self, watcher: WatcherId) {
        if let Some(id) = self.watchers.remove(&watcher) {
            let shelf = &mut self.shelves[id.kind as usize];
            if let Some(entry) = shelf.entries.get_mut(&*id.name) {
                entry.watchers.remove(&watcher);
                shelf.touched |= entry.watchers.is_empty();
            }
        }
    }

    /// Whether `watcher` watches.
    pub(in crate::control) fn is_watching(&self, watcher: WatcherId) -> bool {
        self.watchers.contains_key(&watcher)
    }

    /// Whether nothing is watched.
    pub(super) fn is_idle(&self) -> bool {
        self.watchers.is_empty()
    }

    /// The resource called `name`, if it is watched.
    pub(in crate::control) fn get(&self, kind: Kind, name: &str) -> Option<&Entry> {
        self.shelves[kind as usize].entries.get(name)
    }

    /// `name` as it is kept, if it is watched.
    pub(super) fn name(&self, kind: Kind, name: &str) -> Option<&Arc<str>> {
        self.watched(kind, name).map(|(name, _)| name)
    }

    /// The resource called `name` and its name as it is kept, if it is watched: an `xdstp:` name may
    /// have its parameters in any order (gRFC A47).
    pub(super) fn watched(&self, kind: Kind, name: &str) -> Option<(&Arc<str>, &Entry)> {
        let name = canonical_name(name);
        self.shelves[kind as usize].entries.get_key_value(&*name)
    }

    /// Every watched resource of `kind`.
    pub(in crate::control) fn of_kind(
        &self,
        kind: Kind,
    ) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.shelves[kind as usize].entries.iter()
    }

    /// Whether [`Cache::subscribe`] may have anything new to say.
    pub(super) fn is_touched(&self, kind: Kind) -> bool {
        self.shelves[kind as usize].touched
    }

    /// What to ask for; marks it as asked for, and forgets what nobody watches.
    pub(super) fn subscribe(&mut self, kind: Kind) -> Subscription {
        let mut subscription = Subscription {
            names: Vec::new(),
            added: Vec::new(),
            removed: Vec::new(),
            changed: false,
            complete: true,
        };
        self.remove_unwatched(kind, |name, entry| {
            if entry.subscribed {
                subscription.removed.push(Arc::clone(name));
                subscription.changed = true;
            }
        });
        let shelf = &mut self.shelves[kind as usize];
        shelf.touched = false;
        for (name, entry) in &mut shelf.entries {
            subscription.names.push(Arc::clone(name));
            subscription.complete &= entry.is_settled();
            if !std::mem::replace(&mut entry.subscribed, true) {
                subscription.added.push(Arc::clone(name));
                subscription.changed = true;
            }
        }
        subscription
    }

    /// The versions of the values in force, by name. One that the control plane has said anything
    /// else of since is not among them, so that it says it again.
    pub(super) fn versions(&self, kind: Kind) -> impl Iterator<Item = (String, String)> {
        self.of_kind(kind).filter_map(|(name, entry)| {
            let version = entry.version().filter(|version| !version.is_empty())?;
            Some((name.to_string(), version.to_string()))
        })
    }

    /// The current stream is over: nothing is asked for, no answer is due.
    pub(super) fn unsubscribe_all(&mut self) {
        self.deadlines.clear();
        for kind in Kind::ALL {
            self.remove_unwatched(kind, |_, _| ());
            let shelf = &mut self.shelves[kind as usize];
            shelf.touched = true;
            for entry in shelf.entries.values_mut() {
                entry.subscribed = false;
                entry.deadline = None;
            }
        }
    }

    fn remove_unwatched(&mut self, kind: Kind, mut removed: impl FnMut(&Arc<str>, &Entry)) {
        let shelf = &mut self.shelves[kind as usize];
        let (contents, deadlines) = (&mut shelf.contents, &mut self.deadlines);
        shelf.entries.retain(|name, entry| {
            let keep = !entry.watchers.is_empty();
            if !keep {
                removed(name, entry);
                entry.disarm(kind, name, deadlines);
                entry.drop_value(contents);
            }
            keep
        });
    }

    /// The name of the watched resource whose value has exactly these bytes.
    pub(super) fn find_identical(&self, kind: Kind, raw: &Any) -> Option<&Arc<str>> {
        let shelf = &self.shelves[kind as usize];
        let name = shelf.contents.get(raw)?;
        let value = shelf.entries.get(&**name)?.value.as_ref()?;
        (*value.dump.raw == *raw).then_some(name)
    }

    /// A resource was accepted: `decoded`, or the value it has. Says what its watchers are to be
    /// told, if anything.
    ///
    /// A value that was sent again in a `refused` response keeps its version: that of the response
    /// is not in force.
    pub(in crate::control) fn accept(
        &mut self,
        kind: Kind,
        name: &str,
        decoded: Option<Decoded>,
        version: &Arc<str>,
        at: SystemTime,
        refused: bool,
    ) -> Option<Event> {
        let shelf = &mut self.shelves[kind as usize];
        let (key, entry) = shelf
            .entries
            .get_key_value(name)
            .map(|(key, _)| Arc::clone(key))
            .zip(shelf.entries.get_mut(name))?;
        entry.disarm(kind, &key, &mut self.deadlines);
        let recovered = entry.trouble.take().is_some();
        entry.failure = None;
        entry.status = ResourceStatus::Acked;

        let decoded = decoded
            .filter(|new| !matches!(&entry.value, Some(value) if *value.dump.raw == new.raw));
        let Some(new) = decoded else {
            let value = entry.value.as_mut()?;
            if !refused {
                value.dump.version = Arc::clone(version);
                value.dump.last_updated = at;
            }
            return recovered.then(|| Event::Update(value.resource.clone()));
        };
        let old = entry.drop_value(&mut shelf.contents);
        // Maps have no order on the wire: other bytes may well mean the same.
        let (resource, changed) = match old {
            Some(old) if old.resource == new.value => (old.resource, false),
            _ => (new.value, true),
        };
        shelf.contents.insert(&new.raw, key);
        let value = entry.value.insert(Value {
            resource,
            dump: AcceptedDump {
                version: Arc::clone(version),
                last_updated: at,
                raw: Arc::new(new.raw),
                findings: new.findings,
                stale: false,
            },
            tally: new.tally,
        });
        (changed || recovered).then(|| Event::Update(value.resource.clone()))
    }

    /// There is trouble with a resource. Says what its watchers are to be told, if they do not
    /// know it.
    pub(in crate::control) fn reject(&mut self, kind: Kind, name: &str, bad: Bad) -> Option<Event> {
        let shelf = &mut self.shelves[kind as usize];
        let entry = shelf.entries.get_mut(name)?;
        entry.disarm(kind, name, &mut self.deadlines);
        let dropped = bad.drop_value && entry.drop_value(&mut shelf.contents).is_some();
        entry.status = bad.status;
        entry.failure = bad.failure;
        let known = entry.trouble.as_ref() == Some(&bad.error);
        entry.trouble = Some(bad.error.clone());
        (dropped || !known).then(|| entry.event_of(bad.error))
    }

    /// Limits the time in which a resource without a value must be answered.
    pub(super) fn arm(&mut self, kind: Kind, name: &Arc<str>, at: Instant) {
        let entry = self.shelves[kind as usize].entries.get_mut(&**name);
        if let Some(entry) = entry.filter(|entry| entry.value.is_none()) {
            entry.disarm(kind, name, &mut self.deadlines);
            entry.deadline = Some(at);
            self.deadlines
                .insert((at, ResourceId::new(kind, Arc::clone(name))));
        }
    }

    /// A resource was answered for, with nothing new.
    pub(super) fn disarm(&mut self, kind: Kind, name: &str) {
        if let Some(entry) = self.shelves[kind as usize].entries.get_mut(name) {
            entry.disarm(kind, name, &mut self.deadlines);
        }
    }

    /// The end of the first time limit.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// Takes a resource whose time is up.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<ResourceId> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, id) = self.deadlines.pop_first()?;
        if let Some(entry) = self.shelves[id.kind as usize].entries.get_mut(&*id.name) {
            entry.deadline = None;
        }
        Some(id)
    }

    /// Moves every time limit.
    pub(super) fn postpone(&mut self, by: Duration) {
        if by.is_zero() {
            return;
        }
        for (at, id) in std::mem::take(&mut self.deadlines) {
            if let Some(entry) = self.shelves[id.kind as usize].entries.get_mut(&*id.name) {
                entry.deadline = Some(at + by);
                self.deadlines.insert((at + by, id));
            }
        }
    }

    /// Forgets everything that nobody watches any more.
    pub(in crate::control) fn clear_unwatched(&mut self) {
        for kind in Kind::ALL {
            self.remove_unwatched(kind, |_, _| ());
        }
    }

    /// What is known of every watched resource; `server` is where it comes from.
    pub(in crate::control) fn dump(&self, server: &Arc<str>) -> Vec<ResourceDump> {
        let kinds = Kind::ALL.into_iter();
        let all = kinds.flat_map(|kind| self.of_kind(kind).map(move |found| (kind, found)));
        all.filter_map(|(kind, (name, entry))| entry.dump(kind, name, server))
            .collect()
    }

    /// What is known of those of `ids` that are watched; `server` is where it comes from.
    pub(super) fn dump_of(
        &self,
        ids: &BTreeSet<ResourceId>,
        server: &Arc<str>,
    ) -> Vec<ResourceDump> {
        let dump = |id: &ResourceId| self.get(id.kind, &id.name)?.dump(id.kind, &id.name, server);
        ids.iter().filter_map(dump).collect()
    }

    /// How much is held: entries, content hashes, watchers, time limits.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        [
            self.shelves.iter().map(|shelf| shelf.entries.len()).sum(),
            self.shelves.iter().map(|shelf| shelf.contents.len()).sum(),
            self.watchers.len(),
            self.deadlines.len(),
        ]
    }
}
