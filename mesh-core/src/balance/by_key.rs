use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};

use super::{LinkState, TlsId};
use crate::config::{Address, EndpointConfig};

/// What makes an endpoint the same endpoint across updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key<'a> {
    /// Where it listens.
    address: &'a Address,
    /// How it is spoken to.
    tls: TlsId,
}

/// What is kept of endpoints, by their keys. They have those themselves, so that a hundred thousand
/// are not kept twice.
#[derive(Debug)]
pub(super) struct ByKey<V> {
    table: HashTable<V>,
    hasher: RandomState,
}

/// Knows the endpoint that it is of.
pub(super) trait HasLink {
    fn link(&self) -> &LinkState;
}

// === impl Key ===

impl<'a> Key<'a> {
    /// That of an endpoint of the configuration.
    pub(super) fn of(endpoint: &'a EndpointConfig, tls: TlsId) -> Self {
        Self {
            address: &endpoint.address,
            tls,
        }
    }
}

impl LinkState {
    pub(super) fn key(&self) -> Key<'_> {
        Key {
            address: self.address(),
            tls: self.tls(),
        }
    }
}

// === impl ByKey ===

impl<V: HasLink> ByKey<V> {
    pub(super) fn new() -> Self {
        Self {
            table: HashTable::new(),
            hasher: RandomState::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&self, key: Key<'_>) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |value| value.link().key() == key)
    }

    pub(super) fn get_mut(&mut self, key: Key<'_>) -> Option<&mut V> {
        let hash = self.hasher.hash_one(key);
        self.table.find_mut(hash, |value| value.link().key() == key)
    }

    /// In place of what there was under its key.
    pub(super) fn insert(&mut self, value: V) {
        let (hasher, key) = (&self.hasher, value.link().key());
        let entry = self.table.entry(
            hasher.hash_one(key),
            |other| other.link().key() == key,
            |other| hasher.hash_one(other.link().key()),
        );
        match entry {
            Entry::Occupied(mut occupied) => *occupied.get_mut() = value,
            Entry::Vacant(vacant) => {
                vacant.insert(value);
            }
        }
    }

    pub(super) fn remove(&mut self, key: Key<'_>) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let entry = self
            .table
            .find_entry(hash, |value| value.link().key() == key);
        Some(entry.ok()?.remove().0)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.table.iter_mut()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = V> {
        self.table.drain()
    }
}
