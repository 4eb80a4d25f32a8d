//! What a cluster that stands in for an aggregate one says of its connections and its calls is in
//! force for it alone (gRFC A37): circuit breakers here, TLS in `tests/security/leaves.rs`.

use mesh_core::testing::ControlPlane;
use mesh_tests::{
    every_way,
    load::{call, until_from},
    way::{Call, Caller, Way},
};
use tonic::Status;

use crate::{NODE, SERVICE, assert_unavailable, backends};

/// Makes a call beside the test.
fn spawn(channel: &Caller) -> tokio::task::JoinHandle<Result<String, Status>> {
    let channel = channel.clone();
    tokio::spawn(async move { channel.call().await })
}

async fn each_leaf_has_the_circuit_breaker_of_its_own(way: Way) {
    let control_plane = ControlPlane::start().await;
    let [mut a, b] = backends(["a", "b"]).await;
    let leaf = |name: &str| way.of(control_plane.service(name));
    leaf("first").endpoint(a.address()).max_requests(1).apply();
    leaf("second").endpoint(b.address()).max_requests(2).apply();
    leaf(SERVICE).aggregate(["first", "second"]).apply();
    let mesh = control_plane.mesh(NODE).await;
    let channel = way.caller(&mesh, SERVICE);
    assert_eq!(call(&channel).await.expect("it is served"), "a");

    // The first has no room for two, and the second is not there to help out with that.
    a.hold();
    let held = spawn(&channel);
    a.until("it has the call", |counts| counts.active == 1)
        .await;
    let full = ["circuit breaker", "max_requests"];
    assert_unavailable(call(&channel).await, &full);
    assert_eq!(b.counts().calls, 0);
    a.release();
    assert_eq!(held.await.expect("no panic").expect("it is served"), "a");

    // The second has room for two, whatever the first had.
    a.stop().await;
    until_from(&channel, &["b"]).await;
    b.hold();
    let held = [spawn(&channel), spawn(&channel)];
    b.until("it has both calls", |counts| counts.active == 2)
        .await;
    assert_unavailable(call(&channel).await, &full);
    b.release();
    for held in held {
        assert_eq!(held.await.expect("no panic").expect("it is served"), "b");
    }

    // And a limit that changes is that of its leaf.
    leaf("second").max_requests(3).apply().acked().await;
    b.hold();
    let held = [spawn(&channel), spawn(&channel), spawn(&channel)];
    b.until("it has all three", |counts| counts.active == 3)
        .await;
    assert_unavailable(call(&channel).await, &full);
    b.release();
    for held in held {
        assert_eq!(held.await.expect("no panic").expect("it is served"), "b");
    }
}

every_way!(each_leaf_has_the_circuit_breaker_of_its_own);
