use std::sync::Arc;

use super::{
    Action, AuditEvent, AuditLoggers, Rules,
    bits::Bits,
    expr::{Compiler, Expr},
    peer::{PeerTest, principal},
};
use crate::{Semantics, filter::RequestHead, identity::Peer, route::Index};

/// [`Rules`], compiled: made once, shared by all connections.
///
/// A policy that asks for certain paths is found by the request's path: a thousand such policies
/// cost what ten do. The others are tried one by one, and only those that can match the connection.
#[derive(Debug)]
pub struct Engine {
    action: Action,
    audit: AuditLoggers,
    names: Box<[Arc<str>]>,
    policies: Box<[Expr]>,
    peer_tests: Box<[PeerTest]>,
    /// Paths by number.
    index: Index,
    /// The policy of each path in the index, in ascending order.
    owners: Box<[usize]>,
    /// The policies that are not in the index.
    scanned: Bits,
}

/// An [`Engine`] for the requests of one connection: what depends on the connection alone is
/// decided. Takes two bits for each policy and one for each test of connections.
#[derive(Debug)]
pub struct Bound {
    engine: Arc<Engine>,
    peer: Arc<Peer>,
    /// The tests of connections that passed.
    facts: Bits,
    /// The first policy that matches every request of the connection; [`NONE`] if none does.
    always: usize,
    /// Policies that match some requests and are found by path.
    indexed: Bits,
    /// Policies that match some requests and have to be tried.
    tried: Bits,
    /// Whether there are any in `indexed`.
    look_up: bool,
}

/// What was decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it may pass.
    pub allowed: bool,
    /// The first policy by name that matches it; `None`: none does. Where it has no effect on the
    /// decision and nobody asks for the name, any of those that match.
    pub policy: Option<&'a Arc<str>>,
}

/// Greater than every policy's number.
const NONE: usize = usize::MAX;

// === impl Engine ===

impl Engine {
    /// Compiles `rules`, for requests that are understood under `semantics`.
    pub fn compile(semantics: Semantics, rules: &Rules) -> Self {
        // What passes in doubt: nothing that allows, everything that denies.
        let every = rules.action == Action::Allow;
        let mut compiler = Compiler::new(semantics);
        let policies: Box<[Expr]> = rules
            .policies
            .values()
            .map(|policy| {
                let permissions = compiler.any_of(&policy.permissions, every);
                match (permissions, compiler.any_of(&policy.principals, every)) {
                    (Expr::Known(false), _) | (_, Expr::Known(false)) => Expr::Known(false),
                    (Expr::Known(true), expr) | (expr, Expr::Known(true)) => expr,
                    (permissions, principals) => Expr::All([permissions, principals].into()),
                }
            })
            .collect();
        let mut scanned = Bits::none(policies.len());
        let (mut paths, mut owners) = (Vec::new(), Vec::new());
        for (number, policy) in policies.iter().enumerate() {
            match policy.paths() {
                Some(of_policy) => {
                    owners.extend(of_policy.iter().map(|_| number));
                    paths.extend(of_policy);
                }
                None => scanned.insert(number),
            }
        }
        Self {
            action: rules.action,
            audit: rules.audit.clone(),
            names: rules.policies.keys().cloned().collect(),
            policies,
            peer_tests: compiler.peer_tests.into(),
            index: Index::compile(paths.iter()),
            owners: owners.into(),
            scanned,
        }
    }

    /// What a match means.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The engine for the requests of `peer`'s connection.
    pub fn bind(self: &Arc<Self>, peer: &Arc<Peer>) -> Bound {
        let mut facts = Bits::none(self.peer_tests.len());
        for (number, test) in self.peer_tests.iter().enumerate() {
            if test.is_match(peer) {
                facts.insert(number);
            }
        }
        let mut always = NONE;
        let mut indexed = Bits::none(self.policies.len());
        let mut tried = indexed.clone();
        for (number, policy) in self.policies.iter().enumerate() {
            match policy.known(&facts) {
                Some(false) => {}
                Some(true) => {
                    always = number;
                    // What comes after it is never the first.
                    break;
                }
                None if self.scanned.contains(number) => tried.insert(number),
                None => indexed.insert(number),
            }
        }
        Bound {
            engine: Arc::clone(self),
            peer: Arc::clone(peer),
            facts,
            always,
            look_up: !indexed.is_empty(),
            indexed,
            tried,
        }
    }
}

// === impl Bound ===

impl Bound {
    /// What a match means.
    pub fn action(&self) -> Action {
        self.engine.action
    }

    /// Decides about a request of the connection, and tells the audit loggers, who call the rules
    /// `filter`. Allocates nothing, unless a header that is tested occurs more than once, or a path
    /// has a query, and both together take more than 256 bytes.
    pub fn decide(&self, head: &RequestHead<'_>, filter: &str) -> Decision<'_> {
        let engine = &*self.engine;
        let found = self.find(head);
        let policy = engine.names.get(found);
        let allowed = match engine.action {
            Action::Allow => policy.is_some(),
            Action::Deny => policy.is_none(),
            Action::Log => true,
        };
        // Rules that only log decide nothing: there is nothing to audit (gRFC A41).
        if engine.action != Action::Log && engine.audit.wants(allowed) {
            engine.audit.log(&AuditEvent {
                rpc_method: head.path,
                principal: principal(&self.peer),
                policy_name: filter,
                matched_rule: policy.map_or("", |name| name),
                authorized: allowed,
            });
        }
        Decision { allowed, policy }
    }

    /// The number of the first policy that matches, or [`NONE`].
    fn find(&self, head: &RequestHead<'_>) -> usize {
        let engine = &*self.engine;
        let mut first = self.always;
        let name_matters = engine.action != Action::Allow || engine.audit.wants(true);
        if first != NONE && !name_matters {
            return first;
        }
        let matches = |policy: usize| engine.policies[policy].is_match(head, &self.facts);
        if self.look_up {
            for path in engine.index.candidates(head.path.as_bytes()) {
                let policy = engine.owners[path];
                if self.indexed.contains(policy) && matches(policy) {
                    first = policy;
                    break;
                }
            }
        }
        let tried = self.tried.iter().take_while(|&policy| policy < first);
        tried
            .into_iter()
            .find(|&policy| matches(policy))
            .unwrap_or(first)
    }
}

#[cfg(test)]
mod tests;
