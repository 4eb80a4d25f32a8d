//! Requests that are aimed at the edges of a configuration: what one of its routes asks for, and
//! then changed a little.

use envoy_types::pb::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, RouteConfiguration, RouteMatch,
        header_matcher::HeaderMatchSpecifier as Test,
        query_parameter_matcher::QueryParameterMatchSpecifier as QueryTest,
        route_match::PathSpecifier,
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};

use super::words;
use crate::random::Random;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) authority: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// So many requests for this configuration.
pub(crate) fn requests(
    random: &mut Random,
    routes: &RouteConfiguration,
    number: usize,
) -> Vec<Asked> {
    let mut authorities = authorities(random, routes);
    // Few, as each is a target of ours.
    while authorities.len() > 8 {
        let at = random.below(authorities.len());
        authorities.swap_remove(at);
    }
    (0..number)
        .map(|_| request(random, routes, &authorities))
        .collect()
}

/// What the domains take, and what they just do not.
fn authorities(random: &mut Random, routes: &RouteConfiguration) -> Vec<String> {
    let mut authorities = Vec::new();
    for domain in routes.virtual_hosts.iter().flat_map(|host| &host.domains) {
        let fixed = domain.trim_matches('*').to_owned();
        let more = match (domain.starts_with('*'), domain.ends_with('*')) {
            (true, true) => random.text(words::AUTHORITIES),
            (true, false) => format!("{}{fixed}", random.text(&["x", "b.c", "b"])),
            (false, true) => format!("{fixed}{}", random.text(&["t", "test", "8080"])),
            (false, false) => mutated(random, &fixed),
        };
        authorities.extend([fixed, more]);
    }
    authorities.extend((0..2).map(|_| random.text(words::AUTHORITIES)));
    authorities.retain(|authority| {
        let is_authority = authority.parse::<http::uri::Authority>().is_ok();
        is_authority && !authority.contains(['@', '%']) && has_number(authority)
    });
    authorities.sort();
    authorities.dedup();
    authorities
}

/// Whether a port, if there is one, is a number: Envoy refuses all others, and our client does not
/// get so far.
fn has_number(authority: &str) -> bool {
    match authority.rsplit_once(':') {
        Some((_, port)) if !authority.ends_with(']') => port.parse().is_ok_and(|it: u16| it > 0),
        _ => true,
    }
}

fn request(random: &mut Random, routes: &RouteConfiguration, authorities: &[String]) -> Asked {
    let host = random.pick(&routes.virtual_hosts);
    let route = random.pick(&host.routes);
    let aim = route.r#match.as_ref().expect("a route has a match");
    let mut headers = headers(random, aim);
    let mut asked = Asked {
        method: random.text(&["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"]),
        authority: random.pick(authorities).clone(),
        path: path(random, aim),
        headers: Vec::new(),
    };
    // One in two is just what the route asks for, as far as that is known.
    if random.chance(50) {
        asked.path = mutated_path(random, &asked.path);
    }
    if random.chance(40) {
        mutate_headers(random, &mut headers);
    }
    // Repeated, it is among what is meant to differ.
    let mut agents = 0;
    headers.retain(|(name, _)| {
        agents += usize::from(name == "user-agent");
        name != "user-agent" || agents == 1
    });
    let query = query(random, aim);
    if !query.is_empty() || random.chance(5) {
        asked.path = format!("{}?{}", asked.path, query.join("&"));
    }
    asked.headers = headers;
    asked
}

fn path(random: &mut Random, aim: &RouteMatch) -> String {
    let more = random.text(&["", "", "b", "/", "/b", "/b/c"]);
    match &aim.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) if random.chance(80) => format!("{prefix}{more}"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => format!("{prefix}{more}"),
        _ => random.text(words::PATHS),
    }
}

fn mutated_path(random: &mut Random, path: &str) -> String {
    match random.below(8) {
        0 => random.text(words::PATHS),
        1 => format!("{path}/"),
        2 => format!("{path};p=1"),
        3 => format!("/{path}"),
        4 => {
            let at = random.below(path.len());
            match path.as_bytes()[at] {
                b'/' if at == 0 => path.to_owned(),
                byte => format!("{}%{byte:02X}{}", &path[..at], &path[at + 1..]),
            }
        }
        _ => match mutated(random, path) {
            path if path.starts_with('/') => path,
            path => format!("/{path}"),
        },
    }
}

/// Changed by a character.
fn mutated(random: &mut Random, text: &str) -> String {
    if text.is_empty() {
        return "x".to_owned();
    }
    let at = random.below(text.len());
    let (before, byte, after) = (&text[..at], text.as_bytes()[at] as char, &text[at + 1..]);
    match random.below(5) {
        0 => format!("{before}{after}"),
        1 => format!("{text}x"),
        2 => format!("{before}{byte}{byte}{after}"),
        _ if byte.is_ascii_lowercase() => {
            format!("{before}{}{after}", byte.to_ascii_uppercase())
        }
        _ => format!("{before}{}{after}", byte.to_ascii_lowercase()),
    }
}

fn headers(random: &mut Random, aim: &RouteMatch) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for matcher in &aim.headers {
        if matcher.name.starts_with(':') || matcher.name == "host" {
            continue;
        }
        // What is to be absent is, mostly.
        if random.chance(match wants_absent(matcher) {
            true => 70,
            false => 15,
        }) {
            continue;
        }
        headers.push((
            matcher.name.to_ascii_lowercase(),
            value_for(random, matcher),
        ));
    }
    for _ in 0..random.below(2) {
        let name = random.text(words::HEADERS).to_ascii_lowercase();
        headers.push((name, random.text(words::VALUES)));
    }
    headers
}

fn wants_absent(matcher: &HeaderMatcher) -> bool {
    matches!(
        (&matcher.header_match_specifier, matcher.invert_match),
        (Some(Test::PresentMatch(true)), true) | (Some(Test::PresentMatch(false)), false)
    ) || matcher.treat_missing_header_as_empty
}

/// A value that passes, as far as that is known.
#[expect(deprecated, reason = "control planes still set them")]
fn value_for(random: &mut Random, matcher: &HeaderMatcher) -> String {
    match &matcher.header_match_specifier {
        Some(Test::ExactMatch(text)) => text.clone(),
        Some(Test::PrefixMatch(text)) => format!("{text}{}", random.text(&["", "l", "b"])),
        Some(Test::SuffixMatch(text)) => format!("{}{text}", random.text(&["", "l", "b"])),
        Some(Test::ContainsMatch(text)) => format!("{}{text}", random.text(&["", "l", "b"])),
        Some(Test::RangeMatch(range)) => match random.below(5) {
            0 => range.start.to_string(),
            1 => range.end.to_string(),
            2 => range.start.wrapping_sub(1).to_string(),
            3 => range.end.wrapping_sub(1).to_string(),
            _ => random.text(words::VALUES),
        },
        Some(Test::StringMatch(text)) => text_for(random, text),
        _ => random.text(words::VALUES),
    }
}

fn text_for(random: &mut Random, matcher: &StringMatcher) -> String {
    let more = random.text(&["", "l", "b"]);
    let text = match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => text.clone(),
        Some(MatchPattern::Prefix(text)) => format!("{text}{more}"),
        Some(MatchPattern::Suffix(text) | MatchPattern::Contains(text)) => {
            format!("{more}{text}")
        }
        _ => random.text(words::VALUES),
    };
    match random.chance(25) {
        true => text.to_ascii_uppercase(),
        false => text,
    }
}

fn mutate_headers(random: &mut Random, headers: &mut Vec<(String, String)>) {
    if headers.is_empty() {
        let name = random.text(words::HEADERS).to_ascii_lowercase();
        headers.push((name, random.text(words::VALUES)));
        return;
    }
    let at = random.below(headers.len());
    let (name, value) = headers[at].clone();
    match random.below(5) {
        0 => drop(headers.remove(at)),
        1 => headers[at].1.clear(),
        2 => headers.push((name, random.text(words::VALUES))),
        3 => headers.push((name, value)),
        _ => {
            // Blanks at the ends do not count.
            let value = mutated(random, &value);
            headers[at].1 = value.trim().to_owned();
        }
    }
}

/// The pairs of a query.
fn query(random: &mut Random, aim: &RouteMatch) -> Vec<String> {
    let mut pairs = Vec::new();
    for matcher in &aim.query_parameters {
        pairs.extend(pair_for(random, matcher));
    }
    for _ in 0..random.below(2) {
        let name = random.text(words::QUERY_NAMES);
        let value = random.text(words::QUERY_VALUES);
        let at = random.below(pairs.len() + 1);
        pairs.insert(at, format!("{name}={value}"));
    }
    for pair in &mut pairs {
        *pair = pair.replace(' ', "%20");
    }
    if random.chance(10) && !pairs.is_empty() {
        let at = random.below(pairs.len());
        pairs[at] = mutated(random, &pairs[at]);
    }
    pairs
}

fn pair_for(random: &mut Random, matcher: &QueryParameterMatcher) -> Option<String> {
    let name = &matcher.name;
    let value = match &matcher.query_parameter_match_specifier {
        Some(QueryTest::StringMatch(text)) => text_for(random, text),
        Some(QueryTest::PresentMatch(false)) if random.chance(70) => return None,
        _ => random.text(words::QUERY_VALUES),
    };
    match random.below(12) {
        0 => None,
        1 => Some(name.clone()),
        2 => Some(format!("{name}={value}&{name}=x")),
        3 => Some(format!("{}={value}", name.to_ascii_uppercase())),
        _ => Some(format!("{name}={value}")),
    }
}
