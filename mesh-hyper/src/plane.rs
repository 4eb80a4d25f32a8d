use std::{
    collections::HashMap,
    ops::Deref,
    pin::Pin,
    sync::{Arc, Weak},
};

use mesh_core::{
    Mesh, Plane, PlaneSeed, Registration,
    balance::Balancers,
    resolve::{Readiness, Target, TargetSpec, TargetStatus},
    runtime::SideCall,
};
use parking_lot::Mutex;

use crate::{
    conn::{Net, NetOptions},
    side_call::HyperSideCall,
};

/// What this crate keeps for a mesh: its connections and the targets in use.
#[derive(Debug)]
pub(crate) struct HyperPlane {
    balancers: Balancers<Net>,
    targets: Mutex<HashMap<TargetSpec, Weak<SharedTarget>>>,
    side_calls: Arc<HyperSideCall>,
}

/// A target, shared by all who use it. The last of them to drop it ends it and gives up its
/// places.
#[derive(Debug)]
pub(crate) struct SharedTarget {
    target: Target<Net>,
    plane: Weak<HyperPlane>,
    _registration: Registration,
}

// === impl HyperPlane ===

impl HyperPlane {
    /// The plane of `mesh`.
    pub(crate) fn of(mesh: &Mesh) -> Arc<Self> {
        mesh.plane(|seed: PlaneSeed<'_>| {
            let options = seed.options;
            let net = NetOptions {
                max_connections: options.connections_per_endpoint,
                backoff_base: options.connect_backoff_base,
                backoff_max: options.connect_backoff_max,
                ..NetOptions::default()
            };
            let mut side_calls = HyperSideCall::default();
            if let Some(crypto) = seed.identities.crypto() {
                side_calls = side_calls.crypto_provider(Arc::clone(crypto));
            }
            let net = Net::new(net).with_identities(seed.identities.clone());
            Self {
                balancers: Balancers::new(Arc::new(net)),
                targets: Mutex::default(),
                side_calls: Arc::new(side_calls),
            }
        })
    }

    /// The target `spec`, shared by all who use it.
    pub(crate) fn target(self: &Arc<Self>, mesh: &Mesh, spec: TargetSpec) -> Arc<SharedTarget> {
        let mut targets = self.targets.lock();
        if let Some(target) = targets.get(&spec).and_then(Weak::upgrade) {
            return target;
        }
        let target = Arc::new_cyclic(|me: &Weak<SharedTarget>| SharedTarget {
            _registration: mesh.register(Weak::<SharedTarget>::clone(me)),
            plane: Arc::downgrade(self),
            target: Target::open(
                spec.clone(),
                mesh.source(&**self),
                self.balancers.clone(),
                Some(Arc::clone(mesh.recorder())),
            ),
        });
        targets.insert(spec, Arc::downgrade(&target));
        target
    }

    /// Gives up the place of a target that nobody uses any more. A new one of this name stays.
    fn forget(&self, spec: &TargetSpec) {
        let mut targets = self.targets.lock();
        if targets
            .get(spec)
            .is_some_and(|target| target.strong_count() == 0)
        {
            targets.remove(spec);
            if targets.len() < targets.capacity() / 4 {
                targets.shrink_to_fit();
            }
        }
    }
}

impl Plane for HyperPlane {
    fn side_calls(&self) -> Arc<dyn SideCall> {
        Arc::clone(&self.side_calls) as _
    }
}

// === impl SharedTarget ===

impl Deref for SharedTarget {
    type Target = Target<Net>;

    #[inline]
    fn deref(&self) -> &Target<Net> {
        &self.target
    }
}

impl Readiness for SharedTarget {
    fn status(&self) -> TargetStatus {
        self.target.status()
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.target.settled()
    }
}

impl Drop for SharedTarget {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.upgrade() {
            plane.forget(self.target.spec());
        }
    }
}
