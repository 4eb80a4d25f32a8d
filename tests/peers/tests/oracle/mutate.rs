//! Matchers that are broken: what the oracle must find if ours were so.

use envoy_types::pb::envoy::{
    config::{
        core::v3::HeaderValueOption,
        route::v3::{
            HeaderMatcher, RouteAction, RouteConfiguration, RouteMatch,
            header_matcher::HeaderMatchSpecifier as Test,
            query_parameter_matcher::QueryParameterMatchSpecifier as QueryTest, route::Action,
            route_action::ClusterSpecifier, route_match::PathSpecifier,
        },
    },
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern as Pattern},
};

use crate::aspect::Aspect;

/// Breaks this kind of matcher, or of what a route does, a little, wherever it is.
pub(crate) fn mutate(routes: &mut RouteConfiguration, aspect: Aspect) {
    use Aspect as Is;
    match aspect {
        Is::DomainExact | Is::DomainPrefix | Is::DomainSuffix | Is::DomainAny => {
            domains(routes, aspect);
        }
        Is::PathPrefix | Is::PathExact | Is::PathRegex | Is::PathSegments => {
            each_match(routes, |it| path(it, aspect));
        }
        Is::PathIgnoreCase => each_match(routes, |it| it.case_sensitive = None),
        Is::HeaderExact
        | Is::HeaderPrefix
        | Is::HeaderSuffix
        | Is::HeaderContains
        | Is::HeaderRegex
        | Is::HeaderRange
        | Is::HeaderPresent
        | Is::HeaderInvert
        | Is::HeaderMissingAsEmpty
        | Is::HeaderIgnoreCase => each_match(routes, |it| {
            for matcher in &mut it.headers {
                header(matcher, aspect);
            }
        }),
        Is::QueryPresent | Is::QueryValue => each_match(routes, |it| query(it, aspect)),
        Is::Always | Is::Never => each_match(routes, |it| {
            let fraction = it.runtime_fraction.as_mut();
            let percent = fraction.and_then(|it| it.default_value.as_mut());
            if let Some(percent) = percent
                && (percent.numerator == 0) == (aspect == Is::Never)
            {
                let most = [100, 10_000, 1_000_000];
                let all = most[usize::try_from(percent.denominator).unwrap_or(0)];
                percent.numerator = if percent.numerator == 0 { all } else { 0 };
            }
        }),
        Is::Redirect | Is::DirectResponse => {
            for route in routes
                .virtual_hosts
                .iter_mut()
                .flat_map(|it| &mut it.routes)
            {
                match &mut route.action {
                    Some(Action::Redirect(it)) if aspect == Is::Redirect => {
                        it.strip_query = !it.strip_query;
                    }
                    Some(Action::DirectResponse(it)) if aspect == Is::DirectResponse => {
                        it.body = None;
                    }
                    _ => {}
                }
            }
        }
        Is::Weights => each_action(routes, |it| {
            if let Some(ClusterSpecifier::WeightedClusters(weights)) = &mut it.cluster_specifier {
                let weights: Vec<_> = weights
                    .clusters
                    .iter_mut()
                    .map(|it| &mut it.weight)
                    .collect();
                rotate(weights);
            }
        }),
        Is::PrefixRewrite => each_action(routes, |it| it.prefix_rewrite.clear()),
        Is::RegexRewrite => each_action(routes, |it| it.regex_rewrite = None),
        Is::HostRewrite => each_action(routes, |it| it.host_rewrite_specifier = None),
        Is::HeaderAdd => {
            let reverse = |options: &mut Vec<HeaderValueOption>| {
                for option in options {
                    // Never added if there is one.
                    option.append_action = 1;
                    #[expect(deprecated, reason = "control planes still set it")]
                    option.append.take();
                }
            };
            reverse(&mut routes.request_headers_to_add);
            for host in &mut routes.virtual_hosts {
                reverse(&mut host.request_headers_to_add);
                for route in &mut host.routes {
                    reverse(&mut route.request_headers_to_add);
                }
            }
        }
        Is::HeaderRemove => {
            routes.request_headers_to_remove.clear();
            for host in &mut routes.virtual_hosts {
                host.request_headers_to_remove.clear();
                for route in &mut host.routes {
                    route.request_headers_to_remove.clear();
                }
            }
        }
    }
}

fn rotate<T>(mut places: Vec<&mut T>) {
    for at in 1..places.len() {
        let (left, right) = places.split_at_mut(at);
        std::mem::swap(&mut *left[at - 1], &mut *right[0]);
    }
}

/// With a character more.
fn domains(routes: &mut RouteConfiguration, aspect: Aspect) {
    for domain in routes
        .virtual_hosts
        .iter_mut()
        .flat_map(|it| &mut it.domains)
    {
        let changed = match (aspect, domain.split_once('*')) {
            (Aspect::DomainExact, None) => format!("{domain}x"),
            (Aspect::DomainAny, Some(("", ""))) => "nobody.none".to_owned(),
            (Aspect::DomainPrefix, Some((start, ""))) if !start.is_empty() => {
                format!("{start}x*")
            }
            (Aspect::DomainSuffix, Some(("", end))) if !end.is_empty() => format!("*x{end}"),
            _ => continue,
        };
        *domain = changed;
    }
}

fn each_match(routes: &mut RouteConfiguration, change: impl Fn(&mut RouteMatch)) {
    for route in routes
        .virtual_hosts
        .iter_mut()
        .flat_map(|it| &mut it.routes)
    {
        change(route.r#match.get_or_insert_default());
    }
}

fn each_action(routes: &mut RouteConfiguration, change: impl Fn(&mut RouteAction)) {
    for route in routes
        .virtual_hosts
        .iter_mut()
        .flat_map(|it| &mut it.routes)
    {
        if let Some(Action::Route(action)) = &mut route.action {
            change(action);
        }
    }
}

/// One kind is taken for another.
fn path(matcher: &mut RouteMatch, aspect: Aspect) {
    let changed = match (aspect, &matcher.path_specifier) {
        (Aspect::PathPrefix, Some(PathSpecifier::Prefix(text)))
            if text.len() > 1 && !text.ends_with('/') =>
        {
            PathSpecifier::PathSeparatedPrefix(text.clone())
        }
        (Aspect::PathExact, Some(PathSpecifier::Path(text)))
        | (Aspect::PathSegments, Some(PathSpecifier::PathSeparatedPrefix(text))) => {
            PathSpecifier::Prefix(text.clone())
        }
        (Aspect::PathRegex, Some(PathSpecifier::SafeRegex(regex))) => {
            PathSpecifier::SafeRegex(longer(regex, "[/b]?"))
        }
        _ => return,
    };
    matcher.path_specifier = Some(changed);
}

fn longer(regex: &RegexMatcher, by: &str) -> RegexMatcher {
    RegexMatcher {
        regex: format!("(?:{}){by}", regex.regex),
        ..regex.clone()
    }
}

#[expect(deprecated, reason = "control planes still set them")]
fn header(matcher: &mut HeaderMatcher, aspect: Aspect) {
    let Some(test) = &mut matcher.header_match_specifier else {
        return;
    };
    match (aspect, &mut *test) {
        (Aspect::HeaderInvert, _) => matcher.invert_match = false,
        (Aspect::HeaderMissingAsEmpty, _) => matcher.treat_missing_header_as_empty = false,
        (Aspect::HeaderIgnoreCase, Test::StringMatch(text)) => text.ignore_case = false,
        (Aspect::HeaderPresent, Test::PresentMatch(present)) => *present = !*present,
        // Off by one at its end.
        (Aspect::HeaderRange, Test::RangeMatch(range)) => {
            range.end = range.end.saturating_add(1);
        }
        (Aspect::HeaderExact, Test::ExactMatch(text)) if !text.is_empty() => {
            *test = Test::ContainsMatch(text.clone());
        }
        (Aspect::HeaderPrefix, Test::PrefixMatch(text))
        | (Aspect::HeaderSuffix, Test::SuffixMatch(text)) => {
            *test = Test::ContainsMatch(text.clone());
        }
        (Aspect::HeaderContains, Test::ContainsMatch(text)) => {
            *test = Test::PrefixMatch(text.clone());
        }
        (Aspect::HeaderRegex, Test::SafeRegexMatch(regex)) => *regex = longer(regex, "z"),
        (_, Test::StringMatch(text)) => string(text, aspect),
        _ => {}
    }
}

fn string(text: &mut StringMatcher, aspect: Aspect) {
    let changed = match (aspect, &text.match_pattern) {
        (Aspect::HeaderExact, Some(Pattern::Exact(text))) if !text.is_empty() => {
            Pattern::Contains(text.clone())
        }
        (Aspect::HeaderPrefix, Some(Pattern::Prefix(text)))
        | (Aspect::HeaderSuffix, Some(Pattern::Suffix(text))) => Pattern::Contains(text.clone()),
        (Aspect::HeaderContains, Some(Pattern::Contains(text))) => Pattern::Prefix(text.clone()),
        (Aspect::HeaderRegex, Some(Pattern::SafeRegex(regex))) => {
            Pattern::SafeRegex(longer(regex, "z"))
        }
        _ => return,
    };
    text.match_pattern = Some(changed);
}

fn query(matcher: &mut RouteMatch, aspect: Aspect) {
    for query in &mut matcher.query_parameters {
        match (aspect, &mut query.query_parameter_match_specifier) {
            (Aspect::QueryPresent, Some(QueryTest::PresentMatch(present))) => *present = !*present,
            (Aspect::QueryPresent, none @ None) => *none = Some(QueryTest::PresentMatch(false)),
            (Aspect::QueryValue, Some(QueryTest::StringMatch(text))) => {
                for aspect in [
                    Aspect::HeaderExact,
                    Aspect::HeaderContains,
                    Aspect::HeaderRegex,
                ] {
                    string(text, aspect);
                }
            }
            _ => {}
        }
    }
}
