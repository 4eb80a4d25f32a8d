use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::{Semantics, scratch::fold};
use crate::config::{Domain, RouteConfig};

type Hosts = HashMap<Box<[u8]>, usize, FxBuildHasher>;

/// The number of the virtual host that answers to `authority`: exact, else the longest suffix,
/// else the longest prefix, else any; ASCII case is ignored, a wildcard stands for at least one
/// character, and the first of equals wins (gRFC A28, and Envoy).
///
/// Under HTTP semantics without its port, if the configuration says so.
///
/// Looks at every domain: for one look per snapshot. [`HostTable`] gives the same answer faster.
pub fn virtual_host(semantics: Semantics, config: &RouteConfig, authority: &str) -> Option<usize> {
    let authority = match ignores_port(semantics, config) {
        true => without_port(authority).unwrap_or(authority),
        false => authority,
    };
    let authority = authority.as_bytes();
    let mut best = None;
    for (number, host) in config.virtual_hosts.iter().enumerate() {
        for domain in &host.domains {
            if let Some(rank) = rank(domain, authority)
                && best.is_none_or(|(other, _)| rank > other)
            {
                best = Some((rank, number));
            }
        }
    }
    best.map(|(_, number)| number)
}

fn ignores_port(semantics: Semantics, config: &RouteConfig) -> bool {
    semantics == Semantics::Http && config.ignore_port
}

/// An authority before its last colon. `None`: there is none, or it is part of an IPv6 address.
pub(crate) fn without_port(authority: &str) -> Option<&str> {
    let (host, port) = authority.rsplit_once(':')?;
    (!port.contains(']')).then_some(host)
}

/// How well `domain` matches: its kind, then its length. `None`: not at all.
fn rank(domain: &Domain, authority: &[u8]) -> Option<(u8, usize)> {
    let longer_than = |fixed: &str| authority.len() > fixed.len();
    let (kind, fixed, matches) = match domain {
        Domain::Exact(name) => (3, name, authority.eq_ignore_ascii_case(name.as_bytes())),
        Domain::Suffix(end) => {
            let matches = longer_than(end)
                && authority[authority.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes());
            (2, end, matches)
        }
        Domain::Prefix(start) => {
            let matches = longer_than(start)
                && authority[..start.len()].eq_ignore_ascii_case(start.as_bytes());
            (1, start, matches)
        }
        Domain::Any => return Some((0, 0)),
    };
    matches.then_some((kind, fixed.len()))
}

/// The domains of a [`RouteConfig`], compiled for a look per request: one probe for an exact
/// name, and one per distinct length of suffixes and of prefixes.
#[derive(Debug, Default)]
pub struct HostTable {
    exact: Hosts,
    suffixes: Affixes,
    prefixes: Affixes,
    any: Option<usize>,
    /// There is no other domain, as in most servers.
    only_any: bool,
    ignores_port: bool,
}

/// Suffixes or prefixes.
#[derive(Debug, Default)]
struct Affixes {
    /// Their distinct lengths, longest first.
    lengths: Vec<usize>,
    hosts: Hosts,
}

// === impl HostTable ===

impl HostTable {
    /// Compiles the domains of `config`.
    pub fn compile(semantics: Semantics, config: &RouteConfig) -> Self {
        let mut table = Self {
            ignores_port: ignores_port(semantics, config),
            ..Self::default()
        };
        for (number, host) in config.virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                match domain {
                    Domain::Exact(name) => insert(&mut table.exact, name, number),
                    Domain::Suffix(end) => table.suffixes.insert(end, number),
                    Domain::Prefix(start) => table.prefixes.insert(start, number),
                    Domain::Any => {
                        table.any.get_or_insert(number);
                    }
                }
            }
        }
        table.only_any = table.exact.is_empty()
            && table.suffixes.lengths.is_empty()
            && table.prefixes.lengths.is_empty();
        table
    }

    /// The number of the virtual host that answers to `authority`; see [`virtual_host`].
    #[inline]
    pub fn find(&self, authority: &str) -> Option<usize> {
        match self.only_any {
            true => self.any,
            false => self.find_named(authority),
        }
    }

    fn find_named(&self, authority: &str) -> Option<usize> {
        let authority = match self.ignores_port {
            true => without_port(authority).unwrap_or(authority),
            false => authority,
        };
        let mut room = None;
        let host = fold(authority.as_bytes(), &mut room);
        self.exact
            .get(host)
            .copied()
            .or_else(|| self.suffixes.find(host, |len| &host[host.len() - len..]))
            .or_else(|| self.prefixes.find(host, |len| &host[..len]))
            .or(self.any)
    }
}

// === impl Affixes ===

impl Affixes {
    fn insert(&mut self, affix: &str, number: usize) {
        insert(&mut self.hosts, affix, number);
        if let Err(at) = self.lengths.binary_search_by(|len| affix.len().cmp(len)) {
            self.lengths.insert(at, affix.len());
        }
    }

    fn find<'a>(&self, host: &[u8], affix: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
        self.lengths
            .iter()
            .filter(|&&len| len < host.len())
            .find_map(|&len| self.hosts.get(affix(len)).copied())
    }
}

/// The first of equals wins.
fn insert(hosts: &mut Hosts, name: &str, number: usize) {
    hosts.entry(name.as_bytes().into()).or_insert(number);
}

#[cfg(test)]
mod tests;
