use std::{any::Any, sync::Arc};

use super::{Group, Pick, PickCx, Policy, PolicySpec};

/// The least loaded of a few ready endpoints, drawn at random and with replacement (gRFC A48).
///
/// The load is [`LinkState::in_flight`](super::LinkState::in_flight), shared by all who use the
/// endpoint. Weights are not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastRequest {
    choice_count: u32,
}

#[derive(Debug)]
struct Picker {
    group: Arc<Group>,
    choice_count: u32,
}

// === impl LeastRequest ===

impl LeastRequest {
    /// Draws per pick, if not configured.
    pub const DEFAULT_CHOICE_COUNT: u32 = 2;
    /// Draws per pick, at most: more are cut down to this.
    pub const MAX_CHOICE_COUNT: u32 = 10;

    /// With `choice_count` draws, held between 2 and 10. Fewer than 2 are for the decoder to
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

    fn build(&self, group: &Arc<Group>) -> Box<dyn Policy> {
        Box::new(Picker {
            group: Arc::clone(group),
            choice_count: self.choice_count,
        })
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn Any).downcast_ref::<Self>() == Some(self)
    }
}

// === impl Picker ===

impl Policy for Picker {
    fn pick(&self, cx: &PickCx<'_>) -> Pick {
        let mut best = None;
        for _ in 0..self.choice_count {
            let Some(index) = self.group.ready().sample() else {
                break;
            };
            let index = self.group.untried(index, cx.tried);
            let load = self.group.links()[index].in_flight();
            if best.is_none_or(|(least, _)| load < least) {
                best = Some((load, index));
            }
        }
        best.map_or(Pick::None, |(_, index)| Pick::Endpoint(index))
    }
}
