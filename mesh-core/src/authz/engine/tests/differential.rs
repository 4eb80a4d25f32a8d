//! The indexed, bound engine against a reference that knows neither, on generated rules, peers and
//! requests, small enough to collide often.

use fastrand::Rng;

use super::*;

const PATHS: [&str; 7] = ["/", "/a", "/a/b", "/a/bc", "/A", "/b", "/b/c"];
const NAMES: [&str; 5] = ["", "x", "y", "spiffe://d/x", "CN=x"];
const VALUES: [&str; 6] = ["", "a", "A", "1", "12", "a,1"];
const HEADERS: [&str; 6] = ["h", "i", ":path", ":method", ":authority", "te"];

struct Request {
    path: &'static str,
    query: Option<&'static str>,
    headers: HeaderMap,
}

fn of<T: Clone>(rng: &mut Rng, all: &[T]) -> T {
    rng.choice(all).cloned().unwrap()
}

fn string(rng: &mut Rng, texts: &[&str]) -> StringMatcher {
    let text = of(rng, texts).to_owned();
    let pattern = match rng.u8(..5) {
        0 | 1 => StringMatch::Exact(text),
        2 => StringMatch::Prefix(text),
        3 => StringMatch::Suffix(text),
        _ => StringMatch::Contains(text),
    };
    StringMatcher::new(pattern, rng.u8(..4) == 0)
}

fn header_matcher(rng: &mut Rng) -> HeaderMatcher {
    let name = of(rng, &HEADERS);
    let test = match rng.u8(..5) {
        0 => HeaderMatch::Present(rng.bool()),
        1 => HeaderMatch::Range { start: 1, end: 10 },
        _ if name == ":path" => HeaderMatch::Value(string(rng, &PATHS)),
        _ => HeaderMatch::Value(string(rng, &VALUES)),
    };
    HeaderMatcher {
        name: name.into(),
        test,
        invert: rng.u8(..4) == 0,
        treat_missing_as_empty: rng.u8(..4) == 0,
    }
}

fn rule(rng: &mut Rng, depth: u8) -> Rule {
    let set = |rng: &mut Rng| (0..rng.usize(..4)).map(|_| rule(rng, depth - 1)).collect();
    match rng.u8(..if depth == 0 { 14 } else { 20 }) {
        0 => Rule::Any,
        1 => Rule::Authenticated(rng.bool().then(|| string(rng, &NAMES))),
        2 => Rule::Authenticated(Some(string(rng, &NAMES))),
        3 => Rule::DestinationIp(cidr("2001:db8::", rng.u32(..=128))),
        4 => Rule::DestinationPort(rng.u16(440..444)..=443),
        5 | 6 => Rule::Header(header_matcher(rng)),
        7 => Rule::Metadata { invert: rng.bool() },
        8..=10 => Rule::Path(string(rng, &PATHS)),
        11 => Rule::Path(exact(of(rng, &PATHS))),
        12 => Rule::ServerName(string(rng, &NAMES)),
        13 => Rule::SourceIp(cidr("10.1.2.0", rng.u32(..=32))),
        14 | 15 => Rule::All(set(rng)),
        16 | 17 => Rule::AnyOf(set(rng)),
        _ => not(rule(rng, depth - 1)),
    }
}

fn random_rules(rng: &mut Rng) -> Rules {
    let some = |rng: &mut Rng| (0..rng.usize(..3)).map(|_| rule(rng, 3)).collect();
    let policies = (0..rng.usize(..9)).map(|number| {
        let policy = Policy {
            permissions: some(rng),
            principals: some(rng),
        };
        (Arc::from(format!("p{number}")), policy)
    });
    let policies = policies.collect();
    Rules {
        action: of(rng, &[Action::Allow, Action::Deny, Action::Log]),
        policies,
        audit: AuditLoggers::default(),
    }
}

fn random_peer(rng: &mut Rng) -> Peer {
    let names =
        |rng: &mut Rng| -> Vec<&str> { (0..rng.usize(..3)).map(|_| of(rng, &NAMES)).collect() };
    let mut peer = match rng.u8(..4) {
        0 => plaintext(),
        1 => tls(None),
        _ => {
            let (uris, dns) = (names(rng), names(rng));
            tls(Some(certificate(&uris, &dns, of(rng, &NAMES))))
        }
    };
    if rng.u8(..4) == 0 {
        (peer.address, peer.local) = (None, None);
    }
    peer
}

fn random_request(rng: &mut Rng) -> Request {
    let mut headers = HeaderMap::new();
    for name in ["h", "h", "i", "te"] {
        if rng.bool() {
            headers.append(name, HeaderValue::from_static(of(rng, &VALUES)));
        }
    }
    Request {
        path: of(rng, &PATHS),
        query: of(rng, &[None, None, Some("b"), Some("")]),
        headers,
    }
}

/// All that the header can be read as.
fn readings(name: &str, request: &Request) -> Vec<String> {
    match name {
        ":authority" => vec!["service.example".into()],
        ":method" => vec!["POST".into()],
        ":path" => std::iter::once(request.path.to_owned())
            .chain(
                request
                    .query
                    .map(|query| format!("{}?{query}", request.path)),
            )
            .collect(),
        "te" => vec![],
        name => {
            let values = request.headers.get_all(name).iter();
            let mut values: Vec<_> = values.map(|v| v.to_str().unwrap().to_owned()).collect();
            if values.len() > 1 {
                values.push(values.join(","));
            }
            values
        }
    }
}

fn header_matches(matcher: &HeaderMatcher, request: &Request, every: bool) -> bool {
    let mut readings = readings(&matcher.name, request);
    let test = |value: &str| match &matcher.test {
        HeaderMatch::Present(_) => unreachable!(),
        HeaderMatch::Range { start, end } => {
            value.parse::<i64>().is_ok_and(|n| n >= *start && n < *end)
        }
        HeaderMatch::Value(string) => string.is_match(value.as_bytes()),
    };
    if let HeaderMatch::Present(present) = matcher.test {
        return (!readings.is_empty() == present) != matcher.invert;
    }
    if readings.is_empty() {
        match matcher.treat_missing_as_empty {
            true => readings.push(String::new()),
            false => return false,
        }
    }
    let mut results = readings.iter().map(|value| test(value) != matcher.invert);
    if every {
        results.all(|r| r)
    } else {
        results.any(|r| r)
    }
}

fn passes(rule: &Rule, peer: &Peer, request: &Request, every: bool) -> bool {
    match rule {
        Rule::All(rules) => rules.iter().all(|rule| passes(rule, peer, request, every)),
        Rule::Any => true,
        Rule::AnyOf(rules) => rules.iter().any(|rule| passes(rule, peer, request, every)),
        Rule::Authenticated(matcher) => match (&peer.tls, matcher) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(tls), Some(matcher)) => {
                let names: Vec<Arc<str>> = match &tls.certificate {
                    None => vec!["".into()],
                    Some(it) if !it.uris.is_empty() => it.uris.clone(),
                    Some(it) if !it.dns_names.is_empty() => it.dns_names.clone(),
                    Some(it) => vec![it.subject.clone()],
                };
                names.iter().any(|name| matcher.is_match(name.as_bytes()))
            }
        },
        Rule::DestinationIp(range) => peer.local.is_some_and(|a| range.contains(a.ip())),
        Rule::DestinationPort(ports) => peer.local.is_some_and(|a| ports.contains(&a.port())),
        Rule::Header(matcher) => header_matches(matcher, request, every),
        Rule::Metadata { invert } => *invert,
        Rule::Not(rule) => !passes(rule, peer, request, !every),
        Rule::Path(matcher) => matcher.is_match(request.path.as_bytes()),
        Rule::ServerName(matcher) => matcher.is_match(b""),
        Rule::SourceIp(range) => peer.address.is_some_and(|a| range.contains(a.ip())),
    }
}

/// The policies that match, in order.
fn matching<'a>(rules: &'a Rules, peer: &Peer, request: &Request) -> Vec<&'a Arc<str>> {
    let every = rules.action == Action::Allow;
    let one = |all: &[Rule]| all.iter().any(|rule| passes(rule, peer, request, every));
    let policies = rules.policies.iter();
    let matching =
        policies.filter(|(_, policy)| one(&policy.permissions) && one(&policy.principals));
    matching.map(|(name, _)| name).collect()
}

#[test]
fn the_engine_decides_as_the_reference_does() {
    let mut rng = Rng::with_seed(41);
    let (mut matched, mut decided, mut early) = (0, 0, 0);
    for round in 0..4_000 {
        let rules = random_rules(&mut rng);
        let engine = Arc::new(Engine::compile(Semantics::Grpc, &rules));
        for _ in 0..2 {
            let peer = Arc::new(random_peer(&mut rng));
            let bound = engine.bind(&peer);
            early += usize::from(bound.always != NONE);
            for _ in 0..6 {
                let mut request = random_request(&mut rng);
                let expected = matching(&rules, &peer, &request);
                let mut headers = std::mem::take(&mut request.headers);
                let head = RequestHead {
                    method: &Method::POST,
                    authority: "service.example",
                    path: request.path,
                    query: request.query,
                    headers: &mut headers,
                    peer: None,
                };
                let Decision { allowed, policy } = bound.decide(&head, "rbac");
                let of_reference = match rules.action {
                    Action::Allow => !expected.is_empty(),
                    Action::Deny => expected.is_empty(),
                    Action::Log => true,
                };
                let about = || format!("round {round}: {rules:#?} {peer:?} {head:?}");
                assert_eq!(allowed, of_reference, "{}", about());
                match rules.action {
                    Action::Allow => assert!(
                        policy.map_or(expected.is_empty(), |policy| expected.contains(&policy)),
                        "{}",
                        about()
                    ),
                    Action::Deny | Action::Log => {
                        assert_eq!(policy, expected.first().copied(), "{}", about());
                    }
                }
                decided += 1;
                matched += usize::from(!expected.is_empty());
            }
        }
    }
    // Both ways are taken often, or nothing was shown.
    assert!(decided == 48_000 && early > 500, "{early}");
    assert!((10_000..40_000).contains(&matched), "{matched}");
}
