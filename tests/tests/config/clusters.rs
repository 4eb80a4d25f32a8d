//! Clusters of all types: aggregates (gRFC A37, A75), endpoints that are in the cluster, DNS, and
//! endpoints of several addresses (gRFC A61).

use std::{net::IpAddr, sync::Arc, time::Duration};

use mesh_core::{
    Mesh, Options,
    config::Kind,
    testing::{ControlPlane, Corruption, Endpoint, Hosts, Service, cluster_name},
};
use mesh_tests::{
    backend::Backend,
    every_way,
    load::{call, until_failure_with, until_from, until_success},
    way::{Caller, Way},
    xds,
};

use crate::{NODE, SERVICE, assert_unavailable, backends};

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const OFTEN: Duration = Duration::from_millis(5);

/// A control plane, names, and a client.
struct Named {
    control_plane: ControlPlane,
    hosts: Hosts,
    _mesh: Mesh,
    way: Way,
    channel: Caller,
}

impl Named {
    async fn over(way: Way) -> Self {
        Self::with(way, |_| {}).await
    }

    /// A client with other options.
    async fn with(way: Way, options: impl FnOnce(&mut Options)) -> Self {
        let control_plane = ControlPlane::start().await;
        let hosts = Hosts::new();
        let mesh = Mesh::builder()
            .bootstrap(control_plane.bootstrap(NODE))
            .resolver(Arc::new(hosts.clone()))
            .options(options)
            .build()
            .await
            .expect("a mesh");
        let channel = way.caller(&mesh, SERVICE);
        Self {
            way,
            control_plane,
            hosts,
            _mesh: mesh,
            channel,
        }
    }

    fn service(&self) -> Service {
        self.way.of(self.control_plane.service(SERVICE))
    }

    /// The cluster of this name.
    fn leaf(&self, name: &str) -> Service {
        self.way.of(self.control_plane.service(name))
    }
}

/// Makes calls, which `server` answers, until a name was looked up that often.
async fn until_lookups(world: &Named, name: &str, lookups: u64, server: &str) {
    while world.hosts.lookups(name) < lookups {
        assert_eq!(call(&world.channel).await.expect("it is served"), server);
    }
}

/// Calls may fail until then: nothing was there to serve them.
async fn until_served_by(world: &Named, server: &str) {
    while until_success(&world.channel).await != server {}
}

async fn endpoints_in_the_cluster(way: Way) {
    let world = Named::over(way).await;
    let [a, b] = backends(["a", "b"]).await;
    world.service().fixed().endpoint(a.address()).apply();
    assert_eq!(call(&world.channel).await.expect("it is served"), "a");
    world.service().endpoint(b.address()).apply();
    until_from(&world.channel, &["a", "b"]).await;
    world.service().clear_endpoints().apply().acked().await;
    assert_unavailable(
        call(&world.channel).await,
        &["no endpoints in the load_assignment"],
    );
}

async fn endpoint_with_multiple_addresses(way: Way) {
    let world = Named::over(way).await;
    let [a, b] = backends(["a", "b"]).await;
    let dead = Backend::refusing("dead");
    let several = Endpoint::new(dead.address())
        .also_at(a.address())
        .also_at(b.address());
    world.service().endpoint(several).apply();
    for _ in 0..5 {
        assert_eq!(call(&world.channel).await.expect("it is served"), "a");
    }
    assert_eq!(b.counts().accepted, 0, "it is one endpoint");
    // Another list is another endpoint.
    let other = Endpoint::new(dead.address()).also_at(b.address());
    world.service().endpoint(other).apply().acked().await;
    until_from(&world.channel, &["b"]).await;
    let none = Endpoint::new(dead.address());
    world.service().endpoint(none).apply().acked().await;
    until_failure_with(&world.channel, &["refused"]).await;
}

async fn strict_dns(way: Way) {
    let world = Named::over(way).await;
    let [a] = backends(["a"]).await;
    world
        .service()
        .strict_dns("a.test", a.address().port())
        .dns_refresh(OFTEN)
        .apply();
    let found = call(&world.channel).await;
    assert_unavailable(
        found,
        &[
            "no endpoints in DNS",
            "cannot look up \"a.test\": no such host",
        ],
    );
    world.hosts.set("a.test", [LOCAL]);
    assert_eq!(until_success(&world.channel).await, "a");
    // What was found once stays.
    let lookups = world.hosts.lookups("a.test");
    world.hosts.fail("a.test", "SERVFAIL");
    until_lookups(&world, "a.test", lookups + 3, "a").await;
}

async fn logical_dns_keeps_its_connection(way: Way) {
    let world = Named::over(way).await;
    let [a] = backends(["a"]).await;
    world.hosts.set("a.test", [LOCAL]);
    world
        .service()
        .logical_dns("a.test", a.address().port())
        .dns_refresh(OFTEN)
        .apply();
    assert_eq!(call(&world.channel).await.expect("it is served"), "a");
    let lookups = world.hosts.lookups("a.test");
    world
        .hosts
        .set("a.test", [IpAddr::from([127, 0, 0, 9]), LOCAL]);
    until_lookups(&world, "a.test", lookups + 3, "a").await;
    assert_eq!(a.counts().accepted, 1);
    // The next connection goes to whichever of the addresses answers.
    a.go_away();
    a.until("the connection is gone", |counts| {
        counts.open == 0 || counts.accepted == 2
    })
    .await;
    assert_eq!(until_success(&world.channel).await, "a");
    assert_eq!(a.counts().accepted, 2);
}

async fn aggregate_cluster_with_two_eds_clusters(way: Way) {
    let world = Named::over(way).await;
    let [mut a, b] = backends(["a", "b"]).await;
    world.leaf("first").endpoint(a.address()).apply();
    world.leaf("second").endpoint(b.address()).apply();
    world.service().aggregate(["first", "second"]).apply();
    for _ in 0..5 {
        assert_eq!(call(&world.channel).await.expect("it is served"), "a");
    }
    assert_eq!(b.counts().accepted, 0, "it is not needed");
    a.stop().await;
    until_from(&world.channel, &["b"]).await;
    a.open();
    until_from(&world.channel, &["a"]).await;
    // The order changes, and nothing is connected anew.
    let accepted = b.counts().accepted;
    world
        .service()
        .aggregate(["second", "first"])
        .apply()
        .acked()
        .await;
    until_from(&world.channel, &["b"]).await;
    assert_eq!(call(&world.channel).await.expect("it is served"), "b");
    assert_eq!(b.counts().accepted, accepted);
}

async fn aggregate_cluster_with_eds_and_dns(way: Way) {
    let world = Named::over(way).await;
    let [mut a, b] = backends(["a", "b"]).await;
    world.leaf("eds").endpoint(a.address()).apply();
    world
        .leaf("dns")
        .logical_dns("b.test", b.address().port())
        .dns_refresh(OFTEN)
        .apply();
    world.service().aggregate(["eds", "dns"]).apply();
    // A name that cannot be looked up is no reason to wait.
    assert_eq!(call(&world.channel).await.expect("it is served"), "a");
    let lookups = world.hosts.lookups("b.test");
    world.hosts.set("b.test", [LOCAL]);
    // After that many one has succeeded, and what it found is in force.
    until_lookups(&world, "b.test", lookups + 4, "a").await;
    a.stop().await;
    until_from(&world.channel, &["b"]).await;
    a.open();
    until_from(&world.channel, &["a"]).await;
    // In the other order: DNS takes over, fails for good, and gives way to EDS. No call fails.
    world
        .service()
        .aggregate(["dns", "eds"])
        .apply()
        .acked()
        .await;
    until_from(&world.channel, &["b"]).await;
    world.leaf("dns").logical_dns("lost.test", 1).apply();
    until_from(&world.channel, &["a"]).await;
}

async fn aggregate_cluster_bad_eds_good_to_bad_dns(way: Way) {
    let world = Named::over(way).await;
    let [b] = backends(["b"]).await;
    world.leaf("eds").version("").apply();
    world.hosts.set("b.test", [LOCAL]);
    world
        .leaf("dns")
        .logical_dns("b.test", b.address().port())
        .dns_refresh(OFTEN)
        .apply();
    world.service().aggregate(["eds", "dns"]).apply();
    assert_eq!(call(&world.channel).await.expect("it is served"), "b");
    let lookups = world.hosts.lookups("b.test");
    world.hosts.fail("b.test", "SERVFAIL");
    until_lookups(&world, "b.test", lookups + 3, "b").await;
    assert_eq!(b.counts().accepted, 1);
}

async fn aggregate_cluster_fallback_eds_resource_not_found(way: Way) {
    let soon = Duration::from_millis(100);
    let world = Named::with(way, |options| options.resource_timeout = soon).await;
    let [a, b] = backends(["a", "b"]).await;
    let nowhere = way.cluster(xds::cluster("eds", "nowhere"));
    world.control_plane.set(&nowhere);
    world.leaf("second").endpoint(b.address()).apply();
    world.service().aggregate(["eds", "second"]).apply();
    // On a machine that is busy other resources may be late as well.
    assert_eq!(until_success(&world.channel).await, "b");
    world
        .control_plane
        .set(&xds::endpoints("nowhere", &[a.address()]));
    until_from(&world.channel, &["a"]).await;
}

async fn aggregate_cluster_no_fallback_eds_nacked_with_previous_good_update(way: Way) {
    let world = Named::over(way).await;
    let [a, b] = backends(["a", "b"]).await;
    world.leaf("first").endpoint(a.address()).apply();
    world.leaf("second").endpoint(b.address()).apply();
    world.service().aggregate(["first", "second"]).apply();
    assert_eq!(call(&world.channel).await.expect("it is served"), "a");
    world
        .control_plane
        .corrupt(Kind::Endpoints, "first", Corruption::Truncated)
        .nacked()
        .await;
    for _ in 0..20 {
        assert_eq!(call(&world.channel).await.expect("it is served"), "a");
    }
    assert_eq!(b.counts().accepted, 0, "it is not needed");
}

/// Not of the lists: nothing is missing here, the first leaf is there and empty.
async fn a_leaf_without_endpoints_is_passed_over(way: Way) {
    let world = Named::over(way).await;
    let [b] = backends(["b"]).await;
    world.leaf("empty").version("").apply();
    world.leaf("second").endpoint(b.address()).apply();
    world.service().aggregate(["empty", "second"]).apply();
    assert_eq!(call(&world.channel).await.expect("it is served"), "b");
}

async fn aggregate_cluster_child_error_and_no_leaf_cluster(way: Way) {
    let world = Named::over(way).await;
    let [a] = backends(["a"]).await;
    world.leaf("first").endpoint(a.address()).apply();
    world.leaf("inner").aggregate(["gone", "first"]).apply();
    world.leaf("gone").version("").apply();
    world.service().aggregate(["inner"]).apply();
    assert_eq!(call(&world.channel).await.expect("it is served"), "a");
    // A circle leads nowhere.
    world
        .leaf("inner")
        .aggregate([cluster_name(SERVICE, "")])
        .apply()
        .acked()
        .await;
    until_failure_with(&world.channel, &["has no leaf cluster"]).await;
    world
        .leaf("inner")
        .aggregate(["first"])
        .apply()
        .acked()
        .await;
    until_served_by(&world, "a").await;
}

every_way!(
    endpoints_in_the_cluster,
    endpoint_with_multiple_addresses,
    strict_dns,
    logical_dns_keeps_its_connection,
    aggregate_cluster_with_two_eds_clusters,
    aggregate_cluster_with_eds_and_dns,
    aggregate_cluster_bad_eds_good_to_bad_dns,
    aggregate_cluster_fallback_eds_resource_not_found,
    aggregate_cluster_no_fallback_eds_nacked_with_previous_good_update,
    a_leaf_without_endpoints_is_passed_over,
    aggregate_cluster_child_error_and_no_leaf_cluster,
);
