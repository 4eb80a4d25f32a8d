//! What endpoints say of their load (ORCA: gRFC A51), in load reports (gRFC A64, A85).

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Full};
use mesh_core::{
    orca::CallLoad,
    testing::{ControlPlane, ReportedCluster, ReportedMetric, zone},
};
use mesh_tests::{
    backend::{self, Backend},
    echo, every_way,
    load::{call, spread, until_from},
    pb::{EchoReply, EchoRequest, echo_server::EchoServer},
    running::{Answering, Running, alone, port},
    way::{Ask, Call, Way},
};
use mesh_tonic::{ReportLoad, Server, ServerTls};
use tonic::{Request, Status, body::Body};

use crate::{SERVICE, World, backends};

/// Under each name: how many calls said it, and what they said, summed up.
type Sums = BTreeMap<String, (u64, f64)>;

fn sums(metrics: &BTreeMap<String, ReportedMetric>) -> Sums {
    let sums = metrics
        .iter()
        .map(|(name, metric)| (name.clone(), (metric.calls, metric.total)));
    sums.collect()
}

fn named(sums: &[(&str, u64, f64)]) -> Sums {
    let sums = sums
        .iter()
        .map(|&(name, calls, total)| (name.to_owned(), (calls, total)));
    sums.collect()
}

/// Says, in each call, that `cpu` is used, and `foo` and `bar`; every fourth call fails.
fn says(backend: &Backend, cpu: f64) {
    backend.answer(move |call| async move {
        let load = CallLoad::new();
        load.cpu_utilization(cpu);
        load.named_metric("foo", 1.0);
        load.named_metric("bar", 2.0);
        let mut said = HeaderMap::new();
        load.write(&mut said);
        if call.number % 4 == 0 {
            let mut answer = call.fail(Status::internal("no")).await?;
            answer.headers_mut().extend(said);
            return Ok(answer);
        }
        let is_grpc = call.is_grpc();
        let mut headers = HeaderMap::new();
        if is_grpc {
            // Not where gRPC says it: nobody reads that.
            headers.insert(
                "endpoint-load-metrics-bin",
                HeaderValue::from_static("AAAA"),
            );
        } else {
            let text =
                format!("TEXT cpu_utilization:{cpu},named_metrics.foo:1,named_metrics.bar:2");
            headers.insert("endpoint-load-metrics", text.parse().expect("a value"));
        }
        call.echo_with(headers, said).await
    });
}

/// Waits until all calls to these are reported.
async fn until_all(world: &World, backends: [&Backend; 2]) -> ReportedCluster {
    let calls = backends.map(Backend::calls).iter().sum::<u64>();
    let all = |control_plane: &ControlPlane| {
        let sum = control_plane.loads(SERVICE).sum();
        sum.succeeded + sum.failed == calls
    };
    world
        .control_plane
        .until("all calls are reported", all)
        .await;
    world.control_plane.loads(SERVICE)
}

async fn make_calls(world: &World) {
    for _ in 0..24 {
        // Some fail.
        let _ = call(&world.channel).await;
    }
}

async fn what_endpoints_say_is_reported_as_far_as_it_is_wanted(way: Way) {
    let world = World::over(way).await;
    let [a, b] = backends(["a", "b"]).await;
    says(&a, 0.5);
    says(&b, 0.25);
    let service = || world.service().report_load(true);
    service()
        .endpoint_in(zone("a"), a.address())
        .endpoint_in(zone("b"), b.address())
        .apply()
        .acked()
        .await;
    make_calls(&world).await;
    // Nothing is wanted (gRFC A85).
    let load = until_all(&world, [&a, &b]).await;
    assert!(a.calls() > 0 && b.calls() > 0 && load.sum().failed > 0);
    assert_eq!(sums(&load.sum().metrics), Sums::new());
    assert_eq!(sums(&load.sum().utilizations), Sums::new());

    let before = [a.calls(), b.calls()];
    let wanted = [
        "cpu_utilization",
        "named_metrics.foo",
        "named_metrics.none",
        "other",
    ];
    service().endpoint_metrics(wanted).apply().acked().await;
    make_calls(&world).await;
    let load = until_all(&world, [&a, &b]).await;
    for (((id, load), backend), (cpu, before)) in
        (load.localities.iter().zip([&a, &b])).zip([0.5, 0.25].into_iter().zip(before))
    {
        assert_eq!(id.zone, backend.name());
        let calls = backend.calls() - before;
        let metric = ("named_metrics.foo", calls, calls as f64);
        let cpu = ("cpu_utilization", calls, cpu * calls as f64);
        // Envoy has a name for all.
        let (utilizations, metrics) = match way {
            Way::Grpc => (named(&[cpu]), named(&[metric])),
            Way::Http1 | Way::Http2 => (named(&[]), named(&[cpu, metric])),
        };
        assert_eq!(sums(&load.utilizations), utilizations);
        assert_eq!(sums(&load.metrics), metrics);
    }

    // All that has a name, and then nothing again.
    let before = until_all(&world, [&a, &b]).await.sum();
    let calls_before = a.calls() + b.calls();
    service()
        .endpoint_metrics(["named_metrics.*"])
        .apply()
        .acked()
        .await;
    make_calls(&world).await;
    let load = until_all(&world, [&a, &b]).await.sum();
    let calls = a.calls() + b.calls() - calls_before;
    let metric = |name: &str| load.metrics.get(name).copied().unwrap_or_default();
    let foo_before = before.metrics["named_metrics.foo"];
    assert_eq!(metric("named_metrics.foo").calls, foo_before.calls + calls);
    assert_eq!(metric("named_metrics.bar").calls, calls);
    assert_eq!(metric("named_metrics.bar").total, 2.0 * calls as f64);
    service().endpoint_metrics([""; 0]).apply().acked().await;
    make_calls(&world).await;
    let after = until_all(&world, [&a, &b]).await.sum();
    assert_eq!(sums(&after.metrics), sums(&load.metrics));
    assert_eq!(sums(&after.utilizations), sums(&before.utilizations));
}

every_way!(what_endpoints_say_is_reported_as_far_as_it_is_wanted);

/// Envoy looks at trailers, too, if the headers had nothing.
#[tokio::test]
async fn trailers_of_http_count_if_headers_say_nothing() {
    let world = World::over(Way::Http2).await;
    let [only] = backends(["only"]).await;
    let trailers = || {
        let value = HeaderValue::from_static("JSON {\"eps\": 0.5}");
        HeaderMap::from_iter([(
            http::HeaderName::from_static("endpoint-load-metrics"),
            value,
        )])
    };
    only.answer(move |mut call: backend::Call| async move {
        // What cannot be read is nothing.
        let headers = match call.number % 3 {
            0 => trailers(),
            1 => HeaderMap::from_iter([(
                http::HeaderName::from_static("endpoint-load-metrics"),
                HeaderValue::from_static("YAML eps: 7"),
            )]),
            _ => HeaderMap::new(),
        };
        let _ = call.read().await;
        let end = std::future::ready(Some(Ok(trailers())));
        let body = Full::new(Bytes::from_static(b"it")).with_trailers(end);
        let mut response = Response::new(Body::new(body));
        *response.headers_mut() = headers;
        response
            .headers_mut()
            .insert(echo::SERVER, HeaderValue::from_static("only"));
        Ok(response)
    });
    let service = world.service().report_load(true);
    let service = service.endpoint_metrics(["eps"]);
    service.endpoint(only.address()).apply().acked().await;
    for _ in 0..9 {
        let _ = call(&world.channel).await;
    }
    let load = until_all(&world, [&only, &Backend::refusing("none")])
        .await
        .sum();
    // Each once.
    let calls = only.calls();
    assert_eq!(
        sums(&load.metrics),
        named(&[("eps", calls, 0.5 * calls as f64)])
    );
}

/// A service of ours that says how loaded it is, with a call that succeeds and one that does not.
#[tokio::test]
async fn a_service_says_how_loaded_it_is() {
    let world = World::over(Way::Grpc).await;
    let service = Answering(|request: Request<EchoRequest>| {
        let load = request.extensions().get::<CallLoad>().cloned();
        let load = load.expect("it is asked");
        async move {
            load.application_utilization(0.5);
            load.named_metric("queue", 3.0);
            let EchoRequest { payload, .. } = request.into_inner();
            match &*payload {
                b"fail" => Err(Status::internal("no")),
                _ => Ok(EchoReply {
                    payload,
                    server: "ours".into(),
                }),
            }
        }
    });
    let server = Server::new(&alone().await)
        .add_service(ReportLoad::new(EchoServer::new(service)))
        .tls(ServerTls::Plaintext);
    let running = Running::start(server, port().await).await;
    world
        .service()
        .report_load(true)
        .endpoint_metrics(["application_utilization", "named_metrics.*"])
        .endpoint(running.address)
        .apply();
    until_from(&world.channel, &["ours"]).await;
    spread(&world.channel, 10).await;
    for _ in 0..5 {
        let failed = world.channel.ask(Ask::new("fail")).await;
        assert_eq!(failed.unwrap_err().message(), "no");
    }
    let all = |control_plane: &ControlPlane| {
        let sum = control_plane.loads(SERVICE).sum();
        sum.succeeded >= 11 && sum.failed == 5
    };
    world.control_plane.until("all are reported", all).await;
    let load = world.control_plane.loads(SERVICE).sum();
    let calls = load.succeeded + load.failed;
    let queue = ("named_metrics.queue", calls, 3.0 * calls as f64);
    assert_eq!(sums(&load.metrics), named(&[queue]));
    let used = ("application_utilization", calls, 0.5 * calls as f64);
    assert_eq!(sums(&load.utilizations), named(&[used]));
}
