use super::*;

/// The path of all policies here.
const POLICY: &str = "rules.policies[\"p\"]";
const RESTRICTS: &str = "not supported, and it restricts who may do what";

fn rejected(wire: WirePolicy) -> String {
    decoded(wire).unwrap_err().to_string()
}

/// What the decoder says by itself, where the tables of fields were not asked before.
fn alone(wire: &Rbac) -> String {
    let encoded = Extension::Message(wire.encode_to_vec());
    let decoder = RbacDecoder::standard();
    decoder.decode(RBAC.name, &encoded).unwrap_err().to_string()
}

#[test]
fn expressions_reject_the_whole() {
    let with = |change: fn(&mut WirePolicy)| {
        let mut policy = policy_for(None, None);
        change(&mut policy);
        policy
    };
    for (policy, field) in [
        (with(|p| p.condition = Some(Expr::default())), "condition"),
        (
            with(|p| p.checked_condition = Some(CheckedExpr::default())),
            "checked_condition",
        ),
        (
            with(|p| p.cel_config = Some(Default::default())),
            "cel_config",
        ),
    ] {
        let expected = format!("{POLICY}.{field}: {RESTRICTS}");
        assert_eq!(rejected(policy.clone()), expected);
        let problem = "expressions in CEL are not supported (gRFC A41)";
        let expected = format!("{POLICY}.{field}: {problem}");
        assert_eq!(alone(&filter_of(rules_of(policy))), expected);
    }
}

#[test]
fn headers_of_the_protocol_are_refused_however_deep_and_written() {
    let and = |rule| asked(Asked::AndRules(permission::Set { rules: vec![rule] }));
    let or = |rule| asked(Asked::OrRules(permission::Set { rules: vec![rule] }));
    let not = |rule| asked(Asked::NotRule(Box::new(rule)));
    let not_id = |id| asks(Asks::NotId(Box::new(id)));
    let or_ids = |id| asks(Asks::OrIds(principal::Set { ids: vec![id] }));
    let pseudo = "is a pseudo-header that rules cannot see (gRFC A41)";
    let protocol = "belongs to the protocol, not to the request (gRFC A41)";
    for (name, problem) in [
        (":scheme", pseudo),
        (":Scheme", pseudo),
        (":status", pseudo),
        ("grpc-timeout", protocol),
        ("GRPC-Status", protocol),
    ] {
        let permission = || asked(Asked::Header(present(name)));
        let principal = || asks(Asks::Header(present(name)));
        for (policy, at) in [
            (policy_for(Some(permission()), None), "permissions[0]"),
            (
                policy_for(Some(and(or(not(permission())))), None),
                "permissions[0].and_rules.rules[0].or_rules.rules[0].not_rule",
            ),
            (policy_for(None, Some(principal())), "principals[0]"),
            (
                policy_for(None, Some(or_ids(not_id(principal())))),
                "principals[0].or_ids.ids[0].not_id",
            ),
        ] {
            let name = name.to_ascii_lowercase();
            let expected = format!("{POLICY}.{at}.header.name: {name:?} {problem}");
            assert_eq!(rejected(policy), expected);
        }
    }
}

#[test]
fn what_cannot_be_put_in_force_is_refused() {
    let typed = TypedExtensionConfig::default;
    let mut policies = Vec::new();
    for (rule, field) in [
        (Asked::Matcher(typed()), "matcher"),
        (Asked::UriTemplate(typed()), "uri_template"),
        (
            Asked::SourcedMetadata(Default::default()),
            "sourced_metadata",
        ),
    ] {
        let at = format!("permissions[0].{field}");
        policies.push((policy_for(Some(asked(rule)), None), at));
    }
    for (identifier, field) in [
        (
            Asks::FilterState(FilterStateMatcher::default()),
            "filter_state",
        ),
        (
            Asks::SourcedMetadata(Default::default()),
            "sourced_metadata",
        ),
        (Asks::Custom(typed()), "custom"),
    ] {
        let at = format!("principals[0].{field}");
        policies.push((policy_for(None, Some(asks(identifier))), at));
    }
    for (policy, at) in policies {
        let expected = format!("{POLICY}.{at}: {RESTRICTS}");
        assert_eq!(alone(&filter_of(rules_of(policy.clone()))), expected);
        assert_eq!(rejected(policy), expected);
    }
    let matcher = Rbac {
        matcher: Some(Default::default()),
        ..Default::default()
    };
    assert_eq!(alone(&matcher), "matcher: not supported: use rules");
    let error = decode(&matcher).unwrap_err();
    assert_eq!(error.to_string(), format!("matcher: {RESTRICTS}"));
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let permission = |rule| policy_for(Some(asked(rule)), None);
    let principal = |identifier| policy_for(None, Some(asks(identifier)));
    let ports = |start, end| permission(Asked::DestinationPortRange(Int32Range { start, end }));
    let no_rules = permission::Set { rules: vec![] };
    let no_ids = principal::Set { ids: vec![] };
    let no_prefix = string(MatchPattern::Prefix(String::new()));
    for (policy, expected) in [
        (
            policy_of(vec![], vec![asks(Asks::Any(true))]),
            "permissions: must not be empty",
        ),
        (
            policy_of(vec![asked(Asked::Any(true))], vec![]),
            "principals: must not be empty",
        ),
        (
            policy_for(Some(Permission { rule: None }), None),
            "permissions[0].rule: none is set that is supported",
        ),
        (
            policy_for(None, Some(Principal { identifier: None })),
            "principals[0].identifier: none is set that is supported",
        ),
        (
            permission(Asked::Any(false)),
            "permissions[0].any: must be true",
        ),
        (
            principal(Asks::Any(false)),
            "principals[0].any: must be true",
        ),
        (
            permission(Asked::OrRules(no_rules)),
            "permissions[0].or_rules.rules: must not be empty",
        ),
        (
            principal(Asks::AndIds(no_ids)),
            "principals[0].and_ids.ids: must not be empty",
        ),
        (
            permission(Asked::DestinationIp(range("10.0.0.256", 8))),
            "permissions[0].destination_ip.address_prefix: \"10.0.0.256\" is not an IP address",
        ),
        (
            principal(Asks::RemoteIp(range("10.0.0.0", 33))),
            "principals[0].remote_ip.prefix_len: 33 is more than 32",
        ),
        (
            principal(Asks::DirectRemoteIp(range("::", 129))),
            "principals[0].direct_remote_ip.prefix_len: 129 is more than 128",
        ),
        (
            permission(Asked::DestinationPort(65536)),
            "permissions[0].destination_port: 65536 is not a port",
        ),
        (
            ports(5, 5),
            "permissions[0].destination_port_range: 5 up to 5 is not a range of ports",
        ),
        (
            ports(-1, 5),
            "permissions[0].destination_port_range: -1 up to 5 is not a range of ports",
        ),
        (
            ports(0, i32::MIN),
            "permissions[0].destination_port_range: 0 up to -2147483648 is not a range of ports",
        ),
        (
            permission(Asked::UrlPath(PathMatcher { rule: None })),
            "permissions[0].url_path.path: must be set",
        ),
        (
            permission(Asked::RequestedServerName(WireString::default())),
            "permissions[0].requested_server_name.match_pattern: none is set that is supported",
        ),
        (
            principal(Asks::Authenticated(Authenticated {
                principal_name: Some(no_prefix),
            })),
            "principals[0].authenticated.principal_name.prefix: must not be empty",
        ),
    ] {
        assert_eq!(rejected(policy), format!("{POLICY}.{expected}"));
    }
    let action = WireRules {
        action: 3,
        ..rules_of(policy_for(None, None))
    };
    assert_eq!(alone(&filter_of(action)), "rules.action: unknown action 3");
}

#[test]
fn fields_of_the_future_are_refused() {
    // A field 99, which is 1.
    let future = [0x98, 0x06, 0x01];
    let any = [0x18, 0x01];
    let field = |number: u8, value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap();
        [&[number << 3 | 2, length], value].concat()
    };
    let policy = |permission: &[u8], principal: &[u8], more: &[u8]| {
        let policy = [&field(1, permission), &field(2, principal), more].concat();
        let entry = [field(1, b"p"), field(2, &policy)].concat();
        field(1, &field(2, &entry))
    };
    let with_future = [&any[..], &future].concat();
    assert!(decode_with(FilterRegistry::standard(), policy(&any, &any, &[])).is_ok());
    for (encoded, at) in [
        (future.to_vec(), "#99"),
        (field(1, &future), "rules.#99"),
        (policy(&any, &any, &future), "rules.policies[\"p\"].#99"),
        (
            policy(&with_future, &any, &[]),
            "rules.policies[\"p\"].permissions[0].#99",
        ),
        (
            policy(&any, &with_future, &[]),
            "rules.policies[\"p\"].principals[0].#99",
        ),
    ] {
        let error = decode_with(FilterRegistry::standard(), encoded).unwrap_err();
        let problem = "not known to this version, and may restrict who may do what";
        assert_eq!(error.to_string(), format!("{at}: {problem}"));
    }
}

#[test]
fn messages_are_not_mixed_up() {
    let decoder = RbacDecoder::standard();
    let empty = Extension::Message(Vec::new());
    let json = Extension::Struct(Default::default());
    let broken = Extension::Message(vec![0x0a, 0x7f]);
    for (result, problem) in [
        (
            decoder.decode(RBAC_PER_ROUTE.name, &empty),
            "is for overrides",
        ),
        (
            decoder.decode_override(RBAC.name, &empty),
            "an override takes",
        ),
        (decoder.decode(RBAC.name, &json), "a message is expected"),
        (decoder.decode(RBAC.name, &broken), "not a valid"),
    ] {
        let error = result.unwrap_err();
        assert!(error.problem().contains(problem), "{error}");
    }
}
