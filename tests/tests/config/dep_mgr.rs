//! The list "DepMgr": one consistent configuration per target (gRFC A74).

use std::{collections::BTreeSet, time::Duration};

use mesh_core::{
    config::Kind,
    testing::{Corruption, Route, cluster_name, route_name},
};
use mesh_tests::{
    every_way,
    load::{Load, call, spread, until_failure, until_from, until_success},
    way::{Ask, Call, Way},
    xds,
};
use tonic::{Code, Status};

use crate::{NODE, SERVICE, World, assert_text, assert_unavailable, backends};

const SOON: Duration = Duration::from_millis(100);

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// A call with the header `x-version: v2`.
async fn call_v2(world: &World) -> Result<String, Status> {
    let ask = Ask::new("ping").header("x-version", "v2");
    Ok(world.channel.ask(ask).await?.server)
}

async fn happy_case(way: Way) {
    let world = World::over(way).await;
    let [v1, v2] = backends(["v1", "v2"]).await;
    world
        .service()
        .version("v1")
        .endpoint(v1.address())
        .version("v2")
        .endpoint(v2.address())
        .apply();
    until_from(&world.channel, &["v1", "v2"]).await;
    let subscriptions = |kind| world.control_plane.subscriptions(kind);
    assert_eq!(subscriptions(Kind::Listener), names([SERVICE]));
    assert_eq!(subscriptions(Kind::Route), names([&route_name(SERVICE)]));
    let clusters = ["v1", "v2"].map(|version| cluster_name(SERVICE, version));
    let clusters = BTreeSet::from(clusters);
    assert_eq!(subscriptions(Kind::Cluster), clusters);
    assert_eq!(subscriptions(Kind::Endpoints), clusters);
    world.mesh.ready().await.expect("it is ready");
    assert_eq!(world.trouble(), "");
}

async fn inline_route_config(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    let routes = xds::routes("inline", SERVICE, vec![xds::route_to("c")]);
    world
        .control_plane
        .set(&xds::inline_listener(SERVICE, routes));
    world.control_plane.set(&world.cluster("c", "e"));
    world
        .control_plane
        .set(&xds::endpoints("e", &[only.address()]));
    assert_eq!(call(&world.channel).await.expect("it is served"), "only");
    assert!(world.control_plane.subscriptions(Kind::Route).is_empty());
}

async fn listener_resource_not_found_error(way: Way) {
    let world = World::over_with(way, |options| options.resource_timeout = SOON).await;
    let [only] = backends(["only"]).await;
    let found = call(&world.channel).await;
    assert_unavailable(found, &[SERVICE, "does not exist", NODE]);
    let error = world.mesh.ready().await.expect_err("it is not ready");
    assert_text(&error.to_string(), &[SERVICE, "does not exist"]);

    world.service().endpoint(only.address()).apply();
    assert_eq!(until_success(&world.channel).await, "only");
}

async fn no_virtual_host(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    let route = || vec![xds::route_to(SERVICE)];
    let other = xds::routes(&route_name(SERVICE), "elsewhere", route());
    world.control_plane.set(&other);
    assert_unavailable(
        call(&world.channel).await,
        &["no virtual host for", SERVICE],
    );

    let right = xds::routes(&route_name(SERVICE), SERVICE, route());
    world.control_plane.set(&right);
    assert_eq!(until_success(&world.channel).await, "only");
}

/// The routes that were in force stay.
async fn no_virtual_host_existing_resource(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    assert_eq!(call(&world.channel).await.expect("it is served"), "only");

    let route = vec![xds::route_to(SERVICE)];
    let other = xds::routes(&route_name(SERVICE), "elsewhere", route);
    world.control_plane.set(&other).acked().await;
    assert_text(&world.trouble(), &["no virtual host for", SERVICE]);
    spread(&world.channel, 10).await;
}

async fn ambient_error(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    let load = Load::start(&world.channel, 2);
    load.more(10).await;

    let control_plane = &world.control_plane;
    for (kind, name) in [
        (Kind::Listener, SERVICE.to_owned()),
        (Kind::Route, route_name(SERVICE)),
    ] {
        control_plane
            .corrupt(kind, &name, Corruption::Truncated)
            .nacked()
            .await;
        assert_text(&world.trouble(), &[&name, "rejected"]);
        load.more(20).await;
        control_plane.repair(kind, &name).acked().await;
        assert_eq!(world.trouble(), "");
    }
    load.stop().await.assert_no_failure();
}

async fn route_resource_change_to_inline(way: Way) {
    let world = World::over(way).await;
    let [named, inline] = backends(["named", "inline"]).await;
    let control_plane = &world.control_plane;
    world.service().endpoint(named.address()).apply();
    let load = Load::start(&world.channel, 4);
    load.until("the named routes are followed", |seen| {
        seen.from("named") > 10
    })
    .await;

    control_plane.set(&world.cluster("c", "e"));
    control_plane.set(&xds::endpoints("e", &[inline.address()]));
    let routes = xds::routes("inline", SERVICE, vec![xds::route_to("c")]);
    control_plane.set(&xds::inline_listener(SERVICE, routes));
    load.until("the inline routes are followed", |seen| {
        seen.from("inline") > 10
    })
    .await;
    control_plane
        .until("the named routes are not watched", |c| {
            c.subscriptions(Kind::Route).is_empty()
        })
        .await;
    control_plane
        .until("nor is their cluster", |c| {
            c.subscriptions(Kind::Cluster) == names(["c"])
        })
        .await;

    let listener = xds::rds_listener(SERVICE, &route_name(SERVICE));
    control_plane.set(&listener);
    load.take().assert_no_failure();
    load.until("the named routes are followed again", |seen| {
        seen.from("named") > 10
    })
    .await;
    load.stop().await.assert_no_failure();
}

async fn until_v2_fails(world: &World, parts: &[&str]) {
    let fails = async {
        loop {
            if let Err(status) = call_v2(world).await
                && status.code() == Code::Unavailable
                && parts.iter().all(|part| status.message().contains(part))
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let fails = tokio::time::timeout(Duration::from_secs(20), fails).await;
    fails.unwrap_or_else(|_| panic!("no call failed with {parts:?}"));
}

/// A cluster that cannot be had fails the calls to it, and no others.
async fn cluster_resource_error(way: Way) {
    let world = World::over_with(way, |options| options.resource_timeout = SOON).await;
    let [v1, v2] = backends(["v1", "v2"]).await;
    world
        .service()
        .route(Route::prefix("").header("x-version", "v2").to("v2"))
        .version("v1")
        .endpoint(v1.address())
        .version("v2")
        .weight(0)
        .endpoint(v2.address())
        .apply();
    let cluster = cluster_name(SERVICE, "v2");
    world.control_plane.remove(Kind::Cluster, &cluster);

    // On a machine that is busy other resources may be late as well, for a moment.
    assert_eq!(until_success(&world.channel).await, "v1");
    until_v2_fails(&world, &[&cluster, "cannot be used", "does not exist"]).await;

    // Sent, and of no use.
    let mut bad = world.cluster(&cluster, &cluster);
    bad.lb_policy = 77;
    let nack = world.control_plane.set(&bad).nacked().await;
    assert_text(&nack.message, &[&cluster, "lb_policy"]);
    until_v2_fails(&world, &[&cluster, "rejected", "lb_policy"]).await;
    assert_eq!(until_success(&world.channel).await, "v1");

    let good = world.cluster(&cluster, &cluster);
    world.control_plane.set(&good).acked().await;
    let served = async {
        loop {
            match call_v2(&world).await {
                Ok(server) => return server,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let served = tokio::time::timeout(Duration::from_secs(20), served).await;
    assert_eq!(served.expect("v2 comes"), "v2");
}

async fn cluster_ambient_error(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    spread(&world.channel, 5).await;

    let mut bad = world.cluster(SERVICE, SERVICE);
    bad.lb_policy = 77;
    world.control_plane.set(&bad).nacked().await;
    spread(&world.channel, 20).await;
    assert_eq!(only.counts().accepted, 1);

    // The reason comes with the calls that it may have to do with.
    world.service().clear_endpoints().apply();
    world.control_plane.set(&bad);
    let status = until_failure(&world.channel).await;
    assert_text(
        status.message(),
        &["no endpoints", SERVICE, "lb_policy", "rejected"],
    );
}

async fn endpoint_ambient_error(way: Way) {
    let world = World::over(way).await;
    let [one, two] = backends(["one", "two"]).await;
    world
        .service()
        .endpoint(one.address())
        .endpoint(two.address())
        .apply();
    until_from(&world.channel, &["one", "two"]).await;
    world
        .control_plane
        .corrupt(Kind::Endpoints, SERVICE, Corruption::Truncated)
        .nacked()
        .await;
    let spread = spread(&world.channel, 20).await;
    assert_eq!(spread["one"], 10);
    assert_eq!(spread["two"], 10);
}

/// What the routes name is watched, and nothing else.
async fn cluster_subscription_lifecycle(way: Way) {
    let world = World::over(way).await;
    let [v1, v2] = backends(["v1", "v2"]).await;
    let control_plane = &world.control_plane;
    let [c1, c2] = ["v1", "v2"].map(|version| cluster_name(SERVICE, version));
    world.service().version("v1").endpoint(v1.address()).apply();
    let load = Load::start(&world.channel, 2);
    load.more(5).await;
    assert_eq!(control_plane.subscriptions(Kind::Cluster), names([&c1]));

    world.service().version("v2").endpoint(v2.address()).apply();
    load.until("v2 takes part", |seen| seen.from("v2") > 0)
        .await;
    for kind in [Kind::Cluster, Kind::Endpoints] {
        assert_eq!(control_plane.subscriptions(kind), names([&c1, &c2]));
    }

    world.service().remove_version("v1").apply();
    for kind in [Kind::Cluster, Kind::Endpoints] {
        control_plane
            .until("v1 is not watched", |c| {
                c.subscriptions(kind) == names([&c2])
            })
            .await;
    }
    v1.until("its connection is closed", |counts| counts.open == 0)
        .await;
    load.stop().await.assert_no_failure();
}

every_way!(
    happy_case,
    inline_route_config,
    listener_resource_not_found_error,
    no_virtual_host,
    no_virtual_host_existing_resource,
    ambient_error,
    route_resource_change_to_inline,
    cluster_resource_error,
    cluster_ambient_error,
    endpoint_ambient_error,
    cluster_subscription_lifecycle,
);
