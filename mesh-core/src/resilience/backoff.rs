use std::time::Duration;

/// Growing, jittered pauses between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    factor: f64,
    jitter: Jitter,
    next: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Jitter {
    /// Uniform in `0..=pause`.
    Full,
    /// The pause, more or less a fifth.
    Fifth,
}

impl Backoff {
    /// For streams to a control plane: from 1 s, times 1.6, to 120 s at most, full jitter.
    pub fn control_plane() -> Self {
        Self::new(
            Duration::from_secs(1),
            Duration::from_secs(120),
            1.6,
            Jitter::Full,
        )
    }

    /// For connections to endpoints: from 1 s, times 1.6, to `max` at most (gRPC's default is
    /// 120 s), jitter of a fifth (gRPC connection backoff).
    pub fn connection(base: Duration, max: Duration) -> Self {
        Self::new(base, max, 1.6, Jitter::Fifth)
    }

    /// For retries of a call: doubled each time, jitter of a fifth (gRFC A6, A44).
    pub fn retry(base: Duration, max: Duration) -> Self {
        Self::new(base, max, 2.0, Jitter::Fifth)
    }

    fn new(base: Duration, max: Duration, factor: f64, jitter: Jitter) -> Self {
        Self {
            base,
            max,
            factor,
            jitter,
            next: base.min(max),
        }
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.mul_f64(self.factor).min(self.max);
        match self.jitter {
            Jitter::Full => pause.mul_f64(fastrand::f64()),
            Jitter::Fifth => pause.mul_f64(0.8 + 0.4 * fastrand::f64()),
        }
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.next = self.base.min(self.max);
    }
}
