use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode};

use crate::config::{HeaderMatch, HeaderMatcher, HttpRetry, RetryOn, RetryPolicy};

/// What the headers of a request ask of its retries, under HTTP semantics (Envoy, "Router": HTTP
/// headers, consumed).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetryHeaders {
    /// `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
    on: RetryOn,
    /// `x-envoy-max-retries`.
    retries: Option<u32>,
    /// `x-envoy-retriable-status-codes`.
    statuses: Vec<StatusCode>,
    /// `x-envoy-retriable-header-names`.
    headers: Vec<HeaderMatcher>,
}

static RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
static RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
static MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
static STATUSES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
static HEADERS: HeaderName = HeaderName::from_static("x-envoy-retriable-header-names");
/// Never obeyed: requests are not hedged.
static HEDGE: HeaderName = HeaderName::from_static("x-envoy-hedge-on-per-try-timeout");

/// Values, and names, that are read of one request: the rest is left out.
const MOST: usize = 64;

// === impl RetryHeaders ===

impl RetryHeaders {
    /// Takes the headers away, unread.
    pub fn remove(headers: &mut HeaderMap) {
        let ours = [
            &RETRY_ON,
            &RETRY_GRPC_ON,
            &MAX_RETRIES,
            &STATUSES,
            &HEADERS,
            &HEDGE,
        ];
        for name in ours {
            headers.remove(name);
        }
    }

    /// Reads the headers and takes them away. What cannot be read counts as absent, as in Envoy.
    pub fn take(headers: &mut HeaderMap) -> Self {
        let mut asked = Self::default();
        for (name, are_codes) in [(&RETRY_ON, false), (&RETRY_GRPC_ON, true)] {
            for condition in values(headers, name) {
                if let Some((flag, is_code)) = asked.on.condition(condition)
                    && is_code == are_codes
                {
                    *flag = true;
                }
            }
        }
        let retries = headers.get(&MAX_RETRIES);
        let retries = retries.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        asked.retries = retries.map(|retries| u32::try_from(retries).unwrap_or(u32::MAX));
        let statuses = values(headers, &STATUSES);
        asked.statuses = statuses
            .filter_map(|status| StatusCode::from_u16(status.parse().ok()?).ok())
            .collect();
        asked.headers = values(headers, &HEADERS).map(present).collect();
        Self::remove(headers);
        asked
    }

    /// The policy of a route with what the request asks for added to it. `None`: nothing is tried
    /// again.
    pub fn merge(self, policy: Option<&Arc<RetryPolicy>>) -> Option<Arc<RetryPolicy>> {
        if self == Self::default() {
            return policy.cloned();
        }
        let mut merged = match policy {
            Some(policy) => RetryPolicy::clone(policy),
            None => RetryPolicy {
                on: RetryOn::default(),
                retries: 1,
                base_interval: Duration::from_millis(25),
                max_interval: Duration::from_millis(250),
                http: HttpRetry::default(),
            },
        };
        merged.on.add(&self.on);
        merged.retries = self.retries.unwrap_or(merged.retries);
        merged.http.statuses.extend(self.statuses);
        merged.http.headers.extend(self.headers);
        (merged.on != RetryOn::default()).then(|| Arc::new(merged))
    }
}

/// The parts between commas of all values of this name.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .take(MOST)
}

/// Asks for a header of this name.
fn present(name: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_ascii_lowercase(),
        test: HeaderMatch::Present(true),
        invert: false,
        treat_missing_as_empty: false,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;
    use crate::{resilience::HttpRetryState, route::Head};

    fn taken(given: &[(&'static str, &'static str)]) -> RetryHeaders {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let asked = RetryHeaders::take(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");
        asked
    }

    fn policy(on: RetryOn) -> Arc<RetryPolicy> {
        let of_headers = taken(&[("x-envoy-retry-on", "reset"), ("x-envoy-max-retries", "4")]);
        let mut policy = RetryPolicy::clone(&of_headers.merge(None).expect("it has a condition"));
        policy.on = on;
        policy.http.statuses = vec![StatusCode::TOO_MANY_REQUESTS];
        Arc::new(policy)
    }

    #[test]
    fn headers_alone_are_a_policy() {
        let asked = taken(&[("x-envoy-retry-on", "5xx, retriable-4xx,unavailable,nothing")]);
        let made = asked.merge(None).unwrap();
        let on = RetryOn {
            server_error: true,
            retriable_4xx: true,
            ..RetryOn::default()
        };
        // A code of gRPC is asked for with the other header.
        assert_eq!((made.on, made.retries), (on, 1));
        let asked = taken(&[
            ("x-envoy-retry-grpc-on", "unavailable,5xx"),
            ("x-envoy-retry-grpc-on", "internal"),
            ("x-envoy-max-retries", "7"),
        ]);
        let made = asked.merge(None).unwrap();
        let on = RetryOn {
            unavailable: true,
            internal: true,
            ..RetryOn::default()
        };
        assert_eq!((made.on, made.retries), (on, 7));
    }

    #[test]
    fn headers_without_a_condition_retry_nothing() {
        let asked = taken(&[
            ("x-envoy-max-retries", "3"),
            ("x-envoy-retriable-status-codes", "503"),
            ("x-envoy-retriable-header-names", "x-again"),
            ("x-envoy-hedge-on-per-try-timeout", "true"),
        ]);
        assert_eq!(asked.merge(None), None);
        assert_eq!(taken(&[]).merge(None), None);
    }

    #[test]
    fn headers_add_to_the_policy_of_the_route() {
        let on = RetryOn {
            reset: true,
            ..RetryOn::default()
        };
        let route = policy(on);
        assert_eq!(taken(&[]).merge(Some(&route)), Some(Arc::clone(&route)));
        let asked = taken(&[
            (
                "x-envoy-retry-on",
                "retriable-status-codes,retriable-headers",
            ),
            ("x-envoy-retriable-status-codes", "418,x,99999, 404"),
            ("x-envoy-retriable-header-names", "X-Again, x-more"),
        ]);
        let made = asked.merge(Some(&route)).unwrap();
        let on = RetryOn {
            status_codes: true,
            headers: true,
            ..on
        };
        assert_eq!((made.on, made.retries), (on, 4));
        let statuses: Vec<_> = made
            .http
            .statuses
            .iter()
            .map(|status| status.as_u16())
            .collect();
        assert_eq!(statuses, [429, 418, 404]);

        let (method, none) = (Method::GET, HeaderMap::new());
        let head = Head {
            method: &method,
            scheme: "",
            authority: "",
            path: "",
            query: None,
            headers: &none,
        };
        let state = HttpRetryState::new(&made, &head).unwrap();
        let again = HeaderMap::from_iter([(
            HeaderName::from_static("x-again"),
            HeaderValue::from_static(""),
        )]);
        assert!(state.covers_response(StatusCode::OK, &again));
        assert!(!state.covers_response(StatusCode::OK, &none));
        assert!(state.covers_response(StatusCode::IM_A_TEAPOT, &none));
    }

    #[test]
    fn a_number_of_retries_takes_precedence_and_may_be_none() {
        let on = RetryOn {
            reset: true,
            ..RetryOn::default()
        };
        for (value, retries) in [
            ("0", 0),
            ("2", 2),
            ("99999999999", u32::MAX),
            ("-1", 4),
            ("many", 4),
        ] {
            let made = taken(&[("x-envoy-max-retries", value)]).merge(Some(&policy(on)));
            assert_eq!(made.unwrap().retries, retries, "{value}");
        }
    }
}
