/// The retries of one call that need no policy, because no server has seen to it (gRFC A6,
/// "transparent retries"). They count towards no attempt limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct TransparentRetries {
    unsent: u32,
    unprocessed: bool,
}

impl TransparentRetries {
    /// Retries of one call that never left the client. gRPC sets no limit; this one only stops a
    /// call that meets a dying connection each time.
    pub const MAX_UNSENT: u32 = 100;

    /// Of a call without any so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// After an attempt that never left the client: whether to try again at once.
    pub fn unsent(&mut self) -> bool {
        let again = self.unsent < Self::MAX_UNSENT;
        self.unsent += u32::from(again);
        again
    }

    /// After an attempt that the server says it did not process (REFUSED_STREAM, or a GOAWAY with
    /// a lower stream id): whether to try again at once. True once; after that the failure is one
    /// for the retry policy.
    pub fn unprocessed(&mut self) -> bool {
        !std::mem::replace(&mut self.unprocessed, true)
    }

    /// How many were made.
    pub fn count(&self) -> u32 {
        self.unsent + u32::from(self.unprocessed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprocessed_once_unsent_many_times() {
        let mut retries = TransparentRetries::new();
        assert!(retries.unprocessed());
        assert!(!retries.unprocessed());
        for _ in 0..TransparentRetries::MAX_UNSENT {
            assert!(retries.unsent());
        }
        assert!(!retries.unsent());
        assert_eq!(retries.count(), TransparentRetries::MAX_UNSENT + 1);
    }
}
