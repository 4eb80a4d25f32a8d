use http::{HeaderMap, Method};

use super::*;
use crate::{
    authz::{AuditCondition, AuditEvent, AuditLoggers, NamedLogger, Policy, Rule},
    config::{Cidr, StringMatch, StringMatcher},
    filter::Disabled,
    identity::PeerTls,
};

fn path(text: &str) -> Rule {
    let exact = StringMatch::Exact(text.into());
    Rule::Path(StringMatcher::new(exact, false))
}

fn rules(action: Action, permission: Rule, principal: Rule) -> Rules {
    let policy = Policy {
        permissions: vec![permission],
        principals: vec![principal],
    };
    Rules {
        action,
        policies: [("secret-name".into(), policy)].into(),
        audit: AuditLoggers::default(),
    }
}

fn config(rules: Option<Rules>) -> FilterConfig {
    FilterConfig(Arc::new(RbacSpec::new("rbac", rules)))
}

fn peer(address: &str) -> Arc<Peer> {
    Arc::new(Peer {
        address: Some(address.parse().unwrap()),
        local: None,
        tls: None,
    })
}

/// The answer of `filter` to a request for `path`, if it answers.
fn answer(filter: &dyn Filter, path: &str, peer: Option<&Arc<Peer>>) -> Option<Reply> {
    let mut head = RequestHead {
        method: &Method::POST,
        authority: "service.example",
        path,
        query: None,
        headers: &mut HeaderMap::new(),
        peer,
    };
    match filter.request(&mut head) {
        Verdict::Continue => None,
        Verdict::Reply(reply) => Some(reply),
        Verdict::Wait(_) => panic!("nothing to wait for"),
    }
}

#[test]
fn a_denial_does_not_say_why() {
    let denied = Reply {
        http: StatusCode::FORBIDDEN,
        grpc: Code::PermissionDenied,
        message: "Unauthorized RPC request rejected.".into(),
        cause: Cause::Denied,
    };
    let rules = rules(Action::Deny, path("/admin"), Rule::Any);
    let filter = config(Some(rules)).build(None).unwrap();
    let peer = peer("10.0.0.1:1");
    let bound = filter.bind(&peer).unwrap();
    for filter in [&filter, &bound] {
        assert_eq!(
            answer(&**filter, "/admin", Some(&peer)).as_ref(),
            Some(&denied)
        );
        assert_eq!(answer(&**filter, "/", Some(&peer)), None);
    }
}

#[test]
fn a_connection_is_decided_about_once() {
    let source = Rule::SourceIp(Cidr::new([10, 0, 0, 0].into(), 8));
    let filter = config(Some(rules(Action::Allow, Rule::Any, source)));
    let filter = filter.build(None).unwrap();
    let (inside, outside) = (peer("10.0.0.1:1"), peer("192.168.0.1:1"));
    // The connection that was bound counts, not what a request says of it.
    let bound = filter.bind(&inside).unwrap();
    assert_eq!(answer(&*bound, "/", Some(&outside)), None);
    let bound = filter.bind(&outside).unwrap();
    assert!(answer(&*bound, "/", Some(&inside)).is_some());
    // Not bound, it is decided for the request alone.
    assert_eq!(answer(&*filter, "/", Some(&inside)), None);
    assert!(answer(&*filter, "/", Some(&outside)).is_some());
}

#[test]
fn a_request_of_nobody_is_denied() {
    for (action, denied) in [
        (Action::Allow, true),
        (Action::Deny, true),
        (Action::Log, false),
    ] {
        let filter = config(Some(rules(action, path("/a"), Rule::Any)));
        let filter = filter.build(None).unwrap();
        for path in ["/a", "/b"] {
            assert_eq!(answer(&*filter, path, None).is_some(), denied, "{action:?}");
        }
    }
}

#[test]
fn rules_that_log_let_everything_pass() {
    let filter = config(Some(rules(Action::Log, path("/a"), Rule::Any)));
    let filter = filter.build(None).unwrap();
    let peer = peer("10.0.0.1:1");
    assert_eq!(answer(&*filter, "/a", Some(&peer)), None);
    assert_eq!(answer(&*filter, "/b", Some(&peer)), None);
}

#[test]
fn an_override_takes_the_place_of_everything() {
    let base = config(Some(rules(Action::Deny, Rule::Any, Rule::Any)));
    let off = config(None);
    let other = config(Some(rules(Action::Deny, path("/a"), Rule::Any)));
    let peer = peer("10.0.0.1:1");
    assert!(base.build(Some(&off)).is_none());
    assert!(
        base.build(Some(&FilterConfig(Arc::new(Disabled))))
            .is_none()
    );
    assert!(off.build(None).is_none());
    let of_other = base.build(Some(&other)).unwrap();
    assert!(answer(&*of_other, "/a", Some(&peer)).is_some());
    assert!(answer(&*of_other, "/b", Some(&peer)).is_none());
    let of_base = base.build(None).unwrap();
    assert!(answer(&*of_base, "/b", Some(&peer)).is_some());
    // Rules where there were none.
    assert!(off.build(Some(&other)).is_some());
}

#[test]
fn audit_events_carry_the_filters_own_name() {
    let (heard, events) = std::sync::mpsc::channel();
    let logger = move |event: &AuditEvent<'_>| heard.send(event.policy_name.to_owned()).unwrap();
    let mut audited = rules(Action::Deny, Rule::Any, Rule::Any);
    audited.audit = AuditLoggers {
        condition: AuditCondition::OnDeny,
        loggers: vec![NamedLogger {
            kind: "test".into(),
            config: "".into(),
            logger: Arc::new(logger),
        }],
    };
    let over = FilterConfig(Arc::new(RbacSpec::new("", Some(audited))));
    let filter = config(None).build(Some(&over)).unwrap();
    answer(&*filter, "/", Some(&peer("10.0.0.1:1")));
    assert_eq!(events.recv().unwrap(), "rbac");
}

#[test]
fn equal_rules_are_equal_filters() {
    let one = || config(Some(rules(Action::Deny, path("/a"), Rule::Any)));
    let built = one();
    built.build(None).unwrap();
    assert_eq!(built, one());
    assert_ne!(one(), config(None));
    assert_ne!(
        one(),
        config(Some(rules(Action::Deny, path("/b"), Rule::Any)))
    );
    let FilterConfig(spec) = one();
    assert!(!spec.equals(&Disabled));
}

#[test]
fn the_server_name_counts_where_requests_are_those_of_http() {
    let exact = StringMatch::Exact("admin.shop".into());
    let asked = Rule::ServerName(StringMatcher::new(exact, false));
    let config = config(Some(rules(Action::Deny, asked, Rule::Any)));
    let off = FilterConfig(Arc::new(crate::filter::OffByDefault(config.clone())));
    let peer = Arc::new(Peer {
        tls: Some(PeerTls {
            version: None,
            alpn: None,
            server_name: Some("admin.shop".into()),
            certificate: None,
        }),
        ..Peer::clone(&peer("10.0.0.1:1"))
    });
    for (semantics, denied) in [(Semantics::Http, true), (Semantics::Grpc, false)] {
        let built = config.build_for(semantics, None).unwrap();
        let on = off.build_for(semantics, Some(&config)).unwrap();
        for filter in [built, on] {
            let bound = filter.bind(&peer).unwrap();
            assert_eq!(answer(&*bound, "/", Some(&peer)).is_some(), denied);
        }
    }
    let disabled = FilterConfig(Arc::new(Disabled));
    assert!(config.build_for(Semantics::Http, Some(&disabled)).is_none());
}
