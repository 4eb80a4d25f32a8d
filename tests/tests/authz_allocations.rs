//! A decision about a request allocates nothing.
//!
//! In a process of its own, because allocations are counted for the whole of it.

use std::{alloc::System, sync::Arc};

use http::{HeaderMap, HeaderValue, Method};
use mesh_core::{
    authz::{Action, AuditLoggers, Policy, Rule, Rules, normalise},
    config::{Cidr, FilterConfig, HeaderMatch, HeaderMatcher, StringMatch, StringMatcher},
    filter::{Filter, RbacSpec, RequestHead, Verdict},
    identity::Peer,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests in one round.
const REQUESTS: usize = 1_000;

fn policy(permission: Rule) -> Policy {
    Policy {
        permissions: vec![permission],
        principals: vec![Rule::SourceIp(Cidr::new([10, 0, 0, 0].into(), 8))],
    }
}

fn value(pattern: StringMatch) -> StringMatcher {
    StringMatcher::new(pattern, false)
}

/// Denies some paths by index, and the role `admin` by trying.
fn bound(peer: &Arc<Peer>) -> Arc<dyn Filter> {
    let role = HeaderMatcher {
        name: "role".into(),
        test: HeaderMatch::Value(value(StringMatch::Exact("admin".into()))),
        invert: false,
        treat_missing_as_empty: false,
    };
    let paths = (0..100).map(|number| {
        let path = StringMatch::Exact(format!("/denied/{number}"));
        let name = Arc::from(format!("path-{number}"));
        (name, policy(Rule::Path(value(path))))
    });
    let rules = Rules {
        action: Action::Deny,
        policies: paths
            .chain([("role".into(), policy(Rule::Header(role)))])
            .collect(),
        audit: AuditLoggers::default(),
    };
    let config = FilterConfig(Arc::new(RbacSpec::new("rbac", Some(rules))));
    let filter = config.build(None).expect("there are rules");
    filter.bind(peer).expect("something can be decided")
}

#[test]
fn a_decision_allocates_nothing() {
    let peer = Arc::new(Peer::new(Some(([10, 0, 0, 1], 4000).into()), None, None));
    let filter = bound(&peer);
    let mut headers = HeaderMap::new();
    headers.insert(http::header::HOST, HeaderValue::from_static("a.example:80"));
    headers.append("role", HeaderValue::from_static("user"));
    let mut with_admin = headers.clone();
    with_admin.append("role", HeaderValue::from_static("admin"));
    let denied = |headers: &mut HeaderMap, target: &[u8]| {
        let checked = headers.clone();
        let region = Region::new(ALLOCATOR);
        let mut denied = 0;
        for _ in 0..REQUESTS {
            let normal = normalise(&Method::POST, target, None, &checked).expect("it is sound");
            let mut head = RequestHead {
                method: &Method::POST,
                authority: &normal.authority,
                path: normal.path,
                query: normal.query,
                headers,
                peer: Some(&peer),
            };
            denied += usize::from(matches!(filter.request(&mut head), Verdict::Reply(_)));
        }
        let change = region.change();
        (denied, change.allocations + change.reallocations)
    };
    // That it would be seen: a host in upper case has to be copied.
    let region = Region::new(ALLOCATOR);
    let none = HeaderMap::new();
    normalise(&Method::POST, b"/", Some(b"A.example"), &none).expect("it is sound");
    assert!(region.change().allocations > 0);

    for (headers, target, expected) in [
        (&mut headers.clone(), &b"/allowed"[..], 0),
        (&mut headers, b"/denied/7?query", REQUESTS),
        (&mut with_admin, b"/allowed", REQUESTS),
    ] {
        // The test's harness may allocate at the same time, but not every time.
        let rounds = (0..5).map(|_| denied(headers, target)).collect::<Vec<_>>();
        assert!(
            rounds.iter().all(|&(denied, _)| denied == expected),
            "{rounds:?}"
        );
        assert!(rounds.iter().any(|&(_, made)| made == 0), "{rounds:?}");
    }
}
