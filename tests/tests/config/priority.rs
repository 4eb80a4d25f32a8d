//! The list "Priority" (gRFC A56).

use std::time::Duration;

use mesh_core::testing::{Endpoint, Service, zone};
use mesh_tests::{
    backend::Backend,
    every_way,
    load::{Load, call, spread, until_failure, until_from, until_success},
    way::Way,
};

use crate::{World, assert_unavailable, backends};

/// An endpoint in a locality of its own, which is named after the server.
fn at(backend: &Backend, priority: u32) -> Endpoint {
    Endpoint::new(backend.address())
        .locality(zone(backend.name()))
        .priority(priority)
}

/// The service, with one server for each priority; calls that a failover breaks are tried again.
fn ladder(world: &World, ladder: &[&Backend]) -> Service {
    let backoff = Duration::from_millis(2);
    let retry = world.way.retry().times(4).backoff(backoff, backoff);
    let mut service = world.service().retry(retry).clear_endpoints();
    for (priority, backend) in (0..).zip(ladder) {
        service = service.endpoint(at(backend, priority));
    }
    service
}

async fn assert_all_go_to(world: &World, server: &str) {
    let calls = spread(&world.channel, 20).await;
    assert_eq!(calls.get(server), Some(&20), "{calls:?}");
}

async fn high_priority_ready(way: Way) {
    let world = World::over(way).await;
    let [p0, p1, p2] = backends(["p0", "p1", "p2"]).await;
    ladder(&world, &[&p0, &p1]).apply();
    assert_all_go_to(&world, "p0").await;
    // Neither a lower one more nor one less makes a difference, and none is connected.
    ladder(&world, &[&p0, &p1, &p2]).apply().acked().await;
    assert_all_go_to(&world, "p0").await;
    ladder(&world, &[&p0]).apply().acked().await;
    assert_all_go_to(&world, "p0").await;
    assert_eq!(p1.counts().accepted + p2.counts().accepted, 0);
    assert_eq!(p0.counts().accepted, 1);
}

async fn switch_priority(way: Way) {
    let world = World::over(way).await;
    let [mut p0, mut p1, mut p2] = backends(["p0", "p1", "p2"]).await;
    ladder(&world, &[&p0, &p1]).apply();
    let load = Load::start(&world.channel, 2);
    load.more(10).await;

    p0.stop().await;
    load.until("p1 takes over", |seen| seen.from("p1") > 10)
        .await;
    ladder(&world, &[&p0, &p1, &p2]).apply().acked().await;
    load.take().assert_no_failure();
    load.more(20).await;
    assert_eq!(load.seen().from("p2"), 0, "it is not needed");

    p1.stop().await;
    load.until("p2 takes over", |seen| seen.from("p2") > 10)
        .await;
    // The highest that comes back takes the calls.
    p1.open();
    load.take().assert_no_failure();
    load.until("p1 is back", |seen| seen.from("p1") > 10).await;
    p0.open();
    load.until("p0 is back", |seen| seen.from("p0") > 10).await;
    load.stop().await.assert_no_failure();
    assert_all_go_to(&world, "p0").await;

    // One that leaves the configuration hands over as well.
    p2.stop().await;
    ladder(&world, &[&p1]).apply().acked().await;
    until_from(&world.channel, &["p1"]).await;
    assert_all_go_to(&world, "p1").await;
}

/// A connection that is made anew is no reason to fail over.
async fn high_priority_to_connecting_from_ready(way: Way) {
    let world = World::over(way).await;
    let [p0, p1] = backends(["p0", "p1"]).await;
    ladder(&world, &[&p0, &p1]).apply();
    let load = Load::start(&world.channel, 4);
    for round in 1..=3 {
        load.more(20).await;
        p0.go_away();
        p0.until("it is connected again", |counts| {
            counts.accepted == round + 1
        })
        .await;
    }
    load.more(20).await;
    let seen = load.stop().await;
    seen.assert_no_failure();
    assert_eq!(seen.from("p0"), seen.calls);
    assert_eq!(p1.counts().accepted, 0);
}

async fn higher_down_while_adding_lower(way: Way) {
    let world = World::over(way).await;
    let [p2] = backends(["p2"]).await;
    let [p0, p1] = ["p0", "p1"].map(Backend::refusing);
    ladder(&world, &[&p0, &p1]).apply();
    let status = until_failure(&world.channel).await;
    assert_unavailable::<()>(Err(status), &["all 2 endpoints", "refused"]);
    ladder(&world, &[&p0, &p1, &p2]).apply();
    assert_eq!(until_success(&world.channel).await, "p2");
    assert_all_go_to(&world, "p2").await;
}

/// The lower ones get no more calls; their connections are kept for a while (gRFC A56).
async fn higher_ready_close_all_lower(way: Way) {
    let world = World::over(way).await;
    let [p2] = backends(["p2"]).await;
    let [mut p0, mut p1] = ["p0", "p1"].map(Backend::refusing);
    ladder(&world, &[&p0, &p1, &p2]).apply();
    assert_all_go_to(&world, "p2").await;
    p1.open();
    until_from(&world.channel, &["p1"]).await;
    p0.open();
    until_from(&world.channel, &["p0"]).await;
    let before = (p1.calls(), p2.calls());
    assert_all_go_to(&world, "p0").await;
    assert_eq!((p1.calls(), p2.calls()), before);
    // What is kept serves again at once.
    assert_eq!(p2.counts().open, 1);
}

async fn high_priority_no_endpoints(way: Way) {
    let world = World::over(way).await;
    let [p0, p1] = backends(["p0", "p1"]).await;
    ladder(&world, &[&p0, &p1]).apply();
    assert_all_go_to(&world, "p0").await;
    // Its locality stays, without anybody in it.
    world.service().take_out(p0.address()).apply().acked().await;
    assert_all_go_to_soon(&world, "p1").await;
    world.service().restore(p0.address()).apply().acked().await;
    assert_all_go_to_soon(&world, "p0").await;
    // The same where nobody in it may be called.
    world.service().drain(p0.address()).apply().acked().await;
    assert_all_go_to_soon(&world, "p1").await;
}

async fn assert_all_go_to_soon(world: &World, server: &str) {
    until_from(&world.channel, &[server]).await;
    assert_all_go_to(world, server).await;
}

async fn move_child_to_higher_priority(way: Way) {
    let world = World::over(way).await;
    let p0 = Backend::refusing("p0");
    let [low, other] = backends(["low", "other"]).await;
    ladder(&world, &[&p0, &other, &low]).apply();
    assert_all_go_to_soon(&world, "other").await;
    // `low` was never needed before; now it comes first.
    assert_eq!(low.counts().accepted, 0);
    ladder(&world, &[&low, &other, &p0]).apply().acked().await;
    assert_all_go_to_soon(&world, "low").await;
}

async fn move_ready_child_to_higher_priority(way: Way) {
    let world = World::over(way).await;
    let p0 = Backend::refusing("p0");
    let [p1] = backends(["p1"]).await;
    ladder(&world, &[&p0, &p1]).apply();
    let load = Load::start(&world.channel, 4);
    load.more(20).await;
    ladder(&world, &[&p1]).apply().acked().await;
    load.more(20).await;
    ladder(&world, &[&p1, &p0]).apply().acked().await;
    load.more(20).await;
    load.stop().await.assert_no_failure();
    let accepted = p1.counts().accepted;
    assert!(
        accepted <= way.connections(4),
        "it keeps its connections: {accepted}"
    );
}

async fn remove_ready_lowest_child(way: Way) {
    let world = World::over(way).await;
    let p0 = Backend::refusing("p0");
    let [p1] = backends(["p1"]).await;
    ladder(&world, &[&p0, &p1]).apply();
    assert_all_go_to(&world, "p1").await;
    ladder(&world, &[&p0]).apply().acked().await;
    assert_unavailable(call(&world.channel).await, &["all 1 endpoints", "refused"]);
    p1.until("its connection is closed", |counts| counts.open == 0)
        .await;
}

async fn removes_all_priorities(way: Way) {
    let world = World::over(way).await;
    let [p0, p1] = backends(["p0", "p1"]).await;
    ladder(&world, &[&p0, &p1]).apply();
    assert_all_go_to(&world, "p0").await;
    ladder(&world, &[]).apply().acked().await;
    assert_unavailable(call(&world.channel).await, &["no endpoints"]);
    // Back, the other way round, and the higher one down.
    let down = Backend::refusing("down");
    ladder(&world, &[&down, &p1]).apply();
    assert_eq!(until_success(&world.channel).await, "p1");
    assert_all_go_to(&world, "p1").await;
}

async fn locality_changes_priority(way: Way) {
    let world = World::over(way).await;
    let [a, b] = backends(["a", "b"]).await;
    ladder(&world, &[&a, &b]).apply();
    let load = Load::start(&world.channel, 4);
    load.until("a is called", |seen| seen.from("a") > 10).await;
    for round in 0..3 {
        for (high, low) in [(&b, &a), (&a, &b)] {
            ladder(&world, &[high, low]).apply().acked().await;
            load.take().assert_no_failure();
            let what = format!("round {round}: {} is called", high.name());
            load.until(&what, |seen| seen.from(high.name()) > 10).await;
        }
    }
    load.stop().await.assert_no_failure();
    for backend in [&a, &b] {
        let accepted = backend.counts().accepted;
        assert!(accepted <= way.connections(4), "{accepted}");
    }
}

/// A priority with one endpoint that works takes all calls of its priority.
#[tokio::test]
async fn no_failover_on_partial_failure() {
    let world = World::over(Way::Grpc).await;
    let [p0, p1] = backends(["p0", "p1"]).await;
    let dead = Backend::refusing("dead");
    ladder(&world, &[&p0, &p1]).endpoint(at(&dead, 0)).apply();
    assert_all_go_to(&world, "p0").await;
    assert_eq!(p1.counts().accepted, 0);
}

every_way!(
    high_priority_ready,
    switch_priority,
    higher_down_while_adding_lower,
    higher_ready_close_all_lower,
    high_priority_no_endpoints,
    move_child_to_higher_priority,
    move_ready_child_to_higher_priority,
    remove_ready_lowest_child,
    removes_all_priorities,
    locality_changes_priority,
);
every_way!(grpc and http2:
    high_priority_to_connecting_from_ready,
);
