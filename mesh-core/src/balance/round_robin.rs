use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{LinkState, Pick, PickCx, Policy, PolicySpec};

/// Each ready endpoint in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundRobin;

#[derive(Debug)]
struct Picker {
    links: Vec<Arc<LinkState>>,
    next: AtomicUsize,
}

impl PolicySpec for RoundRobin {
    fn name(&self) -> &'static str {
        "round_robin"
    }

    fn build(&self, endpoints: &[Arc<LinkState>], _weights: &[u32]) -> Box<dyn Policy> {
        Box::new(Picker {
            links: endpoints.to_vec(),
            next: AtomicUsize::new(fastrand::usize(..)),
        })
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn Any).is::<Self>()
    }
}

impl Policy for Picker {
    fn pick(&self, _cx: &PickCx<'_>) -> Pick {
        let count = self.links.len().max(1);
        let start = self.next.fetch_add(1, Ordering::Relaxed) % count;
        (start..self.links.len())
            .chain(0..start)
            .find(|&index| self.links[index].is_ready())
            .map_or(Pick::None, Pick::Endpoint)
    }
}
