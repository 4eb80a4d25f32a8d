use std::{any::Any, sync::Arc};

use super::{LinkState, Pick, PickCx, Policy, PolicySpec};

/// The least loaded of a few ready endpoints drawn at random (gRFC A48).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastRequest {
    choice_count: u32,
}

#[derive(Debug)]
struct Picker {
    links: Vec<Arc<LinkState>>,
    choice_count: u32,
}

impl LeastRequest {
    /// Draws in force by default.
    pub const DEFAULT_CHOICE_COUNT: u32 = 2;
    /// Draws at most: more are cut down to this.
    pub const MAX_CHOICE_COUNT: u32 = 10;

    /// With `choice_count` draws, held between 2 and 10. Fewer than 2 is for the decoder to
    /// refuse.
    pub fn new(choice_count: u32) -> Self {
        Self {
            choice_count: choice_count.clamp(2, Self::MAX_CHOICE_COUNT),
        }
    }

    /// Draws per pick.
    pub fn choice_count(&self) -> u32 {
        self.choice_count
    }
}

impl PolicySpec for LeastRequest {
    fn name(&self) -> &'static str {
        "least_request"
    }

    fn build(&self, endpoints: &[Arc<LinkState>], _weights: &[u32]) -> Box<dyn Policy> {
        Box::new(Picker {
            links: endpoints.to_vec(),
            choice_count: self.choice_count,
        })
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn Any).downcast_ref::<Self>() == Some(self)
    }
}

impl Policy for Picker {
    fn pick(&self, _cx: &PickCx<'_>) -> Pick {
        if self.links.is_empty() {
            return Pick::None;
        }
        (0..self.choice_count)
            .map(|_| fastrand::usize(..self.links.len()))
            .filter(|&index| self.links[index].is_ready())
            .min_by_key(|&index| self.links[index].in_flight())
            .or_else(|| self.links.iter().position(|link| link.is_ready()))
            .map_or(Pick::None, Pick::Endpoint)
    }
}
