//! What the timeout of a call covers: all of it but the sending of its request, as Envoy counts from
//! the end of that.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::stream;
use http_body::{Frame, SizeHint};
use http_body_util::{Full, StreamBody};

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const URL: &str = "http://catalog.shop/";
const HANGS: &str = "http://catalog.shop/hang/99";

/// Five bytes, as it says; not that there are no more of them.
struct Five {
    given: bool,
}

impl http_body::Body for Five {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let first = !mem::replace(&mut self.given, true);
        Poll::Ready(first.then(|| Ok(Frame::data(five()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(if self.given { 0 } else { 5 })
    }
}

fn five() -> Bytes {
    Bytes::from_static(b"12345")
}

fn frames(
    trailers: Option<HeaderMap>,
) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin {
    let frames = [Some(Frame::data(five())), trailers.map(Frame::trailers)];
    StreamBody::new(stream::iter(frames.into_iter().flatten().map(Ok)))
}

fn post<B>(body: B) -> Request<B> {
    Request::post(HANGS).body(body).unwrap()
}

/// Sends requests whose bodies end in each way that hyper knows of without asking once more.
async fn whatever_the_body(
    world: &World,
    check: impl Fn(&'static str, Result<http::Response<mesh_hyper::ResponseBody>, Error>),
) {
    let client = &world.client;
    check(
        "Full",
        within(client.request(post(Full::new(five())))).await,
    );
    let five = Five { given: false };
    check("exact size", within(client.request(post(five))).await);
    let mut told = post(frames(None));
    told.headers_mut().insert("content-length", 5.into());
    check("content-length", within(client.request(told)).await);
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), 1.into())]);
    let mut trailed = post(frames(Some(trailers)));
    for (name, value) in [("te", "trailers"), ("trailer", "x-sum")] {
        trailed.headers_mut().insert(name, value.parse().unwrap());
    }
    check("trailers", within(client.request(trailed)).await);
    check("chunks", within(client.request(post(frames(None)))).await);
}

#[tokio::test]
async fn the_timeout_begins_however_the_request_ends() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().timeout(SHORT).apply();
        whatever_the_body(&world, |body, result| {
            let error = result.expect_err(body);
            assert_eq!(error.response_flag(), Some("UT"), "{protocol:?} {body}");
            assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
        })
        .await;
        assert_eq!(world.seen(), 5, "{protocol:?}");
    }
}

#[tokio::test]
async fn so_does_that_of_an_attempt() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let retry = Retry::conditions(["5xx"]).times(1).per_try_timeout(SHORT);
        let quick = Duration::from_millis(1);
        let retry = retry.backoff(quick, quick);
        world.service().timeout(Duration::ZERO).retry(retry).apply();
        whatever_the_body(&world, |body, result| {
            let error = result.expect_err(body);
            assert!(error.message().contains("of the attempt"), "{body} {error}");
        })
        .await;
        assert_eq!(world.seen(), 10, "{protocol:?}: each is sent twice");
    }
}

#[tokio::test]
async fn the_timeout_covers_the_wait_for_a_configuration_and_for_an_endpoint() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().clear_endpoints().apply();
        for url in [URL, "http://unknown.shop/"] {
            if url != URL {
                // The incremental protocol would say that there is none.
                world.control_plane.hold();
            }
            let get = world.client.get(url);
            let get = within(get.timeout(SHORT).wait_for_ready().send()).await;
            let post = world.client.post(url, "12345");
            let post = within(post.timeout(SHORT).wait_for_ready().send()).await;
            let asks = world.client.get(url);
            let asks = asks.header("x-envoy-upstream-rq-timeout-ms", "50");
            let asks = within(asks.wait_for_ready().send()).await;
            for (what, result) in [("GET", get), ("POST", post), ("header", asks)] {
                let error = result.expect_err(what);
                assert!(error.is_timeout(), "{protocol:?} {url} {what}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn the_timeout_covers_the_pause_between_attempts() {
    let long = Duration::from_secs(1000);
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let retry = Retry::conditions(["5xx"]).times(2).backoff(long, long);
        world.service().retry(retry).timeout(SHORT).apply();
        let url = "http://catalog.shop/fail/9/503";
        let get = within(world.client.get(url).send()).await;
        let post = within(world.client.post(url, "12345").send()).await;
        let streamed = Request::post(url).body(frames(None)).unwrap();
        let streamed = within(world.client.request(streamed)).await;
        for (what, result) in [("GET", get), ("POST", post), ("streamed", streamed)] {
            let error = result.expect_err(what);
            assert!(error.is_timeout(), "{protocol:?} {what}: {error}");
            assert!(error.message().contains("between two attempts"), "{error}");
        }
        assert_eq!(world.seen(), 3, "{protocol:?}: none got to its second");
    }
}

/// Requests that stand behind another, for a connection or for a stream of it, are timed out.
async fn check_queued(client: &Client) {
    let get = within(client.get(URL).send()).await;
    let post = within(client.post(URL, "12345").send()).await;
    let streamed = Request::post(URL).body(frames(None)).unwrap();
    let streamed = within(client.request(streamed)).await;
    for (what, result) in [("GET", get), ("POST", post), ("streamed", streamed)] {
        let error = result.expect_err(what);
        assert!(error.is_timeout(), "{what}: {error}");
        assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT, "{what}");
    }
}

#[tokio::test]
async fn the_timeout_covers_the_wait_for_a_connection() {
    let server = raw::ByHand::start(HttpProtocol::Http1).await;
    let service = server.service().max_connections(1).timeout(SHORT);
    service.apply();
    let first = server.client.get(URL).timeout(Duration::ZERO).send();
    let first = tokio::spawn(first);
    let mut peer = server.http1().await;
    peer.head().await;
    check_queued(&server.client).await;
    peer.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    let response = within(first).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_timeout_covers_the_wait_for_a_stream() {
    let server = raw::ByHand::start(HttpProtocol::Http2).await;
    let service = server.service().max_connections_per_host(1).timeout(SHORT);
    service.apply();
    let first = server.client.get(URL).timeout(Duration::ZERO).send();
    let first = tokio::spawn(first);
    let (io, _) = within(server.listener.accept()).await.unwrap();
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(1);
    let mut connection = within(settings.handshake::<_, Bytes>(io)).await.unwrap();
    let (_, mut respond) = within(connection.accept()).await.unwrap().unwrap();
    let serving = tokio::spawn(async move {
        let more = connection.accept().await;
        assert!(more.is_none(), "another stream: {more:?}");
    });
    check_queued(&server.client).await;
    let answer = http::Response::builder().status(StatusCode::NO_CONTENT);
    respond
        .send_response(answer.body(()).unwrap(), true)
        .unwrap();
    let response = within(first).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    drop(server);
    serving.abort();
}

#[tokio::test]
async fn a_request_whose_body_stops_is_told_from_a_response_that_does_not_come() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let service = world.service().timeout(Duration::ZERO);
        service.idle_timeout(SHORT).apply();
        let stops = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let incomplete = within(world.client.request(post(stops))).await;
        let complete = within(world.client.post(HANGS, "12345").send()).await;
        for (result, status) in [
            (incomplete, StatusCode::REQUEST_TIMEOUT),
            (complete, StatusCode::GATEWAY_TIMEOUT),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.status(), status, "{protocol:?}: {error}");
            assert_eq!(error.response_flag(), Some("SI"));
        }
    }
}
