//! What it costs when clients come back.

use super::*;
use crate::testing::ControlPlane;

/// A client with watches that process what they are told.
struct Watching {
    client: Arc<XdsClient>,
    _watches: Vec<Watch>,
}

impl Watching {
    fn new(control_plane: &ControlPlane, node: &str, resources: usize) -> Self {
        let (inbox, mut deliveries) = mpsc::unbounded_channel::<Delivery>();
        tokio::spawn(async move { while deliveries.recv().await.is_some() {} });
        let client = XdsClient::new(
            Arc::new(control_plane.bootstrap(node)),
            Arc::new(FakeDecode),
            control_plane.side_call(),
            XdsOptions::default(),
        );
        let watch = |index: usize| {
            let id = ResourceId::new(Kind::Cluster, index.to_string());
            client.watch(id, inbox.clone())
        };
        let watches = (0..resources).map(watch).collect();
        Self {
            client,
            _watches: watches,
        }
    }

    async fn assert_has_all(&self) {
        for resource in self.client.dump().await.resources {
            assert_eq!(resource.status, ResourceStatus::Acked, "{}", resource.id);
        }
    }
}

fn control_plane(delta: bool, resources: usize) -> ControlPlane {
    let control_plane = ControlPlane::in_memory();
    control_plane.set_delta(delta);
    for index in 0..resources {
        let name = index.to_string();
        let resource = any(Kind::Cluster, &name, &"x".repeat(400));
        control_plane.set_any(Kind::Cluster, name, resource);
    }
    control_plane
}

/// What 500 clients that lose their control plane for a minute do to it when it is back: how many
/// of them come in the same second, and the bytes sent to them as a share of those of the start.
async fn storm(delta: bool) -> (u64, f64) {
    const CLIENTS: usize = 500;
    const RESOURCES: usize = 20;
    let control_plane = control_plane(delta, RESOURCES);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| Watching::new(&control_plane, &format!("node-{index}"), RESOURCES))
        .collect();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let first = control_plane.bytes_sent();
    assert_eq!(control_plane.streams(), CLIENTS);

    control_plane.stop().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut opened = control_plane.streams_opened();
    control_plane.restart().await;
    let mut peak = 0;
    while control_plane.streams() < CLIENTS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = control_plane.streams_opened();
        peak = peak.max(now - opened);
        opened = now;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    for client in &clients {
        client.assert_has_all().await;
    }
    let resent = control_plane.bytes_sent() - first;
    (peak, resent as f64 / first as f64)
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_clients_is_spread_and_delta_resends_next_to_nothing() {
    for (delta, share) in [(false, 0.95..1.05), (true, 0.0..0.05)] {
        let (peak, resent) = storm(delta).await;
        let percent = 100.0 * resent;
        println!("delta: {delta}, peak: {peak} streams/s, resent: {percent:.2} %");
        assert!(share.contains(&resent), "delta: {delta}, {percent:.2} %");
        assert!(peak <= 60, "delta: {delta}, {peak} in one second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_brings_what_has_changed_since() {
    const RESOURCES: usize = 1000;
    let control_plane = control_plane(true, RESOURCES);
    let client = Watching::new(&control_plane, "node", RESOURCES);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = control_plane.bytes_sent();
    control_plane.drop_streams();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let changed = any(Kind::Cluster, "7", "news");
    let push = control_plane.set_any(Kind::Cluster, "7", changed);
    push.acked().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let resent = control_plane.bytes_sent() - first;
    assert!((1..1000).contains(&resent), "{resent} of {first}");
    client.assert_has_all().await;
    let dump = client.client.dump().await;
    let mut resources = dump.resources.iter();
    let known = resources.find(|resource| &*resource.id.name == "7");
    let value = known.and_then(|resource| resource.accepted.as_ref());
    assert_eq!(value.expect("a value").raw.value, b"7=news");
    let requests = control_plane.requests();
    let mut latest = requests.iter().rev();
    let back = latest.find(|request| !request.names.is_empty());
    assert_eq!(back.expect("a request").known_versions.len(), RESOURCES);
}
