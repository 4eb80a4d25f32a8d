use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{config::Breakers, weak_map::WeakMap};

/// Limits on what is under way to one cluster, whatever its semantics.
///
/// Each attempt of a call holds a [`Permit`] from before it is sent to the end of its response; a call
/// that waits for an endpoint or for its next attempt holds none (gRFC A32). Under HTTP semantics
/// each retry holds a [`RetryPermit`] besides, from the decision to try again, its backoff included,
/// until the outcome of that attempt is known (Envoy).
#[derive(Debug)]
pub struct Breaker {
    requests: Count,
    retries: Count,
    place: Option<Place>,
}

/// How many there are, and may be.
#[derive(Debug)]
struct Count {
    held: AtomicU32,
    limit: AtomicU32,
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

/// One retry under way; given back when this is dropped.
#[derive(Debug)]
pub struct RetryPermit(Arc<Breaker>);

/// The cluster has as much under way as it may have. A call that is not admitted fails with
/// UNAVAILABLE and is not tried again; a retry that is not admitted does not take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("circuit breaker: {limit} {kind}")]
pub struct Overloaded {
    /// The limit in force.
    pub limit: u32,
    /// Which limit it is.
    pub kind: OverloadKind,
}

/// Which limit of a [`Breaker`] was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OverloadKind {
    /// `max_requests`.
    Requests,
    /// `max_retries`.
    Retries,
}

// === impl Count ===

impl Count {
    fn new(limit: u32) -> Self {
        Self {
            held: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
        }
    }

    /// Takes one, or says which limit is reached.
    #[inline]
    fn take(&self) -> Result<(), u32> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < limit).then(|| count + 1)
            })
            .map(drop)
            .map_err(|_| limit)
    }

    fn give_back(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Breaker ===

impl Breaker {
    /// With nothing under way and these limits; in no set.
    pub fn new(limits: &Breakers) -> Self {
        Self {
            requests: Count::new(limits.max_requests),
            retries: Count::new(limits.max_retries),
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
        match self.requests.take() {
            Ok(()) => Ok(Permit(Arc::clone(self))),
            Err(limit) => Err(Overloaded {
                limit,
                kind: OverloadKind::Requests,
            }),
        }
    }

    /// Admits one retry, beside the calls: as exact, and counted apart from them.
    ///
    /// # Errors
    /// [`Overloaded`] when as many retries are under way as may be.
    pub fn admit_retry(self: &Arc<Self>) -> Result<RetryPermit, Overloaded> {
        match self.retries.take() {
            Ok(()) => Ok(RetryPermit(Arc::clone(self))),
            Err(limit) => Err(Overloaded {
                limit,
                kind: OverloadKind::Retries,
            }),
        }
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.requests.held.load(Ordering::Relaxed)
    }

    /// Retries under way.
    pub fn retries(&self) -> u32 {
        self.retries.held.load(Ordering::Relaxed)
    }

    /// Calls that may be in flight.
    pub fn max_requests(&self) -> u32 {
        self.requests.limit.load(Ordering::Relaxed)
    }

    /// Retries that may be under way.
    pub fn max_retries(&self) -> u32 {
        self.retries.limit.load(Ordering::Relaxed)
    }

    /// Puts other limits in force. What is under way stays, and counts.
    pub fn set_limits(&self, limits: &Breakers) {
        let Self {
            requests, retries, ..
        } = self;
        requests.limit.store(limits.max_requests, Ordering::Relaxed);
        retries.limit.store(limits.max_retries, Ordering::Relaxed);
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

    /// The breaker of `cluster` and its endpoints resource `service`, with `limits` put in force.
    pub fn get(&self, cluster: &Arc<str>, service: &Arc<str>, limits: &Breakers) -> Arc<Breaker> {
        let key = (Arc::clone(cluster), Arc::clone(service));
        let breaker = self.0.get_or_insert_with(key.clone(), || {
            let mut breaker = Breaker::new(limits);
            breaker.place = Some(Place {
                key,
                set: Arc::downgrade(&self.0),
            });
            Arc::new(breaker)
        });
        breaker.set_limits(limits);
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
        self.0.requests.give_back();
    }
}

// === impl RetryPermit ===

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.retries.give_back();
    }
}

// === impl OverloadKind ===

impl fmt::Display for OverloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, field) = match self {
            OverloadKind::Requests => ("calls in flight", "max_requests"),
            OverloadKind::Retries => ("retries under way", "max_retries"),
        };
        write!(
            f,
            "{what}, which is the limit (circuit_breakers.thresholds.{field})"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn limits(max_requests: u32, max_retries: u32) -> Breakers {
        Breakers {
            max_requests,
            max_retries,
            ..Breakers::default()
        }
    }

    #[test]
    fn never_over_the_limit_among_threads() {
        const LIMIT: u32 = 3;
        let breaker = Arc::new(Breaker::new(&limits(LIMIT, 0)));
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
                let breaker = set.get(&cluster, &service, &limits(limit, 3));
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
        let breaker = Arc::new(Breaker::new(&limits(2, 3)));
        let first = breaker.admit().expect("below the limit");
        let _second = breaker.admit().expect("below the limit");
        breaker.set_limits(&limits(1, 3));
        assert_eq!(breaker.in_flight(), 2);
        drop(first);
        let refused = breaker.admit().expect_err("at the limit").to_string();
        assert_eq!(
            refused,
            "circuit breaker: 1 calls in flight, which is the limit \
             (circuit_breakers.thresholds.max_requests)"
        );
        breaker.set_limits(&limits(2, 3));
        assert!(breaker.admit().is_ok());
    }

    #[test]
    fn retries_have_a_count_and_a_limit_of_their_own() {
        let breaker = Arc::new(Breaker::new(&limits(1, 2)));
        let _call = breaker.admit().expect("below the limit");
        let first = breaker.admit_retry().expect("below the limit");
        let _second = breaker.admit_retry().expect("below the limit");
        let refused = breaker.admit_retry().expect_err("at the limit");
        assert_eq!(refused.kind, OverloadKind::Retries);
        assert_eq!(
            refused.to_string(),
            "circuit breaker: 2 retries under way, which is the limit \
             (circuit_breakers.thresholds.max_retries)"
        );
        assert_eq!((breaker.in_flight(), breaker.retries()), (1, 2));
        drop(first);
        assert_eq!(breaker.retries(), 1);
        assert!(breaker.admit_retry().is_ok());
        breaker.set_limits(&limits(1, 0));
        assert!(breaker.admit_retry().is_err());
    }

    #[test]
    fn another_endpoints_resource_has_another_count() {
        let set = BreakerSet::new();
        let one = set.get(&"c".into(), &"s1".into(), &limits(1, 0));
        let _permit = one.admit().expect("below the limit");
        assert!(
            set.get(&"c".into(), &"s2".into(), &limits(1, 0))
                .admit()
                .is_ok()
        );
        assert!(
            set.get(&"c".into(), &"s1".into(), &limits(1, 0))
                .admit()
                .is_err()
        );
    }
}
