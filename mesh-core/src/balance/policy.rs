use std::{any::Any, fmt, sync::Arc};

use super::{Group, LinkState};

/// A validated policy configuration: comparable data that knows how to build the picker.
pub trait PolicySpec: fmt::Debug + Any + Send + Sync {
    /// The policy's name, such as `round_robin`.
    fn name(&self) -> &'static str;

    /// A picker over `group`. Called when the group's members change, never per call.
    fn build(&self, group: &Arc<Group>) -> Box<dyn Policy>;

    /// Whether `other` is the same configuration.
    fn equals(&self, other: &dyn PolicySpec) -> bool;

    /// Whether picks follow [`PickCx::hash`]. If so, and several priorities share the load (HTTP
    /// semantics), the hash says which of them takes a pick, as in Envoy: what has one key goes to
    /// one endpoint for as long as no health changes. Default: no; the priority is drawn at random.
    fn is_hashing(&self) -> bool {
        false
    }
}

/// Picks among the endpoints of the [`Group`] it was built for.
pub trait Policy: fmt::Debug + Send + Sync {
    /// Picks for one call. Runs in the caller's task: no lock, no allocation.
    fn pick(&self, cx: &PickCx<'_>) -> Pick;
}

/// What a policy may know of the call.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickCx<'a> {
    /// Endpoints that this call has tried already, to be avoided where there are others.
    pub tried: &'a [Arc<LinkState>],
    /// What the call is to be hashed by, for policies that do; `None`: nothing is known.
    pub hash: Option<u64>,
}

/// What a policy picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The endpoint at this index of the group; ready when it was looked at.
    Endpoint(usize),
    /// None is ready.
    None,
}

// === impl PickCx ===

impl PickCx<'_> {
    /// Whether this call has tried an endpoint already.
    pub fn has_tried(&self, link: &Arc<LinkState>) -> bool {
        self.tried.iter().any(|tried| Arc::ptr_eq(tried, link))
    }
}
