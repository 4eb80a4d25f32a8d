//! What a resource refers to: whatever has to be there, too, for it to be of use.

use std::{collections::HashMap, fmt::Write as _};

use super::{
    error::Position,
    tree::{Key, Node, Value, same},
};
use crate::config::{
    CaSource, Discovery, DownstreamTls, HttpManager, IdentitySource, Kind, Resource, ResourceId,
    RouteAction, RouteConfig, RouteSource, UpstreamTls,
};

/// Steps that a path may have: more than any resource needs.
const MAX_DEPTH: usize = 64;

/// Another resource that one refers to, and where it says so.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reference {
    pub(super) to: ResourceId,
    pub(super) at: Position,
    pub(super) field: String,
}

/// What `resource` refers to, each once; `node` is what it was read from.
pub(super) fn references(resource: &Resource, node: &Node) -> Vec<Reference> {
    let mut names = Vec::new();
    match resource {
        Resource::Listener(listener) => of_manager(&listener.http, &mut names),
        Resource::ServerListener(listener) => {
            for chain in listener.chains.iter().chain(&listener.default_chain) {
                of_manager(&chain.http, &mut names);
                if let Some(tls) = &chain.tls {
                    of_downstream(tls, &mut names);
                }
            }
        }
        Resource::Route(routes) => of_routes(routes, &mut names),
        Resource::Cluster(cluster) => {
            match &cluster.discovery {
                Discovery::Eds(name) => names.push(ResourceId::new(Kind::Endpoints, name.clone())),
                Discovery::Aggregate(leaves) => names.extend(
                    leaves
                        .iter()
                        .map(|name| ResourceId::new(Kind::Cluster, name.clone())),
                ),
                Discovery::Static(_) | Discovery::Dns(_) => {}
            }
            if let Some(tls) = &cluster.tls {
                of_upstream(tls, &mut names);
            }
        }
        Resource::Endpoints(_) | Resource::Secret(_) => {}
    }
    names.sort();
    names.dedup();
    let mut places = Places::of(&names);
    places.find(node, &mut Vec::new());
    let place = |to: ResourceId| match places.found.remove(&to) {
        Some((at, field)) => Reference { to, at, field },
        // One that is implied, such as endpoints by the name of their cluster.
        None => Reference {
            to,
            at: node.at,
            field: String::new(),
        },
    };
    names.iter().cloned().map(place).collect()
}

fn of_manager(manager: &HttpManager, names: &mut Vec<ResourceId>) {
    match &manager.routes {
        RouteSource::Named(name) => names.push(ResourceId::new(Kind::Route, name.clone())),
        RouteSource::Inline(routes) => of_routes(routes, names),
    }
}

fn of_routes(routes: &RouteConfig, names: &mut Vec<ResourceId>) {
    let routes = routes.virtual_hosts.iter().flat_map(|host| &host.routes);
    for route in routes {
        if let RouteAction::Forward(forward) = &route.action {
            let clusters = forward.clusters.iter();
            names.extend(clusters.map(|to| ResourceId::new(Kind::Cluster, to.name.clone())));
        }
    }
}

fn of_upstream(tls: &UpstreamTls, names: &mut Vec<ResourceId>) {
    of_roots(Some(&tls.roots), names);
    of_identity(tls.identity.as_ref(), names);
}

fn of_downstream(tls: &DownstreamTls, names: &mut Vec<ResourceId>) {
    of_roots(tls.roots.as_ref(), names);
    of_identity(Some(&tls.identity), names);
}

fn of_roots(roots: Option<&CaSource>, names: &mut Vec<ResourceId>) {
    if let Some(CaSource::Secret(name)) = roots {
        names.push(ResourceId::new(Kind::Secret, name.clone()));
    }
}

fn of_identity(identity: Option<&IdentitySource>, names: &mut Vec<ResourceId>) {
    if let Some(IdentitySource::Secret(name)) = identity {
        names.push(ResourceId::new(Kind::Secret, name.clone()));
    }
}

/// One step of the way to a field.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Where in a file names of resources are.
struct Places<'a> {
    wanted: HashMap<&'a str, Vec<&'a ResourceId>>,
    /// The first field that refers to it.
    found: HashMap<ResourceId, (Position, String)>,
}

impl<'a> Places<'a> {
    fn of(ids: &'a [ResourceId]) -> Self {
        let mut wanted = HashMap::<_, Vec<_>>::new();
        for id in ids {
            wanted.entry(&*id.name).or_default().push(id);
        }
        Self {
            wanted,
            found: HashMap::new(),
        }
    }

    /// Looks through `node`, to which `path` leads.
    fn find<'n>(&mut self, node: &'n Node, path: &mut Vec<Step<'n>>) {
        if path.len() > MAX_DEPTH {
            return;
        }
        match &node.value {
            Value::Text(text) => {
                let ids = self.wanted.get(&**text).into_iter().flatten();
                for &id in ids.filter(|id| refers(id.kind, path)) {
                    if !self.found.contains_key(id) {
                        self.found.insert(id.clone(), (node.at, joined(path)));
                    }
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(Step::Index(index));
                    self.find(item, path);
                    path.pop();
                }
            }
            Value::Map(entries) => {
                for (Key { text, .. }, value) in entries.iter() {
                    path.push(Step::Key(text));
                    self.find(value, path);
                    path.pop();
                }
            }
            _ => {}
        }
    }
}

/// Whether the field at the end of `path` names a resource of `kind`.
fn refers(kind: Kind, path: &[Step<'_>]) -> bool {
    let ends = |wanted: &[&str]| {
        let keys = path.iter().rev().filter_map(|step| match step {
            Step::Key(key) => Some(*key),
            Step::Index(_) => None,
        });
        let mut wanted = wanted.iter().rev();
        keys.zip(wanted.by_ref()).all(|(key, name)| same(key, name)) && wanted.next().is_none()
    };
    match kind {
        Kind::Listener => false,
        Kind::Route => ends(&["rds", "route_config_name"]),
        Kind::Cluster => {
            ends(&["route", "cluster"])
                || ends(&["weighted_clusters", "clusters", "name"])
                // Of an aggregate.
                || ends(&["typed_config", "clusters"])
        }
        Kind::Endpoints => ends(&["eds_cluster_config", "service_name"]),
        Kind::Secret => {
            ends(&["tls_certificate_sds_secret_configs", "name"])
                || ends(&["validation_context_sds_secret_config", "name"])
        }
    }
}

fn joined(path: &[Step<'_>]) -> String {
    let mut joined = String::new();
    for step in path {
        match step {
            Step::Key(key) if joined.is_empty() => joined.push_str(key),
            Step::Key(key) => {
                joined.push('.');
                joined.push_str(key);
            }
            Step::Index(index) => {
                write!(joined, "[{index}]").expect("text takes anything");
            }
        }
    }
    joined
}
