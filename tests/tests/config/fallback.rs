//! The list "Fallback", and the part of "Authority" that is about several servers (gRFC A71, A95).
//!
//! FallbackOnStartup_RPCSuccess is [`on_startup`]. What is decided, event by event, is tested beside
//! `mesh_core`'s `control::xds::fallback`.

use mesh_core::{
    Mesh,
    bootstrap::{AuthorityConfig, Bootstrap},
    config::Kind,
    testing::{ControlPlane, cluster_name},
};
use mesh_tests::{
    backend::Backend,
    every_way,
    load::{Load, call, spread, until_from, until_success},
    way::{Caller, Way},
};

use crate::{SERVICE, assert_text, assert_unavailable, backends};

/// A client of several control planes, all of which know the service.
struct Ranked<const N: usize> {
    planes: [ControlPlane; N],
    backends: [Backend; N],
    mesh: Mesh,
    channel: Caller,
}

impl<const N: usize> Ranked<N> {
    /// The backend of each has its name.
    async fn new(way: Way, names: [&str; N]) -> Self {
        let backends = backends(names).await;
        let planes = planes().await;
        for (plane, backend) in planes.iter().zip(&backends) {
            let service = way.of(plane.service(SERVICE)).version("v1");
            service.endpoint(backend.address()).apply();
        }
        let mesh = mesh(&planes).await;
        let channel = way.caller(&mesh, SERVICE);
        Self {
            planes,
            backends,
            mesh,
            channel,
        }
    }
}

async fn planes<const N: usize>() -> [ControlPlane; N] {
    let mut planes = Vec::with_capacity(N);
    for _ in 0..N {
        planes.push(ControlPlane::start().await);
    }
    planes.try_into().expect("as many as there are to be")
}

async fn mesh(planes: &[ControlPlane]) -> Mesh {
    let builder = Bootstrap::builder().node_id("test-node");
    let all = planes.iter().map(ControlPlane::xds_server);
    let bootstrap = all.fold(builder, |builder, server| builder.server(server));
    let bootstrap = bootstrap.build().expect("servers are enough");
    Mesh::builder()
        .bootstrap(bootstrap)
        .build()
        .await
        .expect("a bootstrap is enough")
}

async fn on_startup(way: Way) {
    let world = Ranked::new(way, ["primary", "backup"]).await;
    world.planes[0].stop().await;
    assert_eq!(
        call(&world.channel).await.expect("the backup knows"),
        "backup"
    );

    world.planes[0].restart().await;
    until_from(&world.channel, &["primary"]).await;
    spread(&world.channel, 20).await;
    // The backup is left once the primary has answered.
    world.planes[1]
        .until("no stream", |plane| plane.streams() == 0)
        .await;
}

async fn nobody_is_asked_beside_a_primary_that_works(way: Way) {
    let world = Ranked::new(way, ["primary", "backup"]).await;
    assert_eq!(until_success(&world.channel).await, "primary");
    // Its end changes nothing, either: all that is needed is cached.
    let load = Load::start(&world.channel, 2);
    world.planes[0].stop().await;
    load.more(50).await;
    assert_eq!(world.planes[1].connections(), 0);
    assert_eq!(world.backends[1].counts().accepted, 0);
}

/// Of the configuration that is to come, one part is missing when the primary goes: the backup is
/// asked for all of it, and what was in force serves until then. The list's MidUpdate.
async fn mid_update(way: Way) {
    let world = Ranked::new(way, ["primary", "backup"]).await;
    assert_eq!(until_success(&world.channel).await, "primary");
    let load = Load::start(&world.channel, 2);
    let [primary, backup] = &world.planes;
    let endpoints = cluster_name(SERVICE, "next");
    let unused = Backend::start("unused").await;
    primary
        .service(SERVICE)
        .version("next")
        .endpoint(unused.address())
        .split(&[("v1", 0), ("next", 100)])
        .apply();
    primary.remove(Kind::Endpoints, &endpoints);
    primary
        .until("the endpoints are asked for", |plane| {
            plane.subscriptions(Kind::Endpoints).contains(&endpoints)
        })
        .await;
    primary.stop().await;
    until_from(&world.channel, &["backup"]).await;
    load.more(50).await;
    assert_eq!(unused.counts().accepted, 0);
    assert_eq!(backup.streams(), 1);
    load.stop().await.assert_no_failure();
}

/// The primary goes when it has sent a part. The list's MidStartup.
async fn mid_startup(way: Way) {
    let world = Ranked::new(way, ["primary", "backup"]).await;
    let cluster = cluster_name(SERVICE, "v1");
    // Silence under either codec: of a cluster, a delta server would say that there is none.
    world.planes[0].remove(Kind::Endpoints, &cluster);
    let pending = tokio::spawn({
        let channel = world.channel.clone();
        async move { call(&channel).await }
    });
    world.planes[0]
        .until("the endpoints are asked for", |plane| {
            !plane.subscriptions(Kind::Endpoints).is_empty()
        })
        .await;
    world.planes[0].stop().await;
    let answer = pending.await.expect("no panic");
    // A call is told of the primary's end, or it is there when the backup has answered.
    if let Ok(name) = answer {
        assert_eq!(name, "backup");
    }
    until_from(&world.channel, &["backup"]).await;
}

async fn three_server_promotion(way: Way) {
    let world = Ranked::new(way, ["first", "second", "third"]).await;
    world.planes[0].stop().await;
    world.planes[1].stop().await;
    assert_eq!(
        call(&world.channel).await.expect("the third knows"),
        "third"
    );
    world.planes[1].restart().await;
    until_from(&world.channel, &["second"]).await;
    world.planes[2]
        .until("no stream", |plane| plane.streams() == 0)
        .await;
    world.planes[0].restart().await;
    until_from(&world.channel, &["first"]).await;
    world.planes[1]
        .until("no stream", |plane| plane.streams() == 0)
        .await;
}

async fn when_all_are_down_the_error_names_all(way: Way) {
    let world = Ranked::new(way, ["primary", "backup"]).await;
    for plane in &world.planes {
        plane.stop().await;
    }
    let addresses = world
        .planes
        .each_ref()
        .map(|plane| plane.address().expect("it listens").to_string());
    let [primary, backup] = addresses.each_ref().map(|address| &**address);
    assert_unavailable(
        call(&world.channel).await,
        &["out of reach", primary, backup],
    );
}

/// A target that has what it needs stays with it, whatever a target beside it has to do.
async fn one_target_that_waits_does_not_throw_the_others_onto_the_fallback(way: Way) {
    let world = Ranked::new(way, ["primary", "backup"]).await;
    assert_eq!(until_success(&world.channel).await, "primary");
    world.planes[0].stop().await;
    let late = Backend::start("late").await;
    let [_, backup] = &world.planes;
    way.of(backup.service("late.shop:8080"))
        .endpoint(late.address())
        .apply();
    let other = way.caller(&world.mesh, "late.shop:8080");
    assert_eq!(call(&other).await.expect("the backup knows"), "late");

    let asked = backup.subscriptions(Kind::Listener);
    assert_eq!(Vec::from_iter(asked), ["late.shop:8080"]);
    let load = Load::start(&world.channel, 2);
    load.more(50).await;
    assert_eq!(world.backends[1].counts().accepted, 0);
}

/// An authority whose endpoints change all the time would rather have those of the backup than old
/// ones (gRFC A95).
#[tokio::test]
async fn fallback_on_reachability_only() {
    let [primary, backup] = planes().await;
    let [old, new] = backends(["old", "new"]).await;
    let listener = "xdstp://busy/envoy.config.listener.v3.Listener/greeter";
    for (plane, backend) in [(&primary, &old), (&backup, &new)] {
        crate::federation::describe(plane, listener, "greeter", backend.address());
    }
    let authority = AuthorityConfig::builder()
        .server(primary.xds_server())
        .server(backup.xds_server())
        .fallback_on_reachability_only(true);
    let bootstrap = Bootstrap::builder()
        .server(primary.xds_server())
        .authority("busy", authority)
        .node_id("test-node")
        .build()
        .expect("a valid bootstrap");
    let mesh = Mesh::builder()
        .bootstrap(bootstrap)
        .build()
        .await
        .expect("it is enough");
    let channel = Way::Grpc.caller(&mesh, "xds://busy/greeter");
    assert_eq!(until_success(&channel).await, "old");
    primary.stop().await;
    until_from(&channel, &["new"]).await;
    let trouble = mesh.targets()[0].trouble.clone();
    assert_text(&format!("{trouble:?}"), &["None"]);
}

every_way!(
    on_startup,
    nobody_is_asked_beside_a_primary_that_works,
    mid_update,
    mid_startup,
    three_server_promotion,
    when_all_are_down_the_error_names_all,
    one_target_that_waits_does_not_throw_the_others_onto_the_fallback,
);
