use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

/// Values shared by key for as long as somebody uses them.
///
/// A value's `Drop` calls [`forget`](Self::forget) with its key.
#[derive(Debug)]
pub(crate) struct WeakMap<K, V>(Mutex<HashMap<K, Weak<V>>>);

impl<K: Eq + Hash, V> WeakMap<K, V> {
    /// Without any.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// The value in use under `key`, else what `make` makes. `make` runs under the map's lock and
    /// must not drop a value of this map.
    pub(crate) fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> Arc<V>) -> Arc<V> {
        let mut map = self.0.lock();
        if let Some(value) = map.get(&key).and_then(Weak::upgrade) {
            return value;
        }
        let value = make();
        map.insert(key, Arc::downgrade(&value));
        value
    }

    /// Gives up the place of a value that nobody uses any more. A new one under the same key stays.
    pub(crate) fn forget(&self, key: &K) {
        let mut map = self.0.lock();
        if map.get(key).is_some_and(|value| value.strong_count() == 0) {
            map.remove(key);
            if map.len() < map.capacity() / 4 {
                map.shrink_to_fit();
            }
        }
    }

    /// How many are in use.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
