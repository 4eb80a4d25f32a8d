use envoy_types::pb::envoy::{
    config::route::v3::{
        RouteMatch as WireMatch, header_matcher,
        route_match::{ConnectMatcher, PathSpecifier},
    },
    r#type::v3::Int64Range,
};

use super::{super::fixtures::*, *};
use crate::config::Treatment;

fn fraction(numerator: u32, denominator: i32) -> Option<RuntimeFractionalPercent> {
    Some(RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator,
            denominator,
        }),
        ..Default::default()
    })
}

#[test]
fn matches_that_are_refused() {
    let path = |specifier| WireMatch {
        path_specifier: specifier,
        ..Default::default()
    };
    let unsupported = "not supported: prefix, path, path_separated_prefix and safe_regex are";
    let header = |name: &str, specifier| WireMatch {
        headers: vec![
            WireHeader {
                name: "ok".into(),
                header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::PresentMatch(
                    true,
                )),
                ..Default::default()
            },
            WireHeader {
                name: name.into(),
                header_match_specifier: specifier,
                ..Default::default()
            },
        ],
        ..prefix("/")
    };
    use header_matcher::HeaderMatchSpecifier as By;
    let present = || Some(By::PresentMatch(true));
    let string = |pattern| {
        Some(By::StringMatch(WireString {
            match_pattern: pattern,
            ..Default::default()
        }))
    };
    for (wire, at, problem) in [
        (
            path(None),
            "path_specifier",
            "one of prefix, path, path_separated_prefix and safe_regex must be set",
        ),
        (
            path(Some(PathSpecifier::ConnectMatcher(ConnectMatcher {}))),
            "connect_matcher",
            unsupported,
        ),
        (
            path(Some(PathSpecifier::PathSeparatedPrefix("/".into()))),
            "path_separated_prefix",
            "must have two characters at least",
        ),
        (
            path(Some(PathSpecifier::PathSeparatedPrefix("/a/".into()))),
            "path_separated_prefix",
            "must not end with a slash",
        ),
        (
            path(Some(PathSpecifier::PathSeparatedPrefix("/a?b".into()))),
            "path_separated_prefix",
            "must contain neither ? nor #",
        ),
        (
            path(Some(PathSpecifier::PathMatchPolicy(Default::default()))),
            "path_match_policy",
            unsupported,
        ),
        (
            path(Some(PathSpecifier::SafeRegex(wire_regex("(")))),
            "safe_regex.regex",
            "invalid regular expression \"(\": unclosed group",
        ),
        (
            header("", present()),
            "headers[1].name",
            "\"\" is not a header's name",
        ),
        (
            header("a b", present()),
            "headers[1].name",
            "\"a b\" is not a header's name",
        ),
        (
            header(":", present()),
            "headers[1].name",
            "\":\" is not a header's name",
        ),
        (
            header("h", None),
            "headers[1].header_match_specifier",
            "none is set that is supported",
        ),
        (
            header("h", Some(By::RangeMatch(Int64Range { start: 2, end: 1 }))),
            "headers[1].range_match",
            "end 1 is below start 2",
        ),
        (
            header("h", string(None)),
            "headers[1].string_match.match_pattern",
            "none is set that is supported",
        ),
        (
            header("h", string(Some(MatchPattern::Custom(Default::default())))),
            "headers[1].string_match.custom",
            "extensions are not supported",
        ),
        (
            header("h", string(Some(MatchPattern::Prefix(String::new())))),
            "headers[1].string_match.prefix",
            "must not be empty",
        ),
        (
            header("h", string(Some(MatchPattern::Suffix(String::new())))),
            "headers[1].string_match.suffix",
            "must not be empty",
        ),
        (
            header("h", string(Some(MatchPattern::Contains(String::new())))),
            "headers[1].string_match.contains",
            "must not be empty",
        ),
        (
            header(
                "h",
                string(Some(MatchPattern::SafeRegex(wire_regex("a{1001}")))),
            ),
            "headers[1].string_match.safe_regex.regex",
            "invalid regular expression \"a{1001}\": repetition counts",
        ),
        (
            WireMatch {
                runtime_fraction: Some(RuntimeFractionalPercent::default()),
                ..prefix("/")
            },
            "runtime_fraction.default_value",
            "must be set",
        ),
        (
            WireMatch {
                runtime_fraction: fraction(1, 7),
                ..prefix("/")
            },
            "runtime_fraction.default_value.denominator",
            "unknown denominator 7",
        ),
    ] {
        let error = decode_routes(routes(vec![any_route(), route_of(wire)])).unwrap_err();
        assert_eq!(
            error.path(),
            format!("virtual_hosts[0].routes[1].match.{at}"),
            "{error}"
        );
        assert!(error.problem().starts_with(problem), "{error}");
    }
}

#[test]
#[allow(deprecated)]
fn headers_have_eight_forms() {
    use header_matcher::HeaderMatchSpecifier as By;
    let value = |pattern| HeaderMatch::Value(StringMatcher::new(pattern, false));
    for (wire, test) in [
        (
            By::ExactMatch("A".into()),
            value(StringMatch::Exact("A".into())),
        ),
        (
            By::PrefixMatch("A".into()),
            value(StringMatch::Prefix("A".into())),
        ),
        (
            By::SuffixMatch("A".into()),
            value(StringMatch::Suffix("A".into())),
        ),
        (
            By::ContainsMatch("A".into()),
            value(StringMatch::Contains("A".into())),
        ),
        (
            By::SafeRegexMatch(wire_regex("A+")),
            value(StringMatch::Regex(Regex::new("A+").unwrap())),
        ),
        (By::PresentMatch(false), HeaderMatch::Present(false)),
        (
            By::RangeMatch(Int64Range { start: -1, end: 1 }),
            HeaderMatch::Range { start: -1, end: 1 },
        ),
        (
            By::StringMatch(WireString {
                ignore_case: true,
                ..WireString {
                    match_pattern: Some(MatchPattern::Exact("A".into())),
                    ..Default::default()
                }
            }),
            HeaderMatch::Value(StringMatcher::new(StringMatch::Exact("a".into()), true)),
        ),
    ] {
        let wire = WireHeader {
            name: ":Path".into(),
            invert_match: true,
            treat_missing_header_as_empty: true,
            header_match_specifier: Some(wire),
        };
        let wire = route_of(WireMatch {
            headers: vec![wire],
            ..prefix("/")
        });
        let (route, findings) = decode_one(wire).unwrap();
        let expected = HeaderMatcher {
            name: ":path".into(),
            test,
            invert: true,
            treat_missing_as_empty: true,
        };
        assert_eq!(route.unwrap().matcher.headers, [expected]);
        assert_eq!(findings[0].treatment, Treatment::Approximated);
        assert_eq!(findings.len(), 1);
    }
}
