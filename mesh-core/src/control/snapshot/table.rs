//! What is saved, or to be saved.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    error::{SnapshotError, SnapshotErrorKind},
    format::{Saved, size},
};
use crate::{
    config::{Kind, ResourceId},
    control::xds::{ConfigDump, ResourceDump, ResourceStatus},
};

/// The last accepted resources of this process and of those before it.
#[derive(Debug, Default)]
pub(super) struct Table {
    resources: BTreeMap<ResourceId, Saved>,
    /// Taken away in this process, and when: what others have saved of them before is not taken over.
    gone: HashMap<ResourceId, SystemTime>,
}

/// How many resources that are gone are remembered; of more, those that went last.
const MOST_GONE: usize = 10_000;

// === impl Table ===

impl Table {
    pub(super) fn get(&self, id: &ResourceId) -> Option<&Saved> {
        self.resources.get(id)
    }

    pub(super) fn len(&self) -> usize {
        self.resources.len()
    }

    /// Takes over what another process has saved, where it knows better.
    pub(super) fn merge(&mut self, others: Vec<(ResourceId, Saved)>) {
        for (id, saved) in others {
            let better = match self.resources.get(&id) {
                Some(own) => own.confirmed < saved.confirmed,
                None => {
                    let gone = self.gone.get(&id);
                    gone.is_none_or(|gone| *gone < saved.confirmed)
                }
            };
            if better {
                self.resources.insert(id, saved);
            }
        }
    }

    /// Takes what is in force: `dump` is of what this process watches, and `is_connected` says of a
    /// control plane whether it is there now.
    pub(super) fn take(
        &mut self,
        dump: &ConfigDump,
        is_connected: impl Fn(&str) -> bool,
        now: SystemTime,
    ) {
        for (id, resource) in in_force(dump) {
            let Some(accepted) = &resource.accepted else {
                continue;
            };
            let confirmed = match is_connected(&resource.server) {
                true => now,
                false => accepted.last_updated,
            };
            let before = self.resources.get(id).map(|saved| saved.confirmed);
            let saved = Saved {
                raw: Arc::clone(&accepted.raw),
                version: Arc::clone(&accepted.version),
                server: Arc::clone(&resource.server),
                updated: accepted.last_updated,
                confirmed: before.map_or(confirmed, |before| before.max(confirmed)),
            };
            self.resources.insert(id.clone(), saved);
            self.gone.remove(id);
        }
    }

    /// The resource is not to be there for a new process. Says whether it was.
    pub(super) fn remove(&mut self, id: &ResourceId, now: SystemTime) -> bool {
        if self.gone.len() >= MOST_GONE
            && !self.gone.contains_key(id)
            && let Some((oldest, _)) = self.gone.iter().min_by_key(|(_, gone)| **gone)
        {
            let oldest = oldest.clone();
            self.gone.remove(&oldest);
        }
        self.gone.insert(id.clone(), now);
        self.resources.remove(id).is_some()
    }

    /// Drops what cannot be made anything of.
    pub(super) fn discard(&mut self, id: &ResourceId) {
        self.resources.remove(id);
    }

    /// Drops what has not been confirmed for longer than `limit`.
    pub(super) fn expire(&mut self, limit: Duration, now: SystemTime) {
        self.resources.retain(|_, saved| saved.age(now) <= limit);
        // What others can have saved before then has expired with it.
        self.gone
            .retain(|_, gone| now.duration_since(*gone).unwrap_or_default() <= limit);
    }

    /// Drops what is not `in_use`, the longest unconfirmed first, until what is left has at most
    /// `limit` bytes.
    ///
    /// # Errors
    /// If what is in use has more.
    pub(super) fn fit(
        &mut self,
        limit: u64,
        in_use: &BTreeSet<ResourceId>,
    ) -> Result<(), SnapshotError> {
        let mut total: u64 = self
            .resources
            .iter()
            .map(|(id, saved)| size(id, saved))
            .sum();
        if total <= limit {
            return Ok(());
        }
        let unused = self.resources.iter().filter(|(id, _)| !in_use.contains(id));
        let mut unused: Vec<_> = unused
            .map(|(id, saved)| (saved.confirmed, id.clone(), size(id, saved)))
            .collect();
        unused.sort_unstable();
        for (_, id, size) in unused {
            if total <= limit {
                break;
            }
            self.resources.remove(&id);
            total -= size;
        }
        if total <= limit {
            return Ok(());
        }
        let problem = format!(
            "the resources in use have {total} bytes: at most {limit} are saved; what was saved \
             before stays"
        );
        Err(SnapshotError::new(SnapshotErrorKind::TooLarge, problem))
    }

    pub(super) fn all(&self) -> Vec<(ResourceId, Saved)> {
        let all = self.resources.iter();
        all.map(|(id, saved)| (id.clone(), saved.clone())).collect()
    }
}

/// What a new process could begin with, each resource once: that of the control plane which spoke
/// of it last. Secrets are not for the disk, and what does not exist is nothing to begin with.
fn in_force(dump: &ConfigDump) -> BTreeMap<&ResourceId, &ResourceDump> {
    let mut found = BTreeMap::<&ResourceId, &ResourceDump>::new();
    for resource in &dump.resources {
        let Some(accepted) = &resource.accepted else {
            continue;
        };
        if resource.id.kind == Kind::Secret || resource.status == ResourceStatus::DoesNotExist {
            continue;
        }
        let newest = found
            .get(&resource.id)
            .and_then(|other| other.accepted.as_ref());
        if newest.is_none_or(|other| other.last_updated < accepted.last_updated) {
            found.insert(&resource.id, resource);
        }
    }
    found
}

#[cfg(test)]
mod tests;
