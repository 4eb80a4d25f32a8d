use std::{any::Any, sync::Arc};

use super::{
    Group, Pick, PickCx, Policy, PolicySpec,
    schedule::{Schedule, Turn},
};

/// Each ready endpoint in turn, starting anywhere.
///
/// Endpoint weights are honoured (static stride scheduling, gRFC A58): gRPC's own `round_robin`
/// ignores them, Envoy's does not. With equal weights, the default, the two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundRobin;

#[derive(Debug)]
struct Even {
    group: Arc<Group>,
    turn: Turn,
}

#[derive(Debug)]
struct Weighted {
    group: Arc<Group>,
    schedule: Schedule,
}

// === impl RoundRobin ===

impl PolicySpec for RoundRobin {
    fn name(&self) -> &'static str {
        "round_robin"
    }

    fn build(&self, group: &Arc<Group>) -> Box<dyn Policy> {
        let group = Arc::clone(group);
        if group.weights().windows(2).all(|pair| pair[0] == pair[1]) {
            Box::new(Even {
                group,
                turn: Turn::new(),
            })
        } else {
            Box::new(Weighted {
                schedule: Schedule::new(group.weights()),
                group,
            })
        }
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn Any).is::<Self>()
    }
}

// === impl Even ===

impl Policy for Even {
    fn pick(&self, cx: &PickCx<'_>) -> Pick {
        let ready = self.group.ready();
        let turn = self.turn.next();
        // By rank among the ready: walking on from one that is not would give its share to its
        // neighbour alone.
        let index = match ready.count() {
            0 => None,
            count => {
                let rank = (turn % count as u64) as usize;
                if ready.all() {
                    Some(rank)
                } else {
                    ready.nth(rank).or_else(|| ready.next(rank))
                }
            }
        };
        index.map_or(Pick::None, |index| {
            Pick::Endpoint(self.group.untried(index, cx.tried))
        })
    }
}

// === impl Weighted ===

impl Policy for Weighted {
    fn pick(&self, cx: &PickCx<'_>) -> Pick {
        let ready = self.group.ready();
        if ready.count() == 0 {
            return Pick::None;
        }
        self.schedule
            .next(|index| ready.contains(index), || ready.iter())
            .map_or(Pick::None, |index| {
                Pick::Endpoint(self.group.untried(index, cx.tried))
            })
    }
}
