use std::sync::atomic::{AtomicU64, Ordering};

/// Deals indices in proportion to their weights, without a lock: static stride scheduling as in
/// gRFC A58, from one shared counter.
///
/// Counting through a full period (slots times the largest slot weight) takes every index exactly
/// as often as its weight says. A weight far above the mean is split over several slots, so that a
/// deal looks at less than five slots on average whatever the weights are.
#[derive(Debug)]
pub(super) struct Schedule {
    weights: Box<[u32]>,
    slots: Box<[Slot]>,
    /// The largest weight of a slot.
    top: u64,
    turn: Turn,
}

/// A counter on cache lines of its own: it is written by every pick.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Turn(AtomicU64);

#[derive(Debug)]
struct Slot {
    index: u32,
    weight: u32,
    /// Staggers slots of one weight, so that they do not all pass in the same round.
    offset: u32,
}

impl Turn {
    /// Starts anywhere, so that many clients do not begin with the same endpoint.
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(u64::from(fastrand::u32(..))))
    }

    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Schedule {
    /// Over the indices of `weights`, none of which is zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        let sum: u64 = weights.iter().copied().map(u64::from).sum();
        let count = weights.len().max(1) as u64;
        let cap = u32::try_from(2 * sum.div_ceil(count)).unwrap_or(u32::MAX);
        let mut slots = Vec::with_capacity(weights.len());
        for (index, &weight) in (0_u32..).zip(weights) {
            let pieces = weight.div_ceil(cap.max(1)).max(1);
            for piece in 0..pieces {
                let phase = ((2 * u64::from(piece) + 1) << 31) / u64::from(pieces);
                let weight = weight / pieces + u32::from(piece < weight % pieces);
                slots.push((phase, index, weight));
            }
        }
        // Pieces of one index are spread over the round; without pieces the order stays.
        slots.sort_by_key(|&(phase, ..)| phase);
        let top = slots
            .iter()
            .map(|&(.., weight)| weight)
            .max()
            .unwrap_or(1)
            .max(1);
        let slots = (0_u32..)
            .zip(slots)
            .map(|(position, (_, index, weight))| Slot {
                index,
                weight,
                offset: position.wrapping_mul(0x9e37_79b9) % top,
            })
            .collect();
        Self {
            weights: weights.into(),
            slots,
            top: u64::from(top),
            turn: Turn::new(),
        }
    }

    /// The next index that is `usable`; `all` are those, and are drawn from by weight when the
    /// schedule does not come upon one soon.
    #[inline]
    pub(super) fn next<I>(
        &self,
        usable: impl Fn(usize) -> bool,
        all: impl Fn() -> I,
    ) -> Option<usize>
    where
        I: Iterator<Item = usize>,
    {
        const TRIES: usize = 32;
        let len = self.slots.len() as u64;
        if len == 0 {
            return None;
        }
        for _ in 0..TRIES {
            let turn = self.turn.next();
            let slot = &self.slots[(turn % len) as usize];
            if self.passes(slot, turn / len) && usable(slot.index as usize) {
                return Some(slot.index as usize);
            }
        }
        let weight = |index: usize| u64::from(self.weights[index]);
        let total: u64 = all().map(weight).sum();
        let mut draw = fastrand::u64(..total.max(1));
        let mut last = None;
        for index in all() {
            last = Some(index);
            match draw.checked_sub(weight(index)) {
                Some(rest) => draw = rest,
                None => break,
            }
        }
        last
    }

    /// In `top` consecutive rounds a slot passes exactly `weight` times.
    #[inline]
    fn passes(&self, slot: &Slot, round: u64) -> bool {
        let weight = u64::from(slot.weight);
        weight == self.top
            || (weight * (round % self.top) + u64::from(slot.offset)) % self.top
                >= self.top - weight
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn deal(schedule: &Schedule, usable: &[bool], times: u64) -> Vec<u64> {
        let mut hits = vec![0; usable.len()];
        for _ in 0..times {
            let all = || (0..usable.len()).filter(|&index| usable[index]);
            let index = schedule.next(|index| usable[index], all);
            hits[index.expect("one is usable")] += 1;
        }
        hits
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_full_period_is_exact(weights in prop::collection::vec(1..200_u32, 1..30)) {
            let schedule = Schedule::new(&weights);
            let sum = weights.iter().copied().map(u64::from).sum();
            // The windows differ only in where they start.
            for _ in 0..2 {
                let hits = deal(&schedule, &vec![true; weights.len()], sum);
                prop_assert!(hits.iter().copied().eq(weights.iter().copied().map(u64::from)), "{hits:?}");
            }
        }

        #[test]
        fn a_deal_is_cheap_whatever_the_weights(weights in prop::collection::vec(
            prop_oneof![1..10_u32, 1_000_000..100_000_000_u32], 1..40,
        )) {
            let schedule = Schedule::new(&weights);
            let before = schedule.turn.next();
            deal(&schedule, &vec![true; weights.len()], 2_000);
            let looked_at = schedule.turn.next() - before;
            prop_assert!(looked_at < 2_000 * 6, "{looked_at}");
        }
    }

    #[test]
    fn what_is_not_usable_leaves_its_share_in_proportion() {
        let schedule = Schedule::new(&[1, 2, 1_000_000]);
        let hits = deal(&schedule, &[true, true, false], 30_000);
        assert!((9_300..10_700).contains(&hits[0]), "{hits:?}");

        let schedule = Schedule::new(&[50, 25, 25]);
        let hits = deal(&schedule, &[true, false, true], 3_000);
        assert!((1_990..2_010).contains(&hits[0]), "{hits:?}");
    }

    #[test]
    fn none_usable_is_none() {
        let schedule = Schedule::new(&[1, 2]);
        assert_eq!(schedule.next(|_| false, std::iter::empty), None);
        assert_eq!(Schedule::new(&[]).next(|_| true, std::iter::empty), None);
    }
}
