use std::sync::atomic::{AtomicU32, Ordering};

use super::PickCx;

/// Which pool takes a pick when several share the load: a pool for each percent.
///
/// It is rewritten in place while picks read it: one of them may see some percents as they were,
/// which is as if it had come a little earlier.
#[derive(Debug)]
pub(super) struct Split {
    slots: [AtomicU32; Self::SLOTS],
    /// Picks that bring a hash go where it says.
    by_hash: bool,
}

// === impl Split ===

impl Split {
    const SLOTS: usize = 100;

    /// Nothing but the first pool, until [`share`](Self::share).
    pub(super) fn new(by_hash: bool) -> Self {
        Self {
            slots: [const { AtomicU32::new(0) }; Self::SLOTS],
            by_hash,
        }
    }

    /// Shares picks among pools, each with its percents, which add up to 100.
    pub(super) fn share(&self, pools: &[(usize, u32)]) {
        let each = pools.iter().flat_map(|&(pool, percent)| {
            let pool = u32::try_from(pool).unwrap_or(u32::MAX);
            (0..percent).map(move |_| pool)
        });
        for (slot, pool) in self.slots.iter().zip(each) {
            slot.store(pool, Ordering::Relaxed);
        }
    }

    /// The pool for one pick, and then all others that share the load, each at least once.
    pub(super) fn draw(&self, cx: &PickCx<'_>) -> impl Iterator<Item = usize> {
        let draw = match cx.hash {
            Some(hash) if self.by_hash => (hash % Self::SLOTS as u64) as usize,
            _ => fastrand::usize(..Self::SLOTS),
        };
        let mut last = None;
        (0..Self::SLOTS).filter_map(move |offset| {
            let slot = &self.slots[(draw + offset) % Self::SLOTS];
            let pool = slot.load(Ordering::Relaxed);
            (last.replace(pool) != Some(pool)).then_some(pool as usize)
        })
    }
}

#[cfg(test)]
impl Split {
    /// The pools with their percents.
    pub(super) fn shares(&self) -> std::collections::BTreeMap<usize, u32> {
        let mut shares = std::collections::BTreeMap::new();
        for slot in &self.slots {
            *shares
                .entry(slot.load(Ordering::Relaxed) as usize)
                .or_default() += 1;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(split: &Split, cx: &PickCx<'_>) -> Vec<usize> {
        let mut pools: Vec<_> = split.draw(cx).collect();
        // All the way round, the pool drawn first may come once more.
        if pools.len() > 1 && pools.first() == pools.last() {
            pools.pop();
        }
        pools
    }

    #[test]
    fn each_pool_gets_its_percents_and_the_others_follow() {
        let split = Split::new(true);
        split.share(&[(0, 35), (3, 35), (6, 30)]);
        let mut hits = [0; 7];
        for hash in 0..100 {
            let cx = PickCx {
                hash: Some(hash),
                ..PickCx::default()
            };
            let pools = draws(&split, &cx);
            hits[pools[0]] += 1;
            let mut all = pools.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 3, 6], "{pools:?}");
        }
        assert_eq!(hits, [35, 0, 0, 35, 0, 0, 30]);
    }

    #[test]
    fn without_a_policy_that_hashes_the_draw_is_random() {
        let split = Split::new(false);
        split.share(&[(1, 50), (2, 50)]);
        let cx = PickCx {
            hash: Some(7),
            ..PickCx::default()
        };
        let first = (0..10_000).filter(|_| draws(&split, &cx)[0] == 1).count();
        assert!((4_700..5_300).contains(&first), "{first}");
    }
}
