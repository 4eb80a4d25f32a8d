//! What planes are told of a mesh, and how they tell it of targets: of no use to a service.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Mesh, Options, Xds};
use crate::{
    balance::Loads,
    control::{
        Source,
        snapshot::SnapshotSource,
        xds::{XdsClient, XdsOptions},
    },
    identity::{Identities, SecretSource},
    resolve::{Names, Readiness},
    runtime::{Resolve, SideCall},
};

/// The targets in use, in the order in which they came.
#[derive(Default)]
pub(super) struct Targets {
    last: AtomicU64,
    in_use: Mutex<BTreeMap<u64, Weak<dyn Readiness>>>,
}

/// A target's place among those in use, which it has until this is dropped. Does not keep the
/// mesh alive.
// Hidden as `Mesh::register` is.
#[doc(hidden)]
#[must_use = "the target counts among those in use until this is dropped"]
pub struct Registration {
    number: u64,
    targets: Weak<Targets>,
}

/// What carries requests for a mesh: connections and the calls the mesh makes for itself.
/// `mesh-hyper` is one.
///
/// Who writes another finds its wiring in the source of [`Mesh`], as `plane`, `source` and
/// `register`, and that of a server's connections in the source of [`Connections`](crate::connections::Connections). It is left out
/// of these pages: a service has no use for it.
pub trait Plane: Any + fmt::Debug + Send + Sync {
    /// The calls that the mesh makes for itself.
    fn side_calls(&self) -> Arc<dyn SideCall>;
}

/// What a plane is made from: the parts of a mesh that do not keep it alive.
#[derive(Debug)]
pub struct PlaneSeed<'a> {
    /// How the mesh behaves.
    pub options: &'a Options,
    /// The certificates and the trust of the process.
    pub identities: &'a Identities,
    /// Where calls to clusters are counted whose load is reported.
    pub loads: &'a Loads,
}

impl Mesh {
    /// The plane of type `P`, made on first use.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn plane<P: Plane>(&self, make: impl FnOnce(PlaneSeed<'_>) -> P) -> Arc<P> {
        let mut planes = self.0.planes.lock();
        let plane = planes.entry(TypeId::of::<P>()).or_insert_with(|| {
            let plane = make(PlaneSeed {
                options: &self.0.options,
                identities: &self.0.identities,
                loads: &self.0.loads,
            });
            self.0.calls.provide(self.side_calls(&plane));
            Arc::new(plane)
        });
        let any: Arc<dyn Any + Send + Sync> = Arc::clone(plane) as _;
        any.downcast().expect("planes are kept by their type")
    }

    /// Where configuration comes from: what [`MeshBuilder::source`] gave, else the control planes
    /// of the bootstrap, reached through `plane`.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn source(&self, plane: &dyn Plane) -> Arc<dyn Source> {
        let source = self.enter(|| self.source_of_resources(plane));
        if let Some(crypto) = self.0.identities.crypto() {
            let secrets = SecretSource::new(Arc::clone(&source), Arc::clone(crypto));
            self.0.identities.provide_secrets(Arc::new(secrets));
        }
        source
    }

    /// Starts something in the runtime in which the mesh was built, wherever this is called.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn enter<T>(&self, start: impl FnOnce() -> T) -> T {
        let _entered = self.0.runtime.enter();
        start()
    }

    /// The names that clusters are looked up by: by what [`MeshBuilder::resolver`] gave, else by what
    /// `system` makes.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn names(&self, system: impl FnOnce() -> Arc<dyn Resolve>) -> Names {
        let names = self.0.names.get_or_init(|| {
            let given = self.0.given_resolver.clone();
            Names::new(given.unwrap_or_else(system))
        });
        names.clone()
    }

    fn side_calls(&self, plane: &dyn Plane) -> Arc<dyn SideCall> {
        let given = self.0.given_calls.clone();
        given.unwrap_or_else(|| plane.side_calls())
    }

    fn source_of_resources(&self, plane: &dyn Plane) -> Arc<dyn Source> {
        if let Some(source) = &self.0.given_source {
            return Arc::clone(source);
        }
        let xds = self.0.xds.get_or_init(|| {
            let options = XdsOptions {
                resource_timeout: self.0.options.resource_timeout,
                max_message: self.0.options.max_config_message,
                ..XdsOptions::default()
            };
            let decoder = Arc::clone(&self.0.decoder);
            let bootstrap = Arc::clone(&self.0.bootstrap);
            let client = XdsClient::new(
                Arc::clone(&bootstrap),
                Arc::clone(&decoder) as _,
                self.side_calls(plane),
                options.clone(),
            );
            client.report_loads(&self.0.loads, self.side_calls(plane), &options);
            match self.0.snapshot.clone() {
                Some(store) => Xds::Saved(SnapshotSource::new(bootstrap, decoder, store, client)),
                None => Xds::Live(client),
            }
        });
        match xds {
            Xds::Live(client) => Arc::clone(client) as _,
            Xds::Saved(source) => Arc::clone(source) as _,
        }
    }

    /// Counts `target` among those in use.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn register(&self, target: Weak<dyn Readiness>) -> Registration {
        let targets = &self.0.targets;
        let number = targets.last.fetch_add(1, Ordering::Relaxed);
        targets.in_use.lock().insert(number, target);
        Registration {
            number,
            targets: Arc::downgrade(targets),
        }
    }

    pub(super) fn live_targets(&self) -> Vec<Arc<dyn Readiness>> {
        let in_use = self.0.targets.in_use.lock();
        in_use.values().filter_map(Weak::upgrade).collect()
    }
}

// === impl Registration ===

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(targets) = self.targets.upgrade() {
            targets.in_use.lock().remove(&self.number);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({})", self.number)
    }
}
