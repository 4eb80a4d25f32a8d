use std::collections::HashMap;

use super::{Rule, bits::Bits, header::HeaderTest, peer::PeerTest};
use crate::{
    Semantics,
    config::{PathMatcher, StringMatch, StringMatcher},
    filter::RequestHead,
};

/// A [`Rule`], compiled.
#[derive(Debug)]
pub(super) enum Expr {
    All(Box<[Expr]>),
    AnyOf(Box<[Expr]>),
    Header(Box<HeaderTest>),
    Known(bool),
    Not(Box<Expr>),
    Path(StringMatcher),
    /// The number of a [`PeerTest`].
    Peer(usize),
}

/// Compiles rules and collects their tests of connections, each one once.
#[derive(Debug)]
pub(super) struct Compiler {
    semantics: Semantics,
    pub(super) peer_tests: Vec<PeerTest>,
    numbers: HashMap<String, usize>,
}

/// Paths that one policy is filed under at most: beyond, it is tried on every request.
const MAX_PATHS: usize = 64;

// === impl Expr ===

impl Expr {
    /// The result, if `facts` about the connection are enough to tell.
    pub(super) fn known(&self, facts: &Bits) -> Option<bool> {
        match self {
            Expr::All(exprs) => join(exprs, facts, false),
            Expr::AnyOf(exprs) => join(exprs, facts, true),
            Expr::Header(_) | Expr::Path(_) => None,
            Expr::Known(result) => Some(*result),
            Expr::Not(expr) => expr.known(facts).map(|result| !result),
            Expr::Peer(test) => Some(facts.contains(*test)),
        }
    }

    pub(super) fn is_match(&self, head: &RequestHead<'_>, facts: &Bits) -> bool {
        match self {
            Expr::All(exprs) => exprs.iter().all(|expr| expr.is_match(head, facts)),
            Expr::AnyOf(exprs) => exprs.iter().any(|expr| expr.is_match(head, facts)),
            Expr::Header(test) => test.is_match(head),
            Expr::Known(result) => *result,
            Expr::Not(expr) => !expr.is_match(head, facts),
            Expr::Path(matcher) => matcher.is_match(head.path.as_bytes()),
            Expr::Peer(test) => facts.contains(*test),
        }
    }

    /// Tests of which the path passes one whenever this matches; `None`: any path may.
    pub(super) fn paths(&self) -> Option<Vec<PathMatcher>> {
        match self {
            Expr::All(exprs) => exprs.iter().filter_map(Expr::paths).min_by_key(Vec::len),
            Expr::AnyOf(exprs) => {
                let mut paths = Vec::new();
                for expr in exprs {
                    paths.extend(expr.paths()?);
                    if paths.len() > MAX_PATHS {
                        return None;
                    }
                }
                Some(paths)
            }
            Expr::Known(false) => Some(Vec::new()),
            Expr::Path(matcher) => path(matcher).map(|path| vec![path]),
            Expr::Header(_) | Expr::Known(true) | Expr::Not(_) | Expr::Peer(_) => None,
        }
    }
}

/// `end` if one result is known to be that, the opposite if all are.
fn join(exprs: &[Expr], facts: &Bits, end: bool) -> Option<bool> {
    let mut all_known = true;
    for expr in exprs {
        match expr.known(facts) {
            Some(result) if result == end => return Some(end),
            Some(_) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(!end)
}

fn path(matcher: &StringMatcher) -> Option<PathMatcher> {
    let ignore_case = matcher.ignore_case;
    match matcher.pattern.clone() {
        StringMatch::Exact(path) => Some(PathMatcher::Exact { path, ignore_case }),
        StringMatch::Prefix(prefix) => Some(PathMatcher::Prefix {
            prefix,
            ignore_case,
        }),
        StringMatch::Contains(_) | StringMatch::Regex(_) | StringMatch::Suffix(_) => None,
    }
}

// === impl Compiler ===

impl Compiler {
    pub(super) fn new(semantics: Semantics) -> Self {
        Self {
            semantics,
            peer_tests: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// `every`: the rule must pass in every reading of a request, else in one of them. See
    /// [`Rule::Header`].
    pub(super) fn rule(&mut self, rule: &Rule, every: bool) -> Expr {
        match rule {
            Rule::All(rules) => self.all(rules, every),
            Rule::Any => Expr::Known(true),
            Rule::AnyOf(rules) => self.any_of(rules, every),
            Rule::Authenticated(name) => self.peer(PeerTest::Authenticated(name.clone())),
            Rule::DestinationIp(range) => self.peer(PeerTest::DestinationIp(*range)),
            Rule::DestinationPort(ports) => self.peer(PeerTest::DestinationPort(ports.clone())),
            Rule::Header(matcher) => Expr::Header(Box::new(HeaderTest::compile(
                self.semantics,
                matcher,
                every,
            ))),
            Rule::Metadata { invert } => Expr::Known(*invert),
            Rule::Not(rule) => match self.rule(rule, !every) {
                Expr::Known(result) => Expr::Known(!result),
                expr => Expr::Not(Box::new(expr)),
            },
            Rule::Path(matcher) => Expr::Path(matcher.clone()),
            Rule::ServerName(matcher) => match self.semantics {
                Semantics::Grpc => Expr::Known(matcher.is_match(b"")),
                Semantics::Http => self.peer(PeerTest::ServerName(matcher.clone())),
            },
            Rule::SourceIp(range) => self.peer(PeerTest::SourceIp(*range)),
        }
    }

    pub(super) fn all(&mut self, rules: &[Rule], every: bool) -> Expr {
        self.joined(rules, every, false)
            .map_or_else(Expr::Known, |mut exprs| match exprs.len() {
                1 => exprs.remove(0),
                _ => Expr::All(exprs.into()),
            })
    }

    pub(super) fn any_of(&mut self, rules: &[Rule], every: bool) -> Expr {
        self.joined(rules, every, true)
            .map_or_else(Expr::Known, |mut exprs| match exprs.len() {
                1 => exprs.remove(0),
                _ => Expr::AnyOf(exprs.into()),
            })
    }

    /// What is left of `rules` without those that are known, or the result: `end` if one is that,
    /// the opposite if none is left.
    fn joined(&mut self, rules: &[Rule], every: bool, end: bool) -> Result<Vec<Expr>, bool> {
        let mut left = Vec::with_capacity(rules.len());
        for rule in rules {
            match self.rule(rule, every) {
                Expr::Known(result) if result == end => return Err(end),
                Expr::Known(_) => {}
                expr => left.push(expr),
            }
        }
        match left.is_empty() {
            true => Err(!end),
            false => Ok(left),
        }
    }

    fn peer(&mut self, test: PeerTest) -> Expr {
        // Two tests that read the same are the same.
        let number = *self
            .numbers
            .entry(format!("{test:?}"))
            .or_insert(self.peer_tests.len());
        if number == self.peer_tests.len() {
            self.peer_tests.push(test);
        }
        Expr::Peer(number)
    }
}
