//! The text that Prometheus scrapes, over HTTP.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use mesh_hyper::Prometheus;
use mesh_tests::{running::port, secured::Secured, way::Way};
use tokio::net::TcpStream;

async fn ask(address: std::net::SocketAddr, method: Method) -> (StatusCode, String, String) {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri("/metrics")
        .header("host", "metrics")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let kind = response.headers().get("content-type");
    let kind = kind.map_or(String::new(), |kind| kind.to_str().unwrap().to_owned());
    let text = response.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    (status, kind, String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn a_scrape() {
    let secured = Secured::over(Way::Grpc).await;
    secured.call().await.unwrap();
    let listener = port().await;
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(Prometheus::new(&secured.client.mesh).serve(listener));
    let (status, kind, text) = ask(address, Method::GET).await;
    assert_eq!(status, StatusCode::OK);
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    for line in [
        "# TYPE istio_requests_total counter",
        "# TYPE istio_request_duration_milliseconds histogram",
        "# TYPE grpc_client_attempt_duration_seconds histogram",
        "# TYPE rpc_client_call_duration_seconds histogram",
        "# TYPE mesh_certificate_expiry_seconds gauge",
    ] {
        assert!(text.lines().any(|one| one == line), "no {line:?} in {text}");
    }
    let mut counted = text
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"));
    let line = counted.next().unwrap();
    assert!(
        line.ends_with("} 1") && line.contains("reporter=\"source\""),
        "{line}"
    );
    assert_eq!(counted.next(), None);

    let (status, _, text) = ask(address, Method::POST).await;
    assert_eq!((status, &*text), (StatusCode::METHOD_NOT_ALLOWED, ""));
    // With the future end the port and its connections.
    served.abort();
    assert!(served.await.unwrap_err().is_cancelled());
    assert!(TcpStream::connect(address).await.is_err());
}
