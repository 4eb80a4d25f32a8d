use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header::TRAILER};
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use mesh_core::identity::Peer;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tower_service::Service;

use super::body::{self, Body, BoxError};

/// An application that shows what becomes of requests on their way.
///
/// | path | answer |
/// |---|---|
/// | `/echo` | what it saw, as JSON |
/// | `/hold` | the same, and it reads nothing before it is [let go](Self::let_go) |
/// | `/body/N` | N bytes; [`asked`](Self::asked) tells how many have been asked for |
/// | `/stream` | the request's body, frame by frame as it comes, with its trailers |
/// | `/broken` | the beginning of a body, then none of the rest |
/// | `/break` | the same, and it breaks off when it is [let go](Self::let_go) |
/// | `/hang` | none; [`hangs`](Self::hangs) tells of the caller, [`gone`](Self::gone) when it has given up |
/// | `/status/N` | this status, and no body |
#[derive(Debug, Clone)]
pub struct App {
    name: String,
    hangs: Arc<watch::Sender<u64>>,
    gone: Arc<watch::Sender<u64>>,
    asked: Arc<watch::Sender<u64>>,
    free: Arc<watch::Sender<bool>>,
}

/// What the application saw of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Whose application it is.
    pub server: String,
    /// The method.
    pub method: String,
    /// The path and the query.
    pub path: String,
    /// Bytes of the body.
    pub length: u64,
    /// Their sum.
    pub sum: u64,
    /// Who sent it, where there is a certificate.
    pub peer: Option<String>,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// The value of the header `x-tag`.
    pub tag: Option<String>,
}

/// Counts a request that nobody waits for any more.
struct Gone(Arc<watch::Sender<u64>>);

// === impl App ===

impl App {
    /// That of the server with this name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            hangs: Arc::new(watch::Sender::new(0)),
            gone: Arc::new(watch::Sender::new(0)),
            asked: Arc::new(watch::Sender::new(0)),
            free: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Lets requests that wait for it go on, and all that come.
    pub fn let_go(&self) {
        self.free.send_replace(true);
    }

    /// Bytes that the last `/body/N` was asked for.
    pub fn asked(&self) -> u64 {
        *self.asked.borrow()
    }

    /// Waits until so many requests for `/hang` have come.
    pub async fn hangs(&self, requests: u64) {
        let mut hangs = self.hangs.subscribe();
        let waited = hangs.wait_for(|&hangs| hangs >= requests).await;
        drop(waited.expect("the application is here"));
    }

    /// Waits until so many requests for `/hang` have been given up.
    pub async fn gone(&self, requests: u64) {
        let mut gone = self.gone.subscribe();
        let waited = gone.wait_for(|&gone| gone >= requests).await;
        drop(waited.expect("the application is here"));
    }

    /// Serves it on plain hyper, on a port of the system's choice, HTTP/1.1 and HTTP/2. Ends when
    /// the guard is dropped.
    pub async fn serve_plainly(&self) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("loopback has a port");
        let address = listener.local_addr().expect("a listener has an address");
        let app = self.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let app = app.clone();
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let app = app.clone();
                        async move { Ok::<_, Infallible>(app.answer(request).await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        (address, serving)
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + Unpin + 'static,
    {
        let path = request.uri().path().to_owned();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        match (parts.next().unwrap_or_default(), parts.next()) {
            ("echo", _) => self.echo(request).await,
            ("hold", _) => {
                freed(&self.free).await;
                self.echo(request).await
            }
            ("body", Some(length)) => {
                let length = length.parse().unwrap_or(0);
                Response::new(body::long(length, self.asked))
            }
            ("stream", _) => streamed(request),
            ("broken", _) => Response::new(broken(std::future::ready(()))),
            ("break", _) => {
                let free = self.free;
                Response::new(broken(async move { freed(&free).await }))
            }
            ("hang", _) => {
                self.hangs.send_modify(|hangs| *hangs += 1);
                let _gone = Gone(Arc::clone(&self.gone));
                std::future::pending().await
            }
            ("status", Some(status)) => {
                let mut response = Response::new(body::empty());
                *response.status_mut() = status.parse().unwrap_or(StatusCode::BAD_REQUEST);
                response
            }
            _ => {
                let mut response = Response::new(body::full("no such path"));
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }

    async fn echo<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + Unpin + 'static,
    {
        let (head, mut body) = request.into_parts();
        let (mut length, mut sum) = (0, 0);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { break };
            if let Some(data) = frame.data_ref() {
                length += data.len() as u64;
                sum += data.iter().copied().map(u64::from).sum::<u64>();
            }
        }
        let peer = head.extensions.get::<Arc<Peer>>();
        let tag = head.headers.get("x-tag");
        let echo = Echo {
            server: self.name,
            method: head.method.to_string(),
            path: head
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            length,
            sum,
            peer: peer.and_then(|peer| peer.id()).map(str::to_owned),
            protocol: version(head.version),
            tag: tag.map(|tag| String::from_utf8_lossy(tag.as_bytes()).into_owned()),
        };
        let json = serde_json::to_string(&echo).expect("plain data is JSON");
        Response::new(body::full(json))
    }
}

impl<B> Service<Request<B>> for App
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let app = self.clone();
        Box::pin(async move { Ok(app.answer(request).await) })
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.send_modify(|gone| *gone += 1);
    }
}

fn version(version: Version) -> String {
    format!("{version:?}")
}

async fn freed(free: &watch::Sender<bool>) {
    let mut free = free.subscribe();
    let waited = free.wait_for(|free| *free).await;
    drop(waited.expect("the application is here"));
}

fn streamed<B>(request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + Unpin + 'static,
{
    let (head, mut body) = request.into_parts();
    let (frames, streamed) = body::streamed();
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            if frames.send(frame.map_err(Into::into)).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(streamed);
    // HTTP/1.1 sends no trailers that it has not announced.
    if let Some(announced) = head.headers.get(TRAILER) {
        response.headers_mut().insert(TRAILER, announced.clone());
    }
    response
}

/// The beginning of a body, and after this its break.
fn broken(when: impl Future<Output = ()> + Send + 'static) -> Body {
    let (frames, broken) = body::streamed();
    tokio::spawn(async move {
        let begin = Frame::data(Bytes::from_static(b"the beginning"));
        if frames.send(Ok(begin)).await.is_ok() {
            when.await;
            let error = io::Error::other("broken on purpose");
            let _ = frames.send(Err(error.into())).await;
        }
    });
    broken
}
