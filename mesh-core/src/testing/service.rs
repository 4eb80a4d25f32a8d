//! What the fake knows of a service: plain data that the builder edits and `render` reads.

use std::{collections::BTreeMap, time::Duration};

use envoy_types::pb::google::protobuf::Any;

use super::{
    Tls,
    parts::{Endpoint, Fault, Origin, Picking, Route, RoutePolicy},
};
use crate::config::{Address, HttpProtocol, LocalityId};

/// A service.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ServiceState {
    /// In the order in which they were first named.
    pub(super) versions: Vec<VersionState>,
    /// What was said of all versions, for those that come later: without endpoints.
    common: Option<VersionState>,
    pub(super) routes: Vec<Route>,
    pub(super) policy: RoutePolicy,
    pub(super) fault: Option<Fault>,
    /// HTTP filters besides that of `fault`, by name.
    pub(super) filters: Vec<(String, Any)>,
}

/// One version of a service: a cluster.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct VersionState {
    /// Empty for the unnamed version.
    pub(super) name: String,
    pub(super) weight: u32,
    pub(super) origin: Origin,
    pub(super) dns_refresh: Option<Duration>,
    pub(super) endpoints: Vec<EndpointState>,
    pub(super) locality_weights: BTreeMap<LocalityId, u32>,
    /// Shares of calls to drop by category, in percent.
    pub(super) drops: Vec<(String, f64)>,
    pub(super) picking: Picking,
    pub(super) max_requests: Option<u32>,
    pub(super) max_connections_per_host: Option<u32>,
    pub(super) max_connections: Option<u32>,
    pub(super) max_pending: Option<u32>,
    pub(super) max_retries: Option<u32>,
    pub(super) max_requests_per_connection: Option<u32>,
    pub(super) protocol: Option<HttpProtocol>,
    pub(super) report_load: bool,
    pub(super) endpoint_metrics: Vec<String>,
    pub(super) tls: Option<Tls>,
}

/// An endpoint and whether it takes part at the moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EndpointState {
    pub(super) endpoint: Endpoint,
    pub(super) presence: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Draining,
    Removed,
    Serving,
}

/// A service while it is edited.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) service: String,
    pub(super) state: ServiceState,
    /// The version named last.
    cursor: Option<String>,
}

impl ServiceState {
    /// A version of this name, as all are.
    fn new_version(&self, name: &str) -> VersionState {
        let common = self.common.clone();
        VersionState {
            name: name.to_owned(),
            ..common.unwrap_or_else(|| VersionState::new(name))
        }
    }
}

impl VersionState {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            weight: 1,
            origin: Origin::Eds,
            dns_refresh: None,
            endpoints: Vec::new(),
            locality_weights: BTreeMap::new(),
            drops: Vec::new(),
            picking: Picking::RoundRobin,
            max_requests: None,
            max_connections_per_host: None,
            max_connections: None,
            max_pending: None,
            max_retries: None,
            max_requests_per_connection: None,
            protocol: None,
            report_load: false,
            endpoint_metrics: Vec::new(),
            tls: None,
        }
    }

    /// Adds an endpoint, or replaces the one with its address.
    pub(super) fn put(&mut self, endpoint: Endpoint) {
        let new = EndpointState {
            endpoint,
            presence: Presence::Serving,
        };
        match self
            .endpoints
            .iter_mut()
            .find(|old| old.endpoint.address == new.endpoint.address)
        {
            Some(old) => *old = new,
            None => self.endpoints.push(new),
        }
    }
}

impl Draft {
    pub(super) fn new(service: &str, state: ServiceState) -> Self {
        Self {
            service: service.to_owned(),
            state,
            cursor: None,
        }
    }

    /// Makes `name` the version that is spoken of.
    pub(super) fn select(&mut self, name: &str) {
        if !self.state.versions.iter().any(|v| v.name == name) {
            let version = self.state.new_version(name);
            self.state.versions.push(version);
        }
        self.cursor = Some(name.to_owned());
    }

    /// Edits the version that is spoken of; if none was named, the only one there is.
    pub(super) fn one(&mut self, edit: impl FnOnce(&mut VersionState)) {
        if self.cursor.is_none() {
            match &self.state.versions[..] {
                [] => self.state.versions.push(self.state.new_version("")),
                [_] => {}
                _ => panic!(
                    "which version of {:?} is meant? Call `.version(..)` first: it has {}",
                    self.service,
                    self.version_names()
                ),
            }
        }
        let cursor = self.cursor.as_deref();
        let mut versions = self.state.versions.iter_mut();
        if let Some(version) = versions.find(|v| cursor.is_none_or(|name| v.name == name)) {
            edit(version);
        }
    }

    /// Edits the version that is spoken of; if none was named, all there are and those that come.
    pub(super) fn each(&mut self, edit: impl Fn(&mut VersionState)) {
        let cursor = self.cursor.as_deref();
        if cursor.is_none() {
            let common = self.state.common.take();
            let mut common = common.unwrap_or_else(|| VersionState::new(""));
            edit(&mut common);
            self.state.common = Some(common);
        }
        for version in &mut self.state.versions {
            if cursor.is_none_or(|name| version.name == name) {
                edit(version);
            }
        }
    }

    /// Gives the named versions these weights, and all others none.
    pub(super) fn split(&mut self, split: &[(String, u32)]) {
        self.check_versions(split);
        for version in &mut self.state.versions {
            version.weight = split
                .iter()
                .find(|(name, _)| *name == version.name)
                .map_or(0, |&(_, weight)| weight);
        }
    }

    pub(super) fn remove_version(&mut self, name: &str) {
        self.check_versions(&[(name.to_owned(), 0)]);
        self.state.versions.retain(|version| version.name != name);
        if self.cursor.as_deref() == Some(name) {
            self.cursor = None;
        }
    }

    /// Sets whether the endpoint at `address` takes part, in every version that has it.
    pub(super) fn set_presence(&mut self, address: &Address, presence: Presence) {
        let mut found = false;
        for version in &mut self.state.versions {
            for endpoint in &mut version.endpoints {
                if endpoint.endpoint.address == *address {
                    endpoint.presence = presence;
                    found = true;
                }
            }
        }
        if !found {
            let known: Vec<_> = self
                .state
                .versions
                .iter()
                .flat_map(|v| &v.endpoints)
                .map(|e| e.endpoint.address.to_string())
                .collect();
            panic!(
                "{:?} has no endpoint {address}; it has {}",
                self.service,
                known.join(", ")
            );
        }
    }

    /// The finished state.
    pub(super) fn finish(mut self) -> ServiceState {
        if self.state.versions.is_empty() && self.state.common.is_some() {
            self.state.versions.push(self.state.new_version(""));
        }
        for route in &self.state.routes {
            self.check_versions(&route.split);
        }
        self.state
    }

    fn check_versions(&self, named: &[(String, u32)]) {
        for (name, _) in named {
            assert!(
                self.state.versions.iter().any(|v| v.name == *name),
                "{:?} has no version {name:?}; it has {}",
                self.service,
                self.version_names()
            );
        }
    }

    fn version_names(&self) -> String {
        let names: Vec<_> = self
            .state
            .versions
            .iter()
            .map(|v| format!("{:?}", v.name))
            .collect();
        names.join(", ")
    }
}
