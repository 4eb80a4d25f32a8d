use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::{
    Code,
    config::{HeaderMatcher, RetryPolicy},
    route::{Head, HeaderTest, Semantics, first_value},
};

/// The retries of one call under HTTP semantics, as Envoy's router makes them. Pure: it decides, the
/// caller waits.
#[derive(Debug)]
pub struct HttpRetryState {
    policy: Arc<RetryPolicy>,
    /// Attempts after the first.
    made: u32,
}

/// Why an attempt has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoResponse {
    /// No connection could be made.
    ConnectFailure,
    /// The server did not process it (REFUSED_STREAM).
    Refused,
    /// The stream or its connection ended, or its time (`per_try_timeout`).
    Reset,
}

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

// === impl HttpRetryState ===

impl HttpRetryState {
    /// Of a call with this request, under this policy. `None`: its `retriable_request_headers` rule
    /// the request out.
    pub fn new(policy: &Arc<RetryPolicy>, request: &Head<'_>) -> Option<Self> {
        let wanted = &policy.http.request_headers;
        let covered = wanted.is_empty() || any(wanted, request);
        covered.then(|| Self {
            policy: Arc::clone(policy),
            made: 0,
        })
    }

    /// Whether this response calls for another attempt. What is final otherwise is the caller's.
    pub fn covers_response(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let (on, http) = (&self.policy.on, &self.policy.http);
        // An Envoy has answered in the server's place, and asks to be left alone.
        if first_value(headers, &RATE_LIMITED).is_some() {
            return on.rate_limited;
        }
        let by_status = (on.server_error && status.is_server_error())
            || (on.gateway_error && matches!(status.as_u16(), 502..=504))
            || (on.retriable_4xx && status == StatusCode::CONFLICT)
            || (on.status_codes && http.statuses.contains(&status));
        by_status
            || (on.headers && any(&http.headers, &response(headers)))
            || (on.any_grpc() && self.covers_code(headers))
    }

    /// Whether an attempt without a response calls for another.
    pub fn covers(&self, outcome: NoResponse) -> bool {
        let on = &self.policy.on;
        on.server_error
            || on.gateway_error
            || on.reset
            || match outcome {
                NoResponse::ConnectFailure => on.connect_failure || on.reset_before_request,
                NoResponse::Refused => on.refused_stream,
                NoResponse::Reset => false,
            }
    }

    /// Whether the attempts that the policy allows are used up.
    pub fn is_exhausted(&self) -> bool {
        self.made >= self.policy.retries
    }

    /// The pause before another attempt, `None` if there are no more: full jitter over the base
    /// interval doubled each time, less one, up to the maximum (Envoy's retry backoff).
    pub fn next_pause(&mut self) -> Option<Duration> {
        if self.is_exhausted() {
            return None;
        }
        let doubled = 2u32.saturating_pow(self.made + 1) - 1;
        self.made += 1;
        let longest = self.policy.base_interval.saturating_mul(doubled);
        let longest = longest.min(self.policy.max_interval);
        Some(longest.mul_f64(fastrand::f64()))
    }

    /// Attempts before the current one.
    pub fn previous_attempts(&self) -> u32 {
        self.made
    }

    fn covers_code(&self, headers: &HeaderMap) -> bool {
        let status = first_value(headers, &GRPC_STATUS);
        let code = status.and_then(|status| status.to_str().ok()?.parse().ok());
        let on = &self.policy.on;
        match code.map(Code::from_i32) {
            Some(Code::Cancelled) => on.cancelled,
            Some(Code::DeadlineExceeded) => on.deadline_exceeded,
            Some(Code::Internal) => on.internal,
            Some(Code::ResourceExhausted) => on.resource_exhausted,
            Some(Code::Unavailable) => on.unavailable,
            _ => false,
        }
    }
}

/// Headers of a response, for matchers.
fn response(headers: &HeaderMap) -> Head<'_> {
    Head {
        method: &Method::GET,
        scheme: "",
        authority: "",
        path: "",
        query: None,
        headers,
    }
}

/// Whether one of the matchers passes. Compiled each time: it is asked on failures only.
fn any(matchers: &[HeaderMatcher], head: &Head<'_>) -> bool {
    matchers
        .iter()
        .any(|matcher| HeaderTest::compile(Semantics::Http, matcher).is_match(head))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::{HttpRetry, RetryOn};

    fn state(on: RetryOn, http: HttpRetry, retries: u32) -> HttpRetryState {
        let policy = Arc::new(RetryPolicy {
            on,
            retries,
            base_interval: Duration::from_millis(100),
            max_interval: Duration::from_millis(500),
            http,
        });
        let headers = HeaderMap::new();
        HttpRetryState::new(&policy, &response(&headers)).expect("no header is asked for")
    }

    /// The statuses from 200 to 599 that are tried again.
    fn statuses(on: RetryOn, http: HttpRetry) -> Vec<u16> {
        let state = state(on, http, 1);
        let covers = |status: &u16| {
            let status = StatusCode::from_u16(*status).unwrap();
            state.covers_response(status, &HeaderMap::new())
        };
        (200..600).filter(covers).collect()
    }

    #[test]
    fn conditions_cover_statuses() {
        let none = RetryOn::default();
        let http = HttpRetry::default;
        assert!(statuses(none, http()).is_empty());
        let on = RetryOn {
            server_error: true,
            ..none
        };
        assert_eq!(statuses(on, http()), (500..600).collect::<Vec<_>>());
        let on = RetryOn {
            gateway_error: true,
            ..none
        };
        assert_eq!(statuses(on, http()), [502, 503, 504]);
        let on = RetryOn {
            retriable_4xx: true,
            ..none
        };
        assert_eq!(statuses(on, http()), [409]);
        let listed = HttpRetry {
            statuses: vec![StatusCode::TOO_MANY_REQUESTS],
            ..http()
        };
        assert!(statuses(none, listed.clone()).is_empty());
        let on = RetryOn {
            status_codes: true,
            ..none
        };
        assert_eq!(statuses(on, listed), [429]);
    }

    #[test]
    fn headers_of_a_response_count() {
        let on = RetryOn {
            server_error: true,
            unavailable: true,
            ..RetryOn::default()
        };
        let state = state(on, HttpRetry::default(), 1);
        let with = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]);
            let status = match name {
                "grpc-status" => StatusCode::OK,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            state.covers_response(status, &headers)
        };
        assert!(with("x-other", "true"));
        assert!(with("grpc-status", "14"));
        assert!(!with("grpc-status", "5"));
    }

    #[test]
    fn a_response_that_was_rate_limited_has_a_condition_of_its_own() {
        let limited = HeaderMap::from_iter([
            (RATE_LIMITED.clone(), HeaderValue::from_static("true")),
            (GRPC_STATUS.clone(), HeaderValue::from_static("14")),
        ]);
        let all_others = RetryOn {
            server_error: true,
            gateway_error: true,
            retriable_4xx: true,
            status_codes: true,
            headers: true,
            unavailable: true,
            ..RetryOn::default()
        };
        let only = RetryOn {
            rate_limited: true,
            ..RetryOn::default()
        };
        let listed = || HttpRetry {
            statuses: vec![StatusCode::TOO_MANY_REQUESTS],
            ..HttpRetry::default()
        };
        for status in [200, 409, 429, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            let others = state(all_others, listed(), 1);
            assert!(!others.covers_response(status, &limited), "{status}");
            let only = state(only, listed(), 1);
            assert!(only.covers_response(status, &limited), "{status}");
            assert!(!only.covers_response(status, &HeaderMap::new()), "{status}");
        }
    }

    #[test]
    fn conditions_cover_what_has_no_response() {
        let covered = |set: fn(&mut RetryOn)| {
            let mut on = RetryOn::default();
            set(&mut on);
            let state = state(on, HttpRetry::default(), 1);
            let all = [
                NoResponse::ConnectFailure,
                NoResponse::Refused,
                NoResponse::Reset,
            ];
            all.map(|outcome| state.covers(outcome))
        };
        assert_eq!(covered(|_| {}), [false; 3]);
        assert_eq!(covered(|on| on.server_error = true), [true; 3]);
        assert_eq!(covered(|on| on.gateway_error = true), [true; 3]);
        assert_eq!(covered(|on| on.reset = true), [true; 3]);
        assert_eq!(
            covered(|on| on.connect_failure = true),
            [true, false, false]
        );
        assert_eq!(covered(|on| on.refused_stream = true), [false, true, false]);
        assert_eq!(covered(|on| on.retriable_4xx = true), [false; 3]);
    }

    #[test]
    fn pauses_stay_within_doubled_intervals_and_retries_within_their_number() {
        for _ in 0..200 {
            let mut state = state(RetryOn::default(), HttpRetry::default(), 4);
            for longest in [100, 300, 500, 500] {
                let pause = state.next_pause().expect("there are four");
                assert!(pause <= Duration::from_millis(longest));
            }
            assert_eq!(state.next_pause(), None);
            assert_eq!(state.previous_attempts(), 4);
        }
    }
}
