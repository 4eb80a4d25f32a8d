//! What both ends of a call tell of it, in the words of Istio, gRPC and OpenTelemetry.

mod scrape;

use std::collections::BTreeSet;

use mesh_core::{
    Mesh,
    telemetry::{Family, dialect},
    testing::{Endpoint, Permission, Principal, Rbac},
};
use mesh_tests::{
    eventually,
    fixture::{SERVICE, echo},
    pb::echo_client::EchoClient,
    secured::{CLIENT, Secured},
    way::Way,
};

const UNARY: &str = "mesh.test.Echo/Unary";
const WAYS: [Way; 3] = [Way::Grpc, Way::Http1, Way::Http2];

/// What a mesh tells now, in all dialects.
struct Told(Vec<Family>);

impl Told {
    async fn by(mesh: &Mesh) -> Self {
        Self(mesh.reading().await.families(&dialect::all()))
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let family = self.0.iter().find(|family| family.name == name);
        family.map_or(0.0, |family| family.sum_of(labels))
    }
}

/// Makes one call; of gRPC with what is generated.
async fn call(secured: &Secured, way: Way) {
    match way {
        Way::Grpc => {
            let mut client = EchoClient::new(secured.channel.grpc().clone());
            client.unary(echo("hi")).await.map(drop).unwrap();
        }
        _ => secured.call().await.unwrap(),
    }
}

/// Waits until the server has counted so many requests: its client has a response before that.
async fn served(secured: &Secured, requests: u64) {
    let counted = || secured.server.mesh.metrics().totals().finished();
    eventually(
        || (counted() == requests).then_some(()),
        || format!("{} of {requests} requests are counted", counted()),
    )
    .await;
}

#[tokio::test]
async fn both_ends_tell_the_same_call() {
    for way in WAYS {
        let secured = Secured::over(way).await;
        for _ in 0..3 {
            call(&secured, way).await;
        }
        served(&secured, 3).await;
        let (client, server) = (
            Told::by(&secured.client.mesh).await,
            Told::by(&secured.server.mesh).await,
        );
        let grpc = matches!(way, Way::Grpc);
        let protocol = ("request_protocol", if grpc { "grpc" } else { "http" });
        let common = [
            protocol,
            ("response_code", "200"),
            ("grpc_response_status", if grpc { "0" } else { "" }),
            ("response_flags", "-"),
        ];
        let (host, _) = SERVICE.rsplit_once(':').unwrap_or((SERVICE, ""));
        let mut source = common.to_vec();
        source.extend([
            ("reporter", "source"),
            ("destination_service", host),
            ("connection_security_policy", "unknown"),
        ]);
        let mut destination = common.to_vec();
        destination.extend([
            ("reporter", "destination"),
            ("source_principal", CLIENT),
            ("source_workload_namespace", "web"),
            ("connection_security_policy", "mutual_tls"),
        ]);
        for name in [
            "istio_requests_total",
            "istio_request_duration_milliseconds",
            "istio_request_bytes",
            "istio_response_bytes",
        ] {
            assert_eq!(client.sum(name, &source), 3.0, "{way:?} {name}");
            assert_eq!(client.sum(name, &[]), 3.0, "{way:?} {name}");
            assert_eq!(server.sum(name, &destination), 3.0, "{way:?} {name}");
            assert_eq!(server.sum(name, &[]), 3.0, "{way:?} {name}");
        }
        let messages = if grpc { 3.0 } else { 0.0 };
        for name in [
            "istio_request_messages_total",
            "istio_response_messages_total",
        ] {
            assert_eq!(client.sum(name, &[]), messages, "{way:?} {name}");
            assert_eq!(server.sum(name, &[]), messages, "{way:?} {name}");
        }
        match grpc {
            true => {
                let method = ("grpc.method", UNARY);
                let ok = ("grpc.status", "OK");
                for (told, name) in [
                    (&client, "grpc.client.attempt.duration"),
                    (&client, "grpc.client.call.duration"),
                    (&server, "grpc.server.call.duration"),
                ] {
                    assert_eq!(told.sum(name, &[method, ok]), 3.0, "{name}");
                    assert_eq!(told.sum(name, &[]), 3.0, "{name}");
                }
                let of_method = |told: &Told, name| told.sum(name, &[method]);
                assert_eq!(of_method(&client, "grpc.client.attempt.started"), 3.0);
                assert_eq!(of_method(&server, "grpc.server.call.started"), 3.0);
            }
            false => {
                let status = ("http.response.status_code", "200");
                for (told, name) in [
                    (&client, "http.client.request.duration"),
                    (&server, "http.server.request.duration"),
                ] {
                    assert_eq!(told.sum(name, &[status]), 3.0, "{name}");
                    assert_eq!(told.sum(name, &[]), 3.0, "{name}");
                }
            }
        }
    }
}

/// As many bytes as the other end tells, and none of what frames them.
#[tokio::test]
async fn both_ends_count_the_same_bytes() {
    for way in WAYS {
        let secured = Secured::over(way).await;
        secured.call().await.unwrap();
        served(&secured, 1).await;
        let bytes = |mesh: &Mesh| {
            let series = mesh.metrics().snapshot();
            let calls = series.iter().flat_map(|series| &series.methods);
            let calls = calls.flat_map(|method| &method.calls);
            calls.fold((0, 0), |(sent, received), call| {
                (sent + call.sent.sum(), received + call.received.sum())
            })
        };
        let (sent, received) = bytes(&secured.client.mesh);
        assert_eq!(bytes(&secured.server.mesh), (received, sent), "{way:?}");
        assert!(received > 0, "{way:?}");
    }
}

#[tokio::test]
async fn what_runs_at_an_endpoint_is_told_as_it_changes() {
    for way in WAYS {
        let secured = Secured::over(way).await;
        for (version, calls) in [("v1", 2), ("v2", 3)] {
            let workload = format!("greeter-{version};shop;greeter;{version};east");
            let endpoint = Endpoint::new(secured.address()).workload(workload);
            let service = secured.service().version("v1");
            service.endpoint(endpoint).apply().acked_by("client").await;
            for _ in 0..calls {
                secured.call().await.unwrap();
            }
            let told = Told::by(&secured.client.mesh).await;
            let labels = [
                ("destination_workload", &*format!("greeter-{version}")),
                ("destination_workload_namespace", "shop"),
                ("destination_canonical_service", "greeter"),
                ("destination_canonical_revision", version),
                ("destination_version", version),
                ("destination_cluster", "east"),
            ]
            .map(|(name, value)| (name, value.to_owned()));
            let labels: Vec<_> = labels
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect();
            let counted = told.sum("istio_requests_total", &labels);
            assert_eq!(counted, f64::from(calls), "{way:?} {version}");
        }
    }
}

/// A policy's refusal counts once at both ends, and so does what no route takes.
#[tokio::test]
async fn refusals_count_once() {
    for way in WAYS {
        let secured = Secured::over(way).await;
        let nobody = Rbac::allow().policy("none", Permission::any(), Principal::identity("nobody"));
        secured.listener().rbac(nobody).apply().acked().await;
        secured.call().await.unwrap_err();
        served(&secured, 1).await;
        let server = Told::by(&secured.server.mesh).await;
        let labels = match way {
            Way::Grpc => [("response_code", "200"), ("grpc_response_status", "7")],
            _ => [("response_code", "403"), ("grpc_response_status", "")],
        };
        assert_eq!(server.sum("istio_requests_total", &labels), 1.0, "{way:?}");
        assert_eq!(server.sum("istio_requests_total", &[]), 1.0, "{way:?}");
        let client = Told::by(&secured.client.mesh).await;
        assert_eq!(client.sum("istio_requests_total", &labels), 1.0, "{way:?}");
        assert_eq!(client.sum("istio_requests_total", &[]), 1.0, "{way:?}");
    }
}

/// A caller can make up any name of a method: none becomes a label.
#[tokio::test]
async fn names_that_are_made_up_are_no_labels() {
    use http::Request;
    use tonic::body::Body;
    use tower_service::Service as _;

    let secured = Secured::over(Way::Grpc).await;
    call(&secured, Way::Grpc).await;
    let mut channel = secured.channel.grpc().clone();
    for number in 0..20 {
        let path = format!("/mesh.test.Echo/Made{number}");
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .body(Body::empty())
            .unwrap();
        let response = channel.call(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12");
    }
    served(&secured, 21).await;
    for mesh in [&secured.client.mesh, &secured.server.mesh] {
        let series = mesh.metrics().snapshot();
        let methods = series.iter().flat_map(|series| &series.methods);
        let names: BTreeSet<_> = methods.filter_map(|method| method.method.clone()).collect();
        assert_eq!(names, BTreeSet::from([UNARY.into()]));
    }
}

/// The process's own metrics: readiness, resources, clusters and certificates.
#[tokio::test]
async fn the_process_tells_how_it_does() {
    let secured = Secured::over(Way::Grpc).await;
    secured.call().await.unwrap();
    let client = Told::by(&secured.client.mesh).await;
    let acked = |kind| {
        client.sum(
            "mesh.config.resources",
            &[("type", kind), ("state", "acked")],
        )
    };
    for kind in ["listener", "route", "cluster", "endpoints"] {
        assert_eq!(acked(kind), 1.0, "{kind}");
    }
    assert_eq!(client.sum("mesh.target.ready", &[("target", SERVICE)]), 1.0);
    assert_eq!(
        client.sum("mesh.cluster.endpoints", &[("state", "ready")]),
        1.0
    );
    assert_eq!(client.sum("mesh.cluster.requests", &[]), 0.0);
    assert_eq!(client.sum("mesh.cluster.breaker_open", &[]), 0.0);
    let left = client.sum("mesh.certificate.expiry", &[("instance", "default")]);
    assert!(left > 0.0, "{left}");
    let server = Told::by(&secured.server.mesh).await;
    assert_eq!(server.sum("mesh.server.connections", &[]), 1.0);
}
