//! A server that does what a test tells it to.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Request, Response, request::Parts};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tonic::{Code, Status, body::Body, codegen::Service};

use crate::{echo::EchoService, pb::echo_server::EchoServer};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long waits go on before they panic.
const PATIENCE: Duration = Duration::from_secs(10);

/// An echo server on a loopback port that the system chooses: it can be made to hold calls, to
/// give other answers, to cut its connections and to stop, and it counts what reaches it.
///
/// It runs in the runtime in which it was started; dropping it ends it and its connections.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    port: Mutex<Port>,
}

/// The port in one of its states.
#[derive(Debug)]
enum Port {
    Open(JoinHandle<()>),
    /// Bound and not listening: connections are refused, and nobody else can take the port.
    Reserved(TcpSocket),
    Changing,
}

struct Shared {
    echo: EchoServer<EchoService>,
    max_streams: Option<u32>,
    accepted: AtomicU64,
    connections: AtomicUsize,
    calls: AtomicU64,
    in_flight: AtomicUsize,
    held: watch::Sender<bool>,
    /// All connections that are open end at once.
    cut: watch::Sender<()>,
    /// All connections that are open take no more streams.
    drain: watch::Sender<()>,
    answer: Mutex<Option<Arc<Answer>>>,
    /// Waiters look again.
    seen: watch::Sender<()>,
}

type Answer = dyn Fn(&Parts) -> Option<Response<Body>> + Send + Sync;

/// Serves the calls of one connection.
struct Handler(Arc<Shared>);

/// Counted while it lives.
struct Counted(Arc<Shared>, fn(&Shared) -> &AtomicUsize);

// === impl Backend ===

impl Backend {
    /// An echo server that calls itself `name`.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, None).await
    }

    /// The same, with a limit of concurrent streams on each connection
    /// (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub async fn with_max_streams(name: &str, limit: u32) -> Self {
        Self::start_with(name, Some(limit)).await
    }

    async fn start_with(name: &str, max_streams: Option<u32>) -> Self {
        let shared = Arc::new(Shared {
            echo: EchoServer::new(EchoService::new(name)),
            max_streams,
            accepted: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            held: watch::Sender::new(false),
            cut: watch::Sender::new(()),
            drain: watch::Sender::new(()),
            answer: Mutex::default(),
            seen: watch::Sender::new(()),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback has a free port");
        Self {
            address: listener.local_addr().expect("a bound socket has one"),
            port: Mutex::new(Port::open(listener, &shared)),
            shared,
        }
    }

    /// Where it listens, also while it is [stopped](Self::stop).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Requests so far, each attempt of a call for itself.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Requests whose response has not begun.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// Holds all requests, before they are answered, until [`release`](Self::release).
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets the requests go on that were held.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Answers requests with what `answer` makes of them, where it makes something.
    pub fn answer(
        &self,
        answer: impl Fn(&Parts) -> Option<Response<Body>> + Send + Sync + 'static,
    ) {
        *self.shared.answer.lock() = Some(Arc::new(answer));
    }

    /// Cuts all connections without a word; further ones are accepted.
    pub fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    /// Sends GOAWAY on all connections: they end once their streams have.
    pub fn drain(&self) {
        self.shared.drain.send_replace(());
    }

    /// Stops listening and cuts all connections: further ones are refused. All is closed when
    /// this returns, and the port stays reserved.
    pub async fn stop(&self) {
        let port = std::mem::replace(&mut *self.port.lock(), Port::Changing);
        let port = port.reserve(self.address).await;
        *self.port.lock() = port;
        self.cut();
        self.until("all connections are closed", |backend| {
            backend.connections() == 0
        })
        .await;
    }

    /// Listens again after [`stop`](Self::stop), on the same port.
    pub fn restart(&self) {
        let mut port = self.port.lock();
        *port = std::mem::replace(&mut *port, Port::Changing).reopen(&self.shared);
    }

    /// Waits until `condition` holds. It is looked at whenever a connection or request begins or
    /// ends.
    ///
    /// # Panics
    /// If it does not hold within 10 s.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let mut seen = self.shared.seen.subscribe();
        let found = async {
            while !condition(self) {
                // The sender is in `self`: it is there as long as this wait.
                let _ = seen.changed().await;
            }
        };
        if timeout(PATIENCE, found).await.is_err() {
            panic!("waited {PATIENCE:?} for: {what}\nseen: {:?}", self.shared);
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Port::Open(task) = &*self.port.lock() {
            task.abort();
        }
        self.cut();
    }
}

/// A response of nothing but a status and these headers ("Trailers-Only").
pub fn status(code: Code, headers: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = Status::new(code, "as the test wants it").into_http();
    for &(name, value) in headers {
        let value = value.parse().expect("a test's own header value");
        response.headers_mut().append(name, value);
    }
    response
}

// === impl Port ===

impl Port {
    fn open(listener: TcpListener, shared: &Arc<Shared>) -> Self {
        Self::Open(tokio::spawn(accept(listener, Arc::clone(shared))))
    }

    async fn reserve(self, address: SocketAddr) -> Self {
        let Self::Open(task) = self else { return self };
        task.abort();
        let _ = task.await;
        let reserve = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            std::io::Result::Ok(socket)
        };
        Self::Reserved(reserve().expect("the port was ours a moment ago"))
    }

    fn reopen(self, shared: &Arc<Shared>) -> Self {
        match self {
            Self::Reserved(socket) => {
                let listener = socket.listen(BACKLOG).expect("the port is reserved");
                Self::open(listener, shared)
            }
            port => port,
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // One that fails to be accepted is the client's to try again.
        if let Ok((io, _)) = listener.accept().await {
            shared.accepted.fetch_add(1, Ordering::SeqCst);
            let counted = Counted::new(&shared, |shared| &shared.connections);
            tokio::spawn(serve(io, counted));
        }
    }
}

async fn serve(io: TcpStream, counted: Counted) {
    let shared = &counted.0;
    let (mut cut, mut drain) = (shared.cut.subscribe(), shared.drain.subscribe());
    let _ = io.set_nodelay(true);
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(shared.max_streams)
        .serve_connection(TokioIo::new(io), Handler(Arc::clone(shared)));
    let mut connection = std::pin::pin!(connection);
    let mut drained = false;
    loop {
        tokio::select! {
            biased;
            _ = cut.changed() => return,
            _ = drain.changed(), if !drained => {
                drained = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = &mut connection => return,
        }
    }
}

// === impl Handler ===

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        shared.calls.fetch_add(1, Ordering::SeqCst);
        let counted = Counted::new(&shared, |shared| &shared.in_flight);
        Box::pin(async move {
            let mut held = shared.held.subscribe();
            // The sender is in `shared`.
            let _ = held.wait_for(|held| !held).await;
            let (head, body) = request.into_parts();
            let answer = shared.answer.lock().clone();
            let answered = answer.and_then(|answer| answer(&head));
            let response = match answered {
                Some(response) => Ok(response),
                None => {
                    let mut echo = shared.echo.clone();
                    echo.call(Request::from_parts(head, body)).await
                }
            };
            drop(counted);
            response
        })
    }
}

// === impl Counted ===

impl Counted {
    fn new(shared: &Arc<Shared>, count: fn(&Shared) -> &AtomicUsize) -> Self {
        count(shared).fetch_add(1, Ordering::SeqCst);
        shared.seen.send_replace(());
        Self(Arc::clone(shared), count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self(shared, count) = self;
        count(shared).fetch_sub(1, Ordering::SeqCst);
        shared.seen.send_replace(());
    }
}

// === impl Shared ===

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("max_streams", &self.max_streams)
            .field("accepted", &self.accepted)
            .field("connections", &self.connections)
            .field("calls", &self.calls)
            .field("in_flight", &self.in_flight)
            .field("held", &*self.held.borrow())
            .finish_non_exhaustive()
    }
}
