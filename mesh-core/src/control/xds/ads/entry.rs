//! What is known of one watched resource.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use envoy_types::pb::google::protobuf::Any;
use tokio::time::Instant;

use super::WatcherId;
use crate::{
    config::{Kind, Resource, ResourceId},
    control::{
        Event, SourceError,
        xds::{
            decode::{Earlier, Tally},
            dump::{AcceptedDump, FailureDump, ResourceDump, ResourceStatus},
        },
    },
};

/// One watched resource.
#[derive(Debug)]
pub(in crate::control) struct Entry {
    pub(super) watchers: BTreeSet<WatcherId>,
    pub(super) value: Option<Value>,
    pub(super) status: ResourceStatus,
    /// Why the last news is not in force; `None` while all is well.
    pub(super) trouble: Option<SourceError>,
    pub(super) failure: Option<FailureDump>,
    /// Named in a request of the current stream.
    pub(super) subscribed: bool,
    pub(super) deadline: Option<Instant>,
}

/// A value in force.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) resource: Resource,
    pub(super) dump: AcceptedDump,
    /// See [`Decoded::tally`](crate::control::xds::decode::Decoded::tally).
    pub(super) tally: Option<Arc<Tally>>,
}

/// The ends of all time limits, the first one first.
pub(super) type Deadlines = BTreeSet<(Instant, ResourceId)>;

/// From a hash of a value's bytes to its name: a control plane that answers the whole set again
/// whenever a name is added must not cost a decode of each.
#[derive(Debug, Default)]
pub(super) struct Contents {
    names: HashMap<u64, Arc<str>>,
    hasher: RandomState,
}

/// What is bad about a resource.
#[derive(Debug)]
pub(in crate::control) struct Bad {
    /// Its status from now on.
    pub(in crate::control) status: ResourceStatus,
    /// What its watchers are told.
    pub(in crate::control) error: SourceError,
    /// For the dump.
    pub(in crate::control) failure: Option<FailureDump>,
    /// Its value is dropped (`fail_on_data_errors`).
    pub(in crate::control) drop_value: bool,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new() -> Self {
        Self {
            watchers: BTreeSet::new(),
            value: None,
            status: ResourceStatus::Requested,
            trouble: None,
            failure: None,
            subscribed: false,
            deadline: None,
        }
    }

    /// Who watches it.
    pub(in crate::control) fn watchers(&self) -> impl Iterator<Item = WatcherId> {
        self.watchers.iter().copied()
    }

    /// What became of the last news of it.
    pub(in crate::control) fn status(&self) -> ResourceStatus {
        self.status
    }

    /// Whether it has a value in force.
    pub(in crate::control) fn has_value(&self) -> bool {
        self.value.is_some()
    }

    /// Its value in force, for what comes after it.
    pub(super) fn earlier(&self) -> Option<Earlier<'_>> {
        let value = self.value.as_ref()?;
        Some(Earlier {
            raw: &value.dump.raw,
            value: &value.resource,
            tally: value.tally.as_deref(),
        })
    }

    /// The version of its value in force, unless something else was said of it since.
    pub(super) fn version(&self) -> Option<&Arc<str>> {
        let value = self.value.as_ref()?;
        (self.status == ResourceStatus::Acked).then_some(&value.dump.version)
    }

    /// What a new watcher is told: the value, then what is wrong with it (gRFC A88).
    pub(in crate::control) fn news(&self) -> impl Iterator<Item = Event> {
        let value = self.value.as_ref();
        let update = value.map(|value| Event::Update(value.resource.clone()));
        let trouble = self.trouble.clone().map(|error| self.event_of(error));
        update.into_iter().chain(trouble)
    }

    /// How `error` is told: it takes the resource away only where there is none, and only if the
    /// control plane has spoken.
    pub(super) fn event_of(&self, error: SourceError) -> Event {
        if self.value.is_some() || error.kind.is_no_answer() {
            Event::Ambient(error)
        } else {
            Event::Gone(error)
        }
    }

    /// Whether a control plane that knows our version would have nothing to add.
    pub(super) fn is_settled(&self) -> bool {
        self.value.is_some() || self.status == ResourceStatus::DoesNotExist
    }

    /// What is known of it, if it is watched; `server` is where that comes from.
    pub(super) fn dump(
        &self,
        kind: Kind,
        name: &Arc<str>,
        server: &Arc<str>,
    ) -> Option<ResourceDump> {
        (!self.watchers.is_empty()).then(|| ResourceDump {
            id: ResourceId::new(kind, Arc::clone(name)),
            server: Arc::clone(server),
            status: self.status,
            accepted: self.value.as_ref().map(|value| value.dump.redacted(kind)),
            failure: self.failure.as_ref().map(|failure| failure.redacted(kind)),
        })
    }

    /// Ends its time limit.
    pub(super) fn disarm(&mut self, kind: Kind, name: &str, deadlines: &mut Deadlines) {
        if let Some(at) = self.deadline.take() {
            deadlines.remove(&(at, ResourceId::new(kind, name)));
        }
    }

    /// Takes its value.
    pub(super) fn drop_value(&mut self, contents: &mut Contents) -> Option<Value> {
        let value = self.value.take()?;
        contents.remove(&value.dump.raw);
        Some(value)
    }
}

// === impl Contents ===

impl Contents {
    /// The resource that may have the value `raw`; to be compared.
    pub(super) fn get(&self, raw: &Any) -> Option<&Arc<str>> {
        self.names.get(&self.hash(raw))
    }

    /// `name` has the value `raw`.
    pub(super) fn insert(&mut self, raw: &Any, name: Arc<str>) {
        self.names.insert(self.hash(raw), name);
    }

    /// No resource has the value `raw`.
    pub(super) fn remove(&mut self, raw: &Any) {
        self.names.remove(&self.hash(raw));
    }

    /// How many values are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    fn hash(&self, raw: &Any) -> u64 {
        self.hasher.hash_one((&raw.type_url, &raw.value))
    }
}
