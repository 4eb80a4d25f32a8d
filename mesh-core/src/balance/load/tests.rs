use super::{
    fixture::{at, endpoints, report_to, zone},
    *,
};

#[derive(Debug, Default, Clone)]
struct Begun(Arc<Mutex<Vec<Arc<ServerConfig>>>>);

impl Reporter for Begun {
    fn begin(&self, server: &Arc<ServerConfig>, _: &Arc<ServerLoads>) {
        self.0.lock().push(Arc::clone(server));
    }
}

fn cluster(server: Option<&str>) -> Cluster {
    fixture::cluster(server.map(|uri| report_to(at(uri))))
}

fn counts(issued: u64, succeeded: u64, failed: u64) -> Counts {
    Counts {
        issued,
        succeeded,
        failed,
        given_up: 0,
    }
}

#[tokio::test]
async fn calls_are_counted_by_locality_and_outcome() {
    let loads = Loads::default();
    let counting = loads
        .counting(
            Semantics::Grpc,
            &cluster(Some("xds.test:1")),
            &endpoints(&["a", "b"]),
        )
        .expect("it reports");
    let (a, b) = (zone("a"), zone("b"));
    counting.begin(&a).end(true);
    drop(counting.begin(&a));
    let mut under_way = counting.begin(&b);
    // Of a newer configuration than the one that counts.
    counting.begin(&zone("c")).end(true);
    counting.dropped(&"spam".into());
    counting.dropped(&"spam".into());
    counting.shed();

    let totals = counting.cluster.totals();
    let by_zone: Vec<_> = totals
        .localities
        .iter()
        .map(|(id, counts)| (&*id.zone, *counts))
        .collect();
    assert_eq!(
        by_zone,
        [
            ("a", counts(2, 1, 1)),
            ("b", counts(1, 0, 0)),
            ("c", counts(1, 1, 0)),
        ]
    );
    assert_eq!(totals.localities[&b].in_progress(), 1);
    assert_eq!(totals.dropped, [("spam".into(), 2)].into());
    for number in 0..2 * MOST_CATEGORIES {
        counting.dropped(&number.to_string().into());
    }
    let dropped = counting.cluster.totals().dropped;
    assert_eq!(dropped.len(), MOST_CATEGORIES + 1);
    assert_eq!(dropped[OTHERS], MOST_CATEGORIES as u64 + 1);
    assert_eq!(totals.shed, 1);

    // Nothing goes that somebody counts into, or that is not told.
    counting.cluster.prune(|_, _| true);
    let left = counting.cluster.totals().localities;
    assert_eq!(
        left.keys().map(|id| &*id.zone).collect::<Vec<_>>(),
        ["a", "b"]
    );
    let load = Arc::clone(&counting.cluster);
    drop(counting);
    load.prune(|id, _| id.zone == "b");
    assert_eq!(
        load.totals().localities.len(),
        2,
        "a is not told, b is under way"
    );
    under_way.end(true);
    under_way.end(false);
    assert_eq!(load.totals().localities[&b], counts(1, 1, 0));
    load.prune(|_, _| true);
    assert_eq!(load.totals().localities.len(), 0);
}

#[tokio::test]
async fn a_cluster_that_nobody_wants_to_know_of_is_not_counted() {
    let loads = Loads::default();
    let none = loads.counting(Semantics::Grpc, &cluster(None), &endpoints(&["a"]));
    assert!(none.is_none());
    // Nor is one that no control plane has sent.
    let mut from_files = cluster(None);
    from_files.report_load = Some(LoadReport {
        server: None,
        ..LoadReport::default()
    });
    assert!(
        loads
            .counting(Semantics::Grpc, &from_files, &endpoints(&["a"]))
            .is_none()
    );
    assert_eq!(loads.len(), 0);
}

#[tokio::test]
async fn a_report_begins_with_the_first_cluster_and_ends_after_the_last() {
    let (loads, begun) = (Loads::default(), Begun::default());
    loads.report_by(Box::new(begun.clone()));
    let one = loads.counting(
        Semantics::Grpc,
        &cluster(Some("xds.test:1")),
        &endpoints(&["a"]),
    );
    let two = loads.counting(
        Semantics::Grpc,
        &cluster(Some("xds.test:1")),
        &endpoints(&["a"]),
    );
    let other = loads.counting(
        Semantics::Grpc,
        &cluster(Some("other.test:1")),
        &endpoints(&["a"]),
    );
    let servers = begun.0.lock().clone();
    assert_eq!(servers, [at("xds.test:1"), at("other.test:1")]);
    let server = Arc::clone(&one.as_ref().expect("it reports").server);
    // Two snapshots of one cluster count together.
    assert_eq!(server.clusters().len(), 1);
    assert!(!server.is_unused());
    drop(one);
    assert!(!server.is_unused());
    drop(two);
    assert!(server.is_unused());
    let key = server.clusters()[0].key.clone();
    assert!(server.forget(&key));
    assert!(loads.end(&at("xds.test:1"), || server.is_unused()));
    drop(other);
    assert_eq!(loads.len(), 1);

    // And begins again.
    let again = loads.counting(
        Semantics::Grpc,
        &cluster(Some("xds.test:1")),
        &endpoints(&["a"]),
    );
    assert_eq!(begun.0.lock().len(), 3);
    let server = Arc::clone(&again.as_ref().expect("it reports").server);
    assert!(!server.forget(&key), "somebody has come");
}

#[tokio::test]
async fn who_gives_up_has_failed_under_grpc_semantics_alone() {
    let loads = Loads::default();
    for (semantics, failed, given_up) in [(Semantics::Grpc, 1, 0), (Semantics::Http, 0, 1)] {
        let counting = loads.counting(semantics, &cluster(Some("xds.test:1")), &endpoints(&["a"]));
        let counting = counting.expect("it reports");
        let before = counting.cluster.totals().localities[&zone("a")];
        drop(counting.begin(&zone("a")));
        let now = counting.cluster.totals().localities[&zone("a")];
        let expected = Counts {
            given_up,
            ..counts(1, 0, failed)
        };
        assert_eq!(now.since(before), expected, "{semantics:?}");
        assert_eq!(now.in_progress(), 0, "{semantics:?}");
    }
}

#[test]
fn what_was_counted_since() {
    let (before, now) = (counts(5, 2, 1), counts(9, 4, 3));
    assert_eq!(now.since(before), counts(4, 2, 2));
    assert_eq!((before.in_progress(), now.in_progress()), (2, 2));
}
