use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::body::{self, Body};
use crate::envoy::config::Protocol;

/// A client that knows of no mesh.
#[derive(Debug, Clone)]
pub struct PlainClient {
    client: Client<HttpConnector, Body>,
    at: SocketAddr,
}

impl PlainClient {
    /// Speaks this with whoever listens there.
    pub fn new(protocol: Protocol, at: SocketAddr) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .http2_only(protocol == Protocol::Http2);
        Self {
            client: builder.build_http(),
            at,
        }
    }

    /// The URI of a path there.
    pub fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    /// Sends a request to this path.
    ///
    /// # Errors
    /// If no response begins.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let request = Request::builder().method(method).uri(self.uri(path));
        let request = request.header("te", "trailers").header("x-tag", "here");
        let request = request
            .body(body)
            .expect("a method and a path make a request");
        self.request(request).await
    }

    /// Sends this request, whose URI is one of [`uri`](Self::uri).
    ///
    /// # Errors
    /// If no response begins.
    pub async fn request(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        self.client.request(request).await
    }

    /// The whole response to a GET of this path.
    ///
    /// # Errors
    /// If there is none, or it ends before it should.
    pub async fn get(&self, path: &str) -> Result<(StatusCode, HeaderMap, Bytes), super::BoxError> {
        let body = body::empty();
        let (head, body) = self.send("GET", path, body).await?.into_parts();
        Ok((head.status, head.headers, body.collect().await?.to_bytes()))
    }
}

/// Has it do something, by a POST.
pub async fn post(at: SocketAddr, path: &str) {
    let client = PlainClient::new(Protocol::Http1, at);
    let answer = client.send("POST", path, body::empty()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
}

/// The text that a GET is answered with; empty if it is not.
pub async fn get(at: SocketAddr, path: &str) -> String {
    match PlainClient::new(Protocol::Http1, at).get(path).await {
        Ok((_, _, body)) => String::from_utf8_lossy(&body).into_owned(),
        Err(_) => String::new(),
    }
}
