//! A control plane without a socket.

use mesh_core::testing::ControlPlane;
use mesh_tests::{backend::Backend, load::until_success};

use crate::SERVICE;

#[tokio::test]
async fn a_mesh_is_configured_without_a_network() {
    let control_plane = ControlPlane::in_memory();
    let [first, second] = [
        Backend::start("first").await,
        Backend::start("second").await,
    ];
    let service = || control_plane.service(SERVICE);
    service().endpoint(first.address()).apply();
    let mesh = control_plane.mesh("client").await;
    let channel = mesh_tonic::channel(&mesh, SERVICE).expect("it is valid");
    assert_eq!(until_success(&channel).await, "first");
    let change = service().clear_endpoints();
    change.endpoint(second.address()).apply().acked().await;
    assert_eq!(until_success(&channel).await, "second");
}
