//! The resources that the fake serves: layers by node, versions by type.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use envoy_types::pb::google::protobuf::Any;

use super::{
    Corruption,
    render::{self, type_url},
    server::ServerState,
    service::ServiceState,
};
use crate::config::Kind;

/// Whose configuration: everybody's, or that of one node.
pub(super) type Scope = Option<Arc<str>>;

/// All resources. Each change has a number, and a type's version is the last that touched it.
#[derive(Debug, Default)]
pub(super) struct Store {
    revision: u64,
    shared: Layer,
    views: HashMap<Arc<str>, Layer>,
}

#[derive(Debug, Default)]
pub(super) struct Layer {
    services: BTreeMap<String, Published<ServiceState>>,
    servers: BTreeMap<SocketAddr, Published<ServerState>>,
    types: BTreeMap<String, Resources>,
}

/// Resources with their names.
pub(super) type Rendered = Vec<(Kind, String, Any)>;

/// Something described, a service or a server, and the resources that it became.
#[derive(Debug)]
pub(super) struct Published<S> {
    state: S,
    resources: BTreeSet<(Kind, String)>,
}

/// What the store keeps as it was described, to be edited later.
pub(super) trait Described: Clone + Default {
    /// What it is known by.
    type Key: Clone + Ord;

    fn render(&self, key: &Self::Key) -> Rendered;
    fn kept(layer: &Layer) -> &BTreeMap<Self::Key, Published<Self>>;
    fn kept_mut(layer: &mut Layer) -> &mut BTreeMap<Self::Key, Published<Self>>;
}

#[derive(Debug, Default)]
struct Resources {
    version: u64,
    by_name: BTreeMap<String, Slot>,
}

/// One resource of one layer.
#[derive(Debug, Default)]
struct Slot {
    /// The number of the last change.
    version: u64,
    /// `None` in a node's layer hides the resource that all others see.
    content: Option<Arc<Any>>,
    /// What is sent in its place.
    corrupted: Option<Vec<Arc<Any>>>,
}

/// Resources by name, each with its version and what is sent of it.
pub(super) type Versioned = BTreeMap<String, (u64, Vec<Arc<Any>>)>;

/// What a change touched.
#[derive(Debug, Clone, Default)]
pub(super) struct Changed {
    /// Its number.
    pub(super) revision: u64,
    /// The type URLs of which resources changed.
    pub(super) types: BTreeSet<String>,
}

/// Which resources of a type are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Names<'a> {
    All,
    These(&'a BTreeSet<String>),
}

impl Store {
    /// The version of a type as a node sees it; 0 if there never was a resource of it.
    pub(super) fn version(&self, node: &str, url: &str) -> u64 {
        self.layers_for(node)
            .filter_map(|layer| layer.types.get(url))
            .map(|resources| resources.version)
            .max()
            .unwrap_or(0)
    }

    /// What a node is sent of a type, by name. Names that do not exist are not in it.
    pub(super) fn served(&self, node: &str, url: &str, names: Names<'_>) -> Vec<Arc<Any>> {
        let layers: Vec<_> = self
            .layers_for(node)
            .filter_map(|layer| Some(&layer.types.get(url)?.by_name))
            .collect();
        let slots = |name: &str| {
            let slot = layers.iter().find_map(|by_name| by_name.get(name));
            slot.map_or_else(Vec::new, Slot::served)
        };
        match names {
            Names::These(names) => names.iter().flat_map(|name| slots(name)).collect(),
            Names::All => {
                let all: BTreeSet<_> = layers.iter().flat_map(|by_name| by_name.keys()).collect();
                all.into_iter().flat_map(|name| slots(name)).collect()
            }
        }
    }

    /// The same with the versions that resources have of their own. One that does not exist, or
    /// no longer, is not in it.
    pub(super) fn versioned(&self, node: &str, url: &str, names: Names<'_>) -> Versioned {
        let layers: Vec<_> = self
            .layers_for(node)
            .filter_map(|layer| Some(&layer.types.get(url)?.by_name))
            .collect();
        let find = |name: &String| {
            let slot = layers.iter().find_map(|by_name| by_name.get(name))?;
            slot.content.as_ref()?;
            Some((name.clone(), (slot.version, slot.served())))
        };
        match names {
            Names::These(names) => names.iter().filter_map(find).collect(),
            Names::All => {
                let all = layers.iter().flat_map(|by_name| by_name.keys());
                all.filter_map(find).collect()
            }
        }
    }

    /// A service or server as this scope has it; a node that has none of its own starts with
    /// everybody's.
    pub(super) fn described<S: Described>(&self, scope: &Scope, key: &S::Key) -> S {
        let own = self.layer(scope).and_then(|own| S::kept(own).get(key));
        own.or_else(|| S::kept(&self.shared).get(key))
            .map(|published| published.state.clone())
            .unwrap_or_default()
    }

    /// Takes over a service or server: its resources are put, those it no longer has are removed.
    pub(super) fn publish<S: Described>(
        &mut self,
        scope: &Scope,
        key: &S::Key,
        state: S,
    ) -> Changed {
        let rendered = state.render(key);
        let resources = rendered
            .iter()
            .map(|(kind, name, _)| (*kind, name.clone()))
            .collect();
        let published = Published { state, resources };
        self.change(scope, |edit| {
            let gone = S::kept_mut(edit.layer).remove(key).map(|old| old.resources);
            for (kind, old) in gone.iter().flatten() {
                if !published.resources.contains(&(*kind, old.clone())) {
                    edit.remove(type_url(*kind), old);
                }
            }
            for (kind, name, any) in rendered {
                edit.put(type_url(kind), name, any);
            }
            S::kept_mut(edit.layer).insert(key.clone(), published);
        })
    }

    /// Forgets a service or server and removes its resources.
    pub(super) fn retract<S: Described>(&mut self, scope: &Scope, key: &S::Key) -> Changed {
        // A node's layer may know it only as everybody's: hide that one.
        let shared = S::kept(&self.shared).get(key);
        let shared = shared.map(|published| published.resources.clone());
        self.change(scope, |edit| {
            let own = S::kept_mut(edit.layer).remove(key).map(|own| own.resources);
            for (kind, name) in own.or(shared).iter().flatten() {
                edit.remove(type_url(*kind), name);
            }
        })
    }

    /// Puts one resource.
    pub(super) fn put(&mut self, scope: &Scope, url: &str, name: String, any: Any) -> Changed {
        self.change(scope, |edit| edit.put(url, name, any))
    }

    /// Removes one resource.
    pub(super) fn remove(&mut self, scope: &Scope, url: &str, name: &str) -> Changed {
        self.change(scope, |edit| edit.remove(url, name))
    }

    /// Sends something else in place of a resource; no corruption ends that. `None`: there is no
    /// such resource.
    pub(super) fn corrupt(
        &mut self,
        scope: &Scope,
        url: &str,
        name: &str,
        corruption: Option<Corruption>,
    ) -> Option<Changed> {
        let find = |layer: &Layer| layer.types.get(url)?.by_name.get(name)?.content.clone();
        // A node's layer corrupts its own copy of what all others see.
        let own = self.layer(scope).and_then(find);
        let content = own.or_else(|| find(&self.shared))?;
        Some(self.change(scope, |edit| {
            let version = edit.revision;
            let slot = edit.slot(url, name);
            slot.version = version;
            slot.corrupted = corruption.map(|corruption| corruption.of(&content));
            slot.content = Some(content);
            edit.changed.insert(url.to_owned());
        }))
    }

    fn change(&mut self, scope: &Scope, change: impl FnOnce(&mut Edit<'_>)) -> Changed {
        let mut edit = Edit {
            hides: scope.is_some(),
            revision: self.revision + 1,
            layer: match scope {
                None => &mut self.shared,
                Some(node) => self.views.entry(Arc::clone(node)).or_default(),
            },
            changed: BTreeSet::new(),
        };
        change(&mut edit);
        let Edit { layer, changed, .. } = edit;
        if !changed.is_empty() {
            self.revision += 1;
        }
        for url in &changed {
            if let Some(resources) = layer.types.get_mut(url) {
                resources.version = self.revision;
            }
        }
        Changed {
            revision: self.revision,
            types: changed,
        }
    }

    fn layer(&self, scope: &Scope) -> Option<&Layer> {
        match scope {
            None => Some(&self.shared),
            Some(node) => self.views.get(node),
        }
    }

    /// The layers that a node sees, most specific first.
    fn layers_for(&self, node: &str) -> impl Iterator<Item = &Layer> {
        self.views.get(node).into_iter().chain([&self.shared])
    }
}

// === impl Described ===

impl Described for ServiceState {
    type Key = String;

    fn render(&self, name: &String) -> Rendered {
        render::service(name, self)
    }

    fn kept(layer: &Layer) -> &BTreeMap<String, Published<Self>> {
        &layer.services
    }

    fn kept_mut(layer: &mut Layer) -> &mut BTreeMap<String, Published<Self>> {
        &mut layer.services
    }
}

impl Described for ServerState {
    type Key = SocketAddr;

    fn render(&self, address: &SocketAddr) -> Rendered {
        render::server(&render::server_listener_name(*address), *address, self)
    }

    fn kept(layer: &Layer) -> &BTreeMap<SocketAddr, Published<Self>> {
        &layer.servers
    }

    fn kept_mut(layer: &mut Layer) -> &mut BTreeMap<SocketAddr, Published<Self>> {
        &mut layer.servers
    }
}

/// A change of one layer in progress.
struct Edit<'a> {
    layer: &'a mut Layer,
    /// A removed resource must hide one that the layer below may have.
    hides: bool,
    /// The number of this change.
    revision: u64,
    changed: BTreeSet<String>,
}

impl Edit<'_> {
    fn put(&mut self, url: &str, name: String, any: Any) {
        let version = self.revision;
        let slot = self.slot(url, &name);
        if slot.content.as_deref() != Some(&any) {
            *slot = Slot {
                version,
                content: Some(Arc::new(any)),
                corrupted: None,
            };
            self.changed.insert(url.to_owned());
        }
    }

    fn remove(&mut self, url: &str, name: &str) {
        if self.hides {
            *self.slot(url, name) = Slot::default();
            self.changed.insert(url.to_owned());
        } else if let Some(resources) = self.layer.types.get_mut(url)
            && resources.by_name.remove(name).is_some()
        {
            self.changed.insert(url.to_owned());
        }
    }

    fn slot(&mut self, url: &str, name: &str) -> &mut Slot {
        let resources = self.layer.types.entry(url.to_owned()).or_default();
        resources.by_name.entry(name.to_owned()).or_default()
    }
}

impl Slot {
    fn served(&self) -> Vec<Arc<Any>> {
        match &self.corrupted {
            Some(corrupted) => corrupted.clone(),
            None => self.content.iter().cloned().collect(),
        }
    }
}

impl Corruption {
    fn of(self, content: &Any) -> Vec<Arc<Any>> {
        let mut any = content.clone();
        match self {
            Corruption::Duplicated => {
                let any = Arc::new(any);
                return vec![Arc::clone(&any), any];
            }
            // Whatever the last field is, without its last byte it is incomplete.
            Corruption::Truncated => any.value.truncate(any.value.len().saturating_sub(1)),
            Corruption::WrongType => {
                let url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
                any.type_url = url.to_owned();
            }
        }
        vec![Arc::new(any)]
    }
}
