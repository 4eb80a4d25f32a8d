//! A configuration with everything on that a call can meet, and that call: what costs are measured
//! with.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use mesh_core::{
    Code,
    testing::{ControlPlane, Fault, Push, Retry, Route, Tls},
};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::{echo::CHAT, pb::EchoRequest};

/// The target of the calls.
pub const TARGET: &str = "echo.bench:50051";
/// The path of the calls.
pub const PATH: &str = "/mesh.test.Echo/Unary";
/// Their headers, which the route matches.
pub const HEADERS: [(&str, &str); 3] = [
    ("x-tenant", "blue"),
    ("x-version", "v7-beta"),
    ("x-shard", "11"),
];
/// How long they may take.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// What they send.
pub const PAYLOAD: &[u8] = &[7; 128];
/// What is on, in words.
pub const FEATURES: &str = "xDS; route with 3 header matchers, weighted split 90/10, retry \
                            policy, circuit breaker, 1 s deadline, fault filter at 0 %, recorder";

/// Pushes the configuration for one server.
pub fn configure(control_plane: &ControlPlane, address: SocketAddr) -> Push {
    configure_as(control_plane, TARGET, address, None, Some(DEADLINE))
}

/// The same for the service called `target`, with TLS to it if there is any, and with this limit of time.
pub fn configure_as(
    control_plane: &ControlPlane,
    target: &str,
    address: SocketAddr,
    tls: Option<Tls>,
    limit: Option<Duration>,
) -> Push {
    let [tenant, version, shard] = HEADERS;
    let route = |path: &str| {
        let route = Route::path(path)
            .header(tenant.0, tenant.1)
            .header_prefix(version.0, "v7")
            .header_present(shard.0, true)
            .split(&[("v1", 90), ("v2", 10)])
            .retry(Retry::on([Code::Unavailable]).times(2));
        match limit {
            Some(limit) => route.max_stream_duration(limit),
            None => route,
        }
    };
    let mut service = control_plane.service(target);
    for (version, weight) in [("v1", 90), ("v2", 10)] {
        service = service
            .version(version)
            .weight(weight)
            .endpoint(address)
            .tls(tls.clone());
    }
    service
        .max_requests(1024)
        .route(route(PATH))
        .route(route(CHAT))
        .fault(Fault::new().abort(Code::Unavailable, 0.0))
        .apply()
}

/// The headers as tonic has them.
pub fn metadata() -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (name, value) in HEADERS {
        metadata.insert(name, MetadataValue::from_static(value));
    }
    metadata
}

/// The call.
pub fn request(metadata: &MetadataMap) -> tonic::Request<EchoRequest> {
    tonic::Request::from_parts(metadata.clone(), Default::default(), message())
}

/// Its message.
pub fn message() -> EchoRequest {
    EchoRequest {
        payload: Bytes::from_static(PAYLOAD),
        count: 0,
    }
}
