//! Protobuf's wire format, read without a schema.

/// The fields of an encoded message, in order. Ends after the first error.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// A field's value as the wire tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number.
    Scalar,
    /// A string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("truncated protobuf")]
    Truncated,
    #[error("malformed protobuf: a number of more than 64 bits")]
    Overlong,
    #[error("malformed protobuf: field number {0} is out of range")]
    Number(u64),
    #[error("malformed protobuf: wire type {0}")]
    WireType(u8),
    #[error("protobuf groups are not supported")]
    Group,
}

/// The last string in field `number` before the end or the first error: a name can be told even
/// if what follows it cannot be read.
pub(super) fn string(message: &[u8], number: u32) -> Option<&str> {
    Reader::new(message)
        .map_while(Result::ok)
        .filter_map(|field| match field {
            (at, Value::Bytes(bytes)) if at == number => std::str::from_utf8(bytes).ok(),
            _ => None,
        })
        .last()
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), WireError> {
        let key = self.varint()?;
        let number = u32::try_from(key)
            .ok()
            .map(|key| key >> 3)
            .filter(|&number| number > 0)
            .ok_or(WireError::Number(key >> 3))?;
        let value = match (key & 7) as u8 {
            0 => self.varint().map(|_| Value::Scalar)?,
            1 => self.take(8).map(|_| Value::Scalar)?,
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
                Value::Bytes(self.take(length)?)
            }
            3 | 4 => return Err(WireError::Group),
            5 => self.take(4).map(|_| Value::Scalar)?,
            other => return Err(WireError::WireType(other)),
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
            self.rest = rest;
            // The tenth byte holds one bit.
            if shift == 63 && byte > 1 {
                return Err(WireError::Overlong);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Overlong)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u32, Value<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_wire_type() {
        let message = [
            0x08, 0x96, 0x01, // 1: varint 150
            0x11, 1, 2, 3, 4, 5, 6, 7, 8, // 2: 64 bits
            0x1a, 0x02, b'h', b'i', // 3: "hi"
            0x25, 1, 2, 3, 4, // 4: 32 bits
        ];
        let fields: Result<Vec<_>, _> = Reader::new(&message).collect();
        assert_eq!(
            fields.unwrap(),
            [
                (1, Value::Scalar),
                (2, Value::Scalar),
                (3, Value::Bytes(b"hi")),
                (4, Value::Scalar)
            ]
        );
    }

    #[test]
    fn says_what_is_malformed() {
        let long = [0xff; 11];
        for (message, error) in [
            (&[0x08][..], WireError::Truncated),
            (&[0x0a, 0x05, b'h'], WireError::Truncated),
            (&[0x0d, 1, 2], WireError::Truncated),
            (&[0x00], WireError::Number(0)),
            (
                &[0x80, 0x80, 0x80, 0x80, 0x10, 0],
                WireError::Number(1 << 29),
            ),
            (&[0x0b], WireError::Group),
            (&[0x0f], WireError::WireType(7)),
            (&long, WireError::Overlong),
        ] {
            assert_eq!(Reader::new(message).last(), Some(Err(error)), "{message:?}");
        }
    }

    #[test]
    fn finds_the_name_before_the_damage() {
        let message = [0x0a, 0x02, b'h', b'i', 0x12, 0x7f, 0x00];
        assert_eq!(string(&message, 1), Some("hi"));
        assert_eq!(string(&message, 2), None);
        assert_eq!(string(&[0x0a, 0x02, b'h'], 1), None);
        assert_eq!(string(&[0x0a, 0x01, 0xff], 1), None);
    }
}
