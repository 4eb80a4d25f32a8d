use std::time::Duration;

use http::HeaderMap;

use super::Backoff;
use crate::{
    Code,
    config::{RetryOn, RetryPolicy},
};

/// The retries of one call under a policy (gRFC A6, A44). Pure: it decides, the caller waits.
///
/// Failures by `drop_overloads` or the circuit breaker, and calls whose response has begun, are
/// not to be asked about: they are never tried again.
#[derive(Debug, Clone)]
pub struct RetryState {
    on: RetryOn,
    backoff: Backoff,
    /// Attempts after the first.
    retries: u32,
    limit: u32,
}

/// What a server says of trying again (`grpc-retry-pushback-ms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushback {
    /// Try again after exactly this time.
    After(Duration),
    /// Do not try again: the value was negative, no number, or there were several.
    Stop,
}

// === impl RetryState ===

impl RetryState {
    /// Attempts of one call in all, whatever the policy says (gRFC A6).
    pub const MAX_ATTEMPTS: u32 = 5;

    /// Of a call whose first attempt is under way.
    pub fn new(policy: &RetryPolicy) -> Self {
        Self {
            on: policy.on,
            backoff: Backoff::retry(policy.base_interval, policy.max_interval),
            retries: 0,
            limit: policy.retries.min(Self::MAX_ATTEMPTS - 1),
        }
    }

    /// After an attempt that ended with `code`: when to start the next one, or `None` for no more.
    ///
    /// Without pushback the pause grows from the policy's base interval, more or less a fifth;
    /// pushback sets it exactly, and the pauses after it grow from the base again.
    pub fn next(&mut self, code: Code, pushback: Option<Pushback>) -> Option<Duration> {
        if pushback == Some(Pushback::Stop) || !self.covers(code) || self.is_exhausted() {
            return None;
        }
        self.retries += 1;
        match pushback {
            Some(Pushback::After(pause)) => {
                self.backoff.reset();
                Some(pause)
            }
            _ => Some(self.backoff.next_pause()),
        }
    }

    /// Attempts before the current one: the value of `grpc-previous-rpc-attempts`, which is sent
    /// if it is not 0. Transparent retries do not count.
    pub fn previous_attempts(&self) -> u32 {
        self.retries
    }

    /// Whether the current attempt is the last: its request need not be kept for another.
    fn is_exhausted(&self) -> bool {
        self.retries >= self.limit
    }

    fn covers(&self, code: Code) -> bool {
        match code {
            Code::Cancelled => self.on.cancelled,
            Code::DeadlineExceeded => self.on.deadline_exceeded,
            Code::Internal => self.on.internal,
            Code::ResourceExhausted => self.on.resource_exhausted,
            Code::Unavailable => self.on.unavailable,
            _ => false,
        }
    }
}

// === impl Pushback ===

impl Pushback {
    /// The header's name.
    pub const HEADER: &'static str = "grpc-retry-pushback-ms";

    /// What the headers of a failed response say; `None`: nothing.
    pub fn parse(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(Self::HEADER).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return Some(Pushback::Stop);
        }
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        Some(millis.map_or(Pushback::Stop, |millis: u32| {
            Pushback::After(Duration::from_millis(millis.into()))
        }))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn policy(retries: u32) -> RetryPolicy {
        RetryPolicy {
            on: RetryOn {
                unavailable: true,
                ..RetryOn::default()
            },
            retries,
            base_interval: Duration::from_millis(100),
            max_interval: Duration::from_millis(350),
            http: Default::default(),
        }
    }

    fn about(pause: Option<Duration>, millis: u64) -> bool {
        pause.is_some_and(|pause| {
            (millis * 8 / 10..=millis * 12 / 10).contains(&(pause.as_millis() as u64))
        })
    }

    fn header(value: &'static str) -> Option<Pushback> {
        let mut headers = HeaderMap::new();
        headers.append(Pushback::HEADER, HeaderValue::from_static(value));
        Pushback::parse(&headers)
    }

    proptest! {
        #[test]
        fn attempts_are_capped(retries in 1..20_u32) {
            let mut state = RetryState::new(&policy(retries));
            let mut made = 0;
            while state.next(Code::Unavailable, None).is_some() {
                made += 1;
                prop_assert_eq!(state.previous_attempts(), made);
            }
            prop_assert_eq!(made, retries.min(4));
            prop_assert!(state.is_exhausted());
        }
    }

    #[test]
    fn pauses_double_to_the_maximum_within_a_fifth() {
        for _ in 0..100 {
            let mut state = RetryState::new(&policy(4));
            for expected in [100, 200, 350, 350] {
                assert!(about(state.next(Code::Unavailable, None), expected));
            }
        }
    }

    #[test]
    fn only_the_codes_of_the_policy() {
        for number in 0..=16 {
            let code = Code::from_i32(number);
            let next = RetryState::new(&policy(1)).next(code, None);
            assert_eq!(next.is_some(), code == Code::Unavailable, "{code}");
        }
        let all = RetryOn {
            cancelled: true,
            deadline_exceeded: true,
            internal: true,
            resource_exhausted: true,
            unavailable: true,
            ..Default::default()
        };
        let state = RetryState::new(&RetryPolicy {
            on: all,
            ..policy(1)
        });
        let covered = (0..=16).filter(|&n| state.clone().next(Code::from_i32(n), None).is_some());
        assert!(covered.eq([1, 4, 8, 13, 14]));
    }

    #[test]
    fn pushback_is_exact_and_starts_the_pauses_over() {
        let mut state = RetryState::new(&policy(4));
        assert!(about(state.next(Code::Unavailable, None), 100));
        assert!(about(state.next(Code::Unavailable, None), 200));
        let pushed = Duration::from_millis(7);
        let next = state.next(Code::Unavailable, Some(Pushback::After(pushed)));
        assert_eq!(next, Some(pushed));
        assert!(about(state.next(Code::Unavailable, None), 100));
        let next = state.next(Code::Unavailable, Some(Pushback::After(pushed)));
        assert_eq!(next, None, "pushback buys no attempt beyond the cap");
    }

    #[test]
    fn pushback_does_not_make_a_code_retryable_and_stop_stops() {
        let now = Some(Pushback::After(Duration::ZERO));
        assert_eq!(RetryState::new(&policy(1)).next(Code::NotFound, now), None);
        let stop = Some(Pushback::Stop);
        let mut state = RetryState::new(&policy(1));
        assert_eq!(state.next(Code::Unavailable, stop), None);
    }

    #[test]
    fn pushback_parses_as_grpc_says() {
        assert_eq!(Pushback::parse(&HeaderMap::new()), None);
        assert_eq!(header("0"), Some(Pushback::After(Duration::ZERO)));
        let second = Pushback::After(Duration::from_secs(1));
        assert_eq!(header("1000"), Some(second));
        for bad in ["-1", "", "1s", "99999999999", "1.5", " 1"] {
            assert_eq!(header(bad), Some(Pushback::Stop), "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(Pushback::HEADER, HeaderValue::from_static("1"));
        headers.append(Pushback::HEADER, HeaderValue::from_static("1"));
        assert_eq!(Pushback::parse(&headers), Some(Pushback::Stop));
    }
}
