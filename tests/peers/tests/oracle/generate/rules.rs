//! Access rules, and requests for them.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::CidrRange,
            rbac::v3::{
                Permission, Policy, Principal, Rbac as Rules,
                permission::{Rule, Set as Permissions},
                principal::{Authenticated, Identifier, Set as Principals},
                rbac::Action,
            },
            route::v3::{HeaderMatcher, Route},
        },
        extensions::filters::http::rbac::v3::Rbac,
        r#type::{
            matcher::v3::{
                PathMatcher, RegexMatcher, StringMatcher, path_matcher,
                string_matcher::MatchPattern,
            },
            v3::Int32Range,
        },
    },
    google::protobuf::UInt32Value,
};

use super::{Asked, matchers, words};
use crate::{aspect::Aspect, random::Random};

/// Paths in the one form that our server takes.
const PATHS: &[&str] = &[
    "/", "/a", "/A", "/a/", "/a/b", "/ab", "/api", "/api/v1", "/apis", "/a.b", "/a+b",
];

/// A filter.
pub(crate) fn filter(random: &mut Random) -> Rbac {
    let action = *random.pick(&[Action::Allow, Action::Allow, Action::Deny, Action::Log]);
    let none = random.chance(5);
    let policies = (0..1 + random.below(3)).map(|number| {
        let permissions = (0..1 + random.below(2))
            .map(|_| permission(random, 2))
            .collect();
        let principals = match random.chance(35) {
            true => vec![any_principal()],
            false => (0..1 + random.below(2))
                .map(|_| principal(random, 2))
                .collect(),
        };
        let policy = Policy {
            permissions,
            principals,
            ..Policy::default()
        };
        (format!("p{number}"), policy)
    });
    let policies: HashMap<_, _> = policies.filter(|_| !none).collect();
    Rbac {
        // With none, nothing is asked.
        rules: random.chance(95).then(|| Rules {
            action: action.into(),
            policies,
            ..Rules::default()
        }),
        ..Rbac::default()
    }
}

fn permission(random: &mut Random, depth: usize) -> Permission {
    let set = |random: &mut Random| Permissions {
        rules: (0..2 + random.below(2))
            .map(|_| permission(random, depth - 1))
            .collect(),
    };
    let rule = match random.below(if depth > 0 { 10 } else { 6 }) {
        0 => Rule::Any(true),
        1 | 2 => Rule::Header(header(random)),
        3 => Rule::UrlPath(url_path(random)),
        4 => Rule::DestinationIp(here_or_not(random)),
        5 => Rule::DestinationPortRange(match random.chance(50) {
            true => Int32Range {
                start: 2,
                end: 65_536,
            },
            false => Int32Range { start: 1, end: 2 },
        }),
        6 => Rule::AndRules(set(random)),
        7 => Rule::OrRules(set(random)),
        8 => Rule::RequestedServerName(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(random.text(&["", "a.test"]))),
            ..StringMatcher::default()
        }),
        _ => Rule::NotRule(Box::new(permission(random, depth - 1))),
    };
    Permission { rule: Some(rule) }
}

fn any_principal() -> Principal {
    Principal {
        identifier: Some(Identifier::Any(true)),
    }
}

#[expect(deprecated, reason = "control planes still set source_ip")]
fn principal(random: &mut Random, depth: usize) -> Principal {
    let set = |random: &mut Random| Principals {
        ids: (0..2 + random.below(2))
            .map(|_| principal(random, depth - 1))
            .collect(),
    };
    let identifier = match random.below(if depth > 0 { 11 } else { 8 }) {
        0 => Identifier::Any(true),
        1 | 2 => Identifier::Header(header(random)),
        3 => Identifier::UrlPath(url_path(random)),
        4 => Identifier::SourceIp(here_or_not(random)),
        5 => Identifier::DirectRemoteIp(here_or_not(random)),
        6 => Identifier::RemoteIp(here_or_not(random)),
        7 => Identifier::Authenticated(Authenticated::default()),
        8 => Identifier::AndIds(set(random)),
        9 => Identifier::OrIds(set(random)),
        _ => Identifier::NotId(Box::new(principal(random, depth - 1))),
    };
    Principal {
        identifier: Some(identifier),
    }
}

fn header(random: &mut Random) -> HeaderMatcher {
    let aspect = *random.pick(&[
        Aspect::HeaderExact,
        Aspect::HeaderPrefix,
        Aspect::HeaderSuffix,
        Aspect::HeaderContains,
        Aspect::HeaderRegex,
        Aspect::HeaderRange,
        Aspect::HeaderPresent,
        Aspect::HeaderInvert,
        Aspect::HeaderMissingAsEmpty,
        Aspect::HeaderIgnoreCase,
    ]);
    let mut route = Route::default();
    matchers::header(random, &mut route, aspect);
    let mut matcher = route.r#match.unwrap_or_default().headers.remove(0);
    // Rules see no scheme (gRFC A41), and to ours an authority has no case.
    if matches!(&*matcher.name, ":scheme" | ":authority" | "host") {
        matcher.name = ":method".to_owned();
    }
    matcher
}

fn url_path(random: &mut Random) -> PathMatcher {
    let path = random.text(PATHS);
    let pattern = match random.below(5) {
        0 => MatchPattern::Exact(path),
        1 => MatchPattern::Prefix(path),
        2 => MatchPattern::Suffix(path),
        3 => MatchPattern::Contains(path),
        _ => MatchPattern::SafeRegex(RegexMatcher {
            regex: random.pick(words::PATH_REGEXES).0.to_owned(),
            ..RegexMatcher::default()
        }),
    };
    let ignore_case = !matches!(pattern, MatchPattern::SafeRegex(_)) && random.chance(25);
    PathMatcher {
        rule: Some(path_matcher::Rule::Path(StringMatcher {
            match_pattern: Some(pattern),
            ignore_case,
        })),
    }
}

/// A range of addresses that all are in, or none.
fn here_or_not(random: &mut Random) -> CidrRange {
    let (address, length) = *random.pick(&[
        ("127.0.0.1", 32),
        ("127.9.9.9", 8),
        ("0.0.0.0", 0),
        ("126.255.255.255", 8),
        ("10.0.0.0", 8),
        ("::", 0),
    ]);
    CidrRange {
        address_prefix: address.to_owned(),
        prefix_len: Some(UInt32Value { value: length }),
    }
}

/// A request for what these rules ask about.
pub(crate) fn request(random: &mut Random, filters: &[Rbac]) -> Asked {
    let mut headers = Vec::new();
    let mut asked = Vec::new();
    for policy in filters
        .iter()
        .flat_map(|it| &it.rules)
        .flat_map(|it| it.policies.values())
    {
        policy
            .permissions
            .iter()
            .for_each(|it| asked_by(it, &mut asked));
        policy
            .principals
            .iter()
            .for_each(|it| asked_of(it, &mut asked));
    }
    for _ in 0..random.below(4) {
        let (name, value) = match asked.is_empty() {
            true => (random.text(words::HEADERS), random.text(words::VALUES)),
            false => {
                let matcher = random.pick(&asked);
                let value = super::requests::value_for(random, matcher);
                (matcher.name.clone(), value)
            }
        };
        // Repeated, an agent is among what is meant to differ.
        let agent = name == "user-agent" && headers.iter().any(|(other, _)| *other == name);
        if !name.starts_with(':') && !agent {
            headers.push((name.to_ascii_lowercase(), value));
        }
    }
    let query = random.text(&["", "", "", "?q=1"]);
    Asked {
        method: random.text(&["GET", "GET", "POST", "PUT"]),
        authority: random.text(&["a.test", "b.a.test:8080"]),
        path: random.text(PATHS) + &query,
        headers,
    }
}

fn asked_by(permission: &Permission, headers: &mut Vec<HeaderMatcher>) {
    match &permission.rule {
        Some(Rule::Header(matcher)) => headers.push(matcher.clone()),
        Some(Rule::AndRules(set) | Rule::OrRules(set)) => {
            set.rules.iter().for_each(|it| asked_by(it, headers));
        }
        Some(Rule::NotRule(rule)) => asked_by(rule, headers),
        _ => {}
    }
}

fn asked_of(principal: &Principal, headers: &mut Vec<HeaderMatcher>) {
    match &principal.identifier {
        Some(Identifier::Header(matcher)) => headers.push(matcher.clone()),
        Some(Identifier::AndIds(set) | Identifier::OrIds(set)) => {
            set.ids.iter().for_each(|it| asked_of(it, headers));
        }
        Some(Identifier::NotId(id)) => asked_of(id, headers),
        _ => {}
    }
}
