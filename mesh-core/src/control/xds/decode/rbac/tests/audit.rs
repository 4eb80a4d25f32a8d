use super::*;
use crate::{
    control::xds::decode::Field,
    filter::{RequestHead, Verdict},
    identity::Peer,
};

const AT: &str = "rules.audit_logging_options";

static ACME: Message = Message {
    name: "acme.Audit",
    fields: &[Field::ignored(1, "sink", "there is one sink only")],
};

fn typed(name: &str, value: &[u8]) -> Option<Any> {
    Some(Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: value.to_vec(),
    })
}

#[test]
fn loggers_are_found_by_type() {
    let stdout = StdoutAuditLog::full_name();
    for (wire, condition) in [
        (AuditCondition::None, Condition::Never),
        (AuditCondition::OnDeny, Condition::OnDeny),
        (AuditCondition::OnAllow, Condition::OnAllow),
        (AuditCondition::OnDenyAndAllow, Condition::OnDenyAndAllow),
    ] {
        let configs = vec![
            logger_config(typed(&stdout, b""), false),
            logger_config(typed("acme.Other", b""), true),
        ];
        let (config, findings) = decode(&audited(wire.into(), configs)).unwrap();
        let audit = &spec_of(&config).rules().unwrap().audit;
        assert_eq!(audit.condition, condition);
        let kinds: Vec<&str> = audit.loggers.iter().map(|logger| &*logger.kind).collect();
        assert_eq!(kinds, [&stdout]);
        let note = "extension \"acme.Other\" is not known here";
        let expected = format!("{AT}.logger_configs[1].audit_logger.typed_config - {note}");
        assert_eq!(lines(&findings), [expected]);
    }
}

#[test]
fn loggers_must_be_known_unless_they_are_optional() {
    for (wire, expected) in [
        (
            audited(1, vec![logger_config(typed("acme.Other", b""), false)]),
            "logger_configs[0].audit_logger.typed_config: audit logger \"acme.Other\" is not \
             known here",
        ),
        (
            audited(1, vec![logger_config(None, true)]),
            "logger_configs[0].audit_logger.typed_config: must be set",
        ),
        (
            audited(1, vec![AuditLoggerConfig::default()]),
            "logger_configs[0].audit_logger: must be set",
        ),
        (audited(4, vec![]), "audit_condition: unknown condition 4"),
    ] {
        let error = decode(&wire).unwrap_err();
        assert_eq!(error.to_string(), format!("{AT}.{expected}"));
    }
}

#[test]
fn a_logger_of_ones_own_hears_of_decisions() {
    let (heard, events) = std::sync::mpsc::channel();
    let logger = move |event: &AuditEvent<'_>| {
        let AuditEvent {
            rpc_method,
            policy_name,
            matched_rule,
            authorized,
            ..
        } = event;
        let line = format!("{policy_name} {matched_rule} {rpc_method} {authorized}");
        heard.send(line).unwrap();
    };
    let rbac = RbacDecoder::standard().with_logger(SharedLogger::new(&ACME, Arc::new(logger)));
    let filters = FilterRegistry::standard().register(rbac);
    let acme = |value: &[u8]| {
        let logger = logger_config(typed(ACME.name, value), false);
        let wire = audited(AuditCondition::OnDeny.into(), vec![logger]);
        decode_with(filters.clone(), wire.encode_to_vec()).unwrap()
    };
    let (config, findings) = acme(&[8, 1]);
    let expected = "logger_configs[0].audit_logger.typed_config.sink - there is one sink only";
    assert_eq!(lines(&findings), [format!("{AT}.{expected}")]);
    assert_eq!(config, acme(&[8, 1]).0);
    assert_ne!(config, acme(&[8, 2]).0);

    let peer = Arc::new(Peer {
        address: None,
        local: None,
        tls: None,
    });
    let filter = config.build(None).unwrap().bind(&peer).unwrap();
    let mut head = RequestHead {
        method: &http::Method::POST,
        authority: "",
        path: "/a",
        query: None,
        headers: &mut http::HeaderMap::new(),
        peer: Some(&peer),
    };
    assert!(matches!(filter.request(&mut head), Verdict::Reply(_)));
    assert_eq!(events.recv().unwrap(), "rbac p /a false");
}
