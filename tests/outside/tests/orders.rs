//! How to test a service whose dependencies are behind the mesh.
//!
//! Each test has a control plane of its own in the same process. It says where `inventory.shop:8080`
//! is and how to call it, exactly as the platform's control plane would, and changes its mind while
//! the service runs. Nothing is mocked between the service and the wire.

mod support;

use std::time::Duration;

use mesh_core::{
    Code,
    config::Kind,
    telemetry::Cause,
    testing::{ControlPlane, Fault, Retry},
};
use orders::{
    INVENTORY, OrdersService,
    pb::{PlaceRequest, ReserveRequest, inventory_client::InventoryClient, orders_server::Orders},
};
use support::FakeInventory;
use tokio::net::TcpSocket;
use tonic::{Request, Status};

/// The service under test, with its configuration from `control_plane`.
async fn orders(control_plane: &ControlPlane) -> OrdersService {
    let mesh = control_plane.mesh("orders").await;
    OrdersService::new(&mesh).unwrap()
}

/// Orders a book; tells which warehouse it is sent from.
async fn place(orders: &OrdersService) -> Result<String, Status> {
    let order = PlaceRequest {
        item: "book".to_owned(),
        quantity: 1,
    };
    let placed = orders.place(Request::new(order)).await?;
    Ok(placed.into_inner().warehouse)
}

#[tokio::test]
async fn an_order_reserves_stock() {
    let inventory = FakeInventory::start("north").await;
    let control_plane = ControlPlane::start().await;
    control_plane
        .service(INVENTORY)
        .endpoint(inventory.address)
        .apply();

    let orders = orders(&control_plane).await;

    assert_eq!(place(&orders).await.unwrap(), "north");
    assert_eq!(inventory.calls().len(), 1);
}

#[tokio::test]
async fn a_canary_gets_its_share_of_the_orders() {
    let (stable, canary) = (
        FakeInventory::start("stable").await,
        FakeInventory::start("canary").await,
    );
    let control_plane = ControlPlane::start().await;
    control_plane
        .service(INVENTORY)
        .version("v1")
        .weight(90)
        .endpoint(stable.address)
        .version("v2")
        .weight(10)
        .endpoint(canary.address)
        .apply();
    let orders = orders(&control_plane).await;

    for _ in 0..1_000 {
        place(&orders).await.unwrap();
    }
    // Six standard deviations of a binomial distribution: one run in 10^8 is outside.
    let share = canary.calls().len();
    assert!((43..=157).contains(&share), "{share} of 1000");

    // It does well. The push is in force once the client has acknowledged it.
    let all = [("v1", 0), ("v2", 100)];
    control_plane
        .service(INVENTORY)
        .split(&all)
        .apply()
        .acked()
        .await;
    for _ in 0..20 {
        assert_eq!(place(&orders).await.unwrap(), "canary");
    }
}

#[tokio::test]
async fn an_order_fails_fast_while_the_inventory_is_down() {
    // A port that is taken and refuses connections.
    let down = TcpSocket::new_v4().unwrap();
    down.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = down.local_addr().unwrap();
    let control_plane = ControlPlane::start().await;
    control_plane.service(INVENTORY).endpoint(address).apply();
    let orders = orders(&control_plane).await;

    let status = place(&orders).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    // The text names what was tried.
    assert!(status.message().contains(&address.to_string()), "{status}");

    // The platform moves the inventory, and orders go through again.
    let inventory = FakeInventory::start("south").await;
    control_plane
        .service(INVENTORY)
        .clear_endpoints()
        .endpoint(inventory.address)
        .apply()
        .acked()
        .await;
    assert_eq!(place(&orders).await.unwrap(), "south");

    // Without any endpoint at all it fails at once, too.
    control_plane
        .service(INVENTORY)
        .take_out(inventory.address)
        .apply()
        .acked()
        .await;
    assert_eq!(
        place(&orders).await.unwrap_err().code(),
        tonic::Code::Unavailable
    );
}

#[tokio::test]
async fn why_a_call_failed_can_be_asked() {
    let control_plane = ControlPlane::start().await;
    control_plane.service(INVENTORY).clear_endpoints().apply();
    let mesh = control_plane.mesh("orders").await;
    let mut inventory = InventoryClient::new(mesh_tonic::channel(&mesh, INVENTORY).unwrap());

    let status = inventory
        .reserve(ReserveRequest::default())
        .await
        .unwrap_err();

    let error = mesh_tonic::Error::of(&status)
        .expect("the mesh made this status")
        .cause();
    assert_eq!(error.cause(), Cause::NoEndpoint);
    assert_eq!(error.cluster(), Some(INVENTORY));
    assert!(error.endpoints_tried().is_empty());
}

#[tokio::test]
async fn a_retry_saves_an_order() {
    let inventory = FakeInventory::start("north").await;
    let control_plane = ControlPlane::start().await;
    let backoff = Duration::from_millis(1);
    control_plane
        .service(INVENTORY)
        .retry(
            Retry::on([Code::Unavailable])
                .times(2)
                .backoff(backoff, backoff),
        )
        .endpoint(inventory.address)
        .apply();
    let mesh = control_plane.mesh("orders").await;
    let orders = OrdersService::new(&mesh).unwrap();
    inventory.fail_next(Status::unavailable("restarting"));

    assert_eq!(place(&orders).await.unwrap(), "north");

    let attempts: Vec<_> = inventory
        .calls()
        .iter()
        .map(|call| {
            call.get("grpc-previous-rpc-attempts")
                .map(|n| n.to_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(attempts, [None, Some("1".to_owned())]);
    assert_eq!(mesh.metrics().totals().retries(), 1);

    // What the policy does not name is the service's to handle.
    inventory.fail_next(Status::failed_precondition("sold out"));
    let status = place(&orders).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::FailedPrecondition, "sold out")
    );
    assert_eq!(inventory.calls().len(), 3);
}

#[tokio::test]
async fn a_fault_is_injected_by_the_control_plane() {
    let inventory = FakeInventory::start("north").await;
    let control_plane = ControlPlane::start().await;
    control_plane
        .service(INVENTORY)
        .endpoint(inventory.address)
        .fault(Fault::new().abort(Code::ResourceExhausted, 100.0))
        .apply();
    let orders = orders(&control_plane).await;

    // The service turns what the mesh says into what its customers can use.
    let status = place(&orders).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(
        status.message().starts_with("cannot reach the inventory: "),
        "{status}"
    );
    assert!(inventory.calls().is_empty());

    control_plane
        .service(INVENTORY)
        .fault(None)
        .apply()
        .acked()
        .await;
    assert_eq!(place(&orders).await.unwrap(), "north");
}

#[tokio::test]
async fn an_order_waits_for_configuration_that_comes_late() {
    let inventory = FakeInventory::start("north").await;
    let control_plane = ControlPlane::start().await;
    control_plane
        .service(INVENTORY)
        .endpoint(inventory.address)
        .apply();
    control_plane.hold();
    let orders = orders(&control_plane).await;

    // It has nothing to go by yet.
    let placing = tokio::spawn(async move { place(&orders).await });
    control_plane
        .until("the client asks", |seen| {
            seen.subscriptions(Kind::Listener).contains(INVENTORY)
        })
        .await;
    assert!(!placing.is_finished());

    control_plane.release();
    assert_eq!(placing.await.unwrap().unwrap(), "north");
}

#[tokio::test]
async fn orders_go_on_without_a_control_plane() {
    let inventory = FakeInventory::start("north").await;
    let control_plane = ControlPlane::start().await;
    control_plane
        .service(INVENTORY)
        .endpoint(inventory.address)
        .apply();
    let orders = orders(&control_plane).await;
    assert_eq!(place(&orders).await.unwrap(), "north");

    control_plane.stop().await;
    assert_eq!(place(&orders).await.unwrap(), "north");

    // Back, with news.
    control_plane.restart().await;
    let other = FakeInventory::start("south").await;
    control_plane
        .service(INVENTORY)
        .clear_endpoints()
        .endpoint(other.address)
        .apply()
        .acked()
        .await;
    assert_eq!(place(&orders).await.unwrap(), "south");
}
