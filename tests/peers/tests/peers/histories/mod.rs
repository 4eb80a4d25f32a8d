//! The fake control plane speaks no dialect of its own: gRPC C-core, Envoy in both variants of the
//! protocol, and ours in both take the same histories from it, and after each step it is the same
//! servers that answer their calls, and the same responses that were accepted or refused.

mod followers;

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use mesh_core::{
    config::Kind,
    testing::{Corruption, LoadOrder, cluster_name, route_name, zone},
};
use mesh_peers::within;

use self::followers::{GRPC, NOBODY, SERVICE, World};

/// Endpoints come and go, and so does the only one.
#[tokio::test]
async fn endpoints() {
    within(async {
        let mut world = World::start(["a", "b", "c"]).await;
        let [a, b, c] = world.addresses();
        let service = |world: &World| world.service().clear_endpoints();
        service(&world).protocol(GRPC).endpoint(a).apply();
        world.follow(false).await;
        world.answered_by("the first endpoint", &["a"]).await;

        service(&world)
            .endpoint(a)
            .endpoint(b)
            .apply()
            .acked()
            .await;
        world.answered_by("one more", &["a", "b"]).await;
        service(&world).endpoint(b).apply().acked().await;
        world.answered_by("one less", &["b"]).await;
        let places = service(&world).endpoint_in(zone("z"), c);
        places.endpoint(a).apply().acked().await;
        world
            .answered_by("others, in two places", &["a", "c"])
            .await;
        service(&world).apply().acked().await;
        world.answered_by("none", &[NOBODY]).await;
        service(&world).endpoint(b).apply().acked().await;
        world.answered_by("one again", &["b"]).await;
    })
    .await;
}

/// Routes change, weights shift, and clusters come and go with them.
#[tokio::test]
async fn routes_and_clusters() {
    within(async {
        let mut world = World::start(["a", "b", "c"]).await;
        let [a, b, c] = world.addresses();
        let first = world.service().version("v1").protocol(GRPC).endpoint(a);
        let second = first.version("v2").protocol(GRPC).weight(0);
        second.endpoint(b).apply();
        world.follow(false).await;
        world.answered_by("the first cluster", &["a"]).await;

        let split = [("v1", 50), ("v2", 50)];
        world.service().split(&split).apply().acked().await;
        world.answered_by("half and half", &["a", "b"]).await;
        world.service().split(&[("v2", 100)]).apply().acked().await;
        world.answered_by("all to the other", &["b"]).await;

        // The cluster alone changes, its endpoints do not.
        let cluster = world.service().version("v2").max_requests(100);
        cluster.apply().acked().await;
        world
            .answered_by("another limit of the cluster", &["b"])
            .await;

        // A cluster, its endpoints, and a route to them come at once, and go again.
        let third = world.service().version("v3").protocol(GRPC).endpoint(c);
        third.split(&[("v3", 1)]).apply().acked().await;
        world.answered_by("a third cluster", &["c"]).await;
        world.service().split(&[("v1", 1)]).apply().acked().await;
        world.answered_by("back to the first", &["a"]).await;
    })
    .await;
}

/// What is refused leaves what was there in force, and something good after it is taken.
#[tokio::test]
async fn refusals() {
    within(async {
        let mut world = World::start(["a", "b"]).await;
        let [a, b] = world.addresses();
        world.service().protocol(GRPC).endpoint(a).apply();
        world.follow(false).await;
        world.answered_by("the first endpoint", &["a"]).await;

        let (route, cluster) = (route_name(SERVICE), cluster_name(SERVICE, ""));
        for (kind, name) in [(Kind::Route, &route), (Kind::Endpoints, &cluster)] {
            let control_plane = &world.control_plane;
            control_plane.corrupt(kind, name, Corruption::Truncated);
            world.refused(kind).await;
            world.answered_by("as before the refusal", &["a"]).await;
            world.control_plane.repair(kind, name).acked().await;
            world.answered_by("as before, accepted", &["a"]).await;
        }
        // Of one that cannot be read C-core knows no name, and takes the cluster for removed. This
        // one has its name, and a policy that nobody knows.
        let unknown = Router::default();
        world.service().lb_policy(&unknown).apply();
        world.refused(Kind::Cluster).await;
        world.answered_by("the cluster as before", &["a"]).await;
        world.service().round_robin().apply().acked().await;
        world
            .answered_by("the cluster as before, accepted", &["a"])
            .await;

        // Bad and good follow each other; the good one differs from what was in force.
        let control_plane = &world.control_plane;
        control_plane.corrupt(Kind::Endpoints, &cluster, Corruption::Truncated);
        world.refused(Kind::Endpoints).await;
        let service = world.service().clear_endpoints().endpoint(b);
        service.apply().acked().await;
        world.answered_by("the good one after it", &["b"]).await;
    })
    .await;
}

/// What is removed while something refers to it: routes and endpoints stay in force, whether the
/// protocol can say that they are gone or not. A cluster and a listener go.
#[tokio::test]
async fn removals() {
    within(async {
        let mut world = World::start(["a", "b"]).await;
        let [a, b] = world.addresses();
        world.service().protocol(GRPC).endpoint(a).apply();
        world.follow(true).await;
        world.answered_by("the first endpoint", &["a"]).await;

        let (route, cluster) = (route_name(SERVICE), cluster_name(SERVICE, ""));
        for (kind, name) in [(Kind::Route, &route), (Kind::Endpoints, &cluster)] {
            world.control_plane.remove(kind, name).acked().await;
            world.answered_by("as before the removal", &["a"]).await;
            world.service().apply().acked().await;
            world.answered_by("as before, there again", &["a"]).await;
        }

        world
            .control_plane
            .remove(Kind::Cluster, &cluster)
            .acked()
            .await;
        world.answered_by("without the cluster", &[NOBODY]).await;
        world.service().apply().acked().await;
        world.answered_by("with the cluster again", &["a"]).await;

        world.remove_listener().await;
        world.answered_by("without the listener", &[NOBODY]).await;
        let service = world.service().clear_endpoints().endpoint(b);
        service.apply();
        world.put_listener().await;
        world.answered_by("with the listener again", &["b"]).await;
    })
    .await;
}

/// The control plane is gone for a while, and what changes in the meantime is taken when it is
/// back, over streams that begin anew.
#[tokio::test]
async fn outages() {
    within(async {
        let mut world = World::start(["a", "b", "c"]).await;
        let [a, b, c] = world.addresses();
        let service = |world: &World| world.service().clear_endpoints();
        service(&world).protocol(GRPC).endpoint(a).apply();
        world.follow(false).await;
        world.answered_by("the first endpoint", &["a"]).await;

        world.control_plane.drop_streams();
        service(&world).endpoint(b).apply().acked().await;
        world
            .answered_by("what came after the streams", &["b"])
            .await;

        world.control_plane.stop().await;
        world.answered_by("as before the outage", &["b"]).await;
        service(&world).endpoint(c).apply();
        world.answered_by("still as before", &["b"]).await;
        world.control_plane.restart().await;
        world.acked(&Kind::ALL[..4]).await;
        world
            .answered_by("what changed in the meantime", &["c"])
            .await;

        // Nothing changed: nothing is lost, and nothing is sent in vain.
        world.control_plane.drop_connections();
        world.acked(&Kind::ALL[..4]).await;
        world.answered_by("as before the cut", &["c"]).await;
        service(&world).endpoint(a).apply().acked().await;
        world.answered_by("a change after the cut", &["a"]).await;
    })
    .await;
}

/// All report the same loads of the same calls.
#[tokio::test]
async fn loads() {
    within(async {
        let mut world = World::start(["a", "b"]).await;
        let [a, b] = world.addresses();
        let order = LoadOrder::all(Duration::from_secs(1));
        world.control_plane.want_loads(order);
        let service = world.service().protocol(GRPC).report_load(true);
        let service = service.endpoint_in(zone("a"), a);
        service.endpoint_in(zone("b"), b).apply();
        world.follow(false).await;
        world.envoys_report().await;
        world.answered_by("both", &["a", "b"]).await;
        world.report(&["a", "b"]).await;
    })
    .await;
}
