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

    /// For certificate authorities: from 1 s, times 2, to 150 s at most, jitter of a fifth included
    /// (as Istio's ztunnel).
    pub fn certificate_authority() -> Self {
        Self::new(
            Duration::from_secs(1),
            Duration::from_secs(125),
            2.0,
            Jitter::Fifth,
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_within_their_jitter() {
        let second = Duration::from_secs(1);
        for _ in 0..100 {
            let mut full = Backoff::control_plane();
            let mut fifth = Backoff::connection(second, second * 2);
            for expected in [1.0, 1.6, 2.56, 4.096] {
                assert!(full.next_pause().as_secs_f64() <= expected);
                let expected: f64 = expected.min(2.0);
                let pause = fifth.next_pause().as_secs_f64() / expected;
                assert!((0.799..1.201).contains(&pause), "{pause}");
            }
            fifth.reset();
            assert!(fifth.next_pause() <= second.mul_f64(1.2));
        }
        let mut short = Backoff::retry(second * 5, second);
        assert!(
            short.next_pause() <= second.mul_f64(1.2),
            "the base is held to the maximum"
        );
    }
}
