//! The behaviours of grpc-go's tests of the priority policy, by their names.

use super::*;
use crate::config::Endpoints;

type Snapshot = Arc<ClusterSnapshot<Fake>>;

/// Each priority is a locality of its own with one port.
fn ladder(ports: impl IntoIterator<Item = u16>) -> Arc<Endpoints> {
    let localities = (0..).zip(ports);
    endpoints(localities.map(|(priority, port)| locality(priority, &port.to_string(), [port])))
}

fn start(ports: impl IntoIterator<Item = u16>) -> (Arc<Fake>, Balancers<Fake>, Snapshot) {
    let (fake, balancers) = fixture();
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder(ports));
    (fake, balancers, snapshot)
}

#[tokio::test(start_paused = true)]
async fn high_priority_ready() {
    let (fake, balancers, snapshot) = start([1, 2]);
    assert_eq!(pick(&snapshot), Got::Wait);
    fake.ready([1]);
    assert_eq!(pick(&snapshot), Got::Port(1));
    assert_eq!(
        fake.connects(2),
        0,
        "a lower priority starts when it is needed"
    );

    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([1, 2, 3]));
    assert_eq!(pick(&snapshot), Got::Port(1));
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([1, 2]));
    assert_eq!(pick(&snapshot), Got::Port(1));
    assert_eq!([2, 3].map(|port| fake.connects(port)), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn switch_priority() {
    let (fake, balancers, snapshot) = start([1, 2]);
    fake.ready([1]);
    fake.fail([1]);
    assert_eq!(pick(&snapshot), Got::Wait);
    assert_eq!(fake.connects(2), 1);
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));

    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([1, 2, 3]));
    assert_eq!(pick(&snapshot), Got::Port(2));
    fake.fail([2]);
    assert_eq!(pick(&snapshot), Got::Wait);
    fake.ready([3]);
    assert_eq!(pick(&snapshot), Got::Port(3));

    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([1, 2]));
    assert!(pick(&snapshot).failed());
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
    fake.ready([1]);
    assert_eq!(pick(&snapshot), Got::Port(1), "the higher one at once");
}

#[tokio::test(start_paused = true)]
async fn high_priority_to_connecting_from_ready() {
    let (fake, _balancers, snapshot) = start([1, 2]);
    fake.ready([1]);
    pass(60).await;
    fake.set(1, Connectivity::Idle);
    assert_eq!(fake.connects(1), 2, "reconnected at once");
    pass(9).await;
    assert_eq!(pick(&snapshot), Got::Wait);
    assert_eq!(fake.connects(2), 0);
    pass(1).await;
    assert_eq!(fake.connects(2), 1);
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
    fake.ready([1]);
    assert_eq!(pick(&snapshot), Got::Port(1));
}

#[tokio::test(start_paused = true)]
async fn higher_down_while_adding_lower() {
    let (fake, balancers, snapshot) = start([1, 2]);
    fake.fail([1, 2]);
    assert!(pick(&snapshot).failed());
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([1, 2, 3]));
    assert_eq!(pick(&snapshot), Got::Wait);
    assert_eq!(fake.connects(3), 1);
    fake.ready([3]);
    assert_eq!(pick(&snapshot), Got::Port(3));
}

#[tokio::test(start_paused = true)]
async fn higher_ready_close_all_lower() {
    let (fake, _balancers, snapshot) = start([1, 2, 3]);
    fake.fail([1, 2]);
    fake.ready([3]);
    assert_eq!(pick(&snapshot), Got::Port(3));
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
    pass(600).await;
    assert!(!fake.is_retired(3));
    fake.ready([1]);
    assert_eq!(pick(&snapshot), Got::Port(1));
    let (second, third) = (fake.conn(2), fake.conn(3));
    pass(299).await;
    assert!(!third.retired.load(Ordering::Relaxed));
    pass(1).await;
    assert!(third.retired.load(Ordering::Relaxed), "15 minutes unused");
    assert!(!second.retired.load(Ordering::Relaxed));
    pass(600).await;
    assert!(second.retired.load(Ordering::Relaxed));
    assert_eq!(pick(&snapshot), Got::Port(1));

    // Needed again: opened anew, for old snapshots too.
    fake.fail([1]);
    assert_eq!(fake.connects(2), 1);
    assert_eq!(pick(&snapshot), Got::Wait);
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
}

#[tokio::test(start_paused = true)]
async fn a_lower_priority_that_is_kept_serves_again_at_once() {
    let (fake, _balancers, snapshot) = start([1, 2]);
    fake.fail([1]);
    fake.ready([2]);
    fake.ready([1]);
    pass(800).await;
    fake.fail([1]);
    assert_eq!(pick(&snapshot), Got::Port(2));
    pass(800).await;
    assert_eq!(pick(&snapshot), Got::Port(2), "its end was called off");
    assert_eq!(fake.connects(2), 1);
}

#[tokio::test(start_paused = true)]
async fn init_timeout() {
    let (fake, _balancers, snapshot) = start([1, 2, 3]);
    pass(9).await;
    assert_eq!(fake.connects(2), 0);
    pass(1).await;
    assert_eq!(fake.connects(2), 1);
    pass(10).await;
    assert_eq!(fake.connects(3), 1);
    pass(100).await;
    assert_eq!(
        pick(&snapshot),
        Got::Wait,
        "the timer passes for no failure"
    );
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
}

#[tokio::test(start_paused = true)]
async fn high_priority_no_endpoints() {
    let (fake, balancers, snapshot) = start([1, 2]);
    fake.ready([1]);
    assert_eq!(pick(&snapshot), Got::Port(1));
    let emptied = endpoints([locality(0, "1", []), locality(1, "2", [2])]);
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &emptied);
    assert_eq!(pick(&snapshot), Got::Wait);
    assert_eq!(fake.connects(2), 1, "at once, without the timer");
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
}

#[tokio::test(start_paused = true)]
async fn move_child_to_higher_priority() {
    let (fake, balancers, snapshot) = start([1, 2]);
    let before = fake.conn(2);
    fake.ready([1]);
    assert_eq!(pick(&snapshot), Got::Port(1));
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([2]));
    assert_eq!(pick(&snapshot), Got::Wait);
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
    assert!(Arc::ptr_eq(&before, &fake.conn(2)));
    pass(1).await;
    assert!(fake.is_retired(1));
}

#[tokio::test(start_paused = true)]
async fn move_ready_child_to_higher_priority() {
    let (fake, balancers, snapshot) = start([1, 2]);
    fake.fail([1]);
    fake.ready([2]);
    let endpoint = pick_endpoint(&snapshot).expect("2 is ready");
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([2]));
    let again = pick_endpoint(&snapshot).expect("2 is ready");
    assert!(Arc::ptr_eq(&endpoint, &again));
    assert_eq!(fake.connects(2), 1);
}

#[tokio::test(start_paused = true)]
async fn remove_ready_lowest_child() {
    let (fake, balancers, snapshot) = start([1, 2]);
    fake.fail([1]);
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([1]));
    assert!(pick(&snapshot).failed());
    pass(1).await;
    assert!(
        fake.is_retired(2),
        "what left the configuration is not kept"
    );
    fake.ready([1]);
    assert_eq!(pick(&snapshot), Got::Port(1));
}

#[tokio::test(start_paused = true)]
async fn removes_all_priorities() {
    let (fake, balancers, snapshot) = start([1, 2]);
    fake.fail([1]);
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([]));
    let reason = r#"no endpoints in EDS resource "service" of cluster "cluster""#;
    assert_eq!(pick(&snapshot), Got::Fail(reason.to_owned()));
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([3, 4]));
    assert_eq!(pick(&snapshot), Got::Wait);
    fake.fail([3]);
    fake.ready([4]);
    assert_eq!(pick(&snapshot), Got::Port(4));
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ladder([3]));
    assert!(pick(&snapshot).failed());
    fake.ready([3]);
    assert_eq!(pick(&snapshot), Got::Port(3));
}

#[tokio::test(start_paused = true)]
async fn init_timer_not_restarted_on_connecting_to_connecting() {
    let (fake, balancers) = fixture();
    let two = endpoints([locality(0, "a", [1, 2]), locality(1, "b", [3])]);
    let _snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &two);
    pass(9).await;
    fake.fail([1]);
    assert_eq!(fake.connects(3), 0, "2 still connects");
    pass(1).await;
    assert_eq!(fake.connects(3), 1);
}

#[tokio::test(start_paused = true)]
async fn locality_changes_priority() {
    let (fake, balancers) = fixture();
    let ab = endpoints([locality(0, "a", [1]), locality(1, "b", [2])]);
    let ba = endpoints([locality(1, "a", [1]), locality(0, "b", [2])]);
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ab);
    fake.fail([1]);
    fake.ready([2]);
    assert_eq!(pick(&snapshot), Got::Port(2));
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster(), &ba);
    assert_eq!(pick(&snapshot), Got::Port(2));
    fake.ready([1]);
    assert_eq!(pick(&snapshot), Got::Port(2), "1 is the lower one now");
    assert_eq!(fake.opened.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_fails_until_it_is_ready() {
    let (fake, _balancers, snapshot) = start([1]);
    fake.fail([1]);
    assert_eq!(
        pick(&snapshot),
        Got::Fail(
            r#"all 1 endpoints of cluster "cluster" failed: 127.0.0.1:1: connection refused"#
                .to_owned()
        )
    );
    fake.set(1, Connectivity::Idle);
    assert_eq!(fake.connects(1), 2, "its backoff is over");
    assert!(pick(&snapshot).failed());
    fake.ready([1]);
    assert_eq!(pick(&snapshot), Got::Port(1));
}
