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
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use mesh_core::identity::Peer;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tower_service::Service;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// An application that shows what becomes of requests on their way.
///
/// | path | answer |
/// |---|---|
/// | `/echo` | what it saw, as JSON |
/// | `/body/N` | N bytes |
/// | `/stream` | the request's body, frame by frame as it comes, with its trailers |
/// | `/broken` | the beginning of a body, then none of the rest |
/// | `/hang` | none; [`gone`](Self::gone) tells when the caller has given up |
/// | `/status/N` | this status, and no body |
#[derive(Debug, Clone)]
pub struct App {
    name: String,
    gone: Arc<watch::Sender<u64>>,
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
            gone: Arc::new(watch::Sender::new(0)),
        }
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
            ("body", Some(length)) => Response::new(long(length.parse().unwrap_or(0))),
            ("stream", _) => Response::new(streamed(request.into_body())),
            ("broken", _) => Response::new(broken()),
            ("hang", _) => {
                let _gone = Gone(Arc::clone(&self.gone));
                std::future::pending().await
            }
            ("status", Some(status)) => {
                let mut response = Response::new(text(""));
                *response.status_mut() = status.parse().unwrap_or(StatusCode::BAD_REQUEST);
                response
            }
            _ => {
                let mut response = Response::new(text("no such path"));
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
        Response::new(text(&json))
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

fn text(text: &str) -> Body {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    body.map_err(|never| match never {}).boxed_unsync()
}

/// So many bytes: 0, 1, 2 ... 250, 0, 1 ...
fn long(length: usize) -> Body {
    const PIECE: usize = 16 << 10;
    let frames = (0..length).step_by(PIECE).map(move |from| {
        let to = length.min(from + PIECE);
        let data: Vec<u8> = (from..to).map(|at| (at % 251) as u8).collect();
        Ok(Frame::data(Bytes::from(data)))
    });
    StreamBody::new(tokio_stream::iter(frames)).boxed_unsync()
}

fn streamed<B>(mut body: B) -> Body
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + Unpin + 'static,
{
    let (frames, streamed) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            if frames.send(frame.map_err(Into::into)).await.is_err() {
                return;
            }
        }
    });
    StreamBody::new(ReceiverStream::new(streamed)).boxed_unsync()
}

fn broken() -> Body {
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"the beginning"))),
        Err(BoxError::from(io::Error::other("broken on purpose"))),
    ];
    StreamBody::new(tokio_stream::iter(frames)).boxed_unsync()
}
