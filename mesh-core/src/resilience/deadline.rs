use std::time::Duration;

use http::HeaderValue;

use crate::config::Forward;

/// A `grpc-timeout` that is not one to eight digits and a unit of `H`, `M`, `S`, `m`, `u` or `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid grpc-timeout: want 1 to 8 digits and a unit of H, M, S, m, u or n")]
pub struct InvalidTimeout(());

/// The first value with more digits than a `grpc-timeout` may have.
const TOO_LONG: u128 = 100_000_000;

/// Units of `grpc-timeout`, finest first, with their nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// Reads the value of a `grpc-timeout` header ("gRPC over HTTP2", Requests).
///
/// # Errors
/// If the value does not have the header's form.
pub fn parse_grpc_timeout(value: &HeaderValue) -> Result<Duration, InvalidTimeout> {
    let Some((unit, digits @ [_, ..])) = value.as_bytes().split_last() else {
        return Err(InvalidTimeout(()));
    };
    if digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(InvalidTimeout(()));
    }
    let count = digits
        .iter()
        .fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'n' => Ok(Duration::from_nanos(count)),
        b'u' => Ok(Duration::from_micros(count)),
        b'm' => Ok(Duration::from_millis(count)),
        b'S' => Ok(Duration::from_secs(count)),
        b'M' => Ok(Duration::from_secs(count * 60)),
        b'H' => Ok(Duration::from_secs(count * 3600)),
        _ => Err(InvalidTimeout(())),
    }
}

/// Writes a `grpc-timeout` header: in the finest unit that has room for it, rounded up, so that
/// the server never gives up before the client. Above 99999999 hours: that.
pub fn format_grpc_timeout(timeout: Duration) -> HeaderValue {
    let nanos = timeout.as_nanos();
    let (unit, count) = UNITS
        .iter()
        .map(|&(unit, size)| (unit, nanos.div_ceil(size)))
        .find(|&(_, count)| count < TOO_LONG)
        .unwrap_or((b'H', TOO_LONG - 1));
    let mut text = [0; 9];
    let mut at = text.len() - 1;
    text[at] = unit;
    let mut rest = count;
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    HeaderValue::from_bytes(&text[at..]).expect("digits and a letter are a valid header value")
}

/// How long a call may take: the application's own limit and the configuration's, the shorter one
/// (gRFC A31). `None`: no limit.
///
/// The configuration's is the route's `grpc_timeout_header_max`, else the route's
/// `max_stream_duration`, else the listener's (`listener`); the first that is set decides, and zero
/// sets no limit.
pub fn call_limit(
    application: Option<Duration>,
    route: &Forward,
    listener: Option<Duration>,
) -> Option<Duration> {
    let configured = route
        .grpc_timeout_header_max
        .or(route.max_stream_duration)
        .or(listener)
        .filter(|limit| !limit.is_zero());
    match (application, configured) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn text(timeout: Duration) -> String {
        let value = format_grpc_timeout(timeout);
        value.to_str().expect("ASCII").to_owned()
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_not_shorter(secs in 0..1_u64 << 38, nanos in 0..1_000_000_000_u32) {
            let timeout = Duration::new(secs, nanos);
            let value = format_grpc_timeout(timeout);
            prop_assert!(value.len() <= 9);
            let back = parse_grpc_timeout(&value).expect("our own form");
            prop_assert!(back >= timeout);
            // Never longer by more than one part in ten thousand of it.
            prop_assert!(back - timeout <= timeout / 10_000);
        }

        #[test]
        fn any_bytes_parse_or_fail(bytes in prop::collection::vec(32..127_u8, 0..12)) {
            let value = HeaderValue::from_bytes(&bytes).expect("printable");
            let well_formed = (2..=9).contains(&bytes.len())
                && bytes[..bytes.len() - 1].iter().all(u8::is_ascii_digit)
                && b"HMSmun".contains(&bytes[bytes.len() - 1]);
            prop_assert_eq!(parse_grpc_timeout(&value).is_ok(), well_formed);
        }
    }

    #[test]
    fn units_and_rounding() {
        assert_eq!(text(Duration::ZERO), "0n");
        assert_eq!(text(Duration::from_nanos(99_999_999)), "99999999n");
        assert_eq!(text(Duration::from_nanos(100_000_001)), "100001u");
        assert_eq!(text(SECOND), "1000000u");
        assert_eq!(text(Duration::from_secs(100)), "100000m");
        assert_eq!(text(Duration::from_secs(100_000)), "100000S");
        assert_eq!(text(Duration::MAX), "99999999H");
        for (header, seconds) in [("2H", 7200), ("3M", 180), ("4S", 4), ("5000m", 5)] {
            let parsed = parse_grpc_timeout(&HeaderValue::from_static(header));
            assert_eq!(parsed, Ok(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn the_first_limit_that_is_set_decides_and_zero_is_none() {
        let limit = |application, header_max, route, listener| {
            let route = Forward {
                clusters: Vec::new(),
                retry: None,
                max_stream_duration: route,
                grpc_timeout_header_max: header_max,
                http: Default::default(),
            };
            call_limit(application, &route, listener)
        };
        let (none, zero) = (None, Some(Duration::ZERO));
        let [one, two, three] = [1, 2, 3].map(|n| Some(SECOND * n));
        assert_eq!(limit(none, none, none, none), None);
        assert_eq!(limit(none, none, none, three), three);
        assert_eq!(limit(none, none, two, one), two);
        assert_eq!(limit(none, three, two, one), three);
        assert_eq!(limit(none, zero, two, one), None);
        assert_eq!(limit(none, none, zero, one), None);
        assert_eq!(limit(none, none, none, zero), None);
        assert_eq!(limit(one, two, none, none), one);
        assert_eq!(limit(three, two, none, none), two);
        assert_eq!(limit(one, zero, none, none), one);
    }
}
