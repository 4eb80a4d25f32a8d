//! A route configuration by what has changed since the last one: of a thousand routes of which one
//! changes, one is decoded.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use envoy_types::pb::envoy::config::route::v3::{
    Route as WireRoute, RouteConfiguration, VirtualHost as WireHost,
};
use prost::Message;
use rustc_hash::FxBuildHasher;

use super::{
    Context, Message as Table,
    direct_response::DEFAULT_MAX_BODY,
    limits::Limit,
    retry::retry,
    route::{Inherited, route, virtual_host},
    route_fields::{ROUTE, VIRTUAL_HOST},
    wire::{self, Reader, Value},
};
use crate::config::{Route, RouteConfig, VirtualHost};

/// Number of the virtual hosts in a route configuration.
const VIRTUAL_HOSTS: u32 = 2;
/// Number of the name in a virtual host.
const NAME: u32 = 1;
/// Number of the routes in a virtual host.
const ROUTES: u32 = 3;

/// Looks at a message of a kind, so many levels inside the resource, before it is decoded. `None`: it
/// is not to be decoded here.
pub(super) type Look<'a> = &'a mut dyn FnMut(usize, &'static Table, &[u8]) -> Option<()>;

/// Decodes `new` with what it has in common with `old`, which was decoded as `earlier` without a
/// finding. `cx` counts on from there, and `look` sees what is new.
///
/// `None` where little is in common, or anything is wrong: what is to be said of that, only a decoder
/// that looks at everything knows.
pub(super) fn decode(
    new: &[u8],
    old: &[u8],
    earlier: &RouteConfig,
    look: Look<'_>,
    cx: &mut Context<'_>,
) -> Option<RouteConfig> {
    let old = Split::of(old, VIRTUAL_HOSTS, earlier.virtual_hosts.len())?;
    let new = Split::of(new, VIRTUAL_HOSTS, old.parts.len())?;
    // What all routes depend on, such as the most that a body may have.
    if new.own != old.own || old.parts.len() != earlier.virtual_hosts.len() {
        return None;
    }
    cx.count(Limit::VirtualHosts, new.parts.len()).ok()?;
    let known = Known::new(&new.parts, &old.parts, |host| {
        wire::string(host, NAME).unwrap_or_default().as_bytes()
    });
    let mut virtual_hosts = Vec::with_capacity(new.parts.len());
    for (index, bytes) in new.parts.iter().enumerate() {
        let before = known.find(index, bytes).map(|at| HostBefore {
            bytes: old.parts[at],
            host: &earlier.virtual_hosts[at],
            config: &new.own,
        });
        let host = match before {
            Some(before) => before.decode(index, bytes, look, cx)?,
            None => None,
        };
        virtual_hosts.push(match host {
            Some(host) => host,
            None => {
                look(1, &VIRTUAL_HOST, bytes)?;
                let wire = WireHost::decode(*bytes).ok()?;
                let max_body = max_body(&new.own)?;
                let host = cx.index("virtual_hosts", index, |cx| {
                    virtual_host(wire, max_body, cx)
                });
                host.ok()?
            }
        });
    }
    let mut seen = HashSet::with_hasher(FxBuildHasher);
    let mut domains = virtual_hosts.iter().flat_map(|host| &host.domains);
    if !domains.all(|domain| seen.insert(domain)) {
        return None;
    }
    Some(RouteConfig {
        virtual_hosts,
        name: Arc::clone(&earlier.name),
        headers: earlier.headers.clone(),
        most_specific_wins: earlier.most_specific_wins,
        ignore_port: earlier.ignore_port,
    })
}

/// A virtual host as it was.
struct HostBefore<'a> {
    bytes: &'a [u8],
    host: &'a VirtualHost,
    /// What the configuration says beside its virtual hosts.
    config: &'a [u8],
}

/// A message, and in it the parts of one repeated field.
struct Split<'a> {
    /// All other fields.
    own: Vec<u8>,
    parts: Vec<&'a [u8]>,
}

/// Where parts of a message are in an older one.
struct Known<'a> {
    /// How many are the same at the beginning.
    first: usize,
    /// Of what follows, how many are new, and how many were there.
    middle: [usize; 2],
    /// The old ones of the middle, by their key.
    by_key: HashMap<&'a [u8], usize, FxBuildHasher>,
    key: fn(&'a [u8]) -> &'a [u8],
}

// === impl HostBefore ===

impl HostBefore<'_> {
    /// The virtual host as it is now. `Some(None)`: nothing can be taken from what it was.
    fn decode(
        &self,
        index: usize,
        bytes: &[u8],
        look: Look<'_>,
        cx: &mut Context<'_>,
    ) -> Option<Option<VirtualHost>> {
        if bytes == self.bytes {
            cx.count(Limit::Domains, self.host.domains.len()).ok()?;
            cx.count(Limit::Routes, self.host.routes.len()).ok()?;
            return Some(Some(self.host.clone()));
        }
        let old = Split::of(self.bytes, ROUTES, self.host.routes.len())?;
        let new = Split::of(bytes, ROUTES, old.parts.len())?;
        // What its routes depend on: retries, for one.
        if new.own != old.own || old.parts.len() != self.host.routes.len() {
            return Some(None);
        }
        cx.count(Limit::Domains, self.host.domains.len()).ok()?;
        cx.count(Limit::Routes, new.parts.len()).ok()?;
        let known = Known::new(&new.parts, &old.parts, |route| route);
        let mut inherited = None;
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(new.parts.len());
        for (at, bytes) in new.parts.iter().enumerate() {
            if let Some(before) = known.find(at, bytes) {
                routes.push(Arc::clone(&self.host.routes[before]));
                continue;
            }
            look(2, &ROUTE, bytes)?;
            let wire = WireRoute::decode(*bytes).ok()?;
            if inherited.is_none() {
                inherited = Some(self.inherited(&new.own, cx)?);
            }
            let inherited = inherited.as_ref()?;
            let decoded = cx.index("virtual_hosts", index, |cx| {
                cx.index("routes", at, |cx| route(wire, inherited, cx))
            });
            routes.extend(decoded.ok()?.map(Arc::new));
        }
        Some(Some(VirtualHost {
            routes,
            name: Arc::clone(&self.host.name),
            domains: self.host.domains.clone(),
            overrides: self.host.overrides.clone(),
            headers: self.host.headers.clone(),
        }))
    }

    fn inherited(&self, own: &[u8], cx: &mut Context<'_>) -> Option<Inherited> {
        let WireHost { retry_policy, .. } = WireHost::decode(own).ok()?;
        let retry = match retry_policy {
            Some(wire) => retry(wire, cx).ok()?,
            None => None,
        };
        let max_body = max_body(self.config)?;
        Some(Inherited { retry, max_body })
    }
}

fn max_body(config: &[u8]) -> Option<u32> {
    let RouteConfiguration {
        max_direct_response_body_size_bytes,
        ..
    } = RouteConfiguration::decode(config).ok()?;
    Some(max_direct_response_body_size_bytes.map_or(DEFAULT_MAX_BODY, |most| most.value))
}

// === impl Split ===

impl<'a> Split<'a> {
    /// `message`, which has about `expected` parts in the repeated field `number`.
    fn of(message: &'a [u8], number: u32, expected: usize) -> Option<Self> {
        let mut split = Self {
            own: Vec::new(),
            parts: Vec::with_capacity(expected),
        };
        let mut reader = Reader::new(message);
        let mut rest = reader.rest();
        while let Some(field) = reader.next() {
            match field.ok()? {
                (at, Value::Bytes(part)) if at == number => split.parts.push(part),
                _ => split.own.extend(&rest[..rest.len() - reader.rest().len()]),
            }
            rest = reader.rest();
        }
        Some(split)
    }
}

// === impl Known ===

impl<'a> Known<'a> {
    /// Looks for parts of `new` in `old`: those between what is the same at the beginning and at the
    /// end go by `key`, which what is the same has in common.
    fn new(new: &[&'a [u8]], old: &[&'a [u8]], key: fn(&'a [u8]) -> &'a [u8]) -> Self {
        let same = |(a, b): &(&&[u8], &&[u8])| a == b;
        let first = new.iter().zip(old).take_while(same).count();
        let (new, old) = (&new[first..], &old[first..]);
        let last = new.iter().rev().zip(old.iter().rev());
        let last = last.take_while(same).count();
        let middle = [new.len() - last, old.len() - last];
        let by_key = match middle[0] {
            0 => HashMap::default(),
            _ => {
                let old = old[..middle[1]].iter().enumerate();
                old.map(|(at, part)| (key(part), first + at)).collect()
            }
        };
        Self {
            first,
            middle,
            by_key,
            key,
        }
    }

    /// Where `part`, which has this index now, was.
    fn find(&self, index: usize, part: &'a [u8]) -> Option<usize> {
        let [new, old] = self.middle;
        if index < self.first {
            Some(index)
        } else if index < self.first + new {
            self.by_key.get((self.key)(part)).copied()
        } else {
            Some(index - new + old)
        }
    }
}

#[cfg(test)]
mod tests;
