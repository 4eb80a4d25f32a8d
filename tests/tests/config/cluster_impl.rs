//! The list "ClusterImpl": drops, circuit breakers, policies.

use mesh_core::{config::Kind, telemetry::Cause};
use mesh_tests::{
    backend::Backend,
    every_way,
    load::{Load, call, spread, until_failure, until_from},
    way::{Call, Way},
    xds,
};
use tokio::task::JoinSet;

use crate::{SERVICE, World, assert_about, assert_unavailable, backends};

/// Starts calls that `backend` holds.
async fn hold_calls(
    caller: &impl Call,
    backend: &Backend,
    calls: u64,
) -> JoinSet<Result<String, tonic::Status>> {
    backend.hold();
    let until = backend.counts().active + calls;
    let mut set = JoinSet::new();
    for _ in 0..calls {
        let caller = caller.clone();
        set.spawn(async move { caller.call().await });
    }
    backend
        .until("the calls are there", |counts| counts.active == until)
        .await;
    set
}

async fn assert_all_end_well(mut calls: JoinSet<Result<String, tonic::Status>>) {
    while let Some(ended) = calls.join_next().await {
        ended.expect("no panic").expect("it ends well");
    }
}

async fn circuit_breaking(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    // A retry does not make it worse.
    let retry = way.retry().times(4);
    let service = world.service().retry(retry).max_requests(3);
    service.endpoint(only.address()).apply();
    spread(&world.channel, 10).await;

    let held = hold_calls(&world.channel, &only, 3).await;
    let before = only.calls();
    for _ in 0..5 {
        assert_unavailable(
            call(&world.channel).await,
            &["circuit breaker", "max_requests", "3"],
        );
    }
    assert_eq!(only.calls(), before, "nothing was sent");
    let totals = world.mesh.metrics().totals();
    assert_eq!(totals.cause(Cause::CircuitBreaker), 5);
    assert_eq!(totals.retries(), 0);

    // A higher limit is in force at once; a lower one counts what is in flight.
    world.service().max_requests(4).apply().acked().await;
    let more = hold_calls(&world.channel, &only, 1).await;
    assert_unavailable(call(&world.channel).await, &["circuit breaker"]);
    world.service().max_requests(2).apply().acked().await;
    only.release();
    assert_all_end_well(held).await;
    assert_all_end_well(more).await;
    let held = hold_calls(&world.channel, &only, 2).await;
    assert_unavailable(call(&world.channel).await, &["circuit breaker"]);
    only.release();
    assert_all_end_well(held).await;
    spread(&world.channel, 10).await;
    assert_eq!(only.counts().accepted, way.connections(4));
}

/// Whoever uses the cluster shares its limit.
async fn circuit_breaking_across_channels(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world
        .service()
        .max_requests(2)
        .endpoint(only.address())
        .apply();
    // Another target that leads to the same cluster.
    let other = "other.shop:8080";
    let routes = xds::routes("inline", other, vec![xds::route_to(SERVICE)]);
    world
        .control_plane
        .set(&xds::inline_listener(other, routes));
    let other = way.caller(&world.mesh, other);
    spread(&world.channel, 3).await;
    spread(&other, 3).await;
    assert_eq!(only.counts().accepted, 1, "they share the connection");

    let one = hold_calls(&world.channel, &only, 1).await;
    let two = hold_calls(&other, &only, 1).await;
    for channel in [&world.channel, &other] {
        assert_unavailable(call(channel).await, &["circuit breaker"]);
    }
    only.release();
    assert_all_end_well(one).await;
    assert_all_end_well(two).await;
    spread(&world.channel, 3).await;
    spread(&other, 3).await;
}

async fn drop_by_category(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    let retry = way.retry().times(4);
    let service = world.service().retry(retry).drop_percent("shed", 100.0);
    service.endpoint(only.address()).apply();
    // Without an endpoint to spare there is nothing to drop: the first call waits for one.
    let load = Load::start(&world.channel, 1);
    load.more(50).await;
    let seen = load.stop().await;
    assert_eq!(seen.failed, seen.calls, "{seen:?}");
    let status = seen.first_failure.expect("one has failed");
    assert_unavailable::<()>(Err(status), &["dropped", "shed"]);
    assert_eq!(only.calls(), 0);
    let totals = world.mesh.metrics().totals();
    assert_eq!(totals.cause(Cause::Drop), seen.calls);
    assert_eq!(
        totals.retries(),
        0,
        "a call that was dropped is not tried again"
    );

    world
        .service()
        .drop_percent("shed", 0.0)
        .apply()
        .acked()
        .await;
    spread(&world.channel, 50).await;

    // Categories are drawn in turn: of a half, a half.
    world
        .service()
        .drop_percent("first", 50.0)
        .drop_percent("second", 50.0)
        .apply()
        .acked()
        .await;
    let (mut first, mut second, mut served) = (0, 0, 0);
    for _ in 0..1000 {
        match call(&world.channel).await {
            Ok(_) => served += 1,
            Err(status) if status.message().contains("first") => first += 1,
            Err(_) => second += 1,
        }
    }
    // Six standard deviations.
    assert_about("first", first, 500, 95);
    assert_about("second", second, 250, 82);
    assert_about("served", served, 250, 82);
    assert_eq!(only.counts().accepted, 1);
}

/// What is down is not overloaded: the error says what is the matter.
async fn nothing_is_dropped_while_no_endpoint_is_ready(way: Way) {
    let world = World::over(way).await;
    let dead = Backend::refusing("dead");
    world
        .service()
        .drop_percent("shed", 100.0)
        .endpoint(dead.address())
        .apply();
    let status = until_failure(&world.channel).await;
    assert_unavailable::<()>(Err(status), &["all 1 endpoints", "refused"]);
}

async fn child_policy_change_on_config_update(way: Way) {
    let world = World::over(way).await;
    let [one, two] = backends(["one", "two"]).await;
    world
        .service()
        .endpoint(one.address())
        .endpoint(two.address())
        .apply();
    until_from(&world.channel, &["one", "two"]).await;
    let load = Load::start(&world.channel, 4);
    for _ in 0..3 {
        load.more(20).await;
        let least_request = world.service().least_request(2).apply();
        assert_eq!(least_request.kinds(), [Kind::Cluster]);
        least_request.acked().await;
        load.more(20).await;
        world.service().round_robin().apply().acked().await;
    }
    load.stop().await.assert_no_failure();
    assert_eq!((one.counts().accepted, two.counts().accepted), (1, 1));
    let calls = spread(&world.channel, 20).await;
    assert_eq!((calls["one"], calls["two"]), (10, 10));
}

every_way!(
    circuit_breaking,
    circuit_breaking_across_channels,
    drop_by_category,
    nothing_is_dropped_while_no_endpoint_is_ready,
);
every_way!(grpc and http2:
    child_policy_change_on_config_update,
);
