//! The lists "CDS/EDS LB" and "LeastRequest": which endpoints take calls.

use std::time::Duration;

use mesh_core::{
    config::Kind,
    testing::{Corruption, Endpoint, EndpointHealth, Route, cluster_name, route_name, zone},
};
use mesh_tests::{
    backend::Backend,
    every_way,
    load::{Load, call, spread, until_failure, until_failure_with, until_from, until_success},
    way::Way,
    xds,
};
use tokio::task::JoinSet;

use crate::{SERVICE, World, assert_about, assert_text, assert_unavailable, backends};

async fn eds_one_locality(way: Way) {
    let world = World::over(way).await;
    let [a, b, c] = backends(["a", "b", "c"]).await;
    world.service().endpoint(a.address()).apply();
    assert_eq!(spread(&world.channel, 10).await["a"], 10);

    // One more.
    world.service().endpoint(b.address()).apply();
    until_from(&world.channel, &["b"]).await;
    let calls = spread(&world.channel, 20).await;
    assert_eq!((calls["a"], calls["b"]), (10, 10));

    // One less.
    world.service().take_out(a.address()).apply().acked().await;
    assert_eq!(spread(&world.channel, 10).await["b"], 10);

    // Another in its place.
    let service = world.service().clear_endpoints();
    service.endpoint(c.address()).apply();
    until_from(&world.channel, &["c"]).await;
    assert_eq!(spread(&world.channel, 10).await["c"], 10);
}

async fn eds_multiple_localities(way: Way) {
    let world = World::over(way).await;
    let [a, b, c, d] = backends(["a", "b", "c", "d"]).await;
    world
        .service()
        .endpoint_in(zone("1"), a.address())
        .endpoint_in(zone("2"), b.address())
        .apply();
    until_from(&world.channel, &["a", "b"]).await;
    let calls = spread(&world.channel, 100).await;
    assert_about("a of two localities", calls["a"], 50, 2);

    // A locality more, then one less, then more endpoints in one: each has the same share.
    world.service().endpoint_in(zone("3"), c.address()).apply();
    until_from(&world.channel, &["c"]).await;
    let calls = spread(&world.channel, 99).await;
    for server in ["a", "b", "c"] {
        assert_about("one of three localities", calls[server], 33, 2);
    }
    world.service().take_out(a.address()).apply().acked().await;
    let calls = spread(&world.channel, 100).await;
    assert_about("b of two localities", calls["b"], 50, 2);
    assert_about("c of two localities", calls["c"], 50, 2);
    world.service().endpoint_in(zone("3"), d.address()).apply();
    until_from(&world.channel, &["d"]).await;
    let calls = spread(&world.channel, 100).await;
    assert_about("alone in its locality", calls["b"], 50, 2);
    assert_about("one of two in a locality", calls["c"], 25, 2);
    assert_about("the other of two in a locality", calls["d"], 25, 2);
}

/// Of gRPC: under HTTP semantics degraded endpoints take the calls that the healthy ones leave.
#[tokio::test]
async fn eds_endpoints_health() {
    use EndpointHealth::*;
    let world = World::over(Way::Grpc).await;
    let all = [Healthy, Unknown, Unhealthy, Draining, Timeout, Degraded];
    let mut servers = Vec::new();
    let mut service = world.service();
    for health in all {
        let server = Backend::start(&format!("{health:?}")).await;
        service = service.endpoint(Endpoint::new(server.address()).health(health));
        servers.push(server);
    }
    service.apply();
    until_from(&world.channel, &["Healthy", "Unknown"]).await;
    let calls = spread(&world.channel, 40).await;
    assert_eq!((calls["Healthy"], calls["Unknown"]), (20, 20));
    for other in &servers[2..] {
        assert_eq!(other.counts().accepted, 0, "{}", other.name());
    }

    // Health is an update like any other.
    let ill = Endpoint::new(servers[0].address()).health(Unhealthy);
    let well = Endpoint::new(servers[2].address()).health(Healthy);
    world
        .service()
        .endpoint(ill)
        .endpoint(well)
        .apply()
        .acked()
        .await;
    until_from(&world.channel, &["Unhealthy"]).await;
    let calls = spread(&world.channel, 40).await;
    assert_eq!((calls["Unknown"], calls["Unhealthy"]), (20, 20));
}

/// No endpoints is a valid answer: calls fail at once, with a reason, and nothing old is kept.
async fn eds_empty_update(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().version("").apply();
    for _ in 0..3 {
        assert_unavailable(call(&world.channel).await, &["no endpoints", SERVICE]);
    }
    world.service().endpoint(only.address()).apply();
    until_success(&world.channel).await;
    world.service().clear_endpoints().apply().acked().await;
    assert_unavailable(call(&world.channel).await, &["no endpoints", SERVICE]);
    // Localities with nobody in them, and nobody who may be called, are the same.
    let service = world.service().endpoint(only.address());
    service.take_out(only.address()).apply().acked().await;
    assert_unavailable(call(&world.channel).await, &["no endpoints", SERVICE]);
    world.service().drain(only.address()).apply().acked().await;
    assert_unavailable(call(&world.channel).await, &["no endpoints", SERVICE]);
    world.service().restore(only.address()).apply();
    until_success(&world.channel).await;
}

/// Endpoints that a response leaves out are not removed: only listeners and clusters are (A53).
async fn eds_resource_removed(way: Way) {
    let world = World::failing_on_data_errors(way).await;
    let [only, other] = backends(["only", "other"]).await;
    world.service().endpoint(only.address()).apply();
    spread(&world.channel, 3).await;
    world
        .control_plane
        .remove(Kind::Endpoints, SERVICE)
        .acked()
        .await;
    spread(&world.channel, 10).await;
    world
        .service()
        .clear_endpoints()
        .endpoint(other.address())
        .apply();
    until_from(&world.channel, &["other"]).await;
}

async fn eds_resource_not_found(way: Way) {
    let soon = Duration::from_millis(100);
    let world = World::over_with(way, |options| options.resource_timeout = soon).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    world.control_plane.set(&world.cluster(SERVICE, "nowhere"));
    // On a machine that is busy other resources may be late as well.
    let parts = &["no endpoints", "nowhere", "does not exist"];
    let status = until_failure_with(&world.channel, parts).await;
    assert_eq!(status.code(), tonic::Code::Unavailable);
    world
        .control_plane
        .set(&xds::endpoints("nowhere", &[only.address()]));
    assert_eq!(until_success(&world.channel).await, "only");
}

async fn eds_resource_shared_by_two_clusters(way: Way) {
    let world = World::over(way).await;
    let [one, two] = backends(["one", "two"]).await;
    let control_plane = &world.control_plane;
    control_plane.hold();
    world
        .service()
        .version("v1")
        .weight(1)
        .version("v2")
        .weight(1)
        .apply();
    for version in ["v1", "v2"] {
        let name = cluster_name(SERVICE, version);
        control_plane.set(&world.cluster(&name, "shared"));
    }
    control_plane.set(&xds::endpoints("shared", &[one.address()]));
    control_plane.release();
    let calls = spread(&world.channel, 40).await;
    assert_eq!(calls["one"], 40);
    // Both clusters were used: each has a connection of its own.
    assert_eq!(one.counts().accepted, 2);
    assert_eq!(
        control_plane.subscriptions(Kind::Endpoints),
        ["shared".to_owned()].into()
    );
    // An update is for both.
    let update = xds::endpoints("shared", &[two.address()]);
    control_plane.set(&update).acked().await;
    assert_eq!(spread(&world.channel, 40).await["two"], 40);
    assert_eq!(two.counts().accepted, 2);
    // One of them goes: the other keeps it.
    let v2 = cluster_name(SERVICE, "v2");
    let routes = xds::routes(&route_name(SERVICE), SERVICE, vec![xds::route_to(&v2)]);
    control_plane.set(&routes);
    control_plane
        .until("a cluster is gone", |c| {
            c.subscriptions(Kind::Cluster).len() == 1
        })
        .await;
    spread(&world.channel, 10).await;
    assert_eq!(control_plane.subscriptions(Kind::Endpoints).len(), 1);
}

/// A cluster that names other endpoints serves from the old ones until they are there.
async fn eds_cluster_resource_updates(way: Way) {
    let world = World::over(way).await;
    let [old, new] = backends(["old", "new"]).await;
    let control_plane = &world.control_plane;
    world.service().endpoint(old.address()).apply();
    let load = Load::start(&world.channel, 4);
    load.more(10).await;
    control_plane
        .set(&world.cluster(SERVICE, "other"))
        .acked()
        .await;
    load.more(50).await;
    load.take().assert_no_failure();
    control_plane.set(&xds::endpoints("other", &[new.address()]));
    load.until("the new endpoints are used", |seen| seen.from("new") > 0)
        .await;
    control_plane
        .until("the old ones are not watched", |c| {
            c.subscriptions(Kind::Endpoints) == ["other".to_owned()].into()
        })
        .await;
    old.until("its connection is closed", |counts| counts.open == 0)
        .await;
    load.stop().await.assert_no_failure();
}

async fn eds_bad_update_with_previous_good_update(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    spread(&world.channel, 3).await;
    let mut bad = xds::endpoints(SERVICE, &[only.address()]);
    bad.endpoints[0].locality = None;
    let nack = world.control_plane.set(&bad).nacked().await;
    assert_text(&nack.message, &[SERVICE, "endpoints[0].locality"]);
    spread(&world.channel, 20).await;
    assert_eq!(only.counts().accepted, 1);
}

async fn eds_bad_update_without_previous_good_update(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    world
        .control_plane
        .corrupt(Kind::Endpoints, SERVICE, Corruption::Truncated);
    let status = until_failure(&world.channel).await;
    assert_unavailable::<()>(Err(status), &["no endpoints", SERVICE, "rejected"]);
    world.control_plane.repair(Kind::Endpoints, SERVICE);
    assert_eq!(until_success(&world.channel).await, "only");
}

async fn endpoint_weights(way: Way) {
    let world = World::over(way).await;
    let [light, heavy] = backends(["light", "heavy"]).await;
    let weigh = |heavy_weight| {
        world
            .service()
            .endpoint(Endpoint::new(light.address()).weight(1))
            .endpoint(Endpoint::new(heavy.address()).weight(heavy_weight))
            .apply()
    };
    weigh(3);
    until_from(&world.channel, &["light", "heavy"]).await;
    let calls = spread(&world.channel, 100).await;
    assert_about("the heavy one", calls["heavy"], 75, 2);

    // Weights change on the connections that there are.
    weigh(1).acked().await;
    let calls = spread(&world.channel, 100).await;
    assert_about("the heavy one", calls["heavy"], 50, 2);
    for backend in [&light, &heavy] {
        assert_eq!(backend.counts().accepted, 1);
    }
}

async fn locality_weights(way: Way) {
    let world = World::over(way).await;
    let [a, b1, b2] = backends(["a", "b1", "b2"]).await;
    world
        .service()
        .endpoint_in(zone("a"), a.address())
        .endpoint_in(zone("b"), b1.address())
        .endpoint_in(zone("b"), b2.address())
        .locality_weight(zone("a"), 3)
        .locality_weight(zone("b"), 1)
        .apply();
    until_from(&world.channel, &["a", "b1", "b2"]).await;
    let calls = spread(&world.channel, 400).await;
    assert_about("the heavy locality", calls["a"], 300, 4);
    assert_about("half of the light one", calls["b1"], 50, 4);
    assert_about("the other half", calls["b2"], 50, 4);

    world
        .service()
        .locality_weight(zone("b"), 9)
        .apply()
        .acked()
        .await;
    let calls = spread(&world.channel, 400).await;
    assert_about("the light locality", calls["a"], 100, 4);
}

/// Makes a call, and waits until it is answered or `busy` holds it.
async fn call_and_settle(
    world: &World,
    calls: &mut JoinSet<Result<String, tonic::Status>>,
    busy: &Backend,
) {
    let before = busy.calls();
    let channel = world.channel.clone();
    calls.spawn(async move { call(&channel).await });
    tokio::select! {
        _ = calls.join_next() => {}
        _ = busy.until("it holds another", |counts| counts.calls > before) => {}
    }
}

/// The list's LeastRequest E2E: of the endpoints drawn, the one with the fewest calls.
async fn least_request(way: Way) {
    let world = World::over(way).await;
    let [busy, idle] = backends(["busy", "idle"]).await;
    world
        .service()
        .least_request(10)
        .endpoint(busy.address())
        .endpoint(idle.address())
        .apply();
    until_from(&world.channel, &["busy", "idle"]).await;
    busy.hold();
    let mut calls = JoinSet::new();
    // One after the other, until the busy one holds one.
    while busy.counts().active == 0 {
        call_and_settle(&world, &mut calls, &busy).await;
    }
    let before = busy.calls();
    for _ in 0..100 {
        call_and_settle(&world, &mut calls, &busy).await;
    }
    // Ten draws of two miss the idle one once in a thousand times.
    let got = busy.calls() - before;
    assert!(got <= 3, "the busy one got {got} of 100");
    busy.release();
    while calls.join_next().await.is_some() {}
}

/// The list's LeastRequest PersistsCounts: calls in flight count on after an update.
async fn persists_counts(way: Way) {
    let world = World::over(way).await;
    let [busy, idle, late] = backends(["busy", "idle", "late"]).await;
    world
        .service()
        .least_request(10)
        .endpoint(busy.address())
        .apply();
    spread(&world.channel, 1).await;
    busy.hold();
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        call_and_settle(&world, &mut calls, &busy).await;
    }
    assert_eq!(busy.counts().active, 5);
    for newcomer in [&idle, &late] {
        world.service().endpoint(newcomer.address()).apply();
        // Until it is connected, calls go to the busy one.
        while newcomer.calls() == 0 {
            call_and_settle(&world, &mut calls, &busy).await;
        }
        // Under the update `busy` stays the endpoint that it is, with its calls. Ten draws miss
        // one of two once in a thousand times.
        let load = Load::start(&world.channel, 8);
        let before = busy.calls();
        load.more(50).await;
        let got = busy.calls() - before;
        assert!(got <= 4, "the busy one got {got} of 50");
        drop(load);
    }
    busy.release();
    while let Some(ended) = calls.join_next().await {
        ended.expect("no panic").expect("it ends well");
    }
}

/// Not in the lists: a retry goes to another endpoint.
async fn retries_prefer_other_endpoints(way: Way) {
    let world = World::over(way).await;
    let [bad, good] = backends(["bad", "good"]).await;
    bad.answer(|call| call.fail(tonic::Status::unavailable("not now")));
    world
        .service()
        .retry(way.retry().times(1))
        .route(Route::prefix("/mesh.test.Echo/"))
        .endpoint(bad.address())
        .endpoint(good.address())
        .apply();
    assert_eq!(spread(&world.channel, 20).await["good"], 20);
}

every_way!(
    eds_resource_not_found,
    eds_resource_shared_by_two_clusters,
    eds_cluster_resource_updates,
    eds_one_locality,
    eds_multiple_localities,
    eds_empty_update,
    eds_resource_removed,
    eds_bad_update_with_previous_good_update,
    eds_bad_update_without_previous_good_update,
    endpoint_weights,
    locality_weights,
    least_request,
    persists_counts,
    retries_prefer_other_endpoints,
);
