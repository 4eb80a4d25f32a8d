//! What happens to a request on the way.
//!
//! A filter is two files: its decoder (in the control plane's folder), which makes a
//! [`FilterSpec`], and its behaviour here, a [`Filter`] built from it once per route and snapshot.

mod disabled;
mod fault;
mod rbac;

pub use disabled::{Disabled, OffByDefault};
pub use fault::{AbortStatus, DelayLength, FaultAbort, FaultDelay, FaultShare, FaultSpec};
pub use rbac::RbacSpec;

use std::{any::Any, borrow::Cow, fmt, future::Future, pin::Pin, sync::Arc};

use crate::{Code, Semantics, config::FilterConfig, identity::Peer, telemetry::Cause};

/// A validated filter configuration: comparable data that knows how to build the behaviour.
pub trait FilterSpec: fmt::Debug + Any + Send + Sync {
    /// Builds the filter for one route. `over` is the most specific override for it, if any:
    /// cluster weight, else route, else virtual host (gRFC A39). An override's type is the
    /// filter's own affair: it downcasts `over.0`.
    ///
    /// Called once per snapshot and route, never per call. `None`: nothing to do on this route,
    /// and its calls pay nothing.
    fn build(&self, over: Option<&FilterConfig>) -> Option<Arc<dyn Filter>>;

    /// As [`build`](Self::build), in a server whose requests are understood under `semantics`.
    /// Default: it is all the same.
    fn build_for(
        &self,
        semantics: Semantics,
        over: Option<&FilterConfig>,
    ) -> Option<Arc<dyn Filter>> {
        let _ = semantics;
        self.build(over)
    }

    /// Whether `other` is the same configuration.
    fn equals(&self, other: &dyn FilterSpec) -> bool;
}

/// The behaviour of a filter on one route.
pub trait Filter: fmt::Debug + Send + Sync {
    /// Decides about a request before an endpoint is chosen. May change the headers.
    fn request(&self, head: &mut RequestHead<'_>) -> Verdict;

    /// In a server: the same filter for the requests of one connection, with what depends on the
    /// connection alone decided. Called once per connection and route, not per request. Default:
    /// `None`, nothing can be decided in advance.
    fn bind(&self, peer: &Arc<Peer>) -> Option<Arc<dyn Filter>> {
        let _ = peer;
        None
    }
}

/// The part of a request that filters see.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// Its method.
    pub method: &'a http::Method,
    /// Its authority; empty if it has none.
    pub authority: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
    /// Its query, without the question mark.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a mut http::HeaderMap,
    /// Who sent it: in servers only.
    pub peer: Option<&'a Arc<Peer>>,
}

/// What a filter decides.
pub enum Verdict {
    /// Go on.
    Continue,
    /// Answer with this in place of an endpoint.
    Reply(Reply),
    /// Not known yet. The only verdict that allocates.
    Wait(Pin<Box<dyn Future<Output = Verdict> + Send>>),
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Continue => f.write_str("Continue"),
            Verdict::Reply(reply) => f.debug_tuple("Reply").field(reply).finish(),
            Verdict::Wait(_) => f.write_str("Wait"),
        }
    }
}

/// An answer made on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status under HTTP semantics.
    pub http: http::StatusCode,
    /// The status under gRPC semantics; OK ends the call with empty trailers.
    pub grpc: Code,
    /// Why, for the caller.
    pub message: Cow<'static, str>,
    /// What is recorded as the call's end.
    pub cause: Cause,
}

/// The configuration in force of a filter whose override takes the place of the whole of it: the
/// override, if it is a `T`, else `base`.
pub fn replaced<'a, T: FilterSpec>(base: &'a T, over: Option<&'a FilterConfig>) -> &'a T {
    let Some(FilterConfig(over)) = over else {
        return base;
    };
    (&**over as &dyn Any).downcast_ref().unwrap_or_else(|| {
        tracing::warn!(
            ?over,
            ?base,
            "an override of another filter's type has no effect"
        );
        base
    })
}
