use std::{
    any::Any,
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use http::StatusCode;

use super::{Filter, FilterSpec, Reply, RequestHead, Verdict};
use crate::{
    Code, Semantics,
    authz::{Action, Bound, Engine, Rules},
    config::FilterConfig,
    identity::Peer,
    telemetry::Cause,
};

/// Role-based access control: lets requests through by rules about who asks for what (gRFC A41).
/// In servers only.
///
/// Of several in a chain each has to let a request through. An override takes the place of the
/// whole configuration.
#[derive(Debug, Clone)]
pub struct RbacSpec {
    name: Arc<str>,
    rules: Option<Rules>,
    /// Compiled for the first route, shared by all: for gRPC and for HTTP.
    engines: [OnceLock<Arc<Engine>>; 2],
}

/// An [`RbacSpec`] at work.
#[derive(Debug)]
struct Rbac {
    name: Arc<str>,
    engine: Arc<Engine>,
}

/// The same for the requests of one connection.
#[derive(Debug)]
struct BoundRbac {
    name: Arc<str>,
    bound: Bound,
}

// === impl RbacSpec ===

impl RbacSpec {
    /// The filter called `name`. Without `rules` it does nothing.
    pub fn new(name: impl Into<Arc<str>>, rules: Option<Rules>) -> Self {
        Self {
            name: name.into(),
            rules,
            engines: Default::default(),
        }
    }

    /// Its name in the filter chain: the `policy_name` of audit events.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rules; `None`: everything is allowed.
    pub fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref()
    }

    fn engine(&self, semantics: Semantics) -> Option<&Arc<Engine>> {
        let rules = self.rules.as_ref()?;
        let compile = || Arc::new(Engine::compile(semantics, rules));
        let of = match semantics {
            Semantics::Grpc => &self.engines[0],
            Semantics::Http => &self.engines[1],
        };
        Some(of.get_or_init(compile))
    }
}

impl FilterSpec for RbacSpec {
    fn build(&self, over: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
        self.build_for(Semantics::Grpc, over)
    }

    fn build_for(
        &self,
        semantics: Semantics,
        over: Option<&FilterConfig>,
    ) -> Option<Arc<dyn Filter>> {
        let engine = super::replaced(self, over).engine(semantics)?;
        Some(Arc::new(Rbac {
            // An override has no name of its own.
            name: self.name.clone(),
            engine: engine.clone(),
        }))
    }

    fn equals(&self, other: &dyn FilterSpec) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

impl PartialEq for RbacSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.rules == other.rules
    }
}

// === impl Rbac ===

impl Rbac {
    fn bound(&self, peer: &Arc<Peer>) -> BoundRbac {
        BoundRbac {
            name: self.name.clone(),
            bound: self.engine.bind(peer),
        }
    }
}

impl Filter for Rbac {
    /// For a connection that was not bound: binds it for this one request.
    fn request(&self, head: &mut RequestHead<'_>) -> Verdict {
        let Some(peer) = head.peer else {
            // Nobody is known to ask: fail closed, whatever the rules say.
            return match self.engine.action() {
                Action::Allow | Action::Deny => denied(),
                Action::Log => Verdict::Continue,
            };
        };
        self.bound(peer).request(head)
    }

    fn bind(&self, peer: &Arc<Peer>) -> Option<Arc<dyn Filter>> {
        Some(Arc::new(self.bound(peer)))
    }
}

// === impl BoundRbac ===

impl Filter for BoundRbac {
    fn request(&self, head: &mut RequestHead<'_>) -> Verdict {
        let action = self.bound.action();
        if action == Action::Log && !tracing::enabled!(tracing::Level::DEBUG) {
            return Verdict::Continue;
        }
        let decision = self.bound.decide(head, &self.name);
        let (filter, policy) = (&*self.name, decision.policy.map(|name| &**name));
        match (decision.allowed, action, policy) {
            (false, ..) => {
                tracing::debug!(filter, policy, path = head.path, "request denied");
                denied()
            }
            (true, Action::Log, Some(policy)) => {
                tracing::debug!(filter, policy, path = head.path, "request matches");
                Verdict::Continue
            }
            (true, ..) => Verdict::Continue,
        }
    }
}

/// Does not say which policy it was: the caller has no business with that.
fn denied() -> Verdict {
    Verdict::Reply(Reply {
        http: StatusCode::FORBIDDEN,
        grpc: Code::PermissionDenied,
        message: Cow::Borrowed("Unauthorized RPC request rejected."),
        cause: Cause::Denied,
    })
}

#[cfg(test)]
mod tests;
