use std::sync::{
    Arc, Weak,
    atomic::{AtomicU32, Ordering},
};

use crate::weak_map::WeakMap;

/// A limit on the calls in flight to one cluster (gRFC A32).
///
/// Each attempt of a call holds a [`Permit`] from before it is sent to the end of its response; a call
/// that waits for an endpoint or for its next attempt holds none.
#[derive(Debug)]
pub struct Breaker {
    in_flight: AtomicU32,
    limit: AtomicU32,
    place: Option<Place>,
}

/// The breakers of one mesh, by cluster and endpoints resource. Whoever uses the same two shares
/// one count, over updates and for as long as a call or a cluster holds it.
#[derive(Debug, Clone)]
pub struct BreakerSet(Arc<WeakMap<Key, Breaker>>);

type Key = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Place {
    key: Key,
    set: Weak<WeakMap<Key, Breaker>>,
}

/// One call in flight; given back when this is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Breaker>);

/// The cluster has as many calls in flight as it may have. The call fails with UNAVAILABLE and is
/// not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "circuit breaker: {limit} calls in flight, which is the limit \
     (circuit_breakers.thresholds.max_requests)"
)]
pub struct Overloaded {
    /// The limit in force.
    pub limit: u32,
}

// === impl Breaker ===

impl Breaker {
    /// With nothing in flight and this limit; in no set.
    pub fn new(limit: u32) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
            place: None,
        }
    }

    /// Admits one call.
    ///
    /// Exact: among any number of threads there are never more permits than the limit.
    ///
    /// # Errors
    /// [`Overloaded`] when as many calls are in flight as may be.
    #[inline]
    pub fn admit(self: &Arc<Self>) -> Result<Permit, Overloaded> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < limit).then(|| count + 1)
            })
            .map(|_| Permit(Arc::clone(self)))
            .map_err(|_| Overloaded { limit })
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Puts another limit in force. What is in flight stays, and counts.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if let Some(place) = &self.place
            && let Some(set) = place.set.upgrade()
        {
            set.forget(&place.key);
        }
    }
}

// === impl BreakerSet ===

impl BreakerSet {
    /// Without any.
    pub fn new() -> Self {
        Self(Arc::new(WeakMap::new()))
    }

    /// The breaker of `cluster` and its endpoints resource `service`, with `limit` put in force.
    pub fn get(&self, cluster: &Arc<str>, service: &Arc<str>, limit: u32) -> Arc<Breaker> {
        let key = (Arc::clone(cluster), Arc::clone(service));
        let breaker = self.0.get_or_insert_with(key.clone(), || {
            let mut breaker = Breaker::new(limit);
            breaker.place = Some(Place {
                key,
                set: Arc::downgrade(&self.0),
            });
            Arc::new(breaker)
        });
        breaker.set_limit(limit);
        breaker
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for BreakerSet {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn never_over_the_limit_among_threads() {
        const LIMIT: u32 = 3;
        let breaker = Arc::new(Breaker::new(LIMIT));
        let held = AtomicU32::new(0);
        let refused = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        match breaker.admit() {
                            Ok(permit) => {
                                assert!(held.fetch_add(1, Ordering::SeqCst) < LIMIT);
                                std::hint::spin_loop();
                                held.fetch_sub(1, Ordering::SeqCst);
                                drop(permit);
                            }
                            Err(error) => {
                                assert_eq!(error.limit, LIMIT);
                                refused.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(breaker.in_flight(), 0);
    }

    proptest! {
        #[test]
        fn permits_are_always_given_back(
            steps in prop::collection::vec((0..3_u8, 0..6_u32), 0..200),
        ) {
            let set = BreakerSet::new();
            let (cluster, service) = ("c".into(), "s".into());
            let (mut limit, mut held) = (4, Vec::new());
            for (step, number) in steps {
                let breaker = set.get(&cluster, &service, limit);
                prop_assert_eq!(breaker.in_flight() as usize, held.len());
                match step {
                    0 => match breaker.admit() {
                        Ok(permit) => {
                            held.push(permit);
                            prop_assert!(held.len() <= limit as usize);
                        }
                        Err(_) => prop_assert!(held.len() >= limit as usize),
                    },
                    1 if !held.is_empty() => drop(held.swap_remove(number as usize % held.len())),
                    _ => limit = number,
                }
            }
            prop_assert!(set.len() <= 1);
            drop(held);
            prop_assert!(set.is_empty());
        }
    }

    #[test]
    fn lowering_the_limit_does_not_reset_in_flight() {
        let breaker = Arc::new(Breaker::new(2));
        let first = breaker.admit().expect("below the limit");
        let _second = breaker.admit().expect("below the limit");
        breaker.set_limit(1);
        assert_eq!(breaker.in_flight(), 2);
        drop(first);
        assert_eq!(breaker.admit().err(), Some(Overloaded { limit: 1 }));
        breaker.set_limit(2);
        assert!(breaker.admit().is_ok());
    }

    #[test]
    fn another_endpoints_resource_has_another_count() {
        let set = BreakerSet::new();
        let one = set.get(&"c".into(), &"s1".into(), 1);
        let _permit = one.admit().expect("below the limit");
        assert!(set.get(&"c".into(), &"s2".into(), 1).admit().is_ok());
        assert!(set.get(&"c".into(), &"s1".into(), 1).admit().is_err());
    }
}
