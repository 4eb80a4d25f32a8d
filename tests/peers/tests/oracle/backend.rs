//! The servers that requests arrive at, one for each cluster: each tells what arrived.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use envoy_types::pb::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType},
    },
    core::v3::Locality,
    endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
};
use envoy_types::pb::google::protobuf::UInt32Value;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use mesh_peers::envoy::config;
use tokio::{net::TcpListener, task::JoinSet};

use crate::outcome::{ARRIVED, Arrived, headers};

/// Backends. They end when dropped.
pub(crate) struct Backends {
    clusters: Vec<Cluster>,
    _serving: JoinSet<()>,
}

impl Backends {
    /// One for each of these clusters.
    pub(crate) async fn start(clusters: &[&str]) -> Self {
        let mut serving = JoinSet::new();
        let mut all = Vec::new();
        for name in clusters {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await;
            let listener = listener.expect("loopback has a port");
            let address = listener.local_addr().expect("a listener has an address");
            all.push(cluster(name, address));
            serving.spawn(serve((*name).to_owned(), listener));
        }
        Self {
            clusters: all,
            _serving: serving,
        }
    }

    /// Their clusters, the same for both.
    pub(crate) fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }
}

fn cluster(name: &str, address: SocketAddr) -> Cluster {
    let endpoint = LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
            address: Some(config::address(address)),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints {
                locality: Some(Locality::default()),
                lb_endpoints: vec![endpoint],
                load_balancing_weight: Some(UInt32Value { value: 1 }),
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        }),
        ..Cluster::default()
    }
}

async fn serve(name: String, listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let name = name.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&name, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = serving.await;
        });
    }
}

fn answer(cluster: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let arrived = Arrived {
        cluster: cluster.to_owned(),
        method: request.method().to_string(),
        path: request.uri().to_string(),
        headers: headers(request.headers()),
    };
    let told = serde_json::to_string(&arrived).expect("plain data is JSON");
    let mut response = Response::new(Full::new(Bytes::from_static(b"from the backend")));
    let headers = response.headers_mut();
    headers.insert(
        ARRIVED,
        HeaderValue::from_str(&told).expect("JSON is visible"),
    );
    for (name, value) in [
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-two", "two"),
        ("x-empty", ""),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    response
}
