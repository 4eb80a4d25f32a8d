use std::{any::Any, sync::Arc};

use super::{Filter, FilterSpec};
use crate::{Semantics, config::FilterConfig};

/// The override that turns a filter off where it applies
/// (`envoy.config.route.v3.FilterConfig.disabled`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disabled;

/// A filter that is off, except where an override configures it (`HttpFilter.disabled`).
#[derive(Debug, Clone, PartialEq)]
pub struct OffByDefault(pub FilterConfig);

// === impl Disabled ===

impl FilterSpec for Disabled {
    fn build(&self, _: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
        None
    }

    fn equals(&self, other: &dyn FilterSpec) -> bool {
        (other as &dyn Any).is::<Self>()
    }
}

// === impl OffByDefault ===

impl FilterSpec for OffByDefault {
    fn build(&self, over: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
        self.0.build(Some(over?))
    }

    fn build_for(
        &self,
        semantics: Semantics,
        over: Option<&FilterConfig>,
    ) -> Option<Arc<dyn Filter>> {
        self.0.build_for(semantics, Some(over?))
    }

    fn equals(&self, other: &dyn FilterSpec) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}
