use mesh_core::{Semantics, telemetry::Amount};

/// Counts what goes by of a body: bytes, and under gRPC semantics messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    amount: Amount,
    /// What is still to come of the message under way; while its prefix comes, its length as far as
    /// that.
    rest: u32,
    /// How much of a message's prefix has come.
    prefix: u8,
}

/// A flag and four bytes of length before each message (gRPC over HTTP/2).
const PREFIX: u8 = 5;

impl Tally {
    /// These bytes went by.
    #[inline]
    pub(crate) fn count(&mut self, semantics: Semantics, data: &[u8]) {
        match semantics {
            Semantics::Http => self.amount.bytes += data.len() as u64,
            Semantics::Grpc => self.messages(data),
        }
    }

    /// So far. A message counts from its prefix on.
    #[inline]
    pub(crate) fn amount(&self) -> Amount {
        self.amount
    }

    #[inline]
    fn messages(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.prefix == 0 && self.rest > 0 {
                let now = data.len().min(self.rest as usize);
                self.rest -= now as u32;
                self.amount.bytes += now as u64;
                data = &data[now..];
            } else if self.prefix == 0
                && let Some((&[_, a, b, c, d], after)) = data.split_first_chunk()
            {
                self.rest = u32::from_be_bytes([a, b, c, d]);
                self.amount.messages += 1;
                data = after;
            } else {
                if self.prefix > 0 {
                    self.rest = self.rest << 8 | u32::from(data[0]);
                }
                self.prefix += 1;
                data = &data[1..];
                if self.prefix == PREFIX {
                    self.prefix = 0;
                    self.amount.messages += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_are_counted_however_they_are_cut(
            sizes in prop::collection::vec(0..70_u32, 0..12),
            cuts in prop::collection::vec(1..9_usize, 0..200),
        ) {
            let mut wire = Vec::new();
            for &size in &sizes {
                wire.push(0);
                wire.extend(size.to_be_bytes());
                wire.extend(vec![7; size as usize]);
            }
            let (mut tally, mut rest) = (Tally::default(), &wire[..]);
            for cut in cuts {
                let (now, after) = rest.split_at(cut.min(rest.len()));
                tally.count(Semantics::Grpc, now);
                rest = after;
            }
            tally.count(Semantics::Grpc, rest);
            let bytes = sizes.iter().map(|&size| u64::from(size)).sum();
            let messages = sizes.len() as u64;
            prop_assert_eq!(tally.amount(), Amount { bytes, messages });
            let mut plain = Tally::default();
            plain.count(Semantics::Http, &wire);
            prop_assert_eq!(plain.amount(), Amount { bytes: wire.len() as u64, messages: 0 });
        }
    }
}
