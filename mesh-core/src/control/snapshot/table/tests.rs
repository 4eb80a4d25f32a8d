use envoy_types::pb::google::protobuf::Any;

use super::*;
use crate::control::xds::AcceptedDump;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn id(name: &str) -> ResourceId {
    ResourceId::new(Kind::Cluster, name)
}

fn saved(value: &[u8], confirmed: u64) -> Saved {
    Saved {
        raw: Arc::new(Any {
            type_url: "t".into(),
            value: value.to_vec(),
        }),
        version: "1".into(),
        server: "a".into(),
        updated: at(0),
        confirmed: at(confirmed),
    }
}

fn dumped(
    id: ResourceId,
    server: &str,
    status: ResourceStatus,
    value: &[u8],
    updated: u64,
) -> ResourceDump {
    ResourceDump {
        id,
        server: server.into(),
        status,
        accepted: Some(AcceptedDump {
            version: "2".into(),
            last_updated: at(updated),
            raw: Arc::new(Any {
                type_url: "t".into(),
                value: value.to_vec(),
            }),
            findings: Arc::new([]),
            stale: false,
        }),
        failure: None,
    }
}

fn dump(resources: Vec<ResourceDump>) -> ConfigDump {
    ConfigDump {
        server: "a".into(),
        node_id: "n".into(),
        resources,
    }
}

fn value(table: &Table, id: &ResourceId) -> Option<Vec<u8>> {
    Some(table.get(id)?.raw.value.clone())
}

#[test]
fn what_is_in_force_is_taken_and_secrets_and_what_does_not_exist_are_not() {
    let mut table = Table::default();
    let secret = ResourceId::new(Kind::Secret, "key");
    let never = ResourceDump {
        accepted: None,
        ..dumped(id("asked"), "a", ResourceStatus::Requested, b"", 0)
    };
    let all = dump(Vec::from([
        dumped(id("good"), "a", ResourceStatus::Acked, b"good", 5),
        dumped(id("nacked"), "a", ResourceStatus::Nacked, b"last good", 5),
        dumped(id("deleted"), "a", ResourceStatus::DoesNotExist, b"kept", 5),
        dumped(secret, "a", ResourceStatus::Acked, b"secret", 5),
        never,
    ]));
    table.take(&all, |_| true, at(100));
    let all = table.all();
    let names: Vec<_> = all.iter().map(|(id, _)| &*id.name).collect();
    assert_eq!(names, ["good", "nacked"]);
    assert_eq!((all[0].1.updated, all[0].1.confirmed), (at(5), at(100)));
}

#[test]
fn of_several_control_planes_the_one_that_spoke_last_counts() {
    for (first, second) in [(5, 6), (6, 5)] {
        let mut table = Table::default();
        let resources = Vec::from([
            dumped(id("c"), "primary", ResourceStatus::Acked, b"primary", first),
            dumped(id("c"), "backup", ResourceStatus::Acked, b"backup", second),
        ]);
        table.take(&dump(resources), |_| false, at(100));
        let expected = if first > second { "primary" } else { "backup" };
        assert_eq!(value(&table, &id("c")).unwrap(), expected.as_bytes());
        assert_eq!(&*table.get(&id("c")).unwrap().server, expected);
    }
}

#[test]
fn only_a_control_plane_that_is_there_confirms() {
    let mut table = Table::default();
    let resources = || dump(vec![dumped(id("c"), "a", ResourceStatus::Acked, b"c", 5)]);
    table.take(&resources(), |_| false, at(50));
    assert_eq!(table.get(&id("c")).unwrap().confirmed, at(5));
    table.take(&resources(), |server| server == "a", at(60));
    assert_eq!(table.get(&id("c")).unwrap().confirmed, at(60));
    table.take(&resources(), |server| server == "b", at(70));
    assert_eq!(table.get(&id("c")).unwrap().confirmed, at(60));
}

#[test]
fn what_others_have_saved_is_taken_over_where_they_know_better() {
    let mut table = Table::default();
    table.merge(Vec::from([
        (id("old"), saved(b"ours", 10)),
        (id("new"), saved(b"ours", 10)),
        (id("gone"), saved(b"ours", 10)),
    ]));
    assert!(table.remove(&id("gone"), at(12)));
    assert!(!table.remove(&id("never there"), at(12)));
    let others = || {
        Vec::from([
            (id("old"), saved(b"theirs", 9)),
            (id("new"), saved(b"theirs", 11)),
            (id("gone"), saved(b"theirs", 11)),
            (id("other"), saved(b"theirs", 1)),
        ])
    };
    table.merge(others());
    let is_ours = |table: &Table, name: &str| value(table, &id(name)).map(|value| value == b"ours");
    let found = |name| is_ours(&table, name);
    assert_eq!(found("old"), Some(true));
    assert_eq!(found("new"), Some(false));
    assert_eq!(found("gone"), None);
    assert_eq!(found("other"), Some(false));

    // Another process of the node was told of it later.
    table.merge(vec![(id("never there"), saved(b"theirs", 13))]);
    assert_eq!(is_ours(&table, "never there"), Some(false));

    // Once it is back, it is as any other.
    let back = dumped(id("gone"), "a", ResourceStatus::Acked, b"back", 5);
    table.take(&dump(vec![back]), |_| false, at(5));
    table.merge(others());
    assert_eq!(value(&table, &id("gone")).unwrap(), b"theirs");
}

#[test]
fn age_counts_from_the_last_confirmation() {
    let mut table = Table::default();
    table.merge(Vec::from([
        (id("old"), saved(b"x", 9)),
        (id("young"), saved(b"x", 10)),
        (id("of the future"), saved(b"x", 500)),
    ]));
    table.expire(Duration::from_secs(90), at(100));
    let all = table.all();
    let names: Vec<_> = all.iter().map(|(id, _)| &*id.name).collect();
    assert_eq!(names, ["of the future", "young"]);
}

#[test]
fn what_is_not_in_use_goes_first_and_the_rest_is_not_cut() {
    let mut table = Table::default();
    table.merge(Vec::from([
        (id("used"), saved(&[0; 1000], 1)),
        (id("recent"), saved(&[0; 1000], 3)),
        (id("old"), saved(&[0; 1000], 2)),
    ]));
    let one = size(&id("used"), table.get(&id("used")).unwrap()) + 10;
    let in_use = BTreeSet::from([id("used")]);
    let names = |table: &Table| -> Vec<String> {
        let all = table.all();
        all.iter().map(|(id, _)| id.name.to_string()).collect()
    };
    table.fit(3 * one, &in_use).unwrap();
    assert_eq!(names(&table), ["old", "recent", "used"]);
    table.fit(2 * one, &in_use).unwrap();
    assert_eq!(names(&table), ["recent", "used"]);
    table.fit(one, &in_use).unwrap();
    assert_eq!(names(&table), ["used"]);
    let error = table.fit(one / 2, &in_use).unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::TooLarge);
    assert_eq!(names(&table), ["used"]);
}

#[test]
fn what_is_gone_is_not_remembered_for_ever() {
    let mut table = Table::default();
    for number in 0..MOST_GONE as u64 + 1 {
        table.remove(&id(&number.to_string()), at(number));
    }
    assert_eq!(table.gone.len(), MOST_GONE);
    assert!(!table.gone.contains_key(&id("0")), "the oldest went");
    // As long as others may have saved it before, and no longer.
    table.expire(Duration::from_secs(10), at(MOST_GONE as u64));
    assert_eq!(table.gone.len(), 11);
}
