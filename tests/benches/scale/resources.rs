//! Resources of this size.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::{
    cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
    route::v3::route_action::ClusterSpecifier,
};
use mesh_tests::xds;

/// The target.
pub(crate) const SERVICE: &str = "large.shop:8080";

/// The name of a cluster and of its endpoints.
pub(crate) fn name(cluster: usize) -> String {
    format!("cluster-{cluster}.shop.svc.cluster.local")
}

/// A listener with a route for each cluster.
pub(crate) fn listener(clusters: usize) -> Listener {
    let routes = (0..clusters).map(|cluster| {
        let to = ClusterSpecifier::Cluster(name(cluster));
        xds::route(&format!("/shop.Cluster{cluster}/"), xds::forward(to))
    });
    xds::inline_listener(SERVICE, xds::routes("routes", SERVICE, routes.collect()))
}

/// A cluster.
pub(crate) fn cluster(cluster: usize) -> Cluster {
    xds::cluster(&name(cluster), "")
}

/// So many endpoints of a cluster, each with an address that no other has.
pub(crate) fn endpoints(cluster: usize, count: usize) -> ClusterLoadAssignment {
    let addresses: Vec<_> = (0..count)
        .map(|endpoint| address(cluster * count + endpoint))
        .collect();
    xds::endpoints(&name(cluster), &addresses)
}

fn address(number: usize) -> SocketAddr {
    let [_, b, c, d] = (number as u32).to_be_bytes();
    ([10, b, c, d], 8080).into()
}
