//! Until when the sender of a request waits.

use std::time::Duration;

use http::HeaderValue;
use mesh_core::{Code, Semantics, filter::Reply, resilience::parse_grpc_timeout};
use tokio::time::Instant;

use super::{
    Said,
    reply::{self, Form},
};

/// The deadline of a request whose headers say this: that of `grpc-timeout` for gRPC, and under HTTP
/// semantics that of `x-envoy-expected-rq-timeout-ms` too; the earlier one, so that a request which
/// crosses both worlds keeps one. `None`: no limit.
///
/// # Errors
/// If a `grpc-timeout` cannot be read. Of the other header what cannot be read says nothing, and
/// neither does zero (as in Envoy).
#[inline]
pub(super) fn read(
    semantics: Semantics,
    form: Form,
    said: &Said<'_>,
) -> Result<Option<Instant>, Reply> {
    let asked = match (semantics, form) {
        (Semantics::Grpc, _) | (Semantics::Http, Form::Grpc) => grpc(said)?,
        (Semantics::Http, Form::Http) => None,
    };
    let expected = match semantics {
        Semantics::Grpc => None,
        Semantics::Http => said.expected.and_then(milliseconds),
    };
    let limit = match (asked, expected) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    };
    // Later than a clock can say is no limit.
    Ok(limit.and_then(|limit| Instant::now().checked_add(limit)))
}

fn grpc(said: &Said<'_>) -> Result<Option<Duration>, Reply> {
    let Some(asked) = said.grpc_timeout else {
        return Ok(None);
    };
    match parse_grpc_timeout(asked) {
        Ok(limit) => Ok(Some(limit)),
        Err(_) => Err(reply::malformed(Code::Internal, "malformed grpc-timeout")),
    }
}

fn milliseconds(value: &HeaderValue) -> Option<Duration> {
    let digits = value.as_bytes();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (count > 0).then(|| Duration::from_millis(count))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The time that is left.
    fn left(
        semantics: Semantics,
        form: Form,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Option<Duration>, http::StatusCode> {
        let headers = headers.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let headers: HeaderMap = headers.collect();
        let deadline = read(semantics, form, &Said::by(&headers));
        match deadline {
            Ok(deadline) => Ok(deadline.map(|deadline| deadline - Instant::now())),
            Err(reply) => Err(reply.http),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_both_counts_and_each_in_its_world() {
        let both = &[
            ("grpc-timeout", "3S"),
            ("x-envoy-expected-rq-timeout-ms", "2000"),
        ];
        assert_eq!(
            left(Semantics::Http, Form::Grpc, both),
            Ok(Some(2 * SECOND))
        );
        assert_eq!(
            left(Semantics::Http, Form::Http, both),
            Ok(Some(2 * SECOND))
        );
        assert_eq!(
            left(Semantics::Grpc, Form::Grpc, both),
            Ok(Some(3 * SECOND))
        );
        let one = &[("grpc-timeout", "3S")];
        assert_eq!(left(Semantics::Http, Form::Http, one), Ok(None));
        assert_eq!(left(Semantics::Http, Form::Grpc, one), Ok(Some(3 * SECOND)));
        assert_eq!(left(Semantics::Http, Form::Http, &[]), Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_refused_in_grpc_and_says_nothing_in_http() {
        for value in ["", "soon", "-1", "1.5", "0", "99999999999999999999", "+1"] {
            let headers = &[("x-envoy-expected-rq-timeout-ms", value)];
            assert_eq!(
                left(Semantics::Http, Form::Http, headers),
                Ok(None),
                "{value}"
            );
        }
        let ages = &[("x-envoy-expected-rq-timeout-ms", "18446744073709551615")];
        assert!(left(Semantics::Http, Form::Http, ages).is_ok());
        let malformed = &[("grpc-timeout", "soon")];
        let refused = Err(http::StatusCode::BAD_REQUEST);
        assert_eq!(left(Semantics::Http, Form::Grpc, malformed), refused);
        assert_eq!(left(Semantics::Http, Form::Http, malformed), Ok(None));
    }
}
