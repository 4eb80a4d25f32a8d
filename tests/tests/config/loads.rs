//! Load reports (LRS: gRFC A27): what a control plane is told of the calls that are made.

use std::time::Duration;

use mesh_core::{
    Code as OurCode,
    testing::{ControlPlane, LoadOrder, ReportedCluster, ReportedLocality, cluster_name, zone},
};
use mesh_tests::{
    every_way,
    load::{call, spread, until_from},
    way::{Chat, Way},
};

use tonic::Status;

use crate::{NODE, SERVICE, World, assert_unavailable, backends};

const SECOND: Duration = Duration::from_secs(1);

/// Waits until what was reported of the cluster is this.
async fn until(
    world: &World,
    what: &str,
    is: impl Fn(&ReportedCluster) -> bool,
) -> ReportedCluster {
    let reported = |control_plane: &ControlPlane| is(&control_plane.loads(SERVICE));
    world.control_plane.until(what, reported).await;
    world.control_plane.loads(SERVICE)
}

fn ended(counts: ReportedLocality) -> u64 {
    counts.succeeded + counts.failed
}

async fn calls_are_reported_by_locality(way: Way) {
    let world = World::over(way).await;
    let [a, b] = backends(["a", "b"]).await;
    world
        .service()
        .report_load(true)
        .endpoint_in(zone("a"), a.address())
        .endpoint_in(zone("b"), b.address())
        .apply();
    until_from(&world.channel, &["a", "b"]).await;
    spread(&world.channel, 20).await;
    b.answer(|call| call.fail(Status::internal("no")));
    let mut failed = 0;
    for _ in 0..20 {
        failed += u64::from(call(&world.channel).await.is_err());
    }
    assert!(failed > 0);

    let made = a.calls() + b.calls();
    let all = |load: &ReportedCluster| ended(load.sum()) >= made;
    let load = until(&world, "all are reported", all).await;
    assert_eq!(load.service, SERVICE, "the endpoints resource");
    let sum = load.sum();
    assert_eq!((sum.issued, sum.failed, sum.in_progress), (made, failed, 0));
    assert_eq!(sum.succeeded, made - failed);
    let by_zone: Vec<_> = load.localities.iter().collect();
    assert_eq!(by_zone.len(), 2);
    for ((id, counts), backend) in by_zone.into_iter().zip([&a, &b]) {
        assert_eq!(id.zone, backend.name());
        assert_eq!(counts.issued, backend.calls());
    }
    assert_eq!((load.total_dropped, load.dropped.len()), (0, 0));

    let reports = world.control_plane.load_reports();
    let feature = "envoy.lrs.supports_send_all_clusters";
    for report in &reports {
        assert_eq!((&*report.node, report.stream), (NODE, 1));
        assert!(report.features.iter().any(|has| has == feature));
    }
    let second = &reports[reports.len() - 1].clusters;
    assert!(second.iter().all(|one| one.interval >= SECOND.mul_f64(0.9)));
}

async fn what_is_dropped_is_reported_by_category(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    let service = || world.service();
    service().report_load(true).endpoint(only.address()).apply();
    until_from(&world.channel, &["only"]).await;
    service().drop_percent("spam", 100.0).apply().acked().await;
    for _ in 0..7 {
        assert_unavailable(call(&world.channel).await, &["spam"]);
    }
    let load = until(&world, "drops are reported", |load| load.total_dropped >= 7).await;
    assert_eq!(load.dropped, [("spam".to_owned(), 7)].into());
    assert_eq!(load.total_dropped, 7);

    // What the circuit breaker sheds has no category.
    service()
        .drop_percent("spam", 0.0)
        .max_requests(0)
        .apply()
        .acked()
        .await;
    for _ in 0..3 {
        assert_unavailable(call(&world.channel).await, &["circuit breaker"]);
    }
    let load = until(&world, "all are reported", |load| load.total_dropped >= 10).await;
    assert_eq!((load.total_dropped, load.dropped["spam"]), (10, 7));
    assert_eq!(load.sum().issued, only.calls());
}

/// A call that its caller gives up has failed to gRPC, and to Envoy it neither has nor not.
async fn what_is_given_up_has_failed_to_grpc_alone(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    let service = world.service().report_load(true);
    service.endpoint(only.address()).apply();
    until_from(&world.channel, &["only"]).await;
    only.hold();
    tokio::select! {
        answer = call(&world.channel) => panic!("it is held: {answer:?}"),
        _ = only.until("it is there", |counts| counts.active == 1) => {}
    }
    let all = |load: &ReportedCluster| {
        let sum = load.sum();
        sum.issued == only.calls() && sum.in_progress == 0
    };
    let sum = until(&world, "it is under way no more", all).await.sum();
    let failed = u64::from(way == Way::Grpc);
    assert_eq!((sum.succeeded, sum.failed), (only.calls() - 1, failed));
}

every_way!(
    calls_are_reported_by_locality,
    what_is_given_up_has_failed_to_grpc_alone,
    what_is_dropped_is_reported_by_category,
);

/// Nothing that was counted is lost or told twice, whatever happens to the stream.
#[tokio::test]
async fn counts_outlive_streams_and_servers() {
    let world = World::over(Way::Grpc).await;
    let [only] = backends(["only"]).await;
    let service = world.service().report_load(true);
    service.endpoint(only.address()).apply();
    until_from(&world.channel, &["only"]).await;
    let all = |load: &ReportedCluster| load.sum().succeeded == only.calls();
    until(&world, "the first are reported", all).await;

    world.control_plane.drop_load_streams();
    spread(&world.channel, 10).await;
    until(&world, "the stream is back", all).await;
    assert_eq!(world.control_plane.load_streams_opened(), 2);

    world.control_plane.stop().await;
    spread(&world.channel, 10).await;
    world.control_plane.restart().await;
    spread(&world.channel, 10).await;
    let load = until(&world, "the server is back", all).await;
    assert_eq!(load.sum().issued, only.calls());

    // Refused for a while.
    world.control_plane.refuse_loads(OurCode::Unimplemented);
    let none = |control_plane: &ControlPlane| control_plane.load_streams() == 0;
    world.control_plane.until("no stream is open", none).await;
    spread(&world.channel, 10).await;
    world.control_plane.want_loads(LoadOrder::all(SECOND));
    let load = until(&world, "it takes reports again", all).await;
    assert_eq!(load.sum().issued, only.calls());
    assert_eq!(world.control_plane.load_streams(), 1);
}

/// A stream is open while a cluster wants it, one for all clusters; the last report comes at its end.
#[tokio::test]
async fn one_stream_from_the_first_cluster_to_the_last() {
    let world = World::over(Way::Grpc).await;
    let [one, two] = backends(["one", "two"]).await;
    let service = || world.service();
    service()
        .version("v1")
        .endpoint(one.address())
        .version("v2")
        .endpoint(two.address())
        .apply();
    until_from(&world.channel, &["one", "two"]).await;
    assert_eq!(world.control_plane.load_streams_opened(), 0);

    // Reports are far off: none but the last comes.
    let order = LoadOrder::all(3600 * SECOND).by_endpoint();
    world.control_plane.want_loads(order);
    let report = |version: &str, report| {
        let edit = service().version(version).report_load(report);
        async move { edit.apply().acked().await }
    };
    report("v1", true).await;
    report("v2", true).await;
    let told = |c: &ControlPlane| c.load_streams() == 1;
    world.control_plane.until("a stream is open", told).await;
    let before = one.calls();
    spread(&world.channel, 20).await;
    report("v2", false).await;
    spread(&world.channel, 20).await;
    assert_eq!(world.control_plane.load_streams_opened(), 1);
    report("v1", false).await;
    let over = |c: &ControlPlane| c.load_streams() == 0;
    world.control_plane.until("the stream ends", over).await;
    assert_eq!(world.control_plane.load_streams_opened(), 1);
    let load = world.control_plane.loads(&cluster_name(SERVICE, "v1"));
    assert_eq!(load.sum().issued, one.calls() - before);
    assert_eq!(load.sum().succeeded, one.calls() - before);
    let load = world.control_plane.loads(&cluster_name(SERVICE, "v2"));
    assert!(load.sum().succeeded > 0);

    // And again.
    report("v1", true).await;
    world.control_plane.until("another is open", told).await;
    assert_eq!(world.control_plane.load_streams_opened(), 2);
}

#[tokio::test]
async fn what_is_under_way_is_told_and_other_clusters_are_not() {
    let world = World::over(Way::Grpc).await;
    let [only] = backends(["only"]).await;
    let order = LoadOrder::of(["another"], SECOND);
    world.control_plane.want_loads(order);
    let service = world.service().report_load(true);
    service.endpoint(only.address()).apply();
    until_from(&world.channel, &["only"]).await;
    let mut chat = Chat::open(&world.channel).await.unwrap();
    chat.say().await.unwrap();
    let reports = |c: &ControlPlane| c.load_reports().len() >= 2;
    world.control_plane.until("reports come", reports).await;
    assert!(
        world
            .control_plane
            .load_reports()
            .iter()
            .all(|r| r.clusters.is_empty())
    );

    // Asked for after all: nothing was forgotten.
    let order = LoadOrder::of([SERVICE], SECOND);
    world.control_plane.want_loads(order);
    let open = |load: &ReportedCluster| load.sum().in_progress == 1;
    let load = until(&world, "the open stream is told", open).await;
    assert_eq!(load.sum().issued, only.calls());
    chat.finish().await.unwrap();
    let all = |load: &ReportedCluster| load.sum().succeeded == only.calls();
    let load = until(&world, "its end is told", all).await;
    assert_eq!((load.sum().in_progress, load.sum().failed), (0, 0));
}

/// Dropping the mesh ends the stream.
#[tokio::test]
async fn the_stream_ends_with_the_mesh() {
    let World {
        control_plane,
        mesh,
        channel,
        way,
    } = World::over(Way::Grpc).await;
    let [only] = backends(["only"]).await;
    let service = way.of(control_plane.service(SERVICE));
    service.report_load(true).endpoint(only.address()).apply();
    until_from(&channel, &["only"]).await;
    let open = |c: &ControlPlane| c.load_streams() == 1;
    control_plane.until("a stream is open", open).await;
    drop((mesh, channel));
    let closed = |c: &ControlPlane| c.load_streams() == 0 && c.connections() == 0;
    control_plane.until("all is closed", closed).await;
}
