use std::{
    pin::pin,
    task::{Context, Waker},
};

use tonic::Status;

use super::*;

fn ok(method: Method, peer: &str) -> Outcome {
    Outcome {
        method,
        peer: Some(peer.to_owned()),
        initial: MetadataMap::new(),
        trailing: MetadataMap::new(),
        status: Status::new(Code::Ok, ""),
    }
}

fn failed(method: Method, code: Code) -> Outcome {
    Outcome {
        peer: None,
        status: Status::new(code, "no"),
        ..ok(method, "")
    }
}

fn is_complete(watch: &mut Watch) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(watch.complete()).poll(&mut context).is_ready()
}

#[test]
fn a_watch_sees_exactly_the_calls_that_start_after_it() {
    let stats = Arc::new(Stats::default());
    let before = stats.started(Method::UnaryCall);
    let mut watch = stats.watch(3, &[]);
    let calls: Vec<_> = (0..5).map(|_| stats.started(Method::UnaryCall)).collect();

    // The call from before ends first, the watched ones in any order, a later one between them.
    stats.finished(before, &ok(Method::UnaryCall, "before"));
    let mut calls: Vec<_> = calls.into_iter().map(Some).collect();
    for (index, peer) in [(2, "a"), (4, "after"), (0, "b"), (3, "after")] {
        stats.finished(calls[index].take().unwrap(), &ok(Method::UnaryCall, peer));
        assert!(!is_complete(&mut watch), "{peer}");
    }
    stats.finished(calls[1].take().unwrap(), &ok(Method::EmptyCall, "a"));
    assert!(is_complete(&mut watch));

    let seen = watch.finish();
    assert_eq!(
        seen.rpcs_by_peer,
        HashMap::from([("a".into(), 2), ("b".into(), 1)])
    );
    assert_eq!(
        seen.rpcs_by_method["EmptyCall"].rpcs_by_peer,
        HashMap::from([("a".into(), 1)])
    );
    assert_eq!(seen.rpcs_by_method["UnaryCall"].rpcs_by_peer.len(), 2);
    assert_eq!(seen.num_failures, 0);
    assert!(seen.metadatas_by_peer.is_empty());
}

#[test]
fn watches_overlap() {
    let stats = Arc::new(Stats::default());
    let mut first = stats.watch(2, &[]);
    let call = stats.started(Method::UnaryCall);
    let mut second = stats.watch(2, &[]);
    stats.finished(call, &ok(Method::UnaryCall, "a"));
    let call = stats.started(Method::UnaryCall);
    stats.finished(call, &ok(Method::UnaryCall, "a"));
    assert!(is_complete(&mut first));
    assert!(!is_complete(&mut second));
    assert_eq!(first.finish().rpcs_by_peer["a"], 2);
    assert_eq!(second.finish().rpcs_by_peer["a"], 1);
}

#[test]
fn calls_without_a_peer_and_calls_that_are_missing_are_failures() {
    let stats = Arc::new(Stats::default());
    let watch = stats.watch(5, &[]);
    let calls: Vec<_> = (0..4).map(|_| stats.started(Method::UnaryCall)).collect();
    let outcomes = [
        ok(Method::UnaryCall, "a"),
        failed(Method::UnaryCall, Code::Unavailable),
        // Failed, but somebody known answered.
        Outcome {
            peer: Some("a".into()),
            ..failed(Method::UnaryCall, Code::Internal)
        },
    ];
    for (call, outcome) in calls.into_iter().zip(&outcomes) {
        stats.finished(call, outcome);
    }
    let seen = watch.finish();
    assert_eq!(seen.rpcs_by_peer, HashMap::from([("a".into(), 2)]));
    assert_eq!(seen.num_failures, 3);
}

#[test]
fn a_watch_of_nothing_is_complete_and_a_dropped_one_is_forgotten() {
    let stats = Arc::new(Stats::default());
    let mut watch = stats.watch(0, &[]);
    assert!(is_complete(&mut watch));
    let other = stats.watch(1, &[]);
    assert_eq!(stats.state.lock().watches.len(), 2);
    assert_eq!(watch.finish(), LoadBalancerStatsResponse::default());
    drop(other);
    assert!(stats.state.lock().watches.is_empty());
}

#[test]
fn metadata_is_reported_by_key() {
    let mut outcome = ok(Method::UnaryCall, "a");
    outcome.initial.insert("set-cookie", "c=1".parse().unwrap());
    outcome
        .initial
        .insert("content-type", "application/grpc".parse().unwrap());
    outcome.trailing.insert_bin(
        "cost-bin",
        tonic::metadata::MetadataValue::from_bytes(b"\x01"),
    );
    let entry = |key: &str, value: &str, at: MetadataType| MetadataEntry {
        key: key.into(),
        value: value.into(),
        r#type: at.into(),
    };
    let cookie = entry("set-cookie", "c=1", MetadataType::Initial);
    let cost = entry("cost-bin", "AQ", MetadataType::Trailing);
    let cases: [(&[&str], Vec<MetadataEntry>); 4] = [
        (&["Set-Cookie"], vec![cookie.clone()]),
        (
            &["cost-bin", "set-cookie"],
            vec![cookie.clone(), cost.clone()],
        ),
        (&["*"], vec![cookie, cost]),
        (&["other"], vec![]),
    ];
    for (keys, expected) in cases {
        let stats = Arc::new(Stats::default());
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let watch = stats.watch(1, &keys);
        stats.finished(stats.started(Method::UnaryCall), &outcome);
        let seen = watch.finish();
        let calls = &seen.metadatas_by_peer["a"].rpc_metadata;
        assert_eq!(calls, &[RpcMetadata { metadata: expected }], "{keys:?}");
    }
}

#[test]
fn totals_are_by_method_and_status() {
    let stats = Stats::default();
    assert_eq!(
        stats.accumulated(),
        LoadBalancerAccumulatedStatsResponse::default()
    );
    for outcome in [
        ok(Method::UnaryCall, "a"),
        ok(Method::UnaryCall, "b"),
        failed(Method::UnaryCall, Code::DeadlineExceeded),
        failed(Method::UnaryCall, Code::DeadlineExceeded),
        failed(Method::UnaryCall, Code::Unavailable),
    ] {
        stats.finished(stats.started(Method::UnaryCall), &outcome);
    }
    let _under_way = stats.started(Method::UnaryCall);

    let totals = stats.accumulated();
    let only = |count| HashMap::from([("UNARY_CALL".to_owned(), count)]);
    assert_eq!(totals.num_rpcs_started_by_method, only(6));
    assert_eq!(totals.num_rpcs_succeeded_by_method, only(2));
    assert_eq!(totals.num_rpcs_failed_by_method, only(3));
    let stats = MethodStats {
        rpcs_started: 6,
        result: HashMap::from([(0, 2), (4, 2), (14, 1)]),
    };
    assert_eq!(
        totals.stats_per_method,
        HashMap::from([("UNARY_CALL".to_owned(), stats)])
    );
}
