use std::{ops::RangeInclusive, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;

use super::*;
use crate::{
    authz::{AuditCondition, NamedLogger, Policy, Rule},
    config::{Cidr, HeaderMatch, HeaderMatcher, StringMatch, StringMatcher},
    identity::{PeerCertificate, PeerTls},
};

mod differential;

fn exact(text: &str) -> StringMatcher {
    StringMatcher::new(StringMatch::Exact(text.into()), false)
}

fn path(text: &str) -> Rule {
    Rule::Path(exact(text))
}

fn name(text: &str) -> Rule {
    Rule::Authenticated(Some(exact(text)))
}

fn cidr(address: &str, prefix: u32) -> Cidr {
    Cidr::new(address.parse().unwrap(), prefix)
}

fn ports(ports: RangeInclusive<u16>) -> Rule {
    Rule::DestinationPort(ports)
}

fn not(rule: Rule) -> Rule {
    Rule::Not(Box::new(rule))
}

fn header(name: &str, test: HeaderMatch) -> Rule {
    Rule::Header(HeaderMatcher {
        name: name.into(),
        test,
        invert: false,
        treat_missing_as_empty: false,
    })
}

fn rules(action: Action, policies: impl IntoIterator<Item = (&'static str, Rule, Rule)>) -> Rules {
    let policy = |(name, permission, principal): (&'static str, _, _)| {
        let policy = Policy {
            permissions: vec![permission],
            principals: vec![principal],
        };
        (Arc::from(name), policy)
    };
    Rules {
        action,
        policies: policies.into_iter().map(policy).collect(),
        audit: AuditLoggers::default(),
    }
}

fn certificate(uris: &[&str], dns_names: &[&str], subject: &str) -> PeerCertificate {
    let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
    PeerCertificate {
        uris: names(uris),
        dns_names: names(dns_names),
        emails: Vec::new(),
        addresses: Vec::new(),
        subject: subject.into(),
        serial: "1".into(),
        not_before: SystemTime::UNIX_EPOCH,
        not_after: SystemTime::UNIX_EPOCH,
        chain: Arc::from([]),
    }
}

fn plaintext() -> Peer {
    Peer {
        address: Some("10.1.2.3:4000".parse().unwrap()),
        local: Some("[2001:db8::1]:443".parse().unwrap()),
        tls: None,
    }
}

fn tls(certificate: Option<PeerCertificate>) -> Peer {
    Peer {
        tls: Some(PeerTls {
            version: None,
            alpn: None,
            server_name: Some("asked.example".into()),
            certificate: certificate.map(Arc::new),
        }),
        ..plaintext()
    }
}

fn bound(rules: &Rules, peer: Peer) -> Bound {
    Arc::new(Engine::compile(Semantics::Grpc, rules)).bind(&Arc::new(peer))
}

/// The decision on a POST of `path` from `peer`: whether it is allowed, and the policy.
fn decide(rules: &Rules, peer: Peer, path: &str) -> (bool, Option<String>) {
    decide_with(&bound(rules, peer), path, &mut HeaderMap::new())
}

fn decide_with(bound: &Bound, path: &str, headers: &mut HeaderMap) -> (bool, Option<String>) {
    let head = RequestHead {
        method: &Method::POST,
        authority: "service.example",
        path,
        query: None,
        headers,
        peer: None,
    };
    let Decision { allowed, policy } = bound.decide(&head, "rbac");
    (allowed, policy.map(|policy| policy.to_string()))
}

fn by(policy: &str) -> Option<String> {
    Some(policy.to_owned())
}

#[test]
fn actions_say_what_a_match_means() {
    for (action, matching, other) in [
        (Action::Allow, true, false),
        (Action::Deny, false, true),
        (Action::Log, true, true),
    ] {
        let one = rules(action, [("p", path("/a"), Rule::Any)]);
        assert_eq!(decide(&one, plaintext(), "/a"), (matching, by("p")));
        assert_eq!(decide(&one, plaintext(), "/b"), (other, None));
        let none = rules(action, []);
        assert_eq!(decide(&none, plaintext(), "/a"), (other, None));
    }
}

#[test]
fn a_policy_needs_one_permission_and_one_principal() {
    let mut two = rules(Action::Allow, [("p", path("/a"), name("x"))]);
    let policy = two.policies.get_mut("p").unwrap();
    policy.permissions.push(path("/b"));
    policy.principals.push(name("y"));
    let peer = |name| tls(Some(certificate(&[name], &[], "")));
    for (peer_name, asked, allowed) in [
        ("x", "/a", true),
        ("y", "/b", true),
        ("z", "/a", false),
        ("x", "/c", false),
    ] {
        assert_eq!(
            decide(&two, peer(peer_name), asked).0,
            allowed,
            "{peer_name} {asked}"
        );
    }
    let policy = two.policies.get_mut("p").unwrap();
    policy.principals.clear();
    assert!(!decide(&two, peer("x"), "/a").0, "nobody is nobody");
}

#[test]
fn a_client_goes_by_its_first_kind_of_name() {
    let all = certificate(&["spiffe://a/b", "spiffe://c/d"], &["dns"], "CN=subject");
    let dns = certificate(&[], &["dns", "other"], "CN=subject");
    let subject = certificate(&[], &[], "CN=subject");
    for (asked, [of_all, of_dns, of_subject, of_none]) in [
        ("spiffe://a/b", [true, false, false, false]),
        ("spiffe://c/d", [true, false, false, false]),
        ("dns", [false, true, false, false]),
        ("other", [false, true, false, false]),
        ("CN=subject", [false, false, true, false]),
        ("", [false, false, false, true]),
    ] {
        let rules = rules(Action::Allow, [("p", Rule::Any, name(asked))]);
        let allows = |peer| decide(&rules, peer, "/").0;
        assert_eq!(allows(tls(Some(all.clone()))), of_all, "{asked}");
        assert_eq!(allows(tls(Some(dns.clone()))), of_dns, "{asked}");
        assert_eq!(allows(tls(Some(subject.clone()))), of_subject, "{asked}");
        assert_eq!(allows(tls(None)), of_none, "{asked}");
        assert!(!allows(plaintext()), "{asked}");
    }
    let any = rules(Action::Allow, [("p", Rule::Any, Rule::Authenticated(None))]);
    assert!(decide(&any, tls(None), "/").0);
    assert!(!decide(&any, plaintext(), "/").0);
}

#[test]
fn addresses_and_ports_are_those_of_the_connection() {
    let nowhere = Peer {
        address: None,
        local: None,
        tls: None,
    };
    for (rule, expected) in [
        (Rule::SourceIp(cidr("10.1.0.0", 16)), true),
        (Rule::SourceIp(cidr("10.2.0.0", 16)), false),
        (Rule::SourceIp(cidr("0.0.0.0", 0)), true),
        (Rule::SourceIp(cidr("::", 0)), false),
        (Rule::DestinationIp(cidr("2001:db8::", 32)), true),
        (Rule::DestinationIp(cidr("2001:db9::", 32)), false),
        (ports(443..=443), true),
        (ports(444..=500), false),
    ] {
        let one = rules(Action::Allow, [("p", rule.clone(), Rule::Any)]);
        assert_eq!(decide(&one, plaintext(), "/").0, expected, "{rule:?}");
        assert!(!decide(&one, nowhere.clone(), "/").0, "{rule:?}");
    }
}

#[test]
fn what_never_matches_still_inverts() {
    let server_name = |asked: &str| Rule::ServerName(exact(asked));
    for (rule, expected) in [
        (Rule::Metadata { invert: false }, false),
        (not(Rule::Metadata { invert: false }), true),
        (Rule::Metadata { invert: true }, true),
        (server_name("asked.example"), false),
        (not(server_name("asked.example")), true),
        (server_name(""), true),
        (Rule::All(vec![]), true),
        (Rule::AnyOf(vec![]), false),
        (not(not(path("/"))), true),
    ] {
        let rules = rules(Action::Allow, [("p", rule.clone(), Rule::Any)]);
        assert_eq!(decide(&rules, tls(None), "/").0, expected, "{rule:?}");
    }
    // Envoy's reading, for later.
    let rules = rules(
        Action::Allow,
        [("p", server_name("asked.example"), Rule::Any)],
    );
    let engine = Arc::new(Engine::compile(Semantics::Http, &rules));
    let decide = |peer| decide_with(&engine.bind(&Arc::new(peer)), "/", &mut HeaderMap::new()).0;
    assert!(decide(tls(None)));
    assert!(!decide(plaintext()));
}

#[test]
fn the_first_policy_by_name_is_the_one_reported() {
    let mut rules = rules(
        Action::Deny,
        [
            ("c", path("/a"), Rule::Any),
            ("b", Rule::Any, name("x")),
            ("d", Rule::Any, Rule::Any),
            ("a", header("h", HeaderMatch::Present(true)), Rule::Any),
        ],
    );
    let x = || tls(Some(certificate(&["x"], &[], "")));
    let with_header =
        || HeaderMap::from_iter([(http::HeaderName::from_static("h"), "1".parse().unwrap())]);
    for (peer, path, headers, expected) in [
        (x(), "/a", HeaderMap::new(), "b"),
        (x(), "/a", with_header(), "a"),
        (plaintext(), "/a", HeaderMap::new(), "c"),
        (plaintext(), "/b", HeaderMap::new(), "d"),
        (plaintext(), "/b", with_header(), "a"),
    ] {
        let mut headers = headers;
        let decided = decide_with(&bound(&rules, peer), path, &mut headers);
        assert_eq!(decided, (false, by(expected)));
    }
    rules.policies.clear();
    assert_eq!(decide(&rules, x(), "/a"), (true, None));
}

#[test]
fn what_a_connection_can_never_match_is_not_looked_at() {
    let rules = rules(
        Action::Allow,
        [
            ("indexed", path("/a"), name("x")),
            ("tried", header("h", HeaderMatch::Present(true)), name("x")),
        ],
    );
    let stranger = bound(&rules, plaintext());
    assert!(stranger.tried.is_empty() && stranger.indexed.is_empty() && !stranger.look_up);
    let x = bound(&rules, tls(Some(certificate(&["x"], &[], ""))));
    assert!(x.tried.iter().eq([1]) && x.indexed.iter().eq([0]) && x.look_up);
    let everything = bound(
        &self::rules(Action::Allow, [("p", Rule::Any, Rule::Any)]),
        plaintext(),
    );
    assert_eq!(everything.always, 0);
}

#[test]
fn auditors_hear_of_the_decisions_they_want() {
    for (action, condition, expected) in [
        (
            Action::Allow,
            AuditCondition::OnDenyAndAllow,
            &["/a p true", "/b  false"][..],
        ),
        (Action::Allow, AuditCondition::OnDeny, &["/b  false"]),
        (Action::Deny, AuditCondition::OnDeny, &["/a p false"]),
        (Action::Deny, AuditCondition::OnAllow, &["/b  true"]),
        (Action::Deny, AuditCondition::Never, &[]),
        (Action::Log, AuditCondition::OnDenyAndAllow, &[]),
    ] {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = heard.clone();
        let logger = move |event: &AuditEvent<'_>| {
            assert_eq!((event.principal, event.policy_name), ("x", "rbac"));
            let AuditEvent {
                rpc_method,
                matched_rule,
                authorized,
                ..
            } = event;
            log.lock()
                .push(format!("{rpc_method} {matched_rule} {authorized}"));
        };
        let mut rules = rules(action, [("p", path("/a"), Rule::Any)]);
        rules.audit = AuditLoggers {
            condition,
            loggers: vec![NamedLogger {
                kind: "test".into(),
                config: "".into(),
                logger: Arc::new(logger),
            }],
        };
        let bound = bound(&rules, tls(Some(certificate(&["x"], &["y"], ""))));
        for path in ["/a", "/b"] {
            decide_with(&bound, path, &mut HeaderMap::new());
        }
        assert_eq!(*heard.lock(), expected, "{action:?} {condition:?}");
    }
}

#[test]
fn a_value_that_is_added_helps_nobody() {
    let value = |pattern| HeaderMatch::Value(StringMatcher::new(pattern, false));
    let contains = || header("role", value(StringMatch::Contains("admin".into())));
    let is = || header("role", value(StringMatch::Exact("admin".into())));
    for (action, rule, values, allowed) in [
        (Action::Deny, is(), &["admin"][..], false),
        (Action::Deny, is(), &["admin", "x"], false),
        (Action::Deny, is(), &["x", "admin"], false),
        (Action::Deny, is(), &["x", "y"], true),
        (Action::Allow, is(), &["admin"], true),
        (Action::Allow, is(), &["admin", "x"], false),
        (Action::Allow, contains(), &["admin", "x"], false),
        (Action::Allow, contains(), &["admin", "admin"], true),
        // Denied unless it is admin: and it is, but not only.
        (Action::Deny, not(is()), &["admin"], true),
        (Action::Deny, not(contains()), &["admin", "x"], false),
        // Allowed unless it is admin: and it is, among others.
        (Action::Allow, not(is()), &["x"], true),
        (Action::Allow, not(is()), &["x", "admin"], false),
    ] {
        let rules = rules(action, [("p", rule.clone(), Rule::Any)]);
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("role", HeaderValue::from_static(value));
        }
        let decided = decide_with(&bound(&rules, plaintext()), "/", &mut headers);
        assert_eq!(decided.0, allowed, "{action:?} {rule:?} {values:?}");
    }
}
