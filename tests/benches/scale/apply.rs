//! What a change costs among many.

use std::sync::Arc;

use bytes::Bytes;
use cpu_time::ProcessTime;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use mesh_core::{
    Semantics,
    balance::Balancers,
    control::Source,
    resolve::{Names, Target, TargetSpec},
};
use mesh_tests::{instant::Instant, xds::uint32};

use crate::{
    block_on,
    canned::{self, Nobody, Wire, response},
    judge, live,
    resources::{self, SERVICE},
};

const CLUSTERS: usize = 10_000;
const ENDPOINTS: usize = 10;
const BAR: f64 = 0.05;

pub(crate) fn run(quick: bool) {
    let changes = if quick { 50 } else { 500 };
    block_on(measure(changes));
}

/// A target that is followed without a network.
pub(crate) fn target(client: Arc<dyn Source>) -> Target<Instant> {
    let spec = TargetSpec {
        listener: SERVICE.into(),
        authority: SERVICE.into(),
        semantics: Semantics::Grpc,
    };
    let balancers = Balancers::new(Arc::new(Instant::everywhere()));
    Target::open(spec, client, Names::new(Arc::new(Nobody)), balancers, None)
}

async fn measure(changes: usize) {
    let all = 0..CLUSTERS;
    let named = |cluster| resources::name(cluster);
    let listener = (SERVICE.to_owned(), resources::listener(CLUSTERS));
    let first = [
        response(1, "1", [listener]),
        response(
            2,
            "1",
            all.clone().map(|c| (named(c), resources::cluster(c))),
        ),
        response(
            3,
            "1",
            all.map(|c| (named(c), resources::endpoints(c, ENDPOINTS))),
        ),
    ];
    let one = |change: usize| {
        let cluster = change * 7919 % CLUSTERS;
        let mut endpoints = resources::endpoints(cluster, ENDPOINTS);
        let weight = uint32(2 + change as u32);
        let endpoint = &mut endpoints.endpoints[0].lb_endpoints[change % ENDPOINTS];
        endpoint.load_balancing_weight = Some(weight);
        let version = (2 + change).to_string();
        response(4 + change as u64, &version, [(named(cluster), endpoints)])
    };
    let sizes: usize = first.iter().map(Bytes::len).sum();

    let (client, mut wire) = canned::client();
    let before = live();
    let target = target(client.clone());
    let start = ProcessTime::now();
    apply_all(&mut wire, first).await;
    target.ready().await.expect("it is complete");
    let full = start.elapsed();
    println!(
        "{CLUSTERS} clusters, {} endpoints, {CLUSTERS} routes: {:.1} MB of responses, {full:.1?} of CPU, {:.1} MB live",
        CLUSTERS * ENDPOINTS,
        sizes as f64 / 1e6,
        (live() - before) as f64 / 1e6,
    );

    // The first change makes what later ones find.
    wire.apply(one(0)).await;
    let mut responses: Vec<_> = (1..=changes).map(one).collect();
    let start = ProcessTime::now();
    for response in responses.drain(..) {
        wire.apply(response).await;
    }
    let change = start.elapsed() / changes as u32;
    println!("one endpoint: {change:.1?} of CPU, over {changes} changes");
    let share = change.as_secs_f64() / full.as_secs_f64();
    judge("one endpoint / all", share, BAR, "x");
    drop((target, client));
}

async fn apply_all(wire: &mut Wire, [listener, clusters, endpoints]: [Bytes; 3]) {
    wire.asked::<Listener>(1).await;
    wire.apply(listener).await;
    // What follows from a response is asked for before its ACK, or with it.
    wire.apply(clusters).await;
    wire.apply(endpoints).await;
}
