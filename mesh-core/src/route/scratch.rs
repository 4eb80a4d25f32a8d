/// Bytes put together for one look: on the stack up to [`Scratch::INLINE`], else on the heap.
pub(crate) struct Scratch {
    len: usize,
    inline: [u8; Scratch::INLINE],
    /// Takes over once `inline` is too small.
    spilled: Vec<u8>,
}

impl Scratch {
    const INLINE: usize = 256;

    pub(crate) fn new() -> Self {
        Self {
            len: 0,
            inline: [0; Self::INLINE],
            spilled: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.spilled.is_empty() {
            if let Some(free) = self.inline[self.len..].get_mut(..bytes.len()) {
                free.copy_from_slice(bytes);
                self.len += bytes.len();
                return;
            }
            self.spilled.reserve(self.len + bytes.len());
            self.spilled.extend_from_slice(&self.inline[..self.len]);
        }
        self.spilled.extend_from_slice(bytes);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        if self.spilled.is_empty() {
            &self.inline[..self.len]
        } else {
            &self.spilled
        }
    }

    fn as_mut_bytes(&mut self) -> &mut [u8] {
        if self.spilled.is_empty() {
            &mut self.inline[..self.len]
        } else {
            &mut self.spilled
        }
    }
}

/// `text` with its ASCII letters in lower case. Copies it to `room` only if that changes it.
pub(super) fn fold<'a>(text: &'a [u8], room: &'a mut Option<Scratch>) -> &'a [u8] {
    // All are looked at, many at once: there nearly never is one.
    let is_folded = |folded, byte: &u8| folded & !byte.is_ascii_uppercase();
    if text.iter().fold(true, is_folded) {
        return text;
    }
    let room = room.insert(Scratch::new());
    room.push(text);
    room.as_mut_bytes().make_ascii_lowercase();
    room.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_any_length_across_the_spill() {
        for piece in [1, 7, 255, 256, 257, 1000] {
            let mut scratch = Scratch::new();
            let mut expected = Vec::new();
            for round in 0..4u8 {
                let bytes = vec![b'a' + round; piece];
                scratch.push(&bytes);
                expected.extend_from_slice(&bytes);
                assert_eq!(scratch.as_bytes(), expected);
            }
        }
        assert_eq!(Scratch::new().as_bytes(), b"");
    }

    #[test]
    fn folds_ascii_only_and_only_if_needed() {
        let mut room = None;
        assert_eq!(fold("/a/ä".as_bytes(), &mut room), "/a/ä".as_bytes());
        assert!(room.is_none());
        assert_eq!(fold("/A/Ä".as_bytes(), &mut room), "/a/Ä".as_bytes());
        let long = "X".repeat(300);
        assert_eq!(fold(long.as_bytes(), &mut room), "x".repeat(300).as_bytes());
    }
}
