use std::borrow::Borrow;

use super::{Head, Mismatch, Semantics, Trace, header::HeaderTest, index::Index, query};
use crate::config::{Fraction, PathMatcher, QueryMatcher, Regex, Route};

/// The routes of a virtual host, compiled for one semantics.
///
/// The path is looked up, not compared: a thousand exact paths cost what ten do. Only expressions
/// are tried one by one.
#[derive(Debug)]
pub struct Table {
    semantics: Semantics,
    /// The prefix of the first route, if it asks for nothing else: in servers it is nearly always
    /// the only route and takes everything, and nothing has to be looked up.
    first: Option<Box<[u8]>>,
    index: Index,
    rules: Box<[Rule]>,
}

/// What is left to test of a route once the index has named it.
#[derive(Debug)]
struct Rule {
    /// An expression for the path; other path tests are the index's.
    path: Option<Regex>,
    headers: Box<[HeaderTest]>,
    query: Box<[QueryMatcher]>,
    fraction: Option<Fraction>,
}

/// Draws for fractions: each route its own under gRPC (gRFC A28); one for the whole request under
/// HTTP, as Envoy does, so that equal fractions of two routes take the same requests.
struct Draws<D> {
    draw: D,
    shared: Option<u32>,
}

// === impl Table ===

impl Table {
    /// Compiles `routes`, to be understood under `semantics`.
    pub fn compile<R: Borrow<Route>>(semantics: Semantics, routes: &[R]) -> Self {
        let routes = || routes.iter().map(Borrow::borrow);
        let rules: Box<[Rule]> = routes()
            .map(|route| Rule::compile(semantics, route))
            .collect();
        let first = match (routes().next(), rules.first()) {
            (Some(route), Some(rule)) if rule.is_empty() => plain_prefix(&route.matcher.path),
            _ => None,
        };
        Self {
            semantics,
            first,
            index: Index::compile(routes().map(|route| &route.matcher.path)),
            rules,
        }
    }

    /// What the requests mean.
    pub fn semantics(&self) -> Semantics {
        self.semantics
    }

    /// The number of the first route that takes the request. `trace` hears why those before it
    /// that had to be looked at did not.
    pub fn find<X: Trace>(&self, head: &Head<'_>, trace: &mut X) -> Option<usize> {
        self.find_with(head, || fastrand::u32(0..Fraction::WHOLE), trace)
    }

    /// As [`find`](Self::find), where `draw` gives uniform numbers below [`Fraction::WHOLE`]. It is
    /// asked only if a route's other tests passed and its fraction is neither none nor all.
    pub fn find_with<X: Trace>(
        &self,
        head: &Head<'_>,
        draw: impl FnMut() -> u32,
        trace: &mut X,
    ) -> Option<usize> {
        if let Some(prefix) = &self.first
            && head.path.as_bytes().starts_with(prefix)
        {
            return Some(0);
        }
        let mut draws = Draws { draw, shared: None };
        for route in self.index.candidates(head.path.as_bytes()) {
            match self.rules[route].check(self.semantics, head, &mut draws) {
                Ok(()) => return Some(route),
                Err(why) => trace.rejected(route, why),
            }
        }
        None
    }
}

fn plain_prefix(path: &PathMatcher) -> Option<Box<[u8]>> {
    match path {
        PathMatcher::Prefix {
            prefix,
            ignore_case: false,
        } => Some(prefix.as_bytes().into()),
        _ => None,
    }
}

// === impl Rule ===

impl Rule {
    fn compile(semantics: Semantics, route: &Route) -> Self {
        let matcher = &route.matcher;
        Self {
            path: match &matcher.path {
                PathMatcher::Regex(regex) => Some(regex.clone()),
                PathMatcher::Exact { .. }
                | PathMatcher::Prefix { .. }
                | PathMatcher::Segments { .. } => None,
            },
            headers: matcher
                .headers
                .iter()
                .map(|header| HeaderTest::compile(semantics, header))
                .collect(),
            query: matcher.query.clone().into_boxed_slice(),
            fraction: matcher.fraction,
        }
    }

    /// Whether nothing is left to test.
    fn is_empty(&self) -> bool {
        let fraction = self.fraction.map(Fraction::parts);
        self.path.is_none()
            && self.headers.is_empty()
            && self.query.is_empty()
            && matches!(fraction, None | Some(Fraction::WHOLE))
    }

    #[inline]
    fn check<D: FnMut() -> u32>(
        &self,
        semantics: Semantics,
        head: &Head<'_>,
        draws: &mut Draws<D>,
    ) -> Result<(), Mismatch<'_>> {
        if semantics == Semantics::Grpc && !self.query.is_empty() {
            return Err(Mismatch::QueryUnderGrpc);
        }
        if let Some(regex) = &self.path
            && !regex.is_match(head.path.as_bytes())
        {
            return Err(Mismatch::Path(regex));
        }
        for header in &self.headers {
            if !header.is_match(head) {
                return Err(Mismatch::Header(header.matcher()));
            }
        }
        for parameter in &self.query {
            if !query::is_match(parameter, head.query) {
                return Err(Mismatch::Query(parameter));
            }
        }
        match self.fraction {
            Some(fraction) if !draws.wins(semantics, fraction) => Err(Mismatch::Fraction(fraction)),
            _ => Ok(()),
        }
    }
}

// === impl Draws ===

impl<D: FnMut() -> u32> Draws<D> {
    fn wins(&mut self, semantics: Semantics, fraction: Fraction) -> bool {
        match fraction.parts() {
            0 => false,
            Fraction::WHOLE => true,
            parts => {
                let drawn = match semantics {
                    Semantics::Grpc => (self.draw)(),
                    Semantics::Http => *self.shared.get_or_insert_with(&mut self.draw),
                };
                drawn < parts
            }
        }
    }
}
