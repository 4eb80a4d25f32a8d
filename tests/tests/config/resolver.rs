//! The lists "Resolver/selector" and "Deletion": updates of listeners and routes while calls run.

use std::time::Duration;

use envoy_types::pb::envoy::config::{
    listener::v3::Listener,
    route::v3::{NonForwardingAction, RedirectAction, RouteAction, route::Action},
};
use mesh_core::{
    config::Kind,
    testing::{cluster_name, route_name},
};
use mesh_tests::{
    every_way,
    load::{Load, call, spread, until_failure, until_from, until_success},
    way::{Ask, Chat, Way},
    xds,
};
use tonic::Code;

use crate::{
    SERVICE, World, assert_about, assert_connections, assert_text, assert_unavailable, backends,
};

/// A listener that has no HTTP filters.
fn bad_listener() -> Listener {
    let mut listener = xds::rds_listener(SERVICE, &route_name(SERVICE));
    let manager = envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager::default();
    if let Some(api) = &mut listener.api_listener {
        api.api_listener = Some(xds::pack(&manager));
    }
    listener
}

async fn bad_service_update_nacked_with_cache(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    spread(&world.channel, 5).await;
    let nack = world.control_plane.set(&bad_listener()).nacked().await;
    assert_text(&nack.message, &[SERVICE, "api_listener"]);
    spread(&world.channel, 20).await;
    assert_eq!(only.counts().accepted, 1);
    assert_text(&world.trouble(), &["rejected", "api_listener"]);
}

async fn bad_service_update_nacked_without_cache(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    let push = world.control_plane.set(&bad_listener());
    assert_unavailable(
        call(&world.channel).await,
        &[SERVICE, "rejected", "api_listener"],
    );
    push.nacked().await;

    world.service().endpoint(only.address()).apply();
    assert_eq!(until_success(&world.channel).await, "only");
}

/// By default the loss of resources is no loss of service, for calls under way and for new ones
/// (gRFC A88). The list's IgnoreResourceDeletionOnClient.
async fn ignore_resource_deletion_on_client(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    let load = Load::start(&world.channel, 2);
    let mut chat = Chat::open(&world.channel).await.expect("it is served");
    load.more(10).await;

    world.service().remove().acked().await;
    assert_text(&world.trouble(), &[SERVICE, "deleted"]);
    load.more(50).await;
    chat.say().await.expect("the stream goes on");
    assert_connections(way, &only, 3);

    world
        .service()
        .endpoint(only.address())
        .apply()
        .acked()
        .await;
    assert_eq!(world.trouble(), "");
    load.more(10).await;
    chat.finish().await.expect("the stream ends");
    load.stop().await.assert_no_failure();
    assert_connections(way, &only, 3);
}

/// With `fail_on_data_errors` new calls fail; those under way end as they should.
async fn removed_with_rpcs(way: Way) {
    let world = World::failing_on_data_errors(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    let mut chat = Chat::open(&world.channel).await.expect("it is served");
    chat.say().await.expect("it is served");
    only.hold();
    let held = tokio::spawn({
        let channel = world.channel.clone();
        async move { call(&channel).await }
    });
    only.until("the call is there", |counts| counts.active == 2)
        .await;
    only.echo();

    world.service().remove();
    let status = until_failure(&world.channel).await;
    assert_unavailable::<()>(Err(status), &[SERVICE, "deleted"]);
    chat.say().await.expect("the stream goes on");
    only.release();
    held.await.expect("no panic").expect("the call ends well");
    chat.finish().await.expect("the stream ends well");
    only.until("the connection is closed", |counts| counts.open == 0)
        .await;
}

/// Each kind of resource that can be removed, and its return.
async fn removed_resource(way: Way) {
    for kind in [Kind::Listener, Kind::Cluster] {
        let world = World::failing_on_data_errors(way).await;
        let [only] = backends(["only"]).await;
        world.service().endpoint(only.address()).apply();
        spread(&world.channel, 5).await;
        world.control_plane.remove(kind, SERVICE).acked().await;
        assert_unavailable(call(&world.channel).await, &[SERVICE, "deleted"]);

        // The service is the same as before: what was removed by hand is put back.
        world.service().apply();
        assert_eq!(until_success(&world.channel).await, "only", "{kind}");
    }
}

#[tokio::test]
async fn max_stream_duration() {
    let world = World::over(Way::Grpc).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    spread(&world.channel, 3).await;
    let limit = |limit: Option<Duration>| world.service().max_stream_duration(limit).apply();
    let short = Duration::from_millis(50);
    limit(Some(short)).acked().await;
    only.hold();
    let status = call(&world.channel).await.expect_err("the time is up");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    only.until("the call is cancelled", |counts| counts.active == 0)
        .await;
    only.release();
    // To the end of the stream, not to its beginning (gRFC A31).
    limit(Some(Duration::from_secs(1))).acked().await;
    let mut chat = Chat::open(&world.channel).await.expect("it begins in time");
    chat.say().await.expect("it is served");
    let status = chat.finish_late().await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");

    // Without a limit the same call has all the time that it needs.
    limit(None).acked().await;
    only.hold();
    let held = call(&world.channel);
    tokio::pin!(held);
    let longer = tokio::time::timeout(4 * short, held.as_mut()).await;
    longer.expect_err("it is still held");
    only.release();
    held.await.expect("it is served");
}

async fn wrr(way: Way) {
    let world = World::over(way).await;
    let [v1, v2] = backends(["v1", "v2"]).await;
    world
        .service()
        .version("v1")
        .weight(25)
        .endpoint(v1.address())
        .version("v2")
        .weight(75)
        .endpoint(v2.address())
        .apply();
    let calls = spread(&world.channel, 1000).await;
    // Six standard deviations of 13.7.
    assert_about("v1", calls["v1"], 250, 82);

    let all_to_v2 = world.service().split(&[("v1", 0), ("v2", 1)]).apply();
    all_to_v2.acked().await;
    assert_eq!(spread(&world.channel, 20).await["v2"], 20);
}

/// Live updates of a listener and its routes, with no failed call among them.
async fn multiple_lds_updates(way: Way) {
    let world = World::over(way).await;
    let [a, b] = backends(["a", "b"]).await;
    let control_plane = &world.control_plane;
    for backend in [&a, &b] {
        let name = backend.name();
        control_plane.set(&world.cluster(name, name));
        control_plane.set(&xds::endpoints(name, &[backend.address()]));
        let routes = xds::routes(name, SERVICE, vec![xds::route_to(name)]);
        control_plane.set(&routes);
    }
    control_plane.set(&xds::rds_listener(SERVICE, "a"));
    let load = Load::start(&world.channel, 4);
    load.more(10).await;
    for round in 0..3 {
        for name in ["b", "a"] {
            control_plane.set(&xds::rds_listener(SERVICE, name));
            load.take().assert_no_failure();
            let what = format!("round {round}: the routes {name} are followed");
            load.until(&what, |seen| seen.from(name) > 10).await;
            let routes = xds::routes("inline", SERVICE, vec![xds::route_to(name)]);
            control_plane.set(&xds::inline_listener(SERVICE, routes));
            load.more(10).await;
        }
    }
    load.stop().await.assert_no_failure();
}

/// A call that is under way keeps what it needs, though nobody else does.
async fn keep_watch_open_active_rpcs(way: Way) {
    let World {
        control_plane,
        mesh,
        channel,
        ..
    } = World::over(way).await;
    let [only] = backends(["only"]).await;
    way.of(control_plane.service(SERVICE))
        .endpoint(only.address())
        .apply();
    only.hold();
    let held = tokio::spawn(async move { call(&channel).await });
    only.until("the call is there", |counts| counts.active == 1)
        .await;
    // The channel went into the call: it is the last user of the target.
    assert_eq!(mesh.targets().len(), 1);
    assert_eq!(control_plane.subscriptions(Kind::Cluster).len(), 1);
    only.release();
    held.await.expect("no panic").expect("the call ends well");
    control_plane
        .until("nothing is watched", |c| c.streams() == 0)
        .await;
    assert!(mesh.targets().is_empty());
}

async fn server_side_listener_received_on_client(way: Way) {
    let world = World::over(way).await;
    let listener = xds::socket_listener(SERVICE, ([127, 0, 0, 1], 80).into());
    // Valid as such, and not for a client.
    world.control_plane.set(&listener).acked().await;
    assert_unavailable(
        call(&world.channel).await,
        &[SERVICE, "server's socket", "api_listener"],
    );
}

#[tokio::test]
async fn config_selector_failure_cases() {
    let world = World::over(Way::Grpc).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    spread(&world.channel, 3).await;
    let no_cluster = Action::Route(RouteAction::default());
    for (what, prefix, action, parts) in [
        (
            "no route matches",
            "/elsewhere",
            Action::NonForwardingAction(NonForwardingAction {}),
            ["no route", "/mesh.test.Echo/Unary"],
        ),
        (
            "a route for servers",
            "",
            Action::NonForwardingAction(NonForwardingAction {}),
            ["for servers", "non_forwarding_action"],
        ),
        (
            "a redirect",
            "",
            Action::Redirect(RedirectAction::default()),
            ["redirect", "not supported"],
        ),
        (
            "a route without a cluster is skipped",
            "",
            no_cluster,
            ["no route", "host"],
        ),
    ] {
        let routes = vec![xds::route(prefix, action)];
        let routes = xds::routes(&route_name(SERVICE), SERVICE, routes);
        world.control_plane.set(&routes).acked().await;
        println!("{what}");
        assert_unavailable(call(&world.channel).await, &parts);
    }
    world.service().apply();
    assert_eq!(only.calls(), 3);
}

/// The cluster goes away under calls that it has.
async fn delayed_cluster_removal_multiple_in_flight_rpcs(way: Way) {
    let world = World::over(way).await;
    let [old, new] = backends(["old", "new"]).await;
    world
        .service()
        .version("old")
        .endpoint(old.address())
        .apply();
    let mut chat = Chat::open(&world.channel).await.expect("it is served");
    chat.say().await.expect("it is served");
    old.hold();
    let held: Vec<_> = (0..2)
        .map(|_| {
            let channel = world.channel.clone();
            tokio::spawn(async move { call(&channel).await })
        })
        .collect();
    old.until("the calls are there", |counts| counts.active == 3)
        .await;

    world
        .service()
        .version("new")
        .endpoint(new.address())
        .remove_version("old")
        .apply();
    world
        .control_plane
        .until("the old cluster is not watched", |c| {
            !c.subscriptions(Kind::Cluster)
                .contains(&cluster_name(SERVICE, "old"))
        })
        .await;
    assert_eq!(spread(&world.channel, 10).await["new"], 10);
    chat.say().await.expect("the stream goes on");
    assert!(old.counts().open <= way.connections(3));
    old.release();
    for held in held {
        let server = held.await.expect("no panic").expect("the call ends well");
        assert_eq!(server, "old");
    }
    chat.say().await.expect("the stream goes on");
    chat.finish().await.expect("the stream ends well");
    old.until("its connection is closed", |counts| counts.open == 0)
        .await;
}

/// Calls that failed before they were sent leave nothing behind that keeps their cluster.
async fn prunes_cluster_stream_creation_failure(way: Way) {
    let world = World::over(way).await;
    let [old, new] = backends(["old", "new"]).await;
    world
        .service()
        .version("old")
        .max_requests(1)
        .endpoint(old.address())
        .apply();
    let mut chat = Chat::open(&world.channel).await.expect("it is served");
    chat.say().await.expect("it is served");
    for _ in 0..5 {
        assert_unavailable(call(&world.channel).await, &["circuit breaker"]);
    }
    // One that is given up while it is under way.
    chat.finish().await.expect("the stream ends");
    old.hold();
    let given_up = tokio::spawn({
        let channel = world.channel.clone();
        async move { call(&channel).await }
    });
    old.until("the call is there", |counts| counts.active == 1)
        .await;
    given_up.abort();
    assert!(given_up.await.is_err_and(|error| error.is_cancelled()));
    old.release();

    world
        .service()
        .version("new")
        .endpoint(new.address())
        .remove_version("old")
        .apply();
    until_from(&world.channel, &["new"]).await;
    old.until("nothing is left", |counts| {
        counts.active == 0 && counts.open == 0
    })
    .await;
}

/// Routes change live, between unary calls and under streams of all kinds.
async fn live_route_update(way: Way) {
    let world = World::over(way).await;
    let [v1, v2] = backends(["v1", "v2"]).await;
    world
        .service()
        .version("v1")
        .weight(1)
        .endpoint(v1.address())
        .version("v2")
        .weight(0)
        .endpoint(v2.address())
        .apply();
    let load = Load::start(&world.channel, 4);
    let mut chat = Chat::open(&world.channel).await.expect("it is served");
    for round in 0..5 {
        let (v1, v2) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        let split = world.service().split(&[("v1", v1), ("v2", v2)]).apply();
        split.acked().await;
        let to = if v2 == 1 { "v2" } else { "v1" };
        // Its cluster and endpoints are asked for only now.
        until_from(&world.channel, &[to]).await;
        assert_eq!(spread(&world.channel, 5).await[to], 5);
        let replies = Chat::listen(&world.channel, Ask::new("word")).await;
        let mut replies = replies.expect("it is served");
        assert_eq!(replies.hear().await.expect("it goes on").0, to);
        replies.finish().await.expect("it ends well");
        // A stream stays where it began.
        assert_eq!(chat.say().await.expect("it goes on"), "v1");
    }
    load.stop().await.assert_no_failure();
}

every_way!(
    ignore_resource_deletion_on_client,
    removed_with_rpcs,
    wrr,
    multiple_lds_updates,
    keep_watch_open_active_rpcs,
    delayed_cluster_removal_multiple_in_flight_rpcs,
    prunes_cluster_stream_creation_failure,
    live_route_update,
    bad_service_update_nacked_with_cache,
    bad_service_update_nacked_without_cache,
    removed_resource,
    server_side_listener_received_on_client,
);
