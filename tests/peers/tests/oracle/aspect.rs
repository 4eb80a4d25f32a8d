//! What configurations are made of, to aim them and to count.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, Route, RouteAction, RouteConfiguration, RouteMatch,
        VirtualHost, header_matcher::HeaderMatchSpecifier as Test,
        query_parameter_matcher::QueryParameterMatchSpecifier as QueryTest, route::Action,
        route_action::ClusterSpecifier, route_match::PathSpecifier,
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};

/// A kind of matcher, or of what a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Aspect {
    DomainExact,
    DomainPrefix,
    DomainSuffix,
    DomainAny,
    PathPrefix,
    PathExact,
    PathRegex,
    PathSegments,
    PathIgnoreCase,
    HeaderExact,
    HeaderPrefix,
    HeaderSuffix,
    HeaderContains,
    HeaderRegex,
    HeaderRange,
    HeaderPresent,
    HeaderInvert,
    HeaderMissingAsEmpty,
    HeaderIgnoreCase,
    QueryPresent,
    QueryValue,
    Always,
    Never,
    Weights,
    Redirect,
    DirectResponse,
    PrefixRewrite,
    RegexRewrite,
    HostRewrite,
    HeaderAdd,
    HeaderRemove,
}

impl Aspect {
    pub(crate) const ALL: [Self; 31] = [
        Self::DomainExact,
        Self::DomainPrefix,
        Self::DomainSuffix,
        Self::DomainAny,
        Self::PathPrefix,
        Self::PathExact,
        Self::PathRegex,
        Self::PathSegments,
        Self::PathIgnoreCase,
        Self::HeaderExact,
        Self::HeaderPrefix,
        Self::HeaderSuffix,
        Self::HeaderContains,
        Self::HeaderRegex,
        Self::HeaderRange,
        Self::HeaderPresent,
        Self::HeaderInvert,
        Self::HeaderMissingAsEmpty,
        Self::HeaderIgnoreCase,
        Self::QueryPresent,
        Self::QueryValue,
        Self::Always,
        Self::Never,
        Self::Weights,
        Self::Redirect,
        Self::DirectResponse,
        Self::PrefixRewrite,
        Self::RegexRewrite,
        Self::HostRewrite,
        Self::HeaderAdd,
        Self::HeaderRemove,
    ];

    /// Whether it narrows what a route takes, whatever the path.
    pub(crate) fn is_matcher(self) -> bool {
        (Self::HeaderExact..=Self::QueryValue).contains(&self) || self == Self::Never
    }

    /// Those of a configuration.
    pub(crate) fn of(routes: &RouteConfiguration) -> BTreeSet<Self> {
        let mut found = BTreeSet::new();
        let mut add = |aspect, there| found.extend(Some(aspect).filter(|_| there));
        let c = routes;
        let added = !c.request_headers_to_add.is_empty() || !c.response_headers_to_add.is_empty();
        let removed =
            !c.request_headers_to_remove.is_empty() || !c.response_headers_to_remove.is_empty();
        add(Self::HeaderAdd, added);
        add(Self::HeaderRemove, removed);
        for host in &c.virtual_hosts {
            of_host(host, &mut add);
            for route in &host.routes {
                of_route(route, &mut add);
            }
        }
        found
    }
}

type Add<'a> = dyn FnMut(Aspect, bool) + 'a;

fn of_host(host: &VirtualHost, add: &mut Add<'_>) {
    for domain in &host.domains {
        let aspect = match (domain.starts_with('*'), domain.ends_with('*')) {
            (true, true) => Aspect::DomainAny,
            (true, false) => Aspect::DomainSuffix,
            (false, true) => Aspect::DomainPrefix,
            (false, false) => Aspect::DomainExact,
        };
        add(aspect, true);
    }
    let h = host;
    let added = !h.request_headers_to_add.is_empty() || !h.response_headers_to_add.is_empty();
    let removed =
        !h.request_headers_to_remove.is_empty() || !h.response_headers_to_remove.is_empty();
    add(Aspect::HeaderAdd, added);
    add(Aspect::HeaderRemove, removed);
}

fn of_route(route: &Route, add: &mut Add<'_>) {
    let r = route;
    let added = !r.request_headers_to_add.is_empty() || !r.response_headers_to_add.is_empty();
    let removed =
        !r.request_headers_to_remove.is_empty() || !r.response_headers_to_remove.is_empty();
    add(Aspect::HeaderAdd, added);
    add(Aspect::HeaderRemove, removed);
    of_match(r.r#match.as_ref().expect("a route has a match"), add);
    match &r.action {
        Some(Action::Route(action)) => of_action(action, add),
        Some(Action::Redirect(_)) => add(Aspect::Redirect, true),
        Some(Action::DirectResponse(_)) => add(Aspect::DirectResponse, true),
        _ => {}
    }
}

fn of_match(matcher: &RouteMatch, add: &mut Add<'_>) {
    let path = match &matcher.path_specifier {
        Some(PathSpecifier::Prefix(_)) => Aspect::PathPrefix,
        Some(PathSpecifier::Path(_)) => Aspect::PathExact,
        Some(PathSpecifier::SafeRegex(_)) => Aspect::PathRegex,
        Some(PathSpecifier::PathSeparatedPrefix(_)) => Aspect::PathSegments,
        other => unreachable!("{other:?} is not generated"),
    };
    add(path, true);
    let ignores = matcher.case_sensitive.is_some_and(|it| !it.value);
    add(Aspect::PathIgnoreCase, ignores);
    for header in &matcher.headers {
        of_header(header, add);
    }
    for query in &matcher.query_parameters {
        of_query(query, add);
    }
    let percent = matcher.runtime_fraction.as_ref();
    let percent = percent.and_then(|percent| percent.default_value.as_ref());
    add(Aspect::Never, percent.is_some_and(|it| it.numerator == 0));
    add(Aspect::Always, percent.is_some_and(|it| it.numerator > 0));
}

#[expect(deprecated, reason = "control planes still set them")]
fn of_header(header: &HeaderMatcher, add: &mut Add<'_>) {
    add(Aspect::HeaderInvert, header.invert_match);
    let missing = header.treat_missing_header_as_empty;
    add(Aspect::HeaderMissingAsEmpty, missing);
    let aspect = match &header.header_match_specifier {
        Some(Test::ExactMatch(_)) => Aspect::HeaderExact,
        Some(Test::PrefixMatch(_)) => Aspect::HeaderPrefix,
        Some(Test::SuffixMatch(_)) => Aspect::HeaderSuffix,
        Some(Test::ContainsMatch(_)) => Aspect::HeaderContains,
        Some(Test::SafeRegexMatch(_)) => Aspect::HeaderRegex,
        Some(Test::RangeMatch(_)) => Aspect::HeaderRange,
        Some(Test::PresentMatch(_)) => Aspect::HeaderPresent,
        Some(Test::StringMatch(text)) => {
            add(Aspect::HeaderIgnoreCase, text.ignore_case);
            of_string(text)
        }
        None => unreachable!("not generated"),
    };
    add(aspect, true);
}

fn of_string(text: &StringMatcher) -> Aspect {
    match &text.match_pattern {
        Some(MatchPattern::Exact(_)) => Aspect::HeaderExact,
        Some(MatchPattern::Prefix(_)) => Aspect::HeaderPrefix,
        Some(MatchPattern::Suffix(_)) => Aspect::HeaderSuffix,
        Some(MatchPattern::Contains(_)) => Aspect::HeaderContains,
        Some(MatchPattern::SafeRegex(_)) => Aspect::HeaderRegex,
        other => unreachable!("{other:?} is not generated"),
    }
}

fn of_query(query: &QueryParameterMatcher, add: &mut Add<'_>) {
    match &query.query_parameter_match_specifier {
        None | Some(QueryTest::PresentMatch(_)) => add(Aspect::QueryPresent, true),
        Some(QueryTest::StringMatch(_)) => add(Aspect::QueryValue, true),
    }
}

fn of_action(action: &RouteAction, add: &mut Add<'_>) {
    add(Aspect::PrefixRewrite, !action.prefix_rewrite.is_empty());
    add(Aspect::RegexRewrite, action.regex_rewrite.is_some());
    add(Aspect::HostRewrite, action.host_rewrite_specifier.is_some());
    if let Some(ClusterSpecifier::WeightedClusters(weights)) = &action.cluster_specifier {
        add(Aspect::Weights, true);
        for cluster in &weights.clusters {
            let c = cluster;
            let added =
                !c.request_headers_to_add.is_empty() || !c.response_headers_to_add.is_empty();
            let removed =
                !c.request_headers_to_remove.is_empty() || !c.response_headers_to_remove.is_empty();
            add(Aspect::HeaderAdd, added);
            add(Aspect::HeaderRemove, removed);
        }
    }
}
