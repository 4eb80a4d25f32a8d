//! The control plane goes away, refuses, comes back, or says different things to different nodes;
//! calls go on.

use mesh_core::{Code, config::Kind, testing::ControlPlane};
use mesh_tests::{
    every_way,
    load::{Load, call, spread, until_from},
    way::{Chat, Way},
};

use crate::{
    SERVICE, World, assert_connections, assert_text, assert_unavailable, backends,
    steady::{Reading, Steady},
};

async fn stop_and_restart(way: Way) {
    let world = World::over(way).await;
    let [before, after] = backends(["before", "after"]).await;
    world.service().endpoint(before.address()).apply();
    let load = Load::start(&world.channel, 2);
    let mut chat = Chat::open(&world.channel).await.expect("it is served");
    load.more(10).await;
    world.control_plane.stop().await;
    load.more(100).await;
    chat.say().await.expect("the stream goes on");
    // What changes meanwhile is in force once it is back.
    let service = world.service().clear_endpoints();
    service.endpoint(after.address()).apply();
    load.more(50).await;
    assert_eq!(load.take().from("after"), 0);
    world.control_plane.restart().await;
    load.until("the news has arrived", |seen| seen.from("after") > 0)
        .await;
    chat.finish().await.expect("the stream ends");
    load.stop().await.assert_no_failure();
    assert_connections(way, &before, 3);
}

/// Streams that end, for this reason or that, and connections that break.
async fn dropped_streams(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    let load = Load::start(&world.channel, 2);
    load.more(10).await;
    let hash = world.mesh.config_dump().await.hash();
    let control_plane = &world.control_plane;
    let stream = |control_plane: &ControlPlane| {
        let requests = control_plane.requests();
        requests.last().map(|request| request.stream)
    };
    for how in 0..3 {
        let old = stream(control_plane);
        match how {
            0 => control_plane.drop_streams(),
            1 => control_plane.end_streams(Code::ResourceExhausted, "try another server"),
            _ => control_plane.drop_connections(),
        }
        control_plane
            .until("there is another stream", |c| {
                c.streams() == 1 && stream(c) != old
            })
            .await;
        control_plane.acked(Kind::Endpoints).await;
        load.more(10).await;
    }
    load.stop().await.assert_no_failure();
    assert_eq!(world.mesh.config_dump().await.hash(), hash);
    assert_connections(way, &only, 2);
}

/// A client that is not let in any more serves with what it has, and keeps asking.
async fn unauthenticated_for_ever(way: Way) {
    let steady = Steady::over(way).await;
    let before = steady.read().await;
    let (world, load) = (&steady.world, &steady.load);
    let mut raw = world.control_plane.raw();
    world.control_plane.drop_streams();
    for _ in 0..3 {
        let stream = raw.accept().await;
        stream
            .close(Code::Unauthenticated, "the token has expired")
            .await;
        load.more(50).await;
        assert_eq!(steady.read().await, before);
    }
    let trouble = &["UNAUTHENTICATED", "the token has expired"];
    assert_text(&world.trouble(), trouble);
    // One that has nothing yet is told why, instead of a wait without an end.
    let other = way.caller(&world.mesh, "other.shop:8080");
    assert_unavailable(call(&other).await, trouble);
    drop((raw, other));
    let after_the_other = Reading {
        failed: before.failed + 1,
        ..before
    };
    steady.takes_a_change(&after_the_other).await;
    steady.finish().await;
}

async fn two_nodes_with_different_views(way: Way) {
    let control_plane = ControlPlane::start().await;
    let [common, special] = backends(["common", "special"]).await;
    let service = way.of(control_plane.service(SERVICE));
    service.endpoint(common.address()).apply();
    let view = control_plane.view("special");
    let service = view.service(SERVICE).clear_endpoints();
    service.endpoint(special.address()).apply();

    let ordinary = control_plane.mesh("ordinary").await;
    let extraordinary = control_plane.mesh("special").await;
    let one = way.caller(&ordinary, SERVICE);
    let two = way.caller(&extraordinary, SERVICE);
    assert_eq!(spread(&one, 10).await["common"], 10);
    assert_eq!(spread(&two, 10).await["special"], 10);

    // An update for one is none for the other, and the other way round.
    let hash = ordinary.config_dump().await.hash();
    let service = view.service(SERVICE).clear_endpoints();
    service.apply().acked().await;
    assert_unavailable(call(&two).await, &["no endpoints"]);
    assert_eq!(ordinary.config_dump().await.hash(), hash);
    spread(&one, 10).await;
    let service = control_plane.service(SERVICE);
    service.endpoint(special.address()).apply();
    until_from(&one, &["special"]).await;
    assert_unavailable(call(&two).await, &["no endpoints"]);
}

async fn two_channels_share_one_stream_and_connections(way: Way) {
    let world = World::over(way).await;
    let [one, two] = backends(["one", "two"]).await;
    let mut service = world.service();
    for backend in [&one, &two] {
        service = service.endpoint(backend.address());
    }
    service.apply();
    let again = way.caller(&world.mesh, SERVICE);
    for channel in [&world.channel, &again] {
        until_from(channel, &["one", "two"]).await;
    }
    if way == Way::Grpc {
        let same = way.caller(&world.mesh, &format!("xds:///{SERVICE}"));
        until_from(&same, &["one", "two"]).await;
    }
    assert_eq!(world.mesh.targets().len(), 1);
    // Another target has its own watches, on the same stream.
    let [third] = backends(["third"]).await;
    let other = way.of(world.control_plane.service("other.shop:8080"));
    other.endpoint(third.address()).apply();
    let other = way.caller(&world.mesh, "other.shop:8080");
    until_from(&other, &["third"]).await;
    assert_eq!(world.mesh.targets().len(), 2);
    assert_eq!(world.control_plane.streams(), 1);
    assert_eq!(world.control_plane.connections(), 1);
    for backend in [&one, &two, &third] {
        assert_eq!(backend.counts().accepted, 1);
    }
}

every_way!(
    stop_and_restart,
    dropped_streams,
    unauthenticated_for_ever,
    two_nodes_with_different_views,
    two_channels_share_one_stream_and_connections,
);
