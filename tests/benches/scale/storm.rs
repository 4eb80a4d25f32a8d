//! Clients that lose their control plane for a minute, and come back at once.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    config::{Kind, ResourceId},
    control::{
        Delivery, Source, Watch,
        xds::{ResourceStatus, XdsClient, XdsOptions},
    },
    testing::ControlPlane,
};
use tokio::{sync::mpsc, time::sleep};

use crate::{canned::decoder, judge, resources};

const CLIENTS: usize = 500;
const RESOURCES: usize = 20;
/// Streams in one second.
const PEAK: f64 = 60.0;
/// Bytes sent anew, as a share of those of the first time, under delta.
const RESENT: f64 = 0.05;

pub(crate) fn run(_: bool) {
    for delta in [false, true] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        let runtime = runtime.expect("a runtime can be made");
        let (peak, resent) = runtime.block_on(storm(delta));
        let codec = if delta { "delta" } else { "state of the world" };
        judge(
            &format!("{codec}: streams a second at most"),
            peak,
            PEAK,
            "",
        );
        match delta {
            true => judge("delta: bytes resent", resent, RESENT, "x"),
            false => println!("{codec}: bytes resent: {resent:.3}x"),
        }
    }
}

/// How many came in the same second, and what they were sent as a share of the first time.
async fn storm(delta: bool) -> (f64, f64) {
    let control_plane = ControlPlane::in_memory();
    control_plane.set_delta(delta);
    for cluster in 0..RESOURCES {
        control_plane.set(&resources::cluster(cluster));
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| client(&control_plane, &format!("node-{number}")))
        .collect();
    sleep(Duration::from_secs(10)).await;
    let first = control_plane.bytes_sent();
    assert_eq!(control_plane.streams(), CLIENTS);

    control_plane.stop().await;
    sleep(Duration::from_secs(60)).await;
    let mut opened = control_plane.streams_opened();
    control_plane.restart().await;
    let mut peak = 0;
    while control_plane.streams() < CLIENTS {
        sleep(Duration::from_secs(1)).await;
        let now = control_plane.streams_opened();
        peak = peak.max(now - opened);
        opened = now;
    }
    sleep(Duration::from_secs(10)).await;
    for (client, _) in &clients {
        for resource in client.dump().await.resources {
            assert_eq!(resource.status, ResourceStatus::Acked, "{}", resource.id);
        }
    }
    let resent = control_plane.bytes_sent() - first;
    (peak as f64, resent as f64 / first as f64)
}

/// A client that watches all, and processes what it is told.
fn client(control_plane: &ControlPlane, node: &str) -> (Arc<XdsClient>, Vec<Watch>) {
    let (inbox, mut deliveries) = mpsc::unbounded_channel::<Delivery>();
    tokio::spawn(async move { while deliveries.recv().await.is_some() {} });
    let client = XdsClient::new(
        Arc::new(control_plane.bootstrap(node)),
        Arc::new(decoder()),
        control_plane.side_call(),
        XdsOptions::default(),
    );
    let watch = |cluster| {
        let id = ResourceId::new(Kind::Cluster, resources::name(cluster));
        client.watch(id, inbox.clone())
    };
    let watches = (0..RESOURCES).map(watch).collect();
    (client, watches)
}
