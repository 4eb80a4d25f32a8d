use std::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

const WORD: usize = u64::BITS as usize;
const WORDS_PER_BLOCK: usize = 8;

/// Which members of a [`Group`](super::Group) take calls: a bit each, read without a lock.
///
/// Counts per block of 512 bits keep every look-up to a few dozen loads at ten thousand members,
/// however few of them are ready. Writers are serialised by the cluster; a reader that runs
/// beside one may see a count ahead of its bit, and then gets `None` or another ready member.
pub struct ReadySet {
    len: usize,
    count: AtomicU32,
    blocks: Box<[AtomicU32]>,
    words: Box<[AtomicU64]>,
}

impl ReadySet {
    pub(super) fn new(len: usize) -> Self {
        let words = len.div_ceil(WORD);
        Self {
            len,
            count: AtomicU32::new(0),
            blocks: (0..words.div_ceil(WORDS_PER_BLOCK))
                .map(|_| AtomicU32::new(0))
                .collect(),
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// One writer at a time: the counts follow the bit in separate steps.
    pub(super) fn set(&self, index: usize, ready: bool) {
        let word = index / WORD;
        let bit = 1_u64 << (index % WORD);
        let block = &self.blocks[word / WORDS_PER_BLOCK];
        if ready {
            if self.words[word].fetch_or(bit, Ordering::AcqRel) & bit == 0 {
                block.fetch_add(1, Ordering::AcqRel);
                self.count.fetch_add(1, Ordering::AcqRel);
            }
        } else if self.words[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0 {
            block.fetch_sub(1, Ordering::AcqRel);
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// How many are ready.
    #[inline]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire) as usize
    }

    /// Whether all are ready, of at least one.
    #[inline]
    pub fn all(&self) -> bool {
        self.len != 0 && self.count() == self.len
    }

    /// Whether `index` is ready; false past the end.
    #[inline]
    pub fn contains(&self, index: usize) -> bool {
        self.words
            .get(index / WORD)
            .is_some_and(|word| word.load(Ordering::Acquire) >> (index % WORD) & 1 == 1)
    }

    /// The ready member at `rank` in ascending order, counted from 0.
    pub fn nth(&self, rank: usize) -> Option<usize> {
        let mut rank = u32::try_from(rank).ok()?;
        for (block, count) in self.blocks.iter().enumerate() {
            let count = count.load(Ordering::Acquire);
            if rank >= count {
                rank -= count;
                continue;
            }
            let first = block * WORDS_PER_BLOCK;
            for (word, bits) in self.words.iter().enumerate().skip(first) {
                let bits = bits.load(Ordering::Acquire);
                let count = bits.count_ones();
                if rank >= count {
                    rank -= count;
                    continue;
                }
                return Some(word * WORD + select(bits, rank));
            }
        }
        None
    }

    /// The first ready member at or after `from`, going round at the end.
    pub fn next(&self, from: usize) -> Option<usize> {
        let from = if from < self.len { from } else { 0 };
        self.first_in(from, self.len)
            .or_else(|| self.first_in(0, from))
    }

    /// A ready member, each with the same probability.
    #[inline]
    pub fn sample(&self) -> Option<usize> {
        // A blind draw that hits a ready member is uniform among them, and so is the draw by
        // rank that follows when none does.
        const BLIND_DRAWS: usize = 2;
        if self.len == 0 {
            return None;
        }
        for _ in 0..BLIND_DRAWS {
            let index = fastrand::usize(..self.len);
            if self.contains(index) {
                return Some(index);
            }
        }
        match self.count() {
            0 => None,
            count => self
                .nth(fastrand::usize(..count))
                .or_else(|| self.next(fastrand::usize(..self.len))),
        }
    }

    /// The ready members in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        std::iter::successors(self.first_in(0, self.len), |&index| {
            self.first_in(index + 1, self.len)
        })
    }

    fn first_in(&self, from: usize, to: usize) -> Option<usize> {
        let mut at = from;
        while at < to {
            let word = at / WORD;
            let block = word / WORDS_PER_BLOCK;
            if self.blocks[block].load(Ordering::Acquire) == 0 {
                at = (block + 1) * WORDS_PER_BLOCK * WORD;
                continue;
            }
            let bits = self.words[word].load(Ordering::Acquire) >> (at % WORD);
            if bits != 0 {
                let found = at + bits.trailing_zeros() as usize;
                return (found < to).then_some(found);
            }
            at = (word + 1) * WORD;
        }
        None
    }
}

impl fmt::Debug for ReadySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ready", self.count(), self.len)
    }
}

/// Where the bit at `rank` of those that are set is, the lowest first. There must be more of them
/// than `rank`.
///
/// Counts in all bytes at once: one bit after the other would be most of what a pick costs.
fn select(bits: u64, rank: u32) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let pairs = bits - ((bits >> 1) & (0x55 * EACH));
    let nibbles = (pairs & (0x33 * EACH)) + ((pairs >> 2) & (0x33 * EACH));
    let bytes = (nibbles + (nibbles >> 4)) & (0x0f * EACH);
    // In each byte the count of it and of all below it, at most 64; `rank` is below that, so that
    // no byte borrows from the next.
    let up_to = bytes.wrapping_mul(EACH);
    let rank = u64::from(rank);
    let passed = ((rank * EACH) | (0x80 * EACH)) - up_to;
    let shift = 8 * ((passed >> 7) & EACH).wrapping_mul(EACH).wrapping_shr(56);
    let below = (up_to << 8) >> shift & 0xff;
    let mut byte = bits >> shift;
    for _ in below..rank {
        byte &= byte - 1;
    }
    shift as usize + byte.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn agrees_with_a_set(
            len in 1..3000_usize,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..200),
            probes in prop::collection::vec(any::<prop::sample::Index>(), 8),
        ) {
            let ready = ReadySet::new(len);
            let mut model = BTreeSet::new();
            for (index, on) in flips {
                let index = index.index(len);
                ready.set(index, on);
                if on { model.insert(index); } else { model.remove(&index); }
            }
            prop_assert_eq!(ready.count(), model.len());
            prop_assert_eq!(ready.all(), model.len() == len);
            prop_assert!(ready.iter().eq(model.iter().copied()));
            for (rank, &index) in model.iter().enumerate() {
                prop_assert_eq!(ready.nth(rank), Some(index));
            }
            prop_assert_eq!(ready.nth(model.len()), None);
            for probe in probes {
                let from = probe.index(len);
                let expected = model.range(from..).next().or_else(|| model.first()).copied();
                prop_assert_eq!(ready.next(from), expected);
                prop_assert_eq!(ready.contains(from), model.contains(&from));
                let sample = ready.sample();
                prop_assert_eq!(sample.is_some(), !model.is_empty());
                prop_assert!(sample.is_none_or(|index| model.contains(&index)));
            }
        }
    }

    proptest! {
        #[test]
        fn selects_as_one_bit_after_the_other(bits in prop_oneof![
            any::<u64>(), (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a & b), Just(u64::MAX),
        ]) {
            let set = (0..64).filter(|at| bits >> at & 1 == 1);
            for (rank, at) in (0..).zip(set) {
                prop_assert_eq!(select(bits, rank), at);
            }
        }
    }

    #[test]
    fn samples_are_even_among_the_ready() {
        let ready = ReadySet::new(100);
        for index in [3, 64, 99] {
            ready.set(index, true);
        }
        let mut hits = [0_u32; 100];
        for _ in 0..30_000 {
            hits[ready.sample().expect("three are ready")] += 1;
        }
        for index in [3, 64, 99] {
            assert!((9_300..10_700).contains(&hits[index]), "{hits:?}");
        }
    }
}
