use std::{
    collections::HashMap,
    ops::Deref,
    pin::Pin,
    sync::{Arc, Weak},
};

use mesh_core::{
    Mesh, Plane, PlaneSeed, Registration,
    balance::Balancers,
    control::{OutsideHost, Passthrough, Source},
    resolve::{Names, Readiness, Target, TargetSpec, TargetStatus},
    runtime::SideCall,
};
use parking_lot::Mutex;

use crate::{
    client::Tables,
    conn::{Net, NetOptions, SystemResolve},
    side_call::HyperSideCall,
};

/// What this crate keeps for a mesh: its connections and the targets in use.
#[derive(Debug)]
pub(crate) struct HyperPlane {
    balancers: Balancers<Net>,
    targets: Mutex<HashMap<(TargetSpec, Origin), Weak<SharedTarget>>>,
    side_calls: Arc<HyperSideCall>,
    /// The targets that requests of HTTP clients have named.
    pub(crate) named: Tables,
}

/// Where the configuration of a target comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// From the source of the mesh.
    Mesh,
    /// From there; if it does not have the target, requests go out to this host.
    MeshOrOutside(OutsideHost),
    /// Nobody is asked: requests go out to this host.
    Outside(OutsideHost),
}

/// A target, shared by all who use it. The last of them to drop it ends it and gives up its
/// places.
#[derive(Debug)]
pub(crate) struct SharedTarget {
    target: Target<Net>,
    origin: Origin,
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
            let mut side_calls = HyperSideCall::default().tls13_only(options.tls13_only);
            if let Some(crypto) = seed.identities.crypto() {
                side_calls = side_calls.crypto_provider(Arc::clone(crypto));
            }
            let net = Net::new(net).with_identities(seed.identities.clone());
            Self {
                balancers: Balancers::counting(Arc::new(net), seed.loads.clone()),
                targets: Mutex::default(),
                side_calls: Arc::new(side_calls),
                named: Tables::default(),
            }
        })
    }

    /// The target `spec` of `origin`, shared by all who use it.
    pub(crate) fn target(
        self: &Arc<Self>,
        mesh: &Mesh,
        spec: TargetSpec,
        origin: Origin,
    ) -> Arc<SharedTarget> {
        let key = (spec, origin);
        let mut targets = self.targets.lock();
        if let Some(target) = targets.get(&key).and_then(Weak::upgrade) {
            return target;
        }
        let (spec, origin) = key.clone();
        let source: Arc<dyn Source> = match &origin {
            Origin::Mesh => mesh.source(&**self),
            Origin::MeshOrOutside(host) => {
                Arc::new(Passthrough::unless(mesh.source(&**self), host))
            }
            Origin::Outside(host) => Arc::new(Passthrough::to(host)),
        };
        let target = Arc::new_cyclic(|me: &Weak<SharedTarget>| SharedTarget {
            _registration: mesh.register(Weak::<SharedTarget>::clone(me)),
            plane: Arc::downgrade(self),
            origin,
            target: mesh.enter(|| {
                let recorder = Arc::clone(mesh.recorder());
                let balancers = self.balancers.clone();
                Target::open(spec, source, names(mesh), balancers, Some(recorder))
            }),
        });
        targets.insert(key, Arc::downgrade(&target));
        target
    }

    /// Gives up the place of a target that nobody uses any more. A new one of this name stays.
    fn forget(&self, key: &(TargetSpec, Origin)) {
        let mut targets = self.targets.lock();
        if targets
            .get(key)
            .is_some_and(|target| target.strong_count() == 0)
        {
            targets.remove(key);
            if targets.len() < targets.capacity() / 4 {
                targets.shrink_to_fit();
            }
        }
    }
}

/// The names that the clusters of `mesh` are looked up by.
pub(crate) fn names(mesh: &Mesh) -> Names {
    mesh.names(|| Arc::new(SystemResolve))
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
            plane.forget(&(self.target.spec().clone(), self.origin.clone()));
        }
    }
}
