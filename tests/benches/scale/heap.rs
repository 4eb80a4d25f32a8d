//! What ten thousand endpoints take, part by part.

use std::sync::{Arc, Weak};

use envoy_types::pb::envoy::config::listener::v3::Listener;
use mesh_core::{
    Semantics,
    balance::{Balancers, Connectivity, LinkContext, LinkState, Observer, TlsId},
    config::{Cluster, Endpoints, Kind, Resource},
    control::xds::decode::Decode,
    runtime::Transport,
};
use mesh_hyper::conn::Net;
use mesh_tests::{instant::Instant, xds};

use crate::{
    apply, block_on,
    canned::{self, response},
    judge, live,
    resources::{self, SERVICE},
};

const ENDPOINTS: usize = 10_000;
/// Megabytes for all of them.
const BAR: f64 = 3.0;

pub(crate) fn run(_: bool) {
    block_on(measure());
}

async fn measure() {
    let wire_size = resources::endpoints(0, ENDPOINTS);
    let raw = xds::pack(&wire_size);
    print("raw bytes, for the dump", raw.value.len() as i64);

    let decoder = canned::decoder();
    let before = live();
    let decoded = decoder.decode(Kind::Endpoints, &raw).expect("it is good");
    let Resource::Endpoints(endpoints) = decoded.value.clone() else {
        panic!("they are endpoints");
    };
    // The decoder's copy of the raw bytes is the one above.
    print("configuration", live() - before - raw.value.len() as i64);

    let cluster = decoder.decode(Kind::Cluster, &xds::pack(&resources::cluster(0)));
    let Resource::Cluster(cluster) = cluster.expect("it is good").value else {
        panic!("it is a cluster");
    };
    let balancers = Balancers::new(Arc::new(Instant::everywhere()));
    let before = live();
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster, &endpoints);
    print("balancing", live() - before);
    drop(snapshot);
    let closed = closed_connections(&cluster, &endpoints);
    print("connections that nobody needs yet", closed);
    drop((decoded, endpoints));

    let total = whole().await;
    print("all but connections, in a target", total);
    let all = (total + closed) as f64 / 1e6;
    judge(
        "10,000 endpoints without connections",
        total as f64 / 1e6,
        BAR,
        " MB",
    );
    judge("10,000 endpoints", all, BAR, " MB");
}

fn print(what: &str, bytes: i64) {
    let each = bytes as f64 / ENDPOINTS as f64;
    println!(
        "{what:<36} {:>8.3} MB {each:>7.0} B each",
        bytes as f64 / 1e6
    );
}

/// What a target has more with endpoints than without.
async fn whole() -> i64 {
    let (client, mut wire) = canned::client();
    let target = apply::target(client.clone());
    let cluster = (resources::name(0), resources::cluster(0));
    let endpoints = |nonce: u64, count: usize| {
        let endpoints = (resources::name(0), resources::endpoints(0, count));
        response(nonce, &nonce.to_string(), [endpoints])
    };
    wire.asked::<Listener>(1).await;
    let listener = (SERVICE.to_owned(), resources::listener(1));
    wire.apply(response(1, "1", [listener])).await;
    wire.apply(response(2, "2", [cluster])).await;
    wire.apply(endpoints(3, 0)).await;
    target.ready().await.expect("it is complete");
    let some = endpoints(4, ENDPOINTS);
    // The message itself goes.
    let before = live() - some.len() as i64;
    wire.apply(some).await;
    let bytes = live() - before;
    drop((target, client));
    bytes
}

/// Connections that were not asked for, and the links that they report to.
fn closed_connections(cluster: &Arc<Cluster>, endpoints: &Arc<Endpoints>) -> i64 {
    let context = Arc::new(LinkContext {
        semantics: Semantics::Grpc,
        cluster: Arc::clone(cluster),
        tls: TlsId::PLAINTEXT,
        locality: Arc::clone(&endpoints.localities[0].id),
        observer: Weak::<Nobody>::new(),
    });
    let links: Vec<_> = endpoints.localities[0]
        .endpoints
        .iter()
        .map(|endpoint| Arc::new(LinkState::new(endpoint, Arc::clone(&context))))
        .collect();
    let net = Net::default();
    let before = live();
    // Their room counts: in an endpoint it is that much.
    let mut pools = Vec::with_capacity(links.len());
    pools.extend(links.iter().map(|link| net.open(link)));
    let bytes = live() - before;
    drop(pools);
    assert!(live() <= before + 1024, "what is closed is gone");
    bytes
}

/// Nobody is told.
struct Nobody;

impl Observer for Nobody {
    fn changed(&self, _: &LinkState, _: Connectivity, _: Connectivity) {}
}
