//! Lives of clusters, snapshots and endpoints.

use std::{pin::pin, time::Duration};

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::*;
use crate::config::{CaSource, Drop as DropCategory, Fraction, UpstreamTls};

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Lets tasks that were aborted end; bounded, since the runtime is idle otherwise.
async fn settled(tasks_before: usize) -> bool {
    for _ in 0..1_000 {
        if tasks() == tasks_before {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn an_equal_configuration_is_the_same_snapshot() {
    let (fake, balancers) = fixture();
    let first = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [1])]),
    );
    let second = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [1])]),
    );
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(fake.opened.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_user_takes_everything_along() {
    let (fake, balancers) = fixture();
    let before = tasks();
    let first = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [1, 2])]),
    );
    let second = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [2, 3])]),
    );
    assert_eq!(balancers.len(), 1);
    assert_ne!(tasks(), before, "timers run");
    drop(first);
    assert!(![1, 2, 3].into_iter().any(|port| fake.is_retired(port)));
    drop(second);
    assert!([1, 2, 3].into_iter().all(|port| fake.is_retired(port)));
    assert!(balancers.is_empty());
    assert!(settled(before).await);
    // Reports of what is gone reach nobody.
    fake.ready([1]);
    // Back, it is fresh.
    let _third = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [2])]),
    );
    assert_eq!(fake.opened.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn many_clusters_leave_nothing() {
    let (fake, balancers) = fixture();
    let before = tasks();
    for number in 0..1_000 {
        let mut cluster = Cluster::clone(&cluster());
        cluster.name = number.to_string().into();
        let snapshot = balancers.cluster(
            Semantics::Grpc,
            &Arc::new(cluster),
            &endpoints([locality(0, "a", [1])]),
        );
        fake.ready([1]);
        drop(snapshot.admit());
        assert_eq!(pick(&snapshot), Got::Port(1));
    }
    assert!(balancers.is_empty());
    assert_eq!(
        fake.opened.load(Ordering::Relaxed),
        fake.retired.load(Ordering::Relaxed)
    );
    assert!(settled(before).await);
}

#[tokio::test(start_paused = true)]
async fn an_older_snapshot_picks_from_the_newest() {
    let (fake, balancers) = fixture();
    let old = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [1, 2])]),
    );
    fake.ready([1, 2]);
    let new = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [2])]),
    );
    for _ in 0..4 {
        assert_eq!(pick(&old), Got::Port(2));
        assert_eq!(pick(&new), Got::Port(2));
    }
    pass(1).await;
    assert!(fake.is_retired(1));
    drop(new);
    assert_eq!(
        fake.connects(1),
        1,
        "the old one governs again, and 1 is opened anew"
    );
    fake.ready([1]);
    fake.fail([2]);
    assert_eq!(pick(&old), Got::Port(1));
}

#[tokio::test(start_paused = true)]
async fn a_late_target_closes_nothing() {
    let (fake, balancers) = fixture();
    let (v1, v2) = (
        endpoints([locality(0, "a", [1])]),
        endpoints([locality(0, "a", [2])]),
    );
    let a = balancers.cluster(Semantics::Grpc, &cluster(), &v1);
    fake.ready([1]);
    let b = balancers.cluster(Semantics::Grpc, &cluster(), &v2);
    fake.ready([2]);
    let late = balancers.cluster(Semantics::Grpc, &cluster(), &v1);
    assert_eq!(pick(&late), Got::Port(1));
    let c = balancers.cluster(Semantics::Grpc, &cluster(), &v2);
    for snapshot in [&a, &b, &c, &late] {
        assert_eq!(pick(snapshot), Got::Port(2));
    }
    assert_eq!(fake.opened.load(Ordering::Relaxed), 2);
    pass(1).await;
    assert!(fake.is_retired(1) && !fake.is_retired(2));
}

#[tokio::test(start_paused = true)]
async fn connection_settings_and_tls_make_another_endpoint() {
    let (fake, balancers) = fixture();
    let endpoints = endpoints([locality(0, "a", [1])]);
    let mut changed = Cluster::clone(&cluster());
    let _first = balancers.cluster(Semantics::Grpc, &cluster(), &endpoints);
    let mut opened = 1;
    let mut links = vec![Arc::clone(&fake.conn(1).link)];
    let changes: [fn(&mut Cluster); 4] = [
        |cluster| cluster.connections.connect_timeout = Duration::from_secs(1),
        |cluster| {
            cluster.tls = Some(Arc::new(UpstreamTls {
                roots: CaSource::System,
                identity: None,
                sans: Vec::new(),
                sni: None,
                auto_host_sni: false,
                auto_sni_san_validation: false,
            }));
        },
        |cluster| cluster.breakers.max_connections_per_host = Some(2),
        |cluster| cluster.tls = None,
    ];
    let mut snapshots = Vec::new();
    for change in changes {
        let old = fake.conn(1);
        change(&mut changed);
        snapshots.push(balancers.cluster(Semantics::Grpc, &Arc::new(changed.clone()), &endpoints));
        opened += 1;
        assert_eq!(fake.opened.load(Ordering::Relaxed), opened);
        links.push(Arc::clone(&fake.conn(1).link));
        pass(1).await;
        assert!(old.retired.load(Ordering::Relaxed));
    }
    assert_eq!(links[0].key(), links[1].key());
    assert_ne!(links[1].key(), links[2].key(), "TLS is part of the key");
    assert_ne!(links[2].key(), links[4].key());
    changed.breakers.max_requests = 1;
    changed.lb = LbPolicy::Endpoints(policy(LeastRequest::new(3)));
    let last = balancers.cluster(Semantics::Grpc, &Arc::new(changed), &endpoints);
    assert_eq!(
        fake.opened.load(Ordering::Relaxed),
        opened,
        "nothing that concerns connections"
    );
    fake.ready([1]);
    assert_eq!(pick(&last), Got::Port(1));
    let permit = snapshots[0].admit().expect("none in flight");
    assert!(last.admit().is_err(), "one count, one limit");
    drop(permit);
    assert!(last.admit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_change_and_misses_none() {
    let (fake, balancers) = fixture();
    let snapshot = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [1, 2])]),
    );
    let mut changed = pin!(snapshot.notified());
    assert_eq!(pick(&snapshot), Got::Wait);
    fake.fail([2]);
    assert!(
        changed.as_mut().now_or_never().is_none(),
        "nothing that matters"
    );
    fake.ready([1]);
    changed.await;
    assert_eq!(pick(&snapshot), Got::Port(1));

    for change in [Connectivity::Failing, Connectivity::Ready] {
        let changed = snapshot.notified();
        fake.set(1, change);
        changed
            .now_or_never()
            .expect("the first poll comes after the change");
    }
    let changed = snapshot.notified();
    let _other = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [3])]),
    );
    changed.now_or_never().expect("an update is a change");
}

#[tokio::test(start_paused = true)]
async fn waiting_tasks_are_all_woken() {
    let (fake, balancers) = fixture();
    let snapshot = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", [1])]),
    );
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let snapshot = Arc::clone(&snapshot);
            tokio::spawn(async move {
                loop {
                    let changed = snapshot.notified();
                    match pick(&snapshot) {
                        Got::Wait => changed.await,
                        got => break got,
                    }
                }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    fake.ready([1]);
    for call in calls {
        assert_eq!(call.await.expect("does not panic"), Got::Port(1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_reason_names_a_few_endpoints_and_their_errors() {
    let (fake, balancers) = fixture();
    let snapshot = balancers.cluster(
        Semantics::Grpc,
        &cluster(),
        &endpoints([locality(0, "a", 1..=5)]),
    );
    fake.fail(1..=4);
    assert_eq!(pick(&snapshot), Got::Wait);
    fake.conn(5).link.set(Connectivity::Failing, None);
    let Got::Fail(reason) = pick(&snapshot) else {
        panic!("all have failed");
    };
    assert_eq!(
        reason,
        "all 5 endpoints of cluster \"cluster\" failed: 127.0.0.1:1: connection refused; \
         127.0.0.1:2: connection refused; 127.0.0.1:3: connection refused; and 2 more"
    );
}

/// gRFC A27: endpoints of another health are as if they were not there.
#[tokio::test(start_paused = true)]
async fn grpc_opens_the_healthy_only() {
    let (fake, balancers) = fixture();
    let of = |healths: [Health; 5]| {
        let mut locality = locality(0, "a", 1..=5);
        for (endpoint, health) in locality.endpoints.iter_mut().zip(healths) {
            endpoint.health = health;
        }
        endpoints([locality])
    };
    use Health::*;
    let some = of([Healthy, Unknown, Degraded, Unhealthy, Draining]);
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &some);
    assert_eq!(fake.opened.load(Ordering::Relaxed), 2);
    fake.ready([1, 2]);
    let ports = [pick(&snapshot), pick(&snapshot)];
    assert!(ports.contains(&Got::Port(1)) && ports.contains(&Got::Port(2)));

    let none = of([Degraded, Degraded, Degraded, Unhealthy, Draining]);
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &none);
    assert_eq!(
        pick(&snapshot),
        Got::Fail(
            r#"no endpoints in EDS resource "service" of cluster "cluster" but 5 that are not healthy"#
                .to_owned()
        )
    );
    pass(1).await;
    assert!(fake.is_retired(1) && fake.is_retired(2));
}

#[tokio::test]
async fn drops_are_drawn_in_order_while_an_endpoint_is_usable() {
    let (fake, balancers) = fixture();
    let mut with_drops = Endpoints::clone(&endpoints([locality(0, "a", [1])]));
    with_drops.drops = [("none", 0), ("half", 500_000), ("all", 1_000_000)]
        .map(|(category, parts)| DropCategory {
            category: category.into(),
            share: Fraction::per_million(parts),
        })
        .into();
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &Arc::new(with_drops));
    assert_eq!(snapshot.dropped(), None, "nothing is usable yet");
    fake.ready([1]);
    let mut half = 0;
    for _ in 0..10_000 {
        let category = &*snapshot.dropped().expect("one category drops all").category;
        assert_ne!(category, "none");
        half += usize::from(category == "half");
    }
    assert!((4_700..5_300).contains(&half), "{half}");
    fake.fail([1]);
    assert_eq!(snapshot.dropped(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn picks_beside_updates_and_reports_stay_sound() {
    let (fake, balancers) = fixture();
    let versions = [1..=20_u16, 5..=30, 1..=40].map(|ports| endpoints([locality(0, "a", ports)]));
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &versions[0]);
    fake.ready(1..=20);
    let pickers: Vec<_> = (0..3)
        .map(|_| {
            let snapshot = Arc::clone(&snapshot);
            tokio::task::spawn_blocking(move || {
                for _ in 0..20_000 {
                    assert!(!pick(&snapshot).failed());
                }
            })
        })
        .collect();
    for round in 0..300 {
        let _other = balancers.cluster(
            Semantics::Grpc,
            &cluster(),
            &versions[round % versions.len()],
        );
        let port = 5 + (round % 15) as u16;
        fake.set(port, Connectivity::Idle);
        fake.set(port, Connectivity::Ready);
    }
    for picker in pickers {
        picker.await.expect("does not panic");
    }
}
