//! What is known of the resources that something depends on, and the task that keeps it current.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{LookedUp, Names, names::NameWatch};
use crate::{
    config::{Kind, Lookup, Resource, ResourceId},
    control::{Delivery, Event, Source, SourceError, Watch},
};

/// The watched resources, and what is known of each.
#[derive(Debug)]
pub(super) struct Slots {
    known: BTreeMap<ResourceId, Slot>,
    /// Counts how often the set was decided on anew: who follows it need not look at each of many
    /// thousands after every change of one.
    revision: u64,
}

/// What is known of one watched resource.
#[derive(Debug)]
enum Slot {
    Waiting,
    Known {
        value: Resource,
        ambient: Option<SourceError>,
    },
    Failed {
        error: SourceError,
        /// It could not be reached while something else was in force, which goes on: what works does
        /// not give way to what an outage has left in pieces.
        held: bool,
    },
}

/// Something is not known yet, or cannot be had.
pub(super) enum Missing {
    /// It is waited for, and what keeps it away, if that is known.
    Pending(Option<SourceError>),
    Failed(SourceError),
}

/// Pure logic that joins resources into one outcome.
pub(super) trait Join {
    /// What there is to follow, or why there is nothing.
    type Outcome;

    /// Takes news of a resource.
    fn handle(&mut self, id: &ResourceId, event: Event);

    /// Draws the conclusion from all news so far. `None` until there is anything to say.
    fn settle(&mut self) -> Option<Self::Outcome>;

    /// The resources to be watched now.
    fn slots(&self) -> &Slots;

    /// The names to be looked up now; others only after [`Slots::reshape`].
    fn lookups(&self) -> impl Iterator<Item = &Lookup> {
        std::iter::empty()
    }

    /// Whether `lookup` is to be looked up.
    fn looks_up(&self, _lookup: &Lookup) -> bool {
        false
    }

    /// Takes what a name was looked up as.
    fn answered(&mut self, _lookup: &Lookup, _answer: LookedUp) {}
}

/// Watches what `join` wants at `source` and among `names`, and publishes what it concludes, until
/// dropped. Without `names` none is looked up.
pub(super) async fn follow<J: Join>(
    mut join: J,
    source: Arc<dyn Source>,
    names: Option<Names>,
    mut publish: impl FnMut(J::Outcome),
) {
    let (inbox, mut deliveries) = mpsc::unbounded_channel();
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mut watches: HashMap<ResourceId, Watch> = HashMap::new();
    let mut name_watches: HashMap<Lookup, NameWatch> = HashMap::new();
    let mut processed = Vec::new();
    let mut watched_revision = 0;
    loop {
        let revision = join.slots().revision();
        let is_reshaped = std::mem::replace(&mut watched_revision, revision) != revision;
        if is_reshaped {
            for id in join.slots().ids() {
                if !watches.contains_key(id) {
                    watches.insert(id.clone(), source.watch(id.clone(), inbox.clone()));
                }
            }
            watches.retain(|id, _| join.slots().has(id));
        }
        if let Some(names) = names.as_ref().filter(|_| is_reshaped) {
            for lookup in join.lookups() {
                if !name_watches.contains_key(lookup) {
                    let watch = names.watch(lookup, answers.clone());
                    name_watches.insert(lookup.clone(), watch);
                }
            }
            name_watches.retain(|lookup, _| join.looks_up(lookup));
        }
        processed.clear();
        let (mut next, mut answer) = tokio::select! {
            next = deliveries.recv() => (next, None),
            answer = answered.recv() => (None, answer),
        };
        // All news of one response is taken together: a snapshot is built once, not per resource.
        while let Some(Delivery {
            id,
            event,
            processed: token,
        }) = next.or_else(|| deliveries.try_recv().ok())
        {
            join.handle(&id, event);
            processed.push(token);
            next = None;
        }
        while let Some((lookup, of_name)) = answer.or_else(|| answered.try_recv().ok()) {
            join.answered(&lookup, of_name);
            answer = None;
        }
        if let Some(outcome) = join.settle() {
            publish(outcome);
        }
    }
}

// === impl Slots ===

impl Slots {
    /// Only `first` is watched yet.
    pub(super) fn new(first: ResourceId) -> Self {
        Self {
            known: BTreeMap::from([(first, Slot::Waiting)]),
            revision: 1,
        }
    }

    /// Takes news of a resource; whether it took away a known value. News of one that is not
    /// watched is ignored: it was under way when the watch ended. `in_force`: there is a configuration
    /// that can go on without it.
    pub(super) fn handle(&mut self, id: &ResourceId, event: Event, in_force: bool) -> bool {
        let Some(slot) = self.known.get_mut(id) else {
            return false;
        };
        match event {
            Event::Update(value) => {
                *slot = Slot::Known {
                    value,
                    ambient: None,
                };
                false
            }
            Event::Ambient(error) => {
                match slot {
                    Slot::Known { ambient, .. } => *ambient = Some(error),
                    Slot::Waiting => {
                        let held = in_force && error.kind.is_no_answer();
                        *slot = Slot::Failed { error, held };
                    }
                    Slot::Failed { error: then, .. } => *then = error,
                }
                false
            }
            Event::Gone(error) => {
                let gone = Slot::Failed { error, held: false };
                let before = std::mem::replace(slot, gone);
                matches!(before, Slot::Known { .. })
            }
        }
    }

    /// Nothing is in force any more.
    pub(super) fn release(&mut self) {
        for slot in self.known.values_mut() {
            if let Slot::Failed { held, .. } = slot {
                *held = false;
            }
        }
    }

    /// Makes `wanted` the resources that are watched; what is known of the others is forgotten.
    pub(super) fn reshape(&mut self, wanted: BTreeSet<ResourceId>) {
        self.revision += 1;
        self.known.retain(|id, _| wanted.contains(id));
        for id in wanted {
            self.known.entry(id).or_insert(Slot::Waiting);
        }
    }

    /// Another one after each [`reshape`](Self::reshape).
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &ResourceId> {
        self.known.keys()
    }

    pub(super) fn has(&self, id: &ResourceId) -> bool {
        self.known.contains_key(id)
    }

    /// A resource, and what troubles it.
    pub(super) fn need(
        &self,
        kind: Kind,
        name: &Arc<str>,
    ) -> Result<(&Resource, Option<&SourceError>), Missing> {
        match self.known.get(&ResourceId::new(kind, Arc::clone(name))) {
            Some(Slot::Known { value, ambient }) => Ok((value, ambient.as_ref())),
            Some(Slot::Failed { error, held: true }) => Err(Missing::Pending(Some(error.clone()))),
            Some(Slot::Failed { error, held: false }) => Err(Missing::Failed(error.clone())),
            Some(Slot::Waiting) | None => Err(Missing::Pending(None)),
        }
    }

    pub(super) fn known(&self, kind: Kind, name: &Arc<str>) -> Option<&Resource> {
        self.need(kind, name).ok().map(|(value, _)| value)
    }
}
