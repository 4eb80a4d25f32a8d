use std::{collections::HashMap, fmt, ops::Deref, pin::Pin, sync::Arc, time::Duration};

use mesh_core::{
    Mesh, Registration, Semantics,
    balance::Balancers,
    resolve::{Readiness, Target, TargetSpec, TargetStatus},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::raw::Raw;
use crate::plane::{HyperPlane, names};

/// What a connector follows: what was connected to of late, and what has connections.
pub(super) struct Targets {
    balancers: Balancers<Raw>,
    known: Mutex<HashMap<TargetSpec, Known>>,
}

/// A target, followed for as long as somebody holds this.
pub(super) struct Followed {
    target: Target<Raw>,
    _registration: Registration,
}

struct Known {
    target: Arc<Followed>,
    used: Instant,
}

/// How many are followed that have no connection.
const MOST: usize = 256;

/// How long one is that nobody connects to.
const IDLE: Duration = Duration::from_secs(300);

// === impl Targets ===

impl Targets {
    pub(super) fn new(raw: Raw) -> Self {
        Self {
            balancers: Balancers::new(Arc::new(raw)),
            known: Mutex::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.lock().len()
    }

    /// The target of this listener and authority.
    pub(super) fn get(&self, mesh: &Mesh, listener: Arc<str>, authority: &str) -> Arc<Followed> {
        let spec = TargetSpec {
            listener,
            authority: authority.into(),
            semantics: Semantics::Http,
        };
        // Dropped after the lock: the end of a target is no small thing.
        let mut over = Vec::new();
        let mut known = self.known.lock();
        let now = Instant::now();
        over.extend(known.extract_if(|other, known| *other != spec && now - known.used >= IDLE));
        if let Some(known) = known.get_mut(&spec) {
            known.used = now;
            return Arc::clone(&known.target);
        }
        if known.len() >= MOST {
            let oldest = known.iter().min_by_key(|(_, known)| known.used);
            if let Some(oldest) = oldest.map(|(spec, _)| spec.clone()) {
                over.extend(known.remove_entry(&oldest));
            }
        }
        let target = Followed::open(mesh, spec.clone(), self.balancers.clone());
        let used = now;
        known.insert(
            spec,
            Known {
                target: Arc::clone(&target),
                used,
            },
        );
        drop(known);
        target
    }
}

// === impl Followed ===

impl Followed {
    fn open(mesh: &Mesh, spec: TargetSpec, balancers: Balancers<Raw>) -> Arc<Self> {
        let source = mesh.source(&*HyperPlane::of(mesh));
        Arc::new_cyclic(|me: &std::sync::Weak<Self>| Self {
            target: mesh.enter(|| Target::open(spec, source, names(mesh), balancers, None)),
            _registration: mesh.register(std::sync::Weak::<Self>::clone(me)),
        })
    }
}

impl Deref for Followed {
    type Target = Target<Raw>;

    fn deref(&self) -> &Target<Raw> {
        &self.target
    }
}

impl Readiness for Followed {
    fn status(&self) -> TargetStatus {
        self.target.status()
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.target.settled()
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}
