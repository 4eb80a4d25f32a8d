use envoy_types::pb::{
    envoy::config::endpoint::v3::ClusterStats, google::protobuf::Duration as WireDuration,
};

use super::*;
use crate::{Code, balance::Counter};

const INTERVAL: Duration = Duration::from_secs(10);

/// A reporter, what it counts, and what it said.
struct World {
    lrs: Lrs,
    counter: Counter,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let counter = Counter::new();
        let now = Instant::now();
        let node = Node {
            id: "me".into(),
            ..Node::default()
        };
        let loads = counter.server();
        Self {
            lrs: Lrs::new(&node, loads, Duration::from_secs(20), now),
            counter,
            now,
        }
    }

    /// On a stream that the control plane has answered.
    fn reporting(response: &LoadStatsResponse) -> Self {
        let mut world = Self::new();
        world.open();
        world.receive(response);
        world
    }

    fn open(&mut self) {
        assert_eq!(self.poll(), [Output::Connect]);
        self.say(Input::Connected);
        let [Output::Read, Output::Send(first)] = &self.poll()[..] else {
            panic!("it says who it is")
        };
        let first = LoadStatsRequest::decode(first.clone()).expect("a request");
        let node = first.node.expect("the node");
        assert_eq!(node.id, "me");
        assert!(
            node.client_features
                .iter()
                .any(|feature| feature == SEND_ALL)
        );
        assert_eq!(first.cluster_stats, []);
        self.say(Input::Sent);
    }

    fn receive(&mut self, response: &LoadStatsResponse) {
        self.say(Input::Received(response.encode_to_vec().into()));
    }

    fn say(&mut self, input: Input) {
        self.lrs.handle(input, self.now);
    }

    fn poll(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.lrs.poll()).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.say(Input::Timer);
    }

    /// The report that is due, not yet on its way.
    fn report(&mut self) -> Vec<ClusterStats> {
        let outputs = self.poll();
        let sent = outputs.iter().find_map(|output| match output {
            Output::Send(message) => Some(message.clone()),
            _ => None,
        });
        let Some(message) = sent else {
            panic!("a report is due, not {outputs:?}")
        };
        let request = LoadStatsRequest::decode(message).expect("a request");
        assert_eq!(request.node, None);
        request.cluster_stats
    }

    /// The one of the only cluster, and it is on its way.
    fn reports(&mut self) -> ClusterStats {
        let mut report = self.report();
        self.say(Input::Sent);
        assert_eq!(report.len(), 1);
        report.remove(0)
    }
}

fn every(interval: Duration) -> LoadStatsResponse {
    LoadStatsResponse {
        send_all_clusters: true,
        load_reporting_interval: Some(WireDuration {
            seconds: interval.as_secs() as i64,
            nanos: interval.subsec_nanos() as i32,
        }),
        ..Default::default()
    }
}

/// Issued, succeeded, failed, under way.
fn requests(stats: &ClusterStats) -> [u64; 4] {
    match &stats.upstream_locality_stats[..] {
        [] => [0; 4],
        [one] => [
            one.total_issued_requests,
            one.total_successful_requests,
            one.total_error_requests,
            one.total_requests_in_progress,
        ],
        more => panic!("one locality, not {more:?}"),
    }
}

fn seconds(stats: &ClusterStats) -> i64 {
    stats.load_report_interval.expect("always").seconds
}

#[tokio::test]
async fn each_report_has_what_is_new_and_its_own_interval() {
    let mut world = World::reporting(&every(INTERVAL));
    assert_eq!(world.poll(), [Output::Read]);
    assert_eq!(world.lrs.wake_at(), Some(world.now + INTERVAL));
    world.counter.succeed(3);
    world.counter.fail(1);
    let call = world.counter.begin();
    world.counter.drop_call("spam");
    world.counter.shed();

    world.pass(INTERVAL);
    let stats = world.reports();
    assert_eq!(
        (&*stats.cluster_name, &*stats.cluster_service_name),
        ("cluster", "service")
    );
    assert_eq!(requests(&stats), [5, 3, 1, 1]);
    assert_eq!(stats.total_dropped_requests, 2);
    let dropped = &stats.dropped_requests;
    assert_eq!(
        (
            dropped.len(),
            &*dropped[0].category,
            dropped[0].dropped_count
        ),
        (1, "spam", 1)
    );
    assert_eq!(seconds(&stats), 10);

    // Under way is told anew each time, the rest is not.
    world.pass(INTERVAL * 2);
    let stats = world.reports();
    assert_eq!(requests(&stats), [0, 0, 0, 1]);
    assert_eq!(stats.total_dropped_requests, 0);
    assert_eq!(seconds(&stats), 20);

    drop(call);
    world.pass(INTERVAL);
    assert_eq!(requests(&world.reports()), [0, 0, 1, 0]);
    // Nothing has happened: the cluster is told, its localities are not.
    world.pass(INTERVAL);
    let stats = world.reports();
    assert_eq!(
        (stats.upstream_locality_stats.len(), seconds(&stats)),
        (0, 10)
    );
}

#[tokio::test]
async fn what_did_not_get_out_is_told_on_the_next_stream() {
    let mut world = World::reporting(&every(INTERVAL));
    world.counter.succeed(2);
    world.pass(INTERVAL);
    let lost = world.report();
    assert_eq!(requests(&lost[0]), [2, 2, 0, 0]);
    // It ends before there was room for it.
    world.counter.succeed(1);
    world.say(Input::Closed(None));
    assert!(matches!(
        &world.poll()[..],
        [Output::Notice(Notice::Failed(_))]
    ));
    world.pass(Duration::from_secs(2));
    world.open();
    world.receive(&every(INTERVAL));
    world.pass(INTERVAL);
    let stats = world.reports();
    assert_eq!(requests(&stats), [3, 3, 0, 0]);
    assert_eq!(seconds(&stats), 22);
}

#[tokio::test]
async fn attempts_are_paced_and_nothing_is_asked_of_a_closed_stream() {
    let mut world = World::new();
    assert_eq!(world.poll(), [Output::Connect]);
    world.say(Input::ConnectFailed("refused".into()));
    assert_eq!(
        world.poll(),
        [Output::Notice(Notice::Failed("refused".into()))]
    );
    let at = world.lrs.wake_at().expect("it tries again");
    assert!(at <= world.now + Duration::from_secs(1));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.poll(), [Output::Connect]);
    // No stream in time.
    world.pass(Duration::from_secs(20));
    assert!(matches!(
        &world.poll()[..],
        [Output::Close, Output::Notice(Notice::Failed(text))] if text.contains("20s")
    ));
    world.pass(Duration::from_secs(2));
    world.open();
    let status = RpcStatus {
        code: Code::Unimplemented,
        message: "no".into(),
    };
    world.say(Input::Closed(Some(status)));
    assert!(matches!(
        &world.poll()[..],
        [Output::Notice(Notice::Failed(text))] if text.contains("UNIMPLEMENTED")
    ));
    assert!(world.lrs.wake_at() > Some(world.now));
}

#[tokio::test]
async fn only_what_is_asked_for_is_reported_and_the_rest_is_kept() {
    let mut response = every(INTERVAL);
    response.send_all_clusters = false;
    response.clusters = vec!["another".into()];
    let mut world = World::reporting(&response);
    world.counter.succeed(1);
    world.pass(INTERVAL);
    assert_eq!(world.report(), []);
    world.say(Input::Sent);
    response.clusters.push("cluster".into());
    world.receive(&response);
    world.counter.succeed(1);
    world.pass(INTERVAL);
    let stats = world.reports();
    assert_eq!((requests(&stats), seconds(&stats)), ([2, 2, 0, 0], 20));
}

/// What an endpoint says is told once, whatever becomes of the stream (gRFC A64, A85).
#[tokio::test]
async fn what_endpoints_say_is_told_once() {
    let metrics = |stats: &ClusterStats| {
        let [stats] = &stats.upstream_locality_stats[..] else {
            panic!("one locality, not {stats:?}")
        };
        let cpu = stats.cpu_utilization;
        let named = stats.load_metric_stats.iter().map(|one| {
            let name = one.metric_name.clone();
            (
                name,
                one.num_requests_finished_with_metric,
                one.total_metric_value,
            )
        });
        let cpu = cpu.map(|cpu| {
            (
                cpu.num_requests_finished_with_metric,
                cpu.total_metric_value,
            )
        });
        (cpu, named.collect::<Vec<_>>())
    };
    let named = |name: &str, calls, total| (format!("named_metrics.{name}"), calls, total);
    let mut world = World::reporting(&every(INTERVAL));
    world.counter.succeed_saying("foo", 0.5);
    world.counter.succeed_saying("foo", 0.25);
    world.counter.succeed_saying("bar", 1.0);
    world.counter.succeed(1);
    world.pass(INTERVAL);
    // It does not get out.
    let expected = (
        Some((3, 1.75)),
        vec![named("bar", 1, 1.0), named("foo", 2, 0.75)],
    );
    assert_eq!(metrics(&world.report()[0]), expected);
    world.say(Input::Closed(None));
    world.poll();
    world.pass(Duration::from_secs(2));
    world.open();
    world.receive(&every(INTERVAL));
    world.pass(INTERVAL);
    let report = world.report();
    assert_eq!(metrics(&report[0]), expected);
    // What comes before it is out is told by the next.
    world.counter.succeed_saying("foo", 2.0);
    world.say(Input::Sent);
    world.pass(INTERVAL);
    let stats = world.reports();
    assert_eq!(
        metrics(&stats),
        (Some((1, 2.0)), vec![named("foo", 1, 2.0)])
    );
    assert_eq!(requests(&stats), [1, 1, 0, 0]);
    world.pass(INTERVAL);
    assert_eq!(world.reports().upstream_locality_stats, []);

    // The last report has it too.
    world.counter.succeed_saying("foo", 3.0);
    world.counter.leave();
    assert!(!world.lrs.is_over());
    world.say(Input::Changed);
    assert_eq!(metrics(&world.reports()).1, [named("foo", 1, 3.0)]);
    assert!(world.lrs.is_over());
    assert!(world.lrs.loads.clusters().is_empty());
}

/// One that is not asked for and has no user is forgotten, and counts from nothing if it comes back.
#[tokio::test]
async fn a_cluster_that_leaves_while_nobody_asks_and_comes_back_is_told_in_full() {
    let mut world = World::reporting(&every(INTERVAL));
    world.counter.succeed(5);
    world.counter.shed();
    world.counter.drop_call("spam");
    world.pass(INTERVAL);
    assert_eq!(requests(&world.reports()), [5, 5, 0, 0]);

    let mut others = every(INTERVAL);
    others.send_all_clusters = false;
    others.clusters = vec!["other".into()];
    world.receive(&others);
    world.counter.leave();
    world.pass(INTERVAL);
    assert_eq!(world.report(), []);
    world.say(Input::Sent);
    world.counter.come_back();
    world.receive(&every(INTERVAL));
    world.counter.succeed(3);
    world.pass(INTERVAL);
    let stats = world.reports();
    assert_eq!(requests(&stats), [3, 3, 0, 0]);
    assert_eq!(stats.total_dropped_requests, 0);
}

#[tokio::test]
async fn the_interval_is_the_servers_but_no_less_than_a_second() {
    let mut world = World::reporting(&every(INTERVAL));
    // The same again does not put the next report off.
    world.now += Duration::from_secs(4);
    world.receive(&every(INTERVAL));
    assert_eq!(
        world.lrs.wake_at(),
        Some(world.now + Duration::from_secs(6))
    );
    // Another interval counts from now.
    for (wire, expected) in [
        (every(Duration::from_secs(2)), 2),
        (every(Duration::from_millis(1)), 1),
        (
            LoadStatsResponse {
                load_reporting_interval: Some(WireDuration {
                    seconds: -5,
                    nanos: 0,
                }),
                clusters: vec!["a".into()],
                ..every(INTERVAL)
            },
            1,
        ),
    ] {
        world.receive(&wire);
        let at = world.now + Duration::from_secs(expected);
        assert_eq!(world.lrs.wake_at(), Some(at), "{wire:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_followed_is_said() {
    let mut world = World::new();
    world.open();
    world.say(Input::Received(Bytes::from_static(&[0xff])));
    assert!(matches!(
        &world.poll()[..],
        [Output::Notice(Notice::Unusable(_)), Output::Read]
    ));
    let by_endpoint = LoadStatsResponse {
        report_endpoint_granularity: true,
        ..every(INTERVAL)
    };
    world.receive(&by_endpoint);
    assert!(matches!(
        &world.poll()[..],
        [Output::Notice(Notice::Unusable(text)), Output::Read] if text.contains("granularity")
    ));
    // Reported by locality all the same.
    world.counter.succeed(1);
    world.pass(INTERVAL);
    assert_eq!(requests(&world.reports()), [1, 1, 0, 0]);
}

#[tokio::test]
async fn the_last_report_follows_the_last_cluster_at_once() {
    let mut world = World::reporting(&every(INTERVAL));
    world.poll();
    world.counter.succeed(1);
    let call = world.counter.begin();
    assert!(!world.lrs.is_over());
    world.counter.leave();
    world.say(Input::Changed);
    assert_eq!(requests(&world.reports()), [2, 1, 0, 1]);
    // A call is under way: it is waited for, without haste.
    assert!(!world.lrs.is_over());
    assert_eq!(world.poll(), []);
    drop(call);
    assert!(!world.lrs.is_over());
    world.pass(INTERVAL);
    assert_eq!(requests(&world.reports()), [0, 0, 1, 0]);
    assert!(world.lrs.is_over());
    assert!(world.lrs.loads.clusters().is_empty());
}

#[tokio::test]
async fn without_a_stream_there_is_nobody_to_tell() {
    let mut world = World::new();
    world.counter.succeed(1);
    assert!(!world.lrs.is_over());
    world.counter.leave();
    assert!(world.lrs.is_over());
    assert_eq!((world.poll(), world.lrs.wake_at()), (vec![], None));

    // Nor on one that the control plane says nothing on.
    let mut world = World::new();
    world.open();
    world.counter.succeed(1);
    world.counter.leave();
    assert!(world.lrs.is_over());
}
