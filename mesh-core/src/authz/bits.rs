/// A set of small numbers, of a size that is known at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits(Box<[u64]>);

impl Bits {
    /// None of the numbers below `len`.
    pub(super) fn none(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)].into())
    }

    pub(super) fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Its numbers, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_inserted() {
        let mut bits = Bits::none(200);
        assert!(bits.is_empty());
        let numbers = [0, 1, 63, 64, 127, 128, 199];
        for number in numbers {
            bits.insert(number);
        }
        assert!(!bits.is_empty());
        assert!(bits.iter().eq(numbers));
        assert!(numbers.iter().all(|&number| bits.contains(number)));
        assert!(!bits.contains(2) && !bits.contains(198));
        assert!(Bits::none(0).iter().next().is_none());
    }
}
