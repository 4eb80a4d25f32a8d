use std::collections::{BTreeMap, HashMap};

use rustc_hash::FxBuildHasher;

use super::scratch::{Scratch, fold};
use crate::config::PathMatcher;

/// Finds the routes whose path test a path can pass, without looking at the always.
#[derive(Debug)]
pub(crate) struct Index {
    as_written: Paths,
    /// Of routes that ignore case: their paths are lower-case, and so must the request's be.
    folded: Paths,
    /// Candidates for every path: routes with an expression or an empty prefix.
    always: Vec<usize>,
}

/// Routes by exact path and by prefix.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<[u8]>, Vec<usize>, FxBuildHasher>,
    prefixes: Prefixes,
}

/// All prefixes, in byte order. Every prefix of a path sorts before it, and anything between the
/// longest of them and the path starts with that one: so the entry just before the path leads to
/// its longest prefix, and from there to all shorter ones.
#[derive(Debug, Default)]
struct Prefixes(Vec<Prefix>);

#[derive(Debug)]
struct Prefix {
    prefix: Box<[u8]>,
    routes: Vec<usize>,
    /// The longest other prefix that this one starts with.
    shorter: Option<usize>,
}

/// Collects routes by path before they are indexed.
#[derive(Debug, Default)]
struct Builder {
    exact: HashMap<Box<[u8]>, Vec<usize>, FxBuildHasher>,
    prefixes: BTreeMap<Box<[u8]>, Vec<usize>>,
}

/// The candidates for one path in ascending order, each found when it is asked for.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    lists: [&'a [usize]; 3],
    chains: [Chain<'a>; 2],
}

/// The routes of a prefix and of all shorter ones.
#[derive(Debug)]
struct Chain<'a> {
    prefixes: &'a Prefixes,
    longest: Option<usize>,
    /// Its first route that was not yielded; [`NONE`] at the end.
    next: usize,
}

/// Greater than every route number.
const NONE: usize = usize::MAX;

// === impl Index ===

impl Index {
    pub(crate) fn compile<'a>(paths: impl Iterator<Item = &'a PathMatcher>) -> Self {
        let mut by_case = [Builder::default(), Builder::default()];
        let mut always = Vec::new();
        for (route, path) in paths.enumerate() {
            let routes = match path {
                PathMatcher::Exact { path, ignore_case } => {
                    by_case[usize::from(*ignore_case)].exact(path)
                }
                PathMatcher::Prefix { prefix, .. } if prefix.is_empty() => &mut always,
                PathMatcher::Prefix {
                    prefix,
                    ignore_case,
                } => by_case[usize::from(*ignore_case)].prefix(prefix),
                PathMatcher::Segments {
                    prefix,
                    ignore_case,
                } => {
                    // No path is both.
                    let builder = &mut by_case[usize::from(*ignore_case)];
                    builder.exact(prefix).push(route);
                    builder.prefix(&format!("{prefix}/"))
                }
                PathMatcher::Regex(_) => &mut always,
            };
            routes.push(route);
        }
        let [as_written, folded] = by_case.map(Builder::build);
        Self {
            as_written,
            folded,
            always,
        }
    }

    /// The routes to look at for `path`, lowest number first.
    pub(crate) fn candidates(&self, path: &[u8]) -> Candidates<'_> {
        let (folded_exact, folded_chain) = if self.folded.is_empty() {
            (&[][..], Chain::empty(&self.folded.prefixes))
        } else {
            let mut room: Option<Scratch> = None;
            self.folded.find(fold(path, &mut room))
        };
        let (exact, chain) = self.as_written.find(path);
        Candidates {
            lists: [exact, folded_exact, &self.always],
            chains: [chain, folded_chain],
        }
    }
}

// === impl Paths ===

impl Paths {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.0.is_empty()
    }

    fn find(&self, path: &[u8]) -> (&[usize], Chain<'_>) {
        let exact = if self.exact.is_empty() {
            None
        } else {
            self.exact.get(path)
        };
        let mut chain = Chain {
            prefixes: &self.prefixes,
            longest: self.prefixes.longest(path),
            next: NONE,
        };
        chain.next = chain.first_from(0);
        (exact.map_or(&[], Vec::as_slice), chain)
    }
}

// === impl Prefixes ===

impl Prefixes {
    /// The longest prefix of `path`.
    fn longest(&self, path: &[u8]) -> Option<usize> {
        let mut at = self
            .0
            .partition_point(|entry| *entry.prefix <= *path)
            .checked_sub(1);
        while let Some(entry) = at.map(|at| &self.0[at]) {
            if path.starts_with(&entry.prefix) {
                break;
            }
            at = entry.shorter;
        }
        at
    }
}

// === impl Builder ===

impl Builder {
    fn exact(&mut self, path: &str) -> &mut Vec<usize> {
        self.exact.entry(path.as_bytes().into()).or_default()
    }

    fn prefix(&mut self, prefix: &str) -> &mut Vec<usize> {
        self.prefixes.entry(prefix.as_bytes().into()).or_default()
    }

    fn build(self) -> Paths {
        let mut entries: Vec<Prefix> = Vec::with_capacity(self.prefixes.len());
        for (prefix, routes) in self.prefixes {
            // In byte order the entry before is the longest shorter prefix, or leads to it.
            let mut shorter = entries.len().checked_sub(1);
            while let Some(entry) = shorter.map(|at| &entries[at]) {
                if prefix.starts_with(&entry.prefix) {
                    break;
                }
                shorter = entry.shorter;
            }
            entries.push(Prefix {
                prefix,
                routes,
                shorter,
            });
        }
        Paths {
            exact: self.exact,
            prefixes: Prefixes(entries),
        }
    }
}

// === impl Candidates ===

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let mut lowest = NONE;
        for list in &self.lists {
            lowest = lowest.min(list.first().copied().unwrap_or(NONE));
        }
        for chain in &self.chains {
            lowest = lowest.min(chain.next);
        }
        if lowest == NONE {
            return None;
        }
        // A route is in one place only, so one of these steps forward.
        for list in &mut self.lists {
            if list.first() == Some(&lowest) {
                *list = &list[1..];
            }
        }
        for chain in &mut self.chains {
            if chain.next == lowest {
                chain.next = chain.first_from(lowest + 1);
            }
        }
        Some(lowest)
    }
}

// === impl Chain ===

impl<'a> Chain<'a> {
    fn empty(prefixes: &'a Prefixes) -> Self {
        Self {
            prefixes,
            longest: None,
            next: NONE,
        }
    }

    /// The lowest route of the chain that is not below `from`. Keeps no place per prefix, so any
    /// number of prefixes may match.
    fn first_from(&self, from: usize) -> usize {
        let mut lowest = NONE;
        let mut at = self.longest;
        while let Some(entry) = at.map(|at| &self.prefixes.0[at]) {
            let skipped = match entry.routes.first() {
                Some(&first) if first >= from => 0,
                _ => entry.routes.partition_point(|&route| route < from),
            };
            lowest = lowest.min(entry.routes.get(skipped).copied().unwrap_or(NONE));
            at = entry.shorter;
        }
        lowest
    }
}
