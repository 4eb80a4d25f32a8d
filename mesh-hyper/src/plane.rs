use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use mesh_core::{
    Mesh, Plane, PlaneSeed,
    balance::Balancers,
    resolve::{Readiness, Target, TargetSpec},
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
    targets: Mutex<HashMap<TargetSpec, Weak<Target<Net>>>>,
}

impl HyperPlane {
    /// The plane of `mesh`.
    pub(crate) fn of(mesh: &Mesh) -> Arc<Self> {
        mesh.plane(|PlaneSeed { options, .. }| {
            let net = NetOptions {
                max_connections: options.connections_per_endpoint,
                backoff_base: options.connect_backoff_base,
                backoff_max: options.connect_backoff_max,
                ..NetOptions::default()
            };
            Self {
                balancers: Balancers::new(Arc::new(Net::new(net))),
                targets: Mutex::default(),
            }
        })
    }

    /// The target `spec`, shared by all who use it.
    pub(crate) fn target(&self, mesh: &Mesh, spec: TargetSpec) -> Arc<Target<Net>> {
        let mut targets = self.targets.lock();
        if let Some(target) = targets.get(&spec).and_then(Weak::upgrade) {
            return target;
        }
        // Amortised: swept whenever the map would grow.
        if targets.len() == targets.capacity() {
            targets.retain(|_, target| target.strong_count() > 0);
        }
        let target = Arc::new(Target::open(
            spec.clone(),
            mesh.source(self),
            self.balancers.clone(),
            Some(Arc::clone(mesh.recorder())),
        ));
        targets.insert(spec, Arc::downgrade(&target));
        let readiness: Weak<dyn Readiness> = Arc::downgrade(&target) as _;
        mesh.register(readiness);
        target
    }
}

impl Plane for HyperPlane {
    fn side_calls(&self) -> Arc<dyn SideCall> {
        Arc::new(HyperSideCall::default())
    }
}
