//! What of HTTP a server has, item by item: each row of its documentation's table, over both protocols.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::TRAILER};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::harness::*;
use crate::{RequestBody, Server, ServerTls};

/// `/trailers` answers with trailers and says those of the request, `/early` with the status of its
/// query, `/unread` without a look at the body; all else says what came.
async fn start() -> Running {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh)
        .tls(ServerTls::Plaintext)
        .options(|options| options.upgrades = vec!["websocket".to_owned()]);
    Running::start(&mesh, server, |request: Request<RequestBody>| {
        Box::pin(async move {
            match request.uri().path() {
                "/early" => {
                    let status: u16 = request.uri().query().unwrap().parse().unwrap();
                    let mut response = Response::new(Full::default().boxed_unsync());
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    return Ok(response);
                }
                "/unread" => return say("unread").await,
                _ => {}
            }
            let wants_trailers = request.uri().path() == "/trailers";
            let method = request.method().clone();
            let body = request.into_body().collect().await.unwrap();
            let sum = body
                .trailers()
                .and_then(|trailers| trailers.get("x-sum").cloned());
            let text = format!("<{method} {sum:?} {}>", body.to_bytes().len());
            if !wants_trailers {
                return say(text).await;
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "7".parse().unwrap());
            trailers.insert("x-untold", "8".parse().unwrap());
            let frames = [Frame::data(Bytes::from(text)), Frame::trailers(trailers)];
            let body = StreamBody::new(stream::iter(frames.map(Ok)));
            let response = Response::builder().header(TRAILER, "x-sum");
            Ok(response.body(body.boxed_unsync()).unwrap())
        })
    })
}

/// Sends this over HTTP/1.1.
async fn sent(running: &Running, text: &str) -> DuplexStream {
    let mut io = running.connect();
    io.write_all(text.as_bytes()).await.unwrap();
    io
}

/// What comes back for a request over HTTP/2 with this body and these trailers.
async fn over_http2(
    running: &Running,
    request: Request<()>,
    body: Option<&'static str>,
    trailers: Option<HeaderMap>,
) -> Result<(Response<()>, String, Option<HeaderMap>), h2::Error> {
    let (mut client, connection) = h2::client::handshake(running.connect()).await.unwrap();
    tokio::spawn(connection);
    let ends = body.is_none() && trailers.is_none();
    let (response, mut send) = client.send_request(request, ends)?;
    if let Some(body) = body {
        send.send_data(Bytes::from_static(body.as_bytes()), trailers.is_none())?;
    }
    if let Some(trailers) = trailers {
        send.send_trailers(trailers)?;
    }
    let (head, mut body) = response.await?.into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data?);
    }
    let trailers = body.trailers().await?;
    let text = String::from_utf8(text).unwrap();
    Ok((Response::from_parts(head, ()), text, trailers))
}

fn post(path: &str) -> Request<()> {
    let uri = format!("http://server.test{path}");
    Request::post(uri).body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn trailers_go_both_ways() {
    let running = start().await;
    let chunked = "POST /trailers HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: \
                   x-sum\r\n";
    let body = "\r\n4\r\nping\r\n0\r\nx-sum: 5\r\n\r\n";
    let mut io = sent(&running, &format!("{chunked}te: trailers\r\n{body}")).await;
    let got = until(&mut io, "\r\n\r\n").await + &until(&mut io, "\r\n\r\n").await;
    assert!(got.contains("<POST Some(\"5\") 4>"), "{got}");
    assert!(got.contains("\r\n0\r\nx-sum: 7\r\n\r\n"), "{got}");
    assert!(!got.contains("x-untold"), "{got}");
    // Who does not ask for them gets none.
    let mut io = sent(&running, &format!("{chunked}{body}")).await;
    let got = until(&mut io, "\r\n0\r\n\r\n").await;
    assert!(!got.contains("x-sum: 7"), "{got}");

    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "5".parse().unwrap());
    let answered = over_http2(&running, post("/trailers"), Some("ping"), Some(trailers)).await;
    let (_, text, trailers) = answered.unwrap();
    assert_eq!(text, "<POST Some(\"5\") 4>");
    let trailers = trailers.unwrap();
    assert_eq!(trailers["x-sum"], "7");
    assert_eq!(trailers["x-untold"], "8");
}

#[tokio::test(start_paused = true)]
async fn a_handler_cannot_answer_with_1xx() {
    let running = start().await;
    for status in [100, 102, 103, 199] {
        let head = format!("GET /early?{status} HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut io = sent(&running, &head).await;
        let got = until(&mut io, "failed").await;
        assert!(got.starts_with("HTTP/1.1 500 "), "{got}");
        let request = post(&format!("/early?{status}"));
        let (head, ..) = over_http2(&running, request, None, None).await.unwrap();
        assert_eq!(head.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[tokio::test(start_paused = true)]
async fn who_expects_100_is_told_to_continue_once_the_body_is_wanted() {
    let running = start().await;
    let ask = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
        )
    };
    let mut io = sent(&running, &ask("/")).await;
    let got = until(&mut io, "\r\n\r\n").await;
    assert_eq!(got, "HTTP/1.1 100 Continue\r\n\r\n");
    io.write_all(b"ping").await.unwrap();
    let got = until(&mut io, ">").await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    assert!(got.ends_with("<POST None 4>"), "{got}");
    assert!(!got.contains("connection: close"), "{got}");

    // The body is not wanted: it is not known whether it comes.
    let mut io = sent(&running, &ask("/unread")).await;
    let got = until(&mut io, "unread").await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    assert!(got.contains("connection: close\r\n"), "{got}");

    // HTTP/2 has windows for that: nothing is said, and the body is taken when it comes.
    let mut request = post("/");
    let expect = "100-continue".parse().unwrap();
    request.headers_mut().insert("expect", expect);
    let answered = over_http2(&running, request, Some("ping"), None).await;
    let (head, text, _) = answered.unwrap();
    assert_eq!((head.status(), &*text), (StatusCode::OK, "<POST None 4>"));
}

#[tokio::test(start_paused = true)]
async fn connect_is_refused() {
    let running = start().await;
    let mut io = sent(&running, "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n").await;
    let mut got = String::new();
    io.read_to_string(&mut got).await.unwrap();
    assert!(got.starts_with("HTTP/1.1 501 "), "{got}");
    let connect = Request::builder().method(Method::CONNECT).uri("a:80");
    let connect = connect.body(()).unwrap();
    let (head, text, _) = over_http2(&running, connect, None, None).await.unwrap();
    assert_eq!(head.status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(text, "CONNECT is not supported");
}

#[tokio::test(start_paused = true)]
async fn http2_offers_no_websockets() {
    let running = start().await;
    let (client, mut connection) = h2::client::handshake(running.connect()).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    pings.ping(h2::Ping::opaque()).await.unwrap();
    // Its SETTINGS are here, and RFC 8441 is not in them.
    assert!(!client.is_extended_connect_protocol_enabled());
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://server.test/ws")
        .body(())
        .unwrap();
    let websocket = h2::ext::Protocol::from_static("websocket");
    request.extensions_mut().insert(websocket);
    let refused = over_http2(&running, request, None, None).await;
    let reason = refused.unwrap_err().reason();
    assert_eq!(reason, Some(h2::Reason::PROTOCOL_ERROR));
}
