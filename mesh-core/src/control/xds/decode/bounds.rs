//! The limits of decoding, each named by the error of what passes it, and checked numbers.

use std::time::Duration;

use envoy_types::pb::google::protobuf;

use super::FieldError;

/// Bytes that one encoded resource may have.
pub(super) const MAX_RESOURCE_BYTES: usize = 64 << 20;
/// Fields that one resource may have in all: a field of two bytes can become a struct of hundreds.
/// An endpoint takes about ten.
pub(super) const MAX_FIELDS: usize = 2 << 20;
/// Levels of messages within each other, extensions included. Protobuf's own limit is 100.
pub(super) const MAX_DEPTH: usize = 64;
/// Levels of load balancing policies within each other (gRFC A52).
pub(super) const MAX_POLICY_DEPTH: usize = 16;
/// Findings that are listed for one resource.
pub(super) const MAX_FINDINGS: usize = 128;
/// Those of them that tell of what is in force under HTTP semantics alone: what is in force nowhere
/// keeps its room.
pub(super) const MAX_HTTP_ONLY_FINDINGS: usize = MAX_FINDINGS / 2;
/// Findings that are listed for one field, wherever it occurs in a resource: so that ten thousand
/// endpoints with the same metadata do not crowd out what else there is to say.
pub(super) const MAX_FINDINGS_PER_FIELD: usize = 8;
/// Characters of a received name that an error or finding repeats.
pub(super) const MAX_QUOTED_CHARS: usize = 128;

/// A duration that is not negative, in protobuf's range: up to some 10 000 years.
pub(in crate::control::xds) fn duration(
    duration: &protobuf::Duration,
) -> Result<Duration, FieldError> {
    const MAX_SECONDS: u64 = 315_576_000_000;
    let protobuf::Duration { seconds, nanos } = *duration;
    if seconds < 0 || nanos < 0 {
        return Err(FieldError::new("a negative duration"));
    }
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds @ 0..=MAX_SECONDS), Ok(nanos @ 0..=999_999_999)) => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(FieldError::new(format!(
            "not a valid duration: {seconds} s and {nanos} ns"
        ))),
    }
}

/// As [`duration`], and more than zero.
pub(super) fn positive_duration(value: &protobuf::Duration) -> Result<Duration, FieldError> {
    match duration(value)? {
        Duration::ZERO => Err(FieldError::new("must be more than zero")),
        duration => Ok(duration),
    }
}

/// The beginning of a received text, for an error.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_checked() {
        let check = |seconds, nanos| duration(&protobuf::Duration { seconds, nanos });
        assert_eq!(check(1, 5), Ok(Duration::new(1, 5)));
        assert_eq!(check(0, 0), Ok(Duration::ZERO));
        for (seconds, nanos, problem) in [
            (-1, 0, "a negative duration"),
            (0, -1, "a negative duration"),
            (i64::MIN, i32::MIN, "a negative duration"),
            (
                1,
                1_000_000_000,
                "not a valid duration: 1 s and 1000000000 ns",
            ),
            (
                315_576_000_001,
                0,
                "not a valid duration: 315576000001 s and 0 ns",
            ),
        ] {
            assert_eq!(check(seconds, nanos).unwrap_err().problem(), problem);
        }
        let zero = protobuf::Duration::default();
        assert_eq!(
            positive_duration(&zero).unwrap_err().problem(),
            "must be more than zero"
        );
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(quote("short"), "short");
        assert_eq!(quote(&"ä".repeat(1000)), "ä".repeat(128) + "...");
    }
}
