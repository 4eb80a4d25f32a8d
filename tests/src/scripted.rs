//! An echo server that follows the script of a test.

use std::{
    error::Error,
    fmt,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE, request::Parts};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tonic::{Status, body::Body, codegen::Service};

use crate::{echo::EchoService, pb::echo_server::EchoServer};

/// How long [`Scripted::until`] waits before it panics.
const PATIENCE: Duration = Duration::from_secs(10);

/// An echo server on a loopback port that the system chose. It counts what it sees, and a test may
/// [answer](Self::answer) in its place. Dropping it kills it.
pub struct Scripted {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// What a backend has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Calls that have come.
    pub calls: u64,
    /// Calls under way: neither answered to the end, nor failed, nor cancelled.
    pub open: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub connections: u64,
}

/// A call that waits for its answer. Dropping it without one resets it.
pub struct Call {
    /// Its place among the calls to the backend, from 1.
    pub number: u64,
    /// Its head.
    pub head: Parts,
    body: Body,
    name: Arc<str>,
}

/// What a call is answered with.
pub type Answer = Result<Response<Body>, Reset>;

/// Resets the stream.
#[derive(Debug)]
pub struct Reset(h2::Error);

struct Shared {
    name: Arc<str>,
    seen: watch::Sender<Seen>,
    heads: Mutex<Vec<Head>>,
    script: Mutex<Arc<Script>>,
    /// Asks all connections to end after their calls.
    shutdown: watch::Sender<()>,
    /// Ends all connections.
    cut: watch::Sender<()>,
}

/// The head of a call, as it came.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its path.
    pub path: String,
    /// Its authority.
    pub authority: Option<String>,
    /// Its headers.
    pub headers: HeaderMap,
}

type Script = dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync;

/// Counts something for as long as it lives.
struct Counted(Arc<Shared>, fn(&mut Seen) -> &mut u64);

/// A body that keeps its call open.
struct Counting {
    body: Body,
    open: Option<Counted>,
}

// === impl Scripted ===

impl Scripted {
    /// Starts a backend that calls itself `name` and echoes.
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        Self::on(name, listener.expect("loopback has a port to give"))
    }

    /// The same on a port that is open already.
    pub fn on(name: &str, listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            name: name.into(),
            seen: watch::Sender::default(),
            heads: Mutex::default(),
            script: Mutex::new(Arc::new(|call: Call| Box::pin(call.echo()))),
            shutdown: watch::Sender::default(),
            cut: watch::Sender::default(),
        });
        let task = tokio::spawn(accept(Arc::clone(&shared), listener));
        Self {
            shared,
            address,
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers all calls from here on so.
    pub fn answer<F>(&self, script: impl Fn(Call) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        *self.shared.script.lock() = Arc::new(move |call| Box::pin(script(call)));
    }

    /// Echoes all calls from here on.
    pub fn echo(&self) {
        self.answer(Call::echo);
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        *self.shared.seen.borrow()
    }

    /// The heads of the calls so far.
    pub fn heads(&self) -> Vec<Head> {
        self.shared.heads.lock().clone()
    }

    /// Waits until what it has seen is so.
    ///
    /// # Panics
    /// If it is not within 10 s.
    pub async fn until(&self, what: &str, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.shared.seen.subscribe();
        if timeout(PATIENCE, seen.wait_for(condition)).await.is_err() {
            panic!("{}: {what}: {:?}", self.shared.name, self.seen());
        }
    }

    /// Asks all connections to end after the calls that they carry (GOAWAY). New ones are accepted.
    pub fn shut_down_connections(&self) {
        self.shared.shutdown.send_replace(());
    }

    /// Breaks all connections without a word. New ones are accepted.
    pub fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    /// Kills it like a process: connections break, and the port is closed when this returns.
    pub async fn kill(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.until("connections are closed", |seen| seen.connections == 0)
            .await;
        self.address
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted")
            .field("name", &self.shared.name)
            .field("address", &self.address)
            .field("seen", &self.seen())
            .finish()
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    // Aborted with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let counted = Counted::new(
            &shared,
            |seen| &mut seen.connections,
            |seen| {
                seen.accepted += 1;
            },
        );
        connections.spawn(serve(Arc::clone(&shared), stream, counted));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, _counted: Counted) {
    let _ = stream.set_nodelay(true);
    let (mut shutdown, mut cut) = (shared.shutdown.subscribe(), shared.cut.subscribe());
    let service = service_fn(|request| handle(Arc::clone(&shared), request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = shutdown.changed() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    };
    tokio::select! {
        () = served => {}
        _ = cut.changed() => {}
    }
}

async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Counting>, Reset> {
    let (head, body) = request.into_parts();
    shared.heads.lock().push(Head {
        path: head.uri.path().to_owned(),
        authority: head.uri.authority().map(ToString::to_string),
        headers: head.headers.clone(),
    });
    let mut number = 0;
    let open = Counted::new(
        &shared,
        |seen| &mut seen.open,
        |seen| {
            seen.calls += 1;
            number = seen.calls;
        },
    );
    let script = Arc::clone(&shared.script.lock());
    let call = Call {
        number,
        head,
        body: Body::new(body),
        name: Arc::clone(&shared.name),
    };
    let response = script(call).await?;
    Ok(response.map(|body| Counting {
        body,
        open: Some(open),
    }))
}

// === impl Call ===

impl Call {
    /// The echo's answer.
    pub async fn echo(self) -> Answer {
        let mut echo = EchoServer::new(EchoService::new(&*self.name))
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        let answer = echo.call(Request::from_parts(self.head, self.body)).await;
        Ok(answer.unwrap_or_else(|never| match never {}))
    }

    /// The echo's answer with more headers, and more trailers.
    pub async fn echo_with(self, headers: HeaderMap, trailers: HeaderMap) -> Answer {
        let mut response = self.echo().await?;
        response.headers_mut().extend(headers);
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |mut frame| {
                if let Some(last) = frame.trailers_mut() {
                    last.extend(trailers.clone());
                }
                frame
            }))
        }))
    }

    /// Nothing but trailers.
    pub async fn fail(self, status: Status) -> Answer {
        Ok(status.into_http())
    }

    /// Headers, then trailers with this status.
    pub async fn headers_then(self, status: Status) -> Answer {
        let mut trailers = HeaderMap::new();
        status
            .add_header(&mut trailers)
            .expect("a status of a test can be a header");
        let body = Full::new(Bytes::new()).with_trailers(std::future::ready(Some(Ok(trailers))));
        Ok(respond(Body::new(body)))
    }

    /// Headers, and nothing more.
    pub async fn stall(self) -> Answer {
        let nothing = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        let stream = http_body_util::StreamBody::new(nothing);
        // The request stays open too.
        let _request = self.body;
        let body = stream.map_frame(move |frame| {
            let _ = &_request;
            frame
        });
        Ok(respond(Body::new(body)))
    }

    /// Nothing at all, until the call is given up.
    pub async fn hold(self) -> Answer {
        std::future::pending().await
    }

    /// Resets the stream.
    pub async fn reset(self, reason: h2::Reason) -> Answer {
        Err(Reset(reason.into()))
    }

    /// Reads the request to its end. It can be echoed nevertheless.
    pub async fn read(&mut self) -> Result<Bytes, Status> {
        let bytes = std::mem::take(&mut self.body).collect().await?.to_bytes();
        self.body = Body::new(Full::new(bytes.clone()));
        Ok(bytes)
    }
}

fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("number", &self.number)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

// === impl Reset ===

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Reset {
    /// Where hyper looks for the reason.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

// === impl Counted ===

impl Counted {
    /// Counts it, together with what else `changes`.
    fn new(
        shared: &Arc<Shared>,
        count: fn(&mut Seen) -> &mut u64,
        changes: impl FnOnce(&mut Seen),
    ) -> Self {
        shared.seen.send_modify(|seen| {
            *count(seen) += 1;
            changes(seen);
        });
        Self(Arc::clone(shared), count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.seen.send_modify(|seen| *(self.1)(seen) -= 1);
    }
}

// === impl Counting ===

impl http_body::Body for Counting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = &frame {
            self.open = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
