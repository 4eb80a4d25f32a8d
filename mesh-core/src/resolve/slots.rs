//! What is known of the resources that something depends on, and the task that keeps it current.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::mpsc;

use crate::{
    config::{Kind, Resource, ResourceId},
    control::{Delivery, Event, Source, SourceError, Watch},
};

/// The watched resources, and what is known of each.
#[derive(Debug)]
pub(super) struct Slots(BTreeMap<ResourceId, Slot>);

/// What is known of one watched resource.
#[derive(Debug)]
enum Slot {
    Waiting,
    Known {
        value: Resource,
        ambient: Option<SourceError>,
    },
    Failed(SourceError),
}

/// Something is not known yet, or cannot be had.
pub(super) enum Missing {
    Pending,
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
}

/// Watches what `join` wants at `source`, and publishes what it concludes, until dropped.
pub(super) async fn follow<J: Join>(
    mut join: J,
    source: Arc<dyn Source>,
    mut publish: impl FnMut(J::Outcome),
) {
    let (inbox, mut deliveries) = mpsc::unbounded_channel();
    let mut watches: HashMap<ResourceId, Watch> = HashMap::new();
    let mut processed = Vec::new();
    loop {
        for id in join.slots().ids() {
            if !watches.contains_key(id) {
                watches.insert(id.clone(), source.watch(id.clone(), inbox.clone()));
            }
        }
        watches.retain(|id, _| join.slots().has(id));
        processed.clear();
        // All news of one response is taken together: a snapshot is built once, not per resource.
        let mut next = deliveries.recv().await;
        while let Some(Delivery {
            id,
            event,
            processed: token,
        }) = next
        {
            join.handle(&id, event);
            processed.push(token);
            next = deliveries.try_recv().ok();
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
        Self(BTreeMap::from([(first, Slot::Waiting)]))
    }

    /// Takes news of a resource; whether it took away a known value. News of one that is not
    /// watched is ignored: it was under way when the watch ended.
    pub(super) fn handle(&mut self, id: &ResourceId, event: Event) -> bool {
        let Some(slot) = self.0.get_mut(id) else {
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
                    Slot::Waiting | Slot::Failed(_) => *slot = Slot::Failed(error),
                }
                false
            }
            Event::Gone(error) => {
                let before = std::mem::replace(slot, Slot::Failed(error));
                matches!(before, Slot::Known { .. })
            }
        }
    }

    /// Makes `wanted` the resources that are watched; what is known of the others is forgotten.
    pub(super) fn reshape(&mut self, wanted: BTreeSet<ResourceId>) {
        self.0.retain(|id, _| wanted.contains(id));
        for id in wanted {
            self.0.entry(id).or_insert(Slot::Waiting);
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &ResourceId> {
        self.0.keys()
    }

    pub(super) fn has(&self, id: &ResourceId) -> bool {
        self.0.contains_key(id)
    }

    /// A resource, and what troubles it.
    pub(super) fn need(
        &self,
        kind: Kind,
        name: &Arc<str>,
    ) -> Result<(&Resource, Option<&SourceError>), Missing> {
        match self.0.get(&ResourceId::new(kind, Arc::clone(name))) {
            Some(Slot::Known { value, ambient }) => Ok((value, ambient.as_ref())),
            Some(Slot::Failed(error)) => Err(Missing::Failed(error.clone())),
            Some(Slot::Waiting) | None => Err(Missing::Pending),
        }
    }

    pub(super) fn known(&self, kind: Kind, name: &Arc<str>) -> Option<&Resource> {
        self.need(kind, name).ok().map(|(value, _)| value)
    }
}
