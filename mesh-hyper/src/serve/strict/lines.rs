//! Where lines end.

/// Where the lines of these bytes end.
pub(super) struct LineFeeds<'a> {
    bytes: &'a [u8],
    /// Behind the word that was looked at last.
    next: usize,
    /// What is left of that word.
    found: u64,
}

/// Bytes that are looked at together.
const WORD: usize = 8;

// === impl LineFeeds ===

impl<'a> LineFeeds<'a> {
    /// Words that are looked at before a search that is faster on long lines. Most lines are so
    /// short that to start it for each would cost more.
    const WORDS: usize = 8;

    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            next: 0,
            found: 0,
        }
    }

    /// Goes on there.
    pub(super) fn seek(&mut self, at: usize) {
        self.next = at;
        self.found = 0;
    }

    /// The next one.
    #[inline]
    pub(super) fn next(&mut self) -> Option<usize> {
        let mut words = 0;
        while self.found == 0 {
            let rest = self.bytes.get(self.next..)?;
            if words == Self::WORDS {
                let at = self.next + memchr::memchr(b'\n', rest)?;
                self.seek(at + 1);
                return Some(at);
            }
            words += 1;
            self.found = match rest.first_chunk() {
                Some(word) => line_feeds(*word),
                None => {
                    let mut word = [0; WORD];
                    word[..rest.len()].copy_from_slice(rest);
                    line_feeds(word)
                }
            };
            self.next += WORD;
        }
        let at = self.next - WORD + self.found.trailing_zeros() as usize / 8;
        // Not this one again.
        self.found &= self.found - 1;
        Some(at)
    }
}

/// The highest bit of each byte that is a line feed.
#[inline]
fn line_feeds(word: [u8; WORD]) -> u64 {
    const LOW: u64 = u64::from_le_bytes([0x7f; WORD]);
    let other = u64::from_le_bytes(word) ^ u64::from_le_bytes([b'\n'; WORD]);
    // A byte is zero where there is one; no sum goes over into the next.
    !(((other & LOW) + LOW) | other | LOW)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_end_where_their_line_feeds_are(
            pieces in prop::collection::vec(("[\\x09-\\x0b\u{80}-\u{8f}]{0,20}", 0..200_usize), 0..5),
            from in 0..40_usize,
        ) {
            let mut bytes = Vec::new();
            for (text, others) in pieces {
                bytes.extend_from_slice(text.as_bytes());
                bytes.resize(bytes.len() + others, 0x8a);
            }
            let all = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'\n');
            let all: Vec<usize> = all.map(|(at, _)| at).collect();
            let mut ends = LineFeeds::of(&bytes);
            prop_assert_eq!(&std::iter::from_fn(|| ends.next()).collect::<Vec<_>>(), &all);
            let from = from.min(bytes.len());
            let mut ends = LineFeeds::of(&bytes);
            ends.next();
            ends.seek(from);
            let rest: Vec<usize> = all.into_iter().filter(|&at| at >= from).collect();
            prop_assert_eq!(std::iter::from_fn(|| ends.next()).collect::<Vec<_>>(), rest);
        }
    }
}
