//! How soon calls go by new routes.

use bytes::Bytes;
use cpu_time::ProcessTime;
use envoy_types::pb::{
    envoy::{
        config::{
            listener::v3::Listener,
            route::v3::{RouteConfiguration, route_action::ClusterSpecifier},
        },
        service::discovery::v3::DiscoveryResponse,
    },
    google::protobuf::Any,
};
use hdrhistogram::Histogram;
use mesh_core::{
    config::Kind,
    control::xds::decode::{Decode, Earlier},
    testing::{ControlPlane, RawStream},
};
use mesh_tests::{
    backend::Backend,
    load::{call, until_from},
    xds::{self, pack},
};
use prost::{Message, Name};
use tokio::time::Instant;

use crate::{apply, canned, judge, resources::SERVICE};

const ROUTES: usize = 1_000;
const ROUTES_NAME: &str = "routes";
/// Milliseconds.
const BAR: f64 = 2.0;

pub(crate) fn run(quick: bool) {
    let changes = if quick { 200 } else { 2_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime
        .expect("a runtime can be made")
        .block_on(measure(changes));
}

async fn measure(changes: usize) {
    let control_plane = ControlPlane::start().await;
    control_plane.set_delta(false);
    let backends = [Backend::start("a").await, Backend::start("b").await];
    let mut raw = control_plane.raw();
    let mesh = control_plane.mesh("scale").await;
    let channel = mesh_tonic::channel(&mesh, SERVICE).expect("it is valid");
    let mut stream = raw.accept().await;
    let addresses = backends.each_ref().map(Backend::address);
    serve(&mut stream, |kind| match kind {
        Kind::Listener => vec![pack(&xds::rds_listener(SERVICE, ROUTES_NAME))],
        Kind::Route => vec![pack(&routes("a"))],
        Kind::Cluster => vec![pack(&xds::cluster("a", "")), pack(&xds::cluster("b", ""))],
        _ => vec![
            pack(&xds::endpoints("a", &addresses[..1])),
            pack(&xds::endpoints("b", &addresses[1..])),
        ],
    })
    .await;
    until_from(&channel, &["a"]).await;
    for backend in &backends {
        backend
            .until("it is connected", |counts| counts.open == 1)
            .await;
    }

    let mut histogram = Histogram::<u64>::new(3).expect("three digits are few");
    let mut size = 0;
    for number in 0..changes {
        let to = ["b", "a"][number % 2];
        let response = response(number, to);
        size = response.len();
        let sent = Instant::now();
        stream.send_bytes(response).await;
        let began = loop {
            let start = Instant::now();
            if call(&channel).await.expect("calls go on") == to {
                break start;
            }
        };
        histogram += (began - sent).as_nanos() as u64;
        while stream.try_recv().is_some() {}
    }
    parts().await;
    let at = |share| histogram.value_at_quantile(share) as f64 / 1e6;
    println!(
        "{ROUTES} routes in {size} bytes, {changes} changes: p50 {:.3} ms",
        at(0.5)
    );
    judge("p99", at(0.99), BAR, " ms");
}

/// What of it is decoding, and what is all that a client does but for the recording of calls and the
/// connections, in CPU time.
async fn parts() {
    const TIMES: usize = 100;
    let raws: Vec<_> = (0..TIMES)
        .map(|number| pack(&routes(["b", "a"][number % 2])))
        .collect();
    let decoder = canned::decoder();
    let start = ProcessTime::now();
    for raw in &raws {
        decoder.decode(Kind::Route, raw).expect("they are good");
    }
    let alone = start.elapsed() / TIMES as u32;
    let mut last = decoder
        .decode(Kind::Route, &raws[1])
        .expect("they are good");
    let start = ProcessTime::now();
    for raw in &raws {
        let earlier = |_: &str| {
            Some(Earlier {
                raw: &last.raw,
                value: &last.value,
                tally: last.tally.as_deref(),
            })
        };
        let next = decoder.decode_next(Kind::Route, raw, &earlier);
        last = next.expect("they are good");
    }
    let decoding = start.elapsed() / TIMES as u32;

    let (client, mut wire) = canned::client();
    let target = apply::target(client.clone());
    let named = |number: usize| {
        let routes = routes(["a", "b"][number % 2]);
        let version = number.to_string();
        canned::response(number as u64, &version, [(ROUTES_NAME.to_owned(), routes)])
    };
    wire.asked::<Listener>(1).await;
    let listener = xds::rds_listener(SERVICE, ROUTES_NAME);
    wire.apply(canned::response(1, "1", [(SERVICE.to_owned(), listener)]))
        .await;
    wire.apply(named(2)).await;
    let clusters = ["a", "b"].map(|name| (name.to_owned(), xds::cluster(name, "")));
    wire.apply(canned::response(3, "3", clusters)).await;
    let endpoints = ["a", "b"].map(|name| {
        let at = [([10, 0, 0, name.as_bytes()[0]], 80).into()];
        (name.to_owned(), xds::endpoints(name, &at))
    });
    wire.apply(canned::response(4, "4", endpoints)).await;
    target.ready().await.expect("it is complete");
    let responses: Vec<_> = (5..5 + TIMES).map(named).collect();
    let start = ProcessTime::now();
    for response in responses {
        wire.apply(response).await;
    }
    let all = start.elapsed() / TIMES as u32;
    println!(
        "of CPU: decoding {decoding:.1?} ({alone:.1?} with nothing before it), all but recording and \
         connections {all:.1?}"
    );
}

/// Answers until endpoints have been asked for by the names of both clusters.
async fn serve(stream: &mut RawStream, resources: impl Fn(Kind) -> Vec<Any>) {
    for number in 0.. {
        let request = stream.recv().await;
        let Some(kind) = request.kind.filter(|_| request.nonce.is_empty()) else {
            continue;
        };
        let nonce = format!("first-{number}");
        stream.send(kind, "1", &nonce, resources(kind)).await;
        if kind == Kind::Endpoints && request.names.len() == 2 {
            return;
        }
    }
}

fn response(number: usize, to: &str) -> Bytes {
    let response = DiscoveryResponse {
        version_info: (2 + number).to_string(),
        resources: vec![pack(&routes(to))],
        type_url: RouteConfiguration::type_url(),
        nonce: number.to_string(),
        ..DiscoveryResponse::default()
    };
    response.encode_to_vec().into()
}

/// Many routes of which the last one leads to this cluster, and the first two to both.
fn routes(to: &str) -> RouteConfiguration {
    let forward = |to: &str| xds::forward(ClusterSpecifier::Cluster(to.to_owned()));
    let mut routes: Vec<_> = (0..ROUTES - 1)
        .map(|number| {
            let to = ["a", "b"][number % 2];
            xds::route(&format!("/shop.Service{number}/"), forward(to))
        })
        .collect();
    routes.push(xds::route_to(to));
    xds::routes(ROUTES_NAME, SERVICE, routes)
}
