//! What of HTTP a client has, item by item: each row of its documentation's table, over both protocols.

use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper_util::rt::TokioIo;
use mesh_hyper::{CallOptions, Caller};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    raw::{ByHand, Stream},
    *,
};

const URL: &str = "http://catalog.shop/";

fn sum(value: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", value.parse().unwrap());
    trailers
}

/// A request with a body of "ping", and these headers.
fn ping(headers: &[(&'static str, &'static str)]) -> Request<Full<Bytes>> {
    let request = headers
        .iter()
        .fold(Request::post(URL), |request, &(name, value)| {
            request.header(name, value)
        });
    request.body(Full::from("ping")).unwrap()
}

async fn text(response: http::Response<mesh_hyper::ResponseBody>) -> String {
    let body = within(response.into_body().collect()).await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let request = || {
        let frames = [Frame::data(Bytes::from("ping")), Frame::trailers(sum("5"))];
        let frames = frames.map(Ok::<_, std::convert::Infallible>);
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let request = Request::post(URL).header("trailer", "x-sum");
        request.header("te", "trailers").body(body).unwrap()
    };
    let is_whole = async |response: http::Response<mesh_hyper::ResponseBody>| {
        let body = within(response.into_body().collect()).await.unwrap();
        assert_eq!(body.trailers(), Some(&sum("7")));
        assert_eq!(body.to_bytes(), "pong");
    };
    let server = ByHand::start(HttpProtocol::Http1).await;
    let call = tokio::spawn(server.client.request(request()));
    let mut peer = server.http1().await;
    let head = peer.head().await;
    assert!(head.contains("te: trailers\r\n"), "{head}");
    assert!(head.contains("trailer: x-sum\r\n"), "{head}");
    let body = peer.head().await;
    assert_eq!(body, "4\r\nping\r\n0\r\nx-sum: 5\r\n\r\n");
    peer.write(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n4\r\npong\r\n0\r\n\
         x-sum: 7\r\n\r\n",
    )
    .await;
    is_whole(within(call).await.unwrap().unwrap()).await;
    // `Content-Length` leaves no room for them.
    let known = ping(&[("trailer", "x-sum")]);
    let known = known.map(|body| body.with_trailers(std::future::ready(Some(Ok(sum("5"))))));
    let call = tokio::spawn(server.client.request(known));
    let head = peer.head().await;
    assert!(head.contains("content-length: 4\r\n"), "{head}");
    peer.until("ping").await;
    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong")
        .await;
    assert_eq!(text(within(call).await.unwrap().unwrap()).await, "pong");

    let server = ByHand::start(HttpProtocol::Http2).await;
    let call = tokio::spawn(server.client.request(request()));
    let mut stream = server.http2().await;
    assert_eq!(stream.read().await, (b"ping".to_vec(), Some(sum("5"))));
    stream.answer("pong", Some(sum("7")));
    is_whole(within(call).await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn responses_of_1xx_are_read_over() {
    let server = ByHand::start(HttpProtocol::Http1).await;
    let call = tokio::spawn(server.client.request(ping(&[])));
    let mut peer = server.http1().await;
    peer.until("ping").await;
    for status in ["100 Continue", "102 Processing", "103 Early Hints"] {
        let early = format!("HTTP/1.1 {status}\r\nlink: </a>\r\n\r\n");
        peer.write(&early).await;
    }
    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong")
        .await;
    let response = within(call).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("link"));
    assert_eq!(text(response).await, "pong");

    let server = ByHand::start(HttpProtocol::Http2).await;
    let call = tokio::spawn(server.client.request(ping(&[])));
    let mut stream = server.http2().await;
    stream.read().await;
    for status in [100, 102, 103] {
        let early = Response::builder().status(status).header("link", "</a>");
        stream
            .respond
            .send_informational(early.body(()).unwrap())
            .unwrap();
    }
    stream.answer("pong", None);
    let response = within(call).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("link"));
    assert_eq!(text(response).await, "pong");
}

#[tokio::test]
async fn expect_goes_as_it_is_and_the_body_does_not_wait() {
    let expect = ping(&[("expect", "100-continue")]);
    let server = ByHand::start(HttpProtocol::Http1).await;
    let call = tokio::spawn(server.client.request(expect.clone()));
    let mut peer = server.http1().await;
    let head = peer.head().await;
    assert!(head.contains("expect: 100-continue\r\n"), "{head}");
    // Nobody has said that it may come.
    assert_eq!(peer.until("ping").await, "ping");
    peer.write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n")
        .await;
    let response = within(call).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::EXPECTATION_FAILED);

    let server = ByHand::start(HttpProtocol::Http2).await;
    let call = tokio::spawn(server.client.request(expect));
    let mut stream = server.http2().await;
    assert_eq!(stream.head.headers()["expect"], "100-continue");
    assert_eq!(stream.read().await.0, b"ping");
    stream.answer("pong", None);
    assert_eq!(text(within(call).await.unwrap().unwrap()).await, "pong");
}

/// Asks for a WebSocket.
fn websocket() -> Request<Empty<Bytes>> {
    let request = Request::get(URL).header("connection", "upgrade");
    let request = request.header("upgrade", "websocket");
    request.body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_websocket_is_the_callers_from_101_on() {
    let server = ByHand::start(HttpProtocol::Http1).await;
    let allowed = Route::prefix("/").allow_upgrade("websocket");
    server.service().route(allowed).apply();
    let call = tokio::spawn(server.client.request(websocket()));
    let mut peer = server.http1().await;
    let head = peer.head().await;
    assert!(head.contains("connection: upgrade\r\n"), "{head}");
    assert!(head.contains("upgrade: websocket\r\n"), "{head}");
    peer.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\0first")
        .await;
    let response = within(call).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(within(hyper::upgrade::on(response)).await.unwrap());
    let mut got = [0; 6];
    within(io.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"\0first");
    within(io.write_all(b"\x01second")).await.unwrap();
    assert_eq!(peer.until("second").await, "\x01second");
    drop(io);
    let mut rest = Vec::new();
    within(peer.0.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_upgrade_that_cannot_be_had_says_why() {
    for (protocol, allowed, status, words) in [
        (HttpProtocol::Http1, false, 403, "does not allow"),
        (HttpProtocol::Http2, false, 403, "does not allow"),
        // RFC 8441 is not spoken.
        (HttpProtocol::Http2, true, 503, "speaks HTTP/1.1 alone"),
        (HttpProtocol::Auto, true, 503, "speaks HTTP/1.1 alone"),
    ] {
        let server = ByHand::start(protocol).await;
        if allowed {
            let allowed = Route::prefix("/").allow_upgrade("websocket");
            server.service().route(allowed).apply();
        }
        let error = within(server.client.request(websocket()))
            .await
            .unwrap_err();
        assert_eq!(error.status(), status, "{protocol:?}: {error}");
        assert!(error.message().contains(words), "{protocol:?}: {error}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_a_bad_request_and_no_missing_route() {
    let server = ByHand::start(HttpProtocol::Http1).await;
    for uri in ["/items", "ftp://catalog.shop/", "http://me@catalog.shop/"] {
        let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        let error = within(server.client.request(request)).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{error}");
        assert_eq!(error.response_flag(), None, "{error}");
    }
}

#[tokio::test]
async fn a_failure_as_a_response_tells_a_proxys_caller_nothing_of_the_mesh() {
    for protocol in PROTOCOLS {
        let server = ByHand::start(protocol).await;
        let nowhere = mesh_tests::running::port().await.local_addr().unwrap();
        let service = server.service().clear_endpoints();
        service.endpoint(nowhere).apply();
        let proxy = Client::builder(&server.mesh).error_responses(true).build();
        let response = within(proxy.get(URL).send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text(response).await, "no connection to an endpoint");
        // Its own log has all of it.
        let error = within(server.client.get(URL).send()).await.unwrap_err();
        assert!(error.to_string().contains("cluster "), "{error}");
    }
}

#[tokio::test]
async fn an_upgrade_is_to_the_one_protocol_that_the_route_allows() {
    let asking = |protocols: &[&'static str]| {
        let request = Request::get(URL).header("connection", "upgrade, http2-settings, x-mine");
        let request = request.header("http2-settings", "AAMAAABkAAQAAP__");
        let request = (protocols.iter()).fold(request, |request, &protocol| {
            request.header("upgrade", protocol)
        });
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    for protocol in PROTOCOLS {
        let server = ByHand::start(protocol).await;
        let allowed = Route::prefix("/").allow_upgrade("websocket");
        server.service().route(allowed).apply();
        for protocols in [
            &["websocket", "other"][..],
            &["websocket", "websocket"],
            &["websocket", "h2c"],
            &["websocket, other"],
            &["other"],
            &[""],
        ] {
            let request = server.client.request(asking(protocols));
            let error = within(request).await.unwrap_err();
            assert_eq!(error.status(), StatusCode::FORBIDDEN, "{protocols:?}");
        }
    }
    // A way to HTTP/2 is not asked for, and nobody hears of it: as with our server.
    let server = ByHand::start(HttpProtocol::Http1).await;
    let call = tokio::spawn(server.client.request(asking(&["h2c"])));
    let mut peer = server.http1().await;
    let head = peer.head().await;
    assert_eq!(head.matches("host: catalog.shop\r\n").count(), 1, "{head}");
    for word in ["upgrade", "http2-settings", "connection", "x-mine"] {
        assert!(!head.contains(word), "{head}");
    }
    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong")
        .await;
    assert_eq!(text(within(call).await.unwrap().unwrap()).await, "pong");
}

#[tokio::test]
async fn what_switches_protocols_unasked_is_not_http() {
    let server = ByHand::start(HttpProtocol::Http1).await;
    let unasked = [&[][..], &[("connection", "upgrade"), ("upgrade", "h2c")]];
    for headers in unasked {
        let call = tokio::spawn(server.client.request(ping(headers)));
        let mut peer = server.http1().await;
        peer.until("ping").await;
        peer.write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\nx",
        )
        .await;
        let error = within(call).await.unwrap().unwrap_err();
        assert_eq!(error.response_flag(), Some("UPE"), "{error}");
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
        // Nobody has the connection any more.
        let mut rest = Vec::new();
        within(peer.0.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
    }
}

/// What routes were found by is what the server is told.
#[tokio::test]
async fn a_host_header_of_the_callers_is_not_sent() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let rewrite = Route::prefix("/inner").rewrite_host("inner.shop");
        world.service().route(rewrite).apply();
        let authority = "catalog.shop".parse().unwrap();
        let caller = Caller::http(&world.mesh, TARGET, http::uri::Scheme::HTTP, authority);
        for (path, host) in [("/", "catalog.shop"), ("/inner", "inner.shop")] {
            let request = || {
                let uri = format!("http://catalog.shop{path}");
                let request = Request::get(uri).header("host", "admin.shop");
                request.body(Empty::<Bytes>::new()).unwrap()
            };
            let of_caller = caller.call(request(), CallOptions::default());
            let of_caller = within(of_caller).await.unwrap();
            let of_client = within(world.client.request(request())).await.unwrap();
            for response in [of_caller, of_client] {
                let seen = text(response).await;
                assert!(seen.starts_with(&format!("GET {host} ")), "{seen}");
            }
        }
    }
}

#[tokio::test]
async fn connect_is_refused() {
    for protocol in PROTOCOLS {
        let server = ByHand::start(protocol).await;
        for uri in ["http://catalog.shop/", "catalog.shop:80"] {
            let connect = Request::builder().method(Method::CONNECT).uri(uri);
            let connect = connect.body(Empty::<Bytes>::new()).unwrap();
            let error = within(server.client.request(connect)).await.unwrap_err();
            let words = if uri.starts_with("http") {
                "CONNECT is not supported"
            } else {
                "scheme"
            };
            assert!(
                error.message().contains(words),
                "{protocol:?} {uri}: {error}"
            );
        }
    }
}

/// A body that never ends.
fn endless() -> Body {
    let chunk = Bytes::from_static(&[0; 16 << 10]);
    let chunks = std::iter::repeat_with(move || Ok::<_, std::convert::Infallible>(chunk.clone()));
    Body::from_stream(futures_util::stream::iter(chunks))
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_sent_is_whole_and_ends_the_request() {
    let request = || Request::post(URL).body(endless()).unwrap();
    let server = ByHand::start(HttpProtocol::Http1).await;
    let call = tokio::spawn(server.client.request(request()));
    let mut peer = server.http1().await;
    peer.head().await;
    peer.write("HTTP/1.1 413 No\r\nconnection: close\r\ncontent-length: 5\r\n\r\nlarge")
        .await;
    let reading = tokio::spawn(async move {
        let mut rest = Vec::new();
        let _ = peer.0.read_to_end(&mut rest).await;
        rest
    });
    let response = within(call).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response).await, "large");
    // The connection is over, and the chunks have no end that could be taken for one.
    assert!(!within(reading).await.unwrap().ends_with(b"0\r\n\r\n"));
    let call = tokio::spawn(server.client.request(ping(&[])));
    let mut peer = server.http1().await;
    peer.until("ping").await;
    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong")
        .await;
    assert_eq!(text(within(call).await.unwrap().unwrap()).await, "pong");

    let server = ByHand::start(HttpProtocol::Http2).await;
    let call = tokio::spawn(server.client.request(request()));
    let mut stream: Stream = server.http2().await;
    stream.answer("large", None);
    let response = within(call).await.unwrap().unwrap();
    assert_eq!(text(response).await, "large");
    // It gives the stream up, and nothing else.
    let ended = async {
        while let Some(Ok(data)) = stream.body.data().await {
            let _ = stream.body.flow_control().release_capacity(data.len());
        }
    };
    within(ended).await;
}

#[tokio::test]
async fn headers_of_responses_have_a_limit() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        let (status, headers, _) = world.get("/large/50").await.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["x-large-49"].len(), 1 << 10);
        let error = world.get("/large/120").await.unwrap_err();
        assert_eq!(
            error.status(),
            StatusCode::BAD_GATEWAY,
            "{protocol:?}: {error}"
        );
        assert_eq!(error.response_flag(), Some("UPE"), "{protocol:?}: {error}");
        // It was one response that was too large.
        let (status, ..) = world.get("/large/1").await.unwrap();
        assert_eq!(status, StatusCode::OK);
    }
}
