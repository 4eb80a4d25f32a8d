use std::{
    convert::Infallible,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use mesh_core::{
    Mesh,
    telemetry::{
        dialect::{self, Dialect},
        prometheus::{CONTENT_TYPE as TEXT, text},
    },
};
use tokio::{net::TcpListener, task::JoinSet};
use tower_service::Service;

/// The metrics of a mesh as the text that Prometheus scrapes, in Istio's, OpenTelemetry's and gRPC's
/// words, and what else there is to tell of the process ([`dialect::all`]), unless
/// [`dialects`](Self::dialects) chooses.
///
/// It answers GET and HEAD on whatever path it is asked for: mount it where it belongs, such as
/// `/metrics` of an axum router, or let it [`serve`](Self::serve) a port of its own.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use mesh_core::Mesh;
/// use mesh_hyper::Prometheus;
///
/// let mesh = Mesh::from_env().await?;
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:9090").await?;
/// tokio::spawn(Prometheus::new(&mesh).serve(listener));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Prometheus {
    mesh: Mesh,
    dialects: Arc<[Arc<dyn Dialect>]>,
}

/// A text under way.
#[must_use = "futures do nothing unless polled"]
pub struct PrometheusFuture(Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>);

/// Connections that [`Prometheus::serve`] carries at a time.
const MOST_CONNECTIONS: usize = 64;
/// How long one may take for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing is accepted after the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

// === impl Prometheus ===

impl Prometheus {
    /// The metrics of `mesh`, in all dialects.
    pub fn new(mesh: &Mesh) -> Self {
        Self {
            mesh: mesh.clone(),
            dialects: dialect::all().into(),
        }
    }

    /// In these dialects alone.
    pub fn dialects(mut self, dialects: impl IntoIterator<Item = Arc<dyn Dialect>>) -> Self {
        self.dialects = dialects.into_iter().collect();
        self
    }

    /// The text of this moment.
    pub async fn text(&self) -> String {
        text(&self.mesh.reading().await.families(&self.dialects))
    }

    /// Serves what `listener` accepts, until the future is dropped: in plaintext and to whoever
    /// comes, as Prometheus expects it, so bind it to an address that only the platform reaches. At
    /// most 64 connections at a time.
    pub async fn serve(self, listener: TcpListener) {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT);
        server.http2().timer(TokioTimer::new());
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= MOST_CONNECTIONS {
                connections.join_next().await;
            }
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let (stream, _) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if error.kind() != io::ErrorKind::ConnectionAborted {
                        tracing::debug!(%error, "no connection could be accepted for metrics");
                        tokio::time::sleep(PAUSE).await;
                    }
                    continue;
                }
            };
            let service = TowerToHyperService::new(self.clone());
            let server = server.clone();
            connections.spawn(async move {
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }
}

impl<B> Service<Request<B>> for Prometheus {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = PrometheusFuture;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> PrometheusFuture {
        let method = request.method();
        if method != Method::GET && method != Method::HEAD {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return PrometheusFuture(Box::pin(std::future::ready(response)));
        }
        let me = self.clone();
        PrometheusFuture(Box::pin(async move {
            let mut response = Response::new(Full::from(me.text().await));
            let kind = HeaderValue::from_static(TEXT);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }))
    }
}

// === impl PrometheusFuture ===

impl Future for PrometheusFuture {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for PrometheusFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrometheusFuture")
    }
}
