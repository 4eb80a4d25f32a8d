use std::{any::Any, fmt, sync::Arc};

use super::LinkState;

/// A validated policy configuration: comparable data that knows how to build the picker.
pub trait PolicySpec: fmt::Debug + Any + Send + Sync {
    /// The policy's name, such as `round_robin`.
    fn name(&self) -> &'static str;

    /// A picker over `endpoints` with these `weights` (as many, none zero). Called when the group
    /// changes, never per call.
    fn build(&self, endpoints: &[Arc<LinkState>], weights: &[u32]) -> Box<dyn Policy>;

    /// Whether `other` is the same configuration.
    fn equals(&self, other: &dyn PolicySpec) -> bool;
}

/// Picks among a fixed group of endpoints.
pub trait Policy: fmt::Debug + Send + Sync {
    /// Picks for one call. Runs in the caller's task: no lock, no allocation.
    fn pick(&self, cx: &PickCx<'_>) -> Pick;
}

/// What a policy may know of the call.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickCx<'a> {
    /// Endpoints that this call has tried already, to be avoided where there are others.
    pub tried: &'a [Arc<LinkState>],
}

/// What a policy picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The endpoint at this index of the group; ready when it was looked at.
    Endpoint(usize),
    /// None is ready.
    None,
}
