use envoy_types::pb::envoy::{
    config::{
        core::v3::RuntimeFractionalPercent,
        route::v3::{
            HeaderMatcher as WireHeader, QueryParameterMatcher,
            header_matcher::HeaderMatchSpecifier,
            query_parameter_matcher::QueryParameterMatchSpecifier,
        },
    },
    r#type::{
        matcher::v3::{RegexMatcher, StringMatcher as WireString, string_matcher::MatchPattern},
        v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
};

use super::{
    Context, FieldError, ResultExt,
    bounds::quote,
    fields::{Field, Message},
    regex::regex,
};
use crate::config::{
    Fraction, HeaderMatch, HeaderMatcher, QueryMatch, QueryMatcher, Regex, StringMatch,
    StringMatcher,
};

/// A test of a header, in any of its forms: control planes still use the deprecated ones.
#[allow(deprecated)]
pub(super) fn header(wire: WireHeader, cx: &mut Context<'_>) -> Result<HeaderMatcher, FieldError> {
    let WireHeader {
        name,
        invert_match,
        treat_missing_header_as_empty,
        header_match_specifier,
        ..
    } = wire;
    let name = header_name(name).field("name")?;
    let value = |pattern| HeaderMatch::Value(StringMatcher::new(pattern, false));
    let test = match header_match_specifier {
        Some(HeaderMatchSpecifier::ExactMatch(text)) => value(StringMatch::Exact(text)),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => value(StringMatch::Prefix(text)),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => value(StringMatch::Suffix(text)),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => value(StringMatch::Contains(text)),
        Some(HeaderMatchSpecifier::SafeRegexMatch(wire)) => {
            let regex = cx.field("safe_regex_match", |cx| safe_regex(&wire, cx))?;
            value(StringMatch::Regex(regex))
        }
        Some(HeaderMatchSpecifier::StringMatch(wire)) => {
            HeaderMatch::Value(cx.field("string_match", |cx| string(wire, cx))?)
        }
        Some(HeaderMatchSpecifier::PresentMatch(present)) => HeaderMatch::Present(present),
        Some(HeaderMatchSpecifier::RangeMatch(range)) => {
            if range.end < range.start {
                let problem = format!("end {} is below start {}", range.end, range.start);
                return Err(FieldError::new(problem).field("range_match"));
            }
            HeaderMatch::Range {
                start: range.start,
                end: range.end,
            }
        }
        None => {
            return Err(
                FieldError::new("none is set that is supported").field("header_match_specifier")
            );
        }
    };
    Ok(HeaderMatcher {
        name,
        test,
        invert: invert_match,
        treat_missing_as_empty: treat_missing_header_as_empty,
    })
}

/// A header's name in lower case.
fn header_name(name: String) -> Result<String, FieldError> {
    let plain = name.strip_prefix(':').unwrap_or(&name);
    match http::HeaderName::from_bytes(plain.as_bytes()) {
        Ok(_) => Ok(name.to_ascii_lowercase()),
        Err(_) => Err(FieldError::new(format!(
            "{:?} is not a header's name",
            quote(&name)
        ))),
    }
}

/// A test of a query parameter.
pub(super) fn query(
    wire: QueryParameterMatcher,
    cx: &mut Context<'_>,
) -> Result<QueryMatcher, FieldError> {
    let QueryParameterMatcher {
        name,
        query_parameter_match_specifier,
        ..
    } = wire;
    if name.is_empty() {
        return Err(FieldError::new("must not be empty").field("name"));
    }
    let test = match query_parameter_match_specifier {
        None => QueryMatch::Present(true),
        Some(QueryParameterMatchSpecifier::PresentMatch(present)) => QueryMatch::Present(present),
        Some(QueryParameterMatchSpecifier::StringMatch(wire)) => {
            QueryMatch::Value(cx.field("string_match", |cx| string(wire, cx))?)
        }
    };
    Ok(QueryMatcher { name, test })
}

/// A test of a string.
pub(super) fn string(wire: WireString, cx: &mut Context<'_>) -> Result<StringMatcher, FieldError> {
    let WireString {
        match_pattern,
        ignore_case,
        ..
    } = wire;
    // An empty prefix, suffix or infix would match everything: the message forbids it.
    let text = |name, text: String| match text.is_empty() {
        true => Err(FieldError::new("must not be empty").field(name)),
        false => Ok(text),
    };
    let pattern = match match_pattern {
        Some(MatchPattern::Exact(exact)) => StringMatch::Exact(exact),
        Some(MatchPattern::Prefix(prefix)) => StringMatch::Prefix(text("prefix", prefix)?),
        Some(MatchPattern::Suffix(suffix)) => StringMatch::Suffix(text("suffix", suffix)?),
        Some(MatchPattern::Contains(infix)) => StringMatch::Contains(text("contains", infix)?),
        Some(MatchPattern::SafeRegex(wire)) => {
            StringMatch::Regex(cx.field("safe_regex", |cx| safe_regex(&wire, cx))?)
        }
        Some(MatchPattern::Custom(_)) => {
            return Err(FieldError::new("extensions are not supported").field("custom"));
        }
        None => {
            return Err(FieldError::new("none is set that is supported").field("match_pattern"));
        }
    };
    Ok(StringMatcher::new(pattern, ignore_case))
}

/// A `RegexMatcher`; its deprecated program size is not looked at (gRFC A28).
pub(super) fn safe_regex(wire: &RegexMatcher, cx: &mut Context<'_>) -> Result<Regex, FieldError> {
    regex(&wire.regex, cx).field("regex")
}

/// The default of a runtime fraction: there is no runtime here.
pub(super) fn runtime_fraction(wire: &RuntimeFractionalPercent) -> Result<Fraction, FieldError> {
    match &wire.default_value {
        Some(percent) => fraction(percent).map(|(fraction, _)| fraction),
        None => Err(FieldError::new("must be set")),
    }
    .field("default_value")
}

/// A share, and the parts per million that one unit of its numerator stands for.
pub(super) fn fraction(wire: &FractionalPercent) -> Result<(Fraction, u32), FieldError> {
    let unit = match DenominatorType::try_from(wire.denominator) {
        Ok(DenominatorType::Hundred) => 10_000,
        Ok(DenominatorType::TenThousand) => 100,
        Ok(DenominatorType::Million) => 1,
        Err(_) => {
            let problem = format!("unknown denominator {}", wire.denominator);
            return Err(FieldError::new(problem).field("denominator"));
        }
    };
    Ok((
        Fraction::per_million(wire.numerator.saturating_mul(unit)),
        unit,
    ))
}

pub(super) static HEADER_MATCHER: Message = Message {
    name: "envoy.config.route.v3.HeaderMatcher",
    fields: &[
        Field::enforced(1, "name"),
        Field::enforced(4, "exact_match"),
        Field::enforced(6, "range_match"),
        Field::enforced(7, "present_match"),
        Field::enforced(8, "invert_match"),
        Field::enforced(9, "prefix_match"),
        Field::enforced(10, "suffix_match"),
        Field::message(11, "safe_regex_match", &REGEX_MATCHER),
        Field::enforced(12, "contains_match"),
        Field::message(13, "string_match", &STRING_MATCHER),
        Field::approximated(
            14,
            "treat_missing_header_as_empty",
            "under HTTP semantics only: a gRPC channel matches no absent header (gRFC A28)",
        ),
    ],
};

pub(super) static QUERY_PARAMETER_MATCHER: Message = Message {
    name: "envoy.config.route.v3.QueryParameterMatcher",
    fields: &[
        Field::enforced(1, "name"),
        Field::message(5, "string_match", &STRING_MATCHER),
        Field::enforced(6, "present_match"),
    ],
};

pub(super) static STRING_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.StringMatcher",
    fields: &[
        Field::enforced(1, "exact"),
        Field::enforced(2, "prefix"),
        Field::enforced(3, "suffix"),
        Field::message(5, "safe_regex", &REGEX_MATCHER),
        Field::enforced(6, "ignore_case"),
        Field::enforced(7, "contains"),
        Field::enforced(8, "custom"),
    ],
};

pub(super) static REGEX_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.RegexMatcher",
    fields: &[
        Field::message(1, "google_re2", &GOOGLE_RE2),
        Field::enforced(2, "regex"),
    ],
};

static GOOGLE_RE2: Message = Message {
    name: "envoy.type.matcher.v3.RegexMatcher.GoogleRE2",
    fields: &[Field::ignored(
        1,
        "max_program_size",
        "deprecated; expressions have limits of their own here",
    )],
};

pub(super) static RUNTIME_FRACTION: Message = Message {
    name: "envoy.config.core.v3.RuntimeFractionalPercent",
    fields: &[
        Field::enforced(1, "default_value"),
        Field::ignored(2, "runtime_key", NO_RUNTIME),
    ],
};

pub(super) const NO_RUNTIME: &str = "there is no runtime: the default is in force";

#[cfg(test)]
mod tests;
