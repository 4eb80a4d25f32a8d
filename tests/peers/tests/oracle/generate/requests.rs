//! Requests that are aimed at the edges of a configuration: what one of its routes asks for, and
//! then changed a little.

use envoy_types::pb::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, Route, RouteConfiguration, RouteMatch,
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
    // Few of each host, as each is a target of ours.
    let hosts = routes.virtual_hosts.iter();
    let authorities: Vec<_> = hosts
        .map(|host| authorities(random, &host.domains))
        .collect();
    (0..number)
        .map(|_| request(random, routes, &authorities))
        .collect()
}

/// What the domains take, and what they just do not.
fn authorities(random: &mut Random, domains: &[String]) -> Vec<String> {
    let mut authorities = Vec::new();
    for domain in domains {
        let fixed = domain.trim_matches('*').to_owned();
        let more = match (domain.starts_with('*'), domain.ends_with('*')) {
            (true, true) => random.text(words::AUTHORITIES),
            (true, false) => format!("{}{fixed}", random.text(&["x", "b.c", "b"])),
            (false, true) => format!("{fixed}{}", random.text(&["t", "test", "8080"])),
            (false, false) => mutated(random, &fixed),
        };
        authorities.extend([more, fixed]);
    }
    authorities.push(random.text(words::AUTHORITIES));
    authorities.retain(|authority| {
        let is_authority = authority.parse::<http::uri::Authority>().is_ok();
        is_authority && !authority.contains(['@', '%']) && has_number(authority)
    });
    if authorities.is_empty() {
        authorities.push("a.test".to_owned());
    }
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

fn request(random: &mut Random, routes: &RouteConfiguration, authorities: &[Vec<String>]) -> Asked {
    let number = random.below(routes.virtual_hosts.len());
    let routes = &routes.virtual_hosts[number].routes;
    let aim = |route: &Route| route.r#match.clone().unwrap_or_default();
    let mut aimed = aim(random.pick(routes));
    // Rather one that asks for more than a path: there is more to get wrong.
    if aimed.headers.is_empty() && aimed.query_parameters.is_empty() {
        aimed = aim(random.pick(routes));
    }
    let aim = &aimed;
    let methods = ["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"];
    let mut asked = Asked {
        method: random.text(&methods),
        authority: random.pick(&authorities[number]).clone(),
        path: path(random, aim),
        headers: headers(random, aim),
    };
    let mut query = query(random, aim);
    // One in two is just what the route asks for, as far as that is known.
    match random.below(10) {
        0 | 1 => asked.path = mutated_path(random, &asked.path),
        2 | 3 => mutate_headers(random, &mut asked.headers),
        4 if !query.is_empty() => {
            let at = random.below(query.len());
            query[at] = mutated(random, &query[at]);
        }
        _ => {}
    }
    if !query.is_empty() || random.chance(5) {
        asked.path = format!("{}?{}", asked.path, query.join("&"));
    }
    // Repeated, it is among what is meant to differ.
    let mut agents = 0;
    asked.headers.retain(|(name, _)| {
        agents += usize::from(name == "user-agent");
        name != "user-agent" || agents == 1
    });
    asked
}

fn path(random: &mut Random, aim: &RouteMatch) -> String {
    let more = random.text(&["", "", "b", "/", "/b", "/b/c"]);
    let path = match &aim.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) if prefix == "/" => random.text(words::PATHS),
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}{more}"),
        Some(PathSpecifier::Path(path)) if random.chance(70) => path.clone(),
        Some(PathSpecifier::Path(path)) => format!("{path}{more}"),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => format!("{prefix}{more}"),
        Some(PathSpecifier::SafeRegex(regex)) => {
            let matched = random.text(words::matched(words::PATH_REGEXES, &regex.regex));
            match random.chance(70) {
                true => matched,
                false => format!("{matched}{more}"),
            }
        }
        _ => random.text(words::PATHS),
    };
    match aim.case_sensitive.is_some() && random.chance(50) {
        true => path.to_ascii_uppercase(),
        false => path,
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
    if random.chance(25) {
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
pub(super) fn value_for(random: &mut Random, matcher: &HeaderMatcher) -> String {
    match &matcher.header_match_specifier {
        Some(Test::ExactMatch(text)) => around(random, text, 50),
        Some(Test::PrefixMatch(text) | Test::SuffixMatch(text) | Test::ContainsMatch(text)) => {
            around(random, text, 30)
        }
        Some(Test::SafeRegexMatch(regex)) => {
            let matched = words::matched(words::VALUE_REGEXES, &regex.regex);
            let matched = random.text(matched);
            around(random, &matched, 40)
        }
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
    let text = match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => around(random, text, 50),
        Some(
            MatchPattern::Prefix(text) | MatchPattern::Suffix(text) | MatchPattern::Contains(text),
        ) => around(random, text, 30),
        Some(MatchPattern::SafeRegex(regex)) => {
            let matched = words::matched(words::VALUE_REGEXES, &regex.regex);
            let matched = random.text(matched);
            around(random, &matched, 40)
        }
        _ => random.text(words::VALUES),
    };
    match random.chance(if matcher.ignore_case { 50 } else { 10 }) {
        true if text.contains(|char: char| char.is_ascii_uppercase()) => text.to_ascii_lowercase(),
        true => text.to_ascii_uppercase(),
        false => text,
    }
}

/// The text itself in so many of a hundred cases, else with more around it.
fn around(random: &mut Random, text: &str, itself: usize) -> String {
    if random.chance(itself) {
        return text.to_owned();
    }
    let (before, after) = (
        random.text(&["", "", "l", "b"]),
        random.text(&["", "l", "b"]),
    );
    format!("{before}{text}{after}").trim().to_owned()
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
    if random.chance(25) {
        let name = random.text(words::QUERY_NAMES);
        let value = random.text(words::QUERY_VALUES);
        let at = random.below(pairs.len() + 1);
        pairs.insert(at, format!("{name}={value}"));
    }
    for pair in &mut pairs {
        *pair = pair.replace(' ', "%20");
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
