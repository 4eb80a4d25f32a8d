use std::{
    collections::HashSet,
    fmt, io,
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::mpsc, task::AbortHandle, time};

use crate::{
    config::Lookup,
    control::{SourceError, SourceErrorKind},
    runtime::{Resolve, Resolved},
    weak_map::WeakMap,
};

/// How long one look-up may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The host names that clusters are looked up by, each by one task for all targets of a mesh. Cheap
/// to clone.
///
/// Both semantics look up again and again, [`LookupPolicy::refresh`](crate::config::LookupPolicy)
/// after each answer, as Envoy does. gRPC would do so when a connection breaks, and not within 30 s
/// of the last time (gRFC A37): here a new address is known without that. A look-up that fails, or
/// finds nothing, leaves the addresses of the last one in force; without one there are none, and the
/// priority is empty.
#[derive(Clone)]
pub struct Names(Arc<Shared>);

struct Shared {
    resolver: Arc<dyn Resolve>,
    watched: WeakMap<Lookup, Watched>,
}

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookedUp {
    /// Its addresses. Their order is that of the first look-up that gave just these.
    pub addresses: Arc<[IpAddr]>,
    /// Why there are none, or why they may be old.
    pub trouble: Option<SourceError>,
}

/// Where answers go.
pub(super) type Answers = mpsc::UnboundedSender<(Lookup, LookedUp)>;

/// A name that somebody uses.
struct Watched {
    lookup: Lookup,
    shared: Weak<Shared>,
    state: Mutex<State>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    answer: Option<LookedUp>,
    watchers: Vec<(u64, Answers)>,
    last: u64,
}

/// A running watch; dropping it ends it, and the last one of a name its task.
pub(super) struct NameWatch {
    watched: Arc<Watched>,
    number: u64,
}

// === impl Names ===

impl Names {
    /// Names that `resolver` looks up.
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self(Arc::new(Shared {
            resolver,
            watched: WeakMap::new(),
        }))
    }

    /// How many names are in use.
    pub fn len(&self) -> usize {
        self.0.watched.len()
    }

    /// Whether none is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Watches a name: what is known of it goes to `answers` at once, what changes later. To be
    /// called in a tokio runtime.
    pub(super) fn watch(&self, lookup: &Lookup, answers: Answers) -> NameWatch {
        let make = || {
            Arc::new_cyclic(|me: &Weak<Watched>| {
                let task = look_up(
                    lookup.clone(),
                    Arc::clone(&self.0.resolver),
                    Weak::clone(me),
                );
                Watched {
                    lookup: lookup.clone(),
                    shared: Arc::downgrade(&self.0),
                    state: Mutex::default(),
                    task: tokio::spawn(task).abort_handle(),
                }
            })
        };
        let watched = self.0.watched.get_or_insert_with(lookup.clone(), make);
        let number = watched.state.lock().join(lookup, answers);
        NameWatch { watched, number }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("resolver", &self.0.resolver)
            .field("in_use", &self.len())
            .finish()
    }
}

/// Looks a name up for as long as somebody uses it.
async fn look_up(lookup: Lookup, resolver: Arc<dyn Resolve>, watched: Weak<Watched>) {
    let policy = &lookup.policy;
    let mut failure_pause = None;
    loop {
        let result = time::timeout(LIMIT, resolver.resolve(&lookup.name)).await;
        let result = result.unwrap_or_else(|_| {
            let text = format!("no answer within {LIMIT:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        });
        let result = result.and_then(|Resolved { addresses, ttl }| {
            let addresses = policy.family.select(&addresses);
            match addresses.is_empty() {
                false => Ok((addresses, ttl)),
                true => Err(io::Error::other("it has no addresses that are wanted")),
            }
        });
        let pause = match &result {
            Ok((_, Some(ttl))) if policy.respect_ttl => {
                // As in Envoy: a time to live of zero says nothing.
                let ttl = if ttl.is_zero() { policy.refresh } else { *ttl };
                ttl.max(policy.min_refresh)
            }
            Ok(_) => policy.refresh,
            Err(_) => match policy.failure {
                None => policy.refresh,
                Some((base, max)) => {
                    let pause: Duration = failure_pause.unwrap_or(base);
                    failure_pause = Some(pause.saturating_mul(2).min(max));
                    pause.min(max)
                }
            },
        };
        if result.is_ok() {
            failure_pause = None;
        }
        match watched.upgrade() {
            Some(watched) => watched.publish(result.map(|(addresses, _)| addresses)),
            None => return,
        }
        time::sleep(pause + policy.jitter.mul_f64(fastrand::f64())).await;
    }
}

// === impl Watched ===

impl Watched {
    fn publish(&self, result: io::Result<Vec<IpAddr>>) {
        let mut state = self.state.lock();
        let old = state.answer.clone().unwrap_or_default();
        let answer = match result {
            Ok(addresses) => LookedUp {
                // Resolvers turn the order round from answer to answer.
                addresses: match is_same(&old.addresses, &addresses) {
                    true => old.addresses,
                    false => addresses.into(),
                },
                trouble: None,
            },
            Err(error) => {
                let name = &self.lookup.name;
                tracing::debug!(%name, %error, "look-up failed");
                LookedUp {
                    trouble: Some(SourceError {
                        kind: SourceErrorKind::Unreachable,
                        text: format!("cannot look up {name:?}: {error}").into(),
                    }),
                    ..old
                }
            }
        };
        if state.answer.as_ref() != Some(&answer) {
            for (_, watcher) in &state.watchers {
                // One that is gone ends its watch in a moment.
                let _ = watcher.send((self.lookup.clone(), answer.clone()));
            }
            state.answer = Some(answer);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(shared) = self.shared.upgrade() {
            shared.watched.forget(&self.lookup);
        }
    }
}

/// Whether these are the same addresses, in whatever order.
fn is_same(a: &[IpAddr], b: &[IpAddr]) -> bool {
    let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<HashSet<_>>();
    set(a) == set(b)
}

// === impl State ===

impl State {
    fn join(&mut self, lookup: &Lookup, answers: Answers) -> u64 {
        if let Some(answer) = &self.answer {
            let _ = answers.send((lookup.clone(), answer.clone()));
        }
        self.last += 1;
        self.watchers.push((self.last, answers));
        self.last
    }
}

// === impl NameWatch ===

impl Drop for NameWatch {
    fn drop(&mut self) {
        let mut state = self.watched.state.lock();
        state.watchers.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests;
