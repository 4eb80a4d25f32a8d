//! What routes ask of requests.

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::RuntimeFractionalPercent,
            route::v3::{
                HeaderMatcher, QueryParameterMatcher, Route, RouteMatch,
                header_matcher::HeaderMatchSpecifier as Test,
                query_parameter_matcher::QueryParameterMatchSpecifier as QueryTest,
                route_match::PathSpecifier,
            },
        },
        r#type::{
            matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
            v3::{FractionalPercent, Int64Range, fractional_percent::DenominatorType},
        },
    },
    google::protobuf::BoolValue,
};

use super::words;
use crate::{aspect::Aspect, random::Random};

/// A route that takes all.
pub(super) fn anything() -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        ..Route::default()
    }
}

/// A route of some path, without other matchers.
pub(super) fn somewhere(random: &mut Random) -> Route {
    let mut route = anything();
    let aspect = *random.pick(&[
        Aspect::PathPrefix,
        Aspect::PathExact,
        Aspect::PathRegex,
        Aspect::PathSegments,
    ]);
    path(random, &mut route, aspect);
    route
}

pub(super) fn path(random: &mut Random, route: &mut Route, aspect: Aspect) {
    // One that takes all would leave nothing to those after it.
    let some = random.text(&words::PATHS[1..]);
    let matcher = route.r#match.get_or_insert_default();
    matcher.path_specifier = Some(match aspect {
        Aspect::PathPrefix => PathSpecifier::Prefix(some),
        Aspect::PathExact => PathSpecifier::Path(some),
        Aspect::PathRegex => PathSpecifier::SafeRegex(regex(random, words::PATH_REGEXES)),
        _ => PathSpecifier::PathSeparatedPrefix(match some.trim_end_matches('/') {
            "" => "/a".to_owned(),
            trimmed => trimmed.to_owned(),
        }),
    });
    if random.chance(15) {
        let value = random.chance(50);
        matcher.case_sensitive = Some(BoolValue { value });
    }
}

/// An expression of RE2. Its deprecated engine is not set, as control planes no longer do.
fn regex(random: &mut Random, of: words::Regexes) -> RegexMatcher {
    RegexMatcher {
        regex: random.pick(of).0.to_owned(),
        ..RegexMatcher::default()
    }
}

#[expect(deprecated, reason = "control planes still set them")]
pub(super) fn header(random: &mut Random, route: &mut Route, aspect: Aspect) {
    let kind = match aspect {
        Aspect::HeaderInvert | Aspect::HeaderMissingAsEmpty => *random.pick(&[
            Aspect::HeaderExact,
            Aspect::HeaderPrefix,
            Aspect::HeaderSuffix,
            Aspect::HeaderContains,
            Aspect::HeaderRegex,
            Aspect::HeaderRange,
            Aspect::HeaderPresent,
        ]),
        Aspect::HeaderIgnoreCase => *random.pick(&[
            Aspect::HeaderExact,
            Aspect::HeaderPrefix,
            Aspect::HeaderSuffix,
            Aspect::HeaderContains,
        ]),
        other => other,
    };
    let modern = aspect == Aspect::HeaderIgnoreCase || random.chance(50);
    let text = |pattern| {
        Test::StringMatch(StringMatcher {
            match_pattern: Some(pattern),
            ignore_case: false,
        })
    };
    let part = random.text(words::PARTS);
    let mut test = match (kind, modern) {
        (Aspect::HeaderExact, true) => text(MatchPattern::Exact(random.text(words::VALUES))),
        (Aspect::HeaderExact, false) => match random.text(words::VALUES) {
            // An empty one is among what is meant to differ.
            value if value.is_empty() => text(MatchPattern::Exact(value)),
            value => Test::ExactMatch(value),
        },
        (Aspect::HeaderPrefix, true) => text(MatchPattern::Prefix(part)),
        (Aspect::HeaderPrefix, false) => Test::PrefixMatch(part),
        (Aspect::HeaderSuffix, true) => text(MatchPattern::Suffix(part)),
        (Aspect::HeaderSuffix, false) => Test::SuffixMatch(part),
        (Aspect::HeaderContains, true) => text(MatchPattern::Contains(part)),
        (Aspect::HeaderContains, false) => Test::ContainsMatch(part),
        (Aspect::HeaderRegex, true) => {
            text(MatchPattern::SafeRegex(regex(random, words::VALUE_REGEXES)))
        }
        (Aspect::HeaderRegex, false) => Test::SafeRegexMatch(regex(random, words::VALUE_REGEXES)),
        (Aspect::HeaderRange, _) => Test::RangeMatch(range(random)),
        _ => Test::PresentMatch(random.chance(50)),
    };
    if let Test::StringMatch(text) = &mut test
        && kind != Aspect::HeaderRegex
    {
        text.ignore_case = aspect == Aspect::HeaderIgnoreCase || random.chance(15);
    }
    let name = match random.chance(15) {
        true => random.text(words::PSEUDO_HEADERS),
        false => random.text(words::HEADERS),
    };
    let matcher = HeaderMatcher {
        name,
        invert_match: aspect == Aspect::HeaderInvert || random.chance(15),
        treat_missing_header_as_empty: aspect == Aspect::HeaderMissingAsEmpty || random.chance(10),
        header_match_specifier: Some(test),
    };
    route.r#match.get_or_insert_default().headers.push(matcher);
}

fn range(random: &mut Random) -> Int64Range {
    const ENDS: &[i64] = &[i64::MIN, -6, -5, 0, 1, 5, 10, 11, i64::MAX];
    let (a, b) = (*random.pick(ENDS), *random.pick(ENDS));
    Int64Range {
        start: a.min(b),
        end: a.max(b),
    }
}

pub(super) fn query(random: &mut Random, route: &mut Route, aspect: Aspect) {
    let test = match aspect {
        Aspect::QueryPresent if random.chance(30) => None,
        Aspect::QueryPresent => Some(QueryTest::PresentMatch(random.chance(70))),
        _ => {
            let (pattern, expression) = match random.below(5) {
                0 | 1 => (MatchPattern::Exact(random.text(words::QUERY_VALUES)), false),
                2 => (MatchPattern::Prefix(random.text(words::PARTS)), false),
                3 => (MatchPattern::Contains(random.text(words::PARTS)), false),
                _ => {
                    let regex = regex(random, words::VALUE_REGEXES);
                    (MatchPattern::SafeRegex(regex), true)
                }
            };
            Some(QueryTest::StringMatch(StringMatcher {
                match_pattern: Some(pattern),
                // Envoy refuses it for expressions.
                ignore_case: !expression && random.chance(25),
            }))
        }
    };
    let matcher = QueryParameterMatcher {
        name: random.text(words::QUERY_NAMES),
        query_parameter_match_specifier: test,
    };
    let all = &mut route.r#match.get_or_insert_default().query_parameters;
    all.push(matcher);
}

/// None or all: what is drawn in between is no two's the same.
pub(super) fn fraction(random: &mut Random, route: &mut Route, aspect: Aspect) {
    let (denominator, all) = *random.pick(&[
        (DenominatorType::Hundred, 100),
        (DenominatorType::TenThousand, 10_000),
        (DenominatorType::Million, 1_000_000),
    ]);
    let percent = FractionalPercent {
        numerator: if aspect == Aspect::Always { all } else { 0 },
        denominator: denominator.into(),
    };
    let matcher = route.r#match.get_or_insert_default();
    matcher.runtime_fraction = Some(RuntimeFractionalPercent {
        default_value: Some(percent),
        runtime_key: random.text(&["", "none"]),
    });
}
