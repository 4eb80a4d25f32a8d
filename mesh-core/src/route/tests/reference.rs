//! The specification, word by word and route by route: no table, no index, no shared code.

use super::*;

/// A request as plain data.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) scheme: &'static str,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

/// What became of one route.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Match,
    /// Its exact path or prefix is another: not a candidate.
    OtherPath,
    Rejected(String),
}

pub(super) fn verdict(semantics: Semantics, route: &Route, request: &Request) -> Verdict {
    let reject = |why: Mismatch<'_>| Verdict::Rejected(why.to_string());
    let matcher = &route.matcher;
    let lower = request.path.to_ascii_lowercase();
    let path_matches = match &matcher.path {
        PathMatcher::Exact {
            path,
            ignore_case: false,
        } => request.path == *path,
        PathMatcher::Exact {
            path,
            ignore_case: true,
        } => lower == *path,
        PathMatcher::Segments {
            prefix,
            ignore_case,
        } => {
            let path = if *ignore_case { &lower } else { &request.path };
            path.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatcher::Prefix {
            prefix,
            ignore_case: false,
        } => request.path.starts_with(prefix),
        PathMatcher::Prefix {
            prefix,
            ignore_case: true,
        } => lower.starts_with(prefix),
        PathMatcher::Regex(_) => true,
    };
    if !path_matches {
        return Verdict::OtherPath;
    }
    if semantics == Semantics::Grpc && !matcher.query.is_empty() {
        return reject(Mismatch::QueryUnderGrpc);
    }
    if let PathMatcher::Regex(regex) = &matcher.path
        && !regex.is_match(request.path.as_bytes())
    {
        return reject(Mismatch::Path(regex));
    }
    for header in &matcher.headers {
        if !header_matches(semantics, header, request) {
            return reject(Mismatch::Header(header));
        }
    }
    for query in &matcher.query {
        if !query_matches(query, request) {
            return reject(Mismatch::Query(query));
        }
    }
    match matcher.fraction {
        Some(fraction) if fraction.parts() == 0 => reject(Mismatch::Fraction(fraction)),
        _ => Verdict::Match,
    }
}

fn header_matches(semantics: Semantics, matcher: &HeaderMatcher, request: &Request) -> bool {
    let values = match semantics {
        Semantics::Grpc => Vec::from_iter(metadata(&matcher.name, request)),
        Semantics::Http => headers(&matcher.name, request),
    };
    let values = match (semantics, matcher.treat_missing_as_empty, values) {
        (Semantics::Http, true, none) if none.is_empty() => vec![String::new()],
        (_, _, values) => values,
    };
    let result = match &matcher.test {
        HeaderMatch::Present(wanted) => values.is_empty() != *wanted,
        _ if values.is_empty() => return false,
        HeaderMatch::Range { start, end } => values.iter().any(|value| {
            let number = value.parse::<i64>();
            number.is_ok_and(|number| *start <= number && number < *end)
        }),
        HeaderMatch::Value(string) => values.iter().any(|value| string_matches(string, value)),
    };
    if matcher.invert { !result } else { result }
}

fn metadata(name: &str, request: &Request) -> Option<String> {
    let transport = name == "te" || name.starts_with("grpc-");
    if name.ends_with("-bin") || name.starts_with(':') || transport {
        return None;
    }
    let values = values(name, request);
    match (!values.is_empty()).then(|| values.join(",")) {
        None if name == "content-type" => Some("application/grpc".to_owned()),
        value => value,
    }
}

fn headers(name: &str, request: &Request) -> Vec<String> {
    let one = match name {
        ":authority" | "host" => request.authority.clone(),
        ":method" => request.method.to_owned(),
        ":scheme" => request.scheme.to_owned(),
        ":path" => match &request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.clone(),
        },
        name => return values(name, request),
    };
    vec![one]
}

fn values(name: &str, request: &Request) -> Vec<String> {
    let named = request.headers.iter().filter(|(key, _)| *key == name);
    named.map(|(_, value)| (*value).to_owned()).collect()
}

fn query_matches(matcher: &QueryMatcher, request: &Request) -> bool {
    let query = request.query.as_deref().unwrap_or_default();
    for pair in query.split('&') {
        let (name, value) = match pair.find('=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, ""),
        };
        if name == matcher.name {
            return match &matcher.test {
                QueryMatch::Value(string) => string_matches(string, value),
                QueryMatch::Present(present) => *present,
            };
        }
    }
    matches!(matcher.test, QueryMatch::Present(false))
}

fn string_matches(matcher: &StringMatcher, value: &str) -> bool {
    let value = match (&matcher.pattern, matcher.ignore_case) {
        (StringMatch::Regex(_), _) | (_, false) => value.to_owned(),
        (_, true) => value.to_ascii_lowercase(),
    };
    match &matcher.pattern {
        StringMatch::Contains(part) => value.contains(part.as_str()),
        StringMatch::Exact(whole) => value == *whole,
        StringMatch::Prefix(start) => value.starts_with(start.as_str()),
        StringMatch::Regex(regex) => regex.is_match(value.as_bytes()),
        StringMatch::Suffix(end) => value.ends_with(end.as_str()),
    }
}
