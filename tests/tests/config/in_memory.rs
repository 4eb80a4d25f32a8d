//! A control plane without a socket.

use mesh_core::testing::ControlPlane;
use mesh_tests::{backend::Backend, every_way, load::until_success, way::Way};

use crate::SERVICE;

async fn a_mesh_is_configured_without_a_network(way: Way) {
    let control_plane = ControlPlane::in_memory();
    let [first, second] = [
        Backend::start("first").await,
        Backend::start("second").await,
    ];
    let service = || way.of(control_plane.service(SERVICE));
    service().endpoint(first.address()).apply();
    let mesh = control_plane.mesh("client").await;
    let channel = way.caller(&mesh, SERVICE);
    assert_eq!(until_success(&channel).await, "first");
    let change = service().clear_endpoints();
    change.endpoint(second.address()).apply().acked().await;
    assert_eq!(until_success(&channel).await, "second");
}

every_way!(a_mesh_is_configured_without_a_network);
