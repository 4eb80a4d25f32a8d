use super::*;
use crate::config::Regex;

fn matcher(text: &str) -> StringMatcher {
    StringMatcher::new(StringMatch::Exact(text.into()), false)
}

#[test]
fn the_filter_is_for_servers_and_known_by_both_messages() {
    let filters = FilterRegistry::standard();
    for message in [RBAC.name, RBAC_PER_ROUTE.name] {
        let decoder = filters.get(message).unwrap();
        assert_eq!(decoder.side(), Side::Server);
        assert!(!decoder.is_terminal() && !decoder.accepts_struct());
    }
}

#[test]
fn actions_policies_and_their_order() {
    for (wire, action) in [
        (WireAction::Allow, Action::Allow),
        (WireAction::Deny, Action::Deny),
        (WireAction::Log, Action::Log),
    ] {
        let policies = ["b", "a", "c"].map(|name| (name.to_owned(), policy_for(None, None)));
        let wire = filter_of(WireRules {
            action: wire.into(),
            policies: policies.into(),
            audit_logging_options: None,
        });
        let (config, findings) = decode(&wire).unwrap();
        let spec = spec_of(&config);
        let rules = spec.rules().unwrap();
        assert_eq!((spec.name(), rules.action), ("rbac", action));
        let names: Vec<&str> = rules.policies.keys().map(|name| &**name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(findings.is_empty());
    }
}

#[test]
#[allow(deprecated)]
fn every_permission_is_decoded() {
    let one = |rule| vec![asked(rule)];
    let unlimited = CidrRange {
        prefix_len: None,
        ..range("::1", 0)
    };
    let all_ports = Int32Range {
        start: 0,
        end: 65536,
    };
    let set = |rules| permission::Set { rules };
    let ten = || Cidr::new([10, 0, 0, 0].into(), 8);
    for (wire, rule) in [
        (Asked::Any(true), Rule::Any),
        (Asked::UrlPath(url_path("/a")), Rule::Path(matcher("/a"))),
        (
            Asked::AndRules(set(one(Asked::Any(true)))),
            Rule::All(vec![Rule::Any]),
        ),
        (
            Asked::OrRules(set(one(Asked::Any(true)))),
            Rule::AnyOf(vec![Rule::Any]),
        ),
        (
            Asked::NotRule(Box::new(asked(Asked::Any(true)))),
            Rule::Not(Box::new(Rule::Any)),
        ),
        (
            Asked::DestinationIp(range("10.1.2.3", 8)),
            Rule::DestinationIp(ten()),
        ),
        // IPv4 in the disguise of IPv6 is IPv4, as it is where it is compared.
        (
            Asked::DestinationIp(range("::ffff:10.0.0.0", 104)),
            Rule::DestinationIp(ten()),
        ),
        (
            Asked::DestinationIp(unlimited),
            Rule::DestinationIp(Cidr::new([0u16; 8].into(), 0)),
        ),
        (Asked::DestinationPort(80), Rule::DestinationPort(80..=80)),
        (
            Asked::DestinationPortRange(all_ports),
            Rule::DestinationPort(0..=65535),
        ),
    ] {
        let (policy, findings) = decoded(policy_for(Some(asked(wire)), None)).unwrap();
        assert_eq!(policy.permissions, [rule]);
        assert_eq!(policy.principals, [Rule::Any]);
        assert!(findings.is_empty(), "{findings:?}");
    }
}

#[test]
#[allow(deprecated)]
fn every_principal_is_decoded() {
    let source = || Rule::SourceIp(Cidr::new([10, 0, 0, 0].into(), 8));
    let authenticated = |principal_name| Asks::Authenticated(Authenticated { principal_name });
    let ids = || principal::Set {
        ids: vec![asks(Asks::Any(true))],
    };
    for (wire, rule) in [
        (Asks::Any(true), Rule::Any),
        (Asks::AndIds(ids()), Rule::All(vec![Rule::Any])),
        (Asks::OrIds(ids()), Rule::AnyOf(vec![Rule::Any])),
        (
            Asks::NotId(Box::new(asks(Asks::Any(true)))),
            Rule::Not(Box::new(Rule::Any)),
        ),
        (authenticated(None), Rule::Authenticated(None)),
        (
            authenticated(Some(exact("spiffe://a/b"))),
            Rule::Authenticated(Some(matcher("spiffe://a/b"))),
        ),
        (Asks::SourceIp(range("10.0.0.0", 8)), source()),
        (Asks::DirectRemoteIp(range("10.0.0.0", 8)), source()),
        (Asks::RemoteIp(range("10.0.0.0", 8)), source()),
        (Asks::UrlPath(url_path("/a")), Rule::Path(matcher("/a"))),
    ] {
        let (policy, findings) = decoded(policy_for(None, Some(asks(wire)))).unwrap();
        assert_eq!(policy.principals, [rule]);
        assert!(findings.is_empty(), "{findings:?}");
    }
}

#[test]
fn headers_go_by_lower_case_names_and_hosts_ignore_case() {
    let value = |text: &str, ignore_case| {
        let exact = StringMatch::Exact(text.into());
        HeaderMatch::Value(StringMatcher::new(exact, ignore_case))
    };
    let expression = StringMatch::Regex(Regex::new("(?i:A|B)").unwrap());
    let is = |name, pattern| header(name, HeaderMatchSpecifier::StringMatch(pattern));
    let regex = RegexMatcher {
        regex: "A|B".into(),
        ..Default::default()
    };
    for (wire, name, test) in [
        (
            is("X-Role", exact("Admin")),
            "x-role",
            value("Admin", false),
        ),
        (is(":Method", exact("GET")), ":method", value("GET", false)),
        (is(":path", exact("/a")), ":path", value("/a", false)),
        (
            is(":authority", exact("A.b")),
            ":authority",
            value("a.b", true),
        ),
        (is("Host", exact("A.b")), ":authority", value("a.b", true)),
        (is("grpc", exact("a")), "grpc", value("a", false)),
        (
            is("host", string(MatchPattern::SafeRegex(regex))),
            ":authority",
            HeaderMatch::Value(StringMatcher::new(expression, false)),
        ),
    ] {
        let permission = asked(Asked::Header(wire.clone()));
        let (policy, findings) = decoded(policy_for(Some(permission), None)).unwrap();
        let rule = Rule::Header(HeaderMatcher {
            name: name.into(),
            test,
            invert: false,
            treat_missing_as_empty: false,
        });
        assert_eq!(policy.permissions, [rule.clone()]);
        assert!(findings.is_empty(), "{findings:?}");
        let principal = asks(Asks::Header(wire));
        let (policy, _) = decoded(policy_for(None, Some(principal))).unwrap();
        assert_eq!(policy.principals, [rule]);
    }
}

#[test]
#[allow(deprecated)]
fn what_the_grfc_reads_in_its_own_way_is_reported() {
    let metadata = |invert| MetadataMatcher {
        invert,
        ..Default::default()
    };
    let wire = policy_of(
        vec![
            asked(Asked::Metadata(metadata(false))),
            asked(Asked::RequestedServerName(exact("a"))),
        ],
        vec![asks(Asks::Metadata(metadata(true)))],
    );
    let (policy, findings) = decoded(wire).unwrap();
    let never = Rule::Metadata { invert: false };
    assert_eq!(policy.permissions, [never, Rule::ServerName(matcher("a"))]);
    assert_eq!(policy.principals, [Rule::Metadata { invert: true }]);
    let metadata = "there is no metadata: it matches only if it is inverted (gRFC A41)";
    let server_name = "under gRPC semantics it is always the empty string (gRFC A41)";
    assert_eq!(
        findings,
        [
            format!("rules.policies[\"p\"].permissions[0].metadata ~ {metadata}"),
            format!("rules.policies[\"p\"].permissions[1].requested_server_name ~ {server_name}"),
            format!("rules.policies[\"p\"].principals[0].metadata ~ {metadata}"),
        ]
    );
}

#[test]
fn shadow_rules_are_reported_and_no_rules_do_nothing() {
    let wire = Rbac {
        shadow_rules: Some(rules_of(policy_for(None, None))),
        shadow_rules_stat_prefix: "x".into(),
        ..Default::default()
    };
    let (config, findings) = decode(&wire).unwrap();
    assert_eq!(spec_of(&config).rules(), None);
    assert!(config.build(None).is_none());
    assert_eq!(
        lines(&findings),
        [
            "shadow_rules - shadow rules decide nothing (gRFC A41)",
            "shadow_rules_stat_prefix - shadow rules decide nothing (gRFC A41)",
        ]
    );
}

#[test]
fn an_override_is_whole_or_turns_the_filter_off() {
    let filters = FilterRegistry::standard();
    let decoder = filters.get(RBAC_PER_ROUTE.name).unwrap();
    let over = |rbac| {
        let encoded = RbacPerRoute { rbac }.encode_to_vec();
        decoder.decode_override(RBAC_PER_ROUTE.name, &Extension::Message(encoded))
    };
    let (base, _) = decode(&filter_of(rules_of(policy_for(None, None)))).unwrap();
    assert!(base.build(None).is_some());
    for off in [None, Some(Rbac::default())] {
        assert!(base.build(Some(&over(off).unwrap())).is_none());
    }
    let other = over(Some(filter_of(WireRules::default()))).unwrap();
    assert_eq!(spec_of(&other).rules().unwrap().action, Action::Allow);
    assert!(base.build(Some(&other)).is_some());
}
