//! Servers of the echo service that can be stopped hard, made to answer otherwise, and counted. They
//! speak HTTP/1.1 and HTTP/2; what is not gRPC is answered with the server's name.

use std::{
    convert::Infallible,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tonic::{Status, body::Body, codegen::Service as _};

use crate::{echo::EchoService, pb::echo_server::EchoServer};

/// How long a test waits for a server to see something before it panics.
const PATIENCE: Duration = Duration::from_secs(20);
const BACKLOG: u32 = 1024;

/// An echo server on a loopback port that the system chooses. Ends hard when it is dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    port: Option<Port>,
    shared: Arc<Shared>,
}

/// What a server does with a call.
#[derive(Debug)]
pub enum Answer {
    /// Echoes.
    Echo,
    /// Echoes, once [`Backend::release`] is called.
    Held,
    /// Fails with this status, in trailers alone; plain HTTP with 503.
    Status(Status),
    /// Answers with this.
    Response(Response<Body>),
}

/// What a server has seen. Counts of events only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that began.
    pub calls: u64,
    /// Calls under way.
    pub active: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
}

#[derive(Debug)]
enum Port {
    Open(JoinHandle<()>),
    /// Bound and not listening: connections are refused, and nobody else can take the port.
    Refusing(TcpSocket),
}

type Script = Arc<dyn Fn(&Parts) -> Answer + Send + Sync>;

struct Shared {
    echo: EchoServer<EchoService>,
    name: String,
    script: Mutex<Script>,
    counts: watch::Sender<Counts>,
    /// Counts releases.
    released: watch::Sender<u64>,
    /// Counts requests to go away.
    go_away: watch::Sender<u64>,
    max_streams: AtomicU32,
}

/// Counts one call, or one connection, until it is dropped.
struct Counted {
    shared: Arc<Shared>,
    end: fn(&mut Counts),
}

/// A body that counts as a call.
struct CountedBody {
    body: Body,
    _call: Counted,
}

// === impl Backend ===

impl Backend {
    /// Starts a server that calls itself `name`.
    pub async fn start(name: &str) -> Self {
        let mut backend = Self::refusing(name);
        backend.open();
        backend
    }

    /// A server that does not listen yet: its port is there, and refuses connections.
    pub fn refusing(name: &str) -> Self {
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Self {
            address: socket.local_addr().expect("a bound socket has an address"),
            port: Some(Port::Refusing(socket)),
            shared: Arc::new(Shared {
                echo: EchoServer::new(EchoService::new(name)),
                name: name.to_owned(),
                script: Mutex::new(Arc::new(|_| Answer::Echo)),
                counts: watch::Sender::default(),
                released: watch::Sender::default(),
                go_away: watch::Sender::default(),
                max_streams: AtomicU32::new(u32::MAX),
            }),
        }
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens, also while it does not.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, if it does not yet.
    ///
    /// # Panics
    /// If it cannot.
    pub fn open(&mut self) {
        self.port = match self.port.take() {
            Some(Port::Refusing(socket)) => {
                let listener = socket.listen(BACKLOG).expect("a reserved port can be used");
                let serve = serve(listener, Arc::clone(&self.shared));
                Some(Port::Open(tokio::spawn(serve)))
            }
            open => open,
        };
    }

    /// Stops like a killed process: connections break without a word and further ones are
    /// refused. All is closed when this returns.
    pub async fn stop(&mut self) {
        if let Some(Port::Open(task)) = self.port.take() {
            task.abort();
            let _ = task.await;
        }
        self.port
            .get_or_insert_with(|| Port::Refusing(bind(self.address)));
        self.until("all connections are closed", |counts| counts.open == 0)
            .await;
    }

    /// Sends GOAWAY on all connections and lets their calls end; further ones are accepted.
    pub fn go_away(&self) {
        self.shared.go_away.send_modify(|times| *times += 1);
    }

    /// Lets a client have this many streams on each connection that is accepted from now on.
    pub fn max_streams(&self, streams: u32) {
        self.shared.max_streams.store(streams, Ordering::Relaxed);
    }

    /// Answers calls from now on as `script` says.
    pub fn answer(&self, script: impl Fn(&Parts) -> Answer + Send + Sync + 'static) {
        *self.shared.script.lock() = Arc::new(script);
    }

    /// Holds calls from now on.
    pub fn hold(&self) {
        self.answer(|_| Answer::Held);
    }

    /// Answers calls from now on, and those that were held.
    pub fn release(&self) {
        self.answer(|_| Answer::Echo);
        self.shared.released.send_modify(|times| *times += 1);
    }

    /// What it has seen.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Calls that began.
    pub fn calls(&self) -> u64 {
        self.counts().calls
    }

    /// Waits until `condition` holds for what it has seen.
    ///
    /// # Panics
    /// If that takes longer than 20 s.
    pub async fn until(&self, what: &str, condition: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.shared.counts.subscribe();
        match timeout(PATIENCE, counts.wait_for(condition)).await {
            Ok(Ok(counts)) => *counts,
            _ => panic!(
                "{}: waited in vain until {what}; seen: {:?}",
                self.shared.name,
                self.counts()
            ),
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(Port::Open(task)) = &self.port {
            task.abort();
        }
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket
        .set_reuseaddr(true)
        .and_then(|()| socket.bind(address))
        .expect("loopback has ports");
    socket
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((io, _)) = accepted {
                    connections.spawn(connection(io, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(io: TcpStream, shared: Arc<Shared>) {
    let _open = Counted::new(
        &shared,
        |counts| {
            counts.accepted += 1;
            counts.open += 1;
        },
        |counts| counts.open -= 1,
    );
    let _ = io.set_nodelay(true);
    let mut go_away = shared.go_away.subscribe();
    let max_streams = shared.max_streams.load(Ordering::Relaxed);
    let service = service_fn(|request| answer(Arc::clone(&shared), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .max_concurrent_streams((max_streams != u32::MAX).then_some(max_streams));
    let connection = builder.serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = go_away.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<CountedBody>, Infallible> {
    let call = Counted::new(
        &shared,
        |counts| {
            counts.calls += 1;
            counts.active += 1;
        },
        |counts| counts.active -= 1,
    );
    let mut released = shared.released.subscribe();
    let (head, body) = request.into_parts();
    let script = Arc::clone(&shared.script.lock());
    let answer = script(&head);
    let plain =
        head.headers.get(CONTENT_TYPE) != Some(&HeaderValue::from_static("application/grpc"));
    let response = match answer {
        Answer::Status(_) if plain => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
        Answer::Status(status) => status.into_http(),
        Answer::Response(response) => response,
        Answer::Echo | Answer::Held => {
            if let Answer::Held = answer {
                // The sender is in `shared`.
                let _ = released.changed().await;
            }
            if plain {
                // So that HTTP/1.1 can go on.
                let _ = body.collect().await;
                let name = Bytes::from(shared.name.clone());
                let name = Full::new(name).map_err(|never| match never {});
                let body = CountedBody {
                    body: Body::new(name),
                    _call: call,
                };
                return Ok(Response::new(body));
            }
            let request = Request::from_parts(head, body);
            match shared.echo.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    Ok(response.map(|body| CountedBody { body, _call: call }))
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .field("counts", &*self.counts.borrow())
            .finish_non_exhaustive()
    }
}

// === impl Counted ===

impl Counted {
    fn new(shared: &Arc<Shared>, begin: fn(&mut Counts), end: fn(&mut Counts)) -> Self {
        shared.counts.send_modify(begin);
        Self {
            shared: Arc::clone(shared),
            end,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.counts.send_modify(self.end);
    }
}

// === impl CountedBody ===

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
