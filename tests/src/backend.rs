//! Servers of the echo service that follow the script of a test, can be stopped hard, and are counted.
//! They speak HTTP/1.1 and HTTP/2, gRPC and plain HTTP.

mod call;

use std::{
    collections::VecDeque,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tonic::{Status, body::Body};

pub use self::call::{Answer, Call, Reset};

/// How long a test waits for a server to see something before it panics.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many heads a server remembers.
const HEADS: usize = 8;
const BACKLOG: u32 = 1024;

/// An echo server on a loopback port that the system chooses. Ends hard when it is dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    port: Option<Port>,
    shared: Arc<Shared>,
}

/// What a server has seen. Counts of events only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that began.
    pub calls: u64,
    /// Calls under way: neither answered to the end, nor failed, nor cancelled.
    pub active: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
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

#[derive(Debug)]
enum Port {
    Open(JoinHandle<()>),
    /// Bound and not listening: connections are refused, and nobody else can take the port.
    Refusing(TcpSocket),
}

type Script = dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync;

struct Shared {
    name: Arc<str>,
    script: Mutex<Arc<Script>>,
    /// No more than [`HEADS`]: a server of many calls is not to grow.
    heads: Mutex<VecDeque<Head>>,
    counts: watch::Sender<Counts>,
    /// Counts releases.
    released: watch::Sender<u64>,
    /// Asks all connections to end after their calls.
    go_away: watch::Sender<()>,
    /// Ends all connections.
    cut: watch::Sender<()>,
    max_streams: AtomicU32,
}

/// Counts one call, or one connection, until it is dropped.
struct Counted {
    shared: Arc<Shared>,
    end: fn(&mut Counts),
}

/// A body that counts as a call until it ends.
struct CountedBody {
    body: Body,
    call: Option<Counted>,
}

// === impl Backend ===

impl Backend {
    /// Starts a server that calls itself `name`, and echoes.
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
                name: name.into(),
                script: Mutex::new(Arc::new(|call: Call| Box::pin(call.echo()))),
                heads: Mutex::default(),
                counts: watch::Sender::default(),
                released: watch::Sender::default(),
                go_away: watch::Sender::default(),
                cut: watch::Sender::default(),
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
                let serve = accept(listener, Arc::clone(&self.shared));
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

    /// Breaks all connections without a word; further ones are accepted.
    pub fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    /// Sends GOAWAY on all connections and lets their calls end; further ones are accepted. Those of
    /// HTTP/1.1 are closed if they are idle, else after their response, which says so.
    pub fn go_away(&self) {
        self.shared.go_away.send_replace(());
    }

    /// Lets a client have this many streams on each connection that is accepted from now on.
    pub fn max_streams(&self, streams: u32) {
        self.shared.max_streams.store(streams, Ordering::Relaxed);
    }

    /// Answers calls from now on as `script` says.
    pub fn answer<F>(&self, script: impl Fn(Call) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        *self.shared.script.lock() = Arc::new(move |call| Box::pin(script(call)));
    }

    /// Echoes calls from now on.
    pub fn echo(&self) {
        self.answer(Call::echo);
    }

    /// Holds calls from now on.
    pub fn hold(&self) {
        self.answer(Call::hold);
    }

    /// Echoes calls from now on, and those that were held.
    pub fn release(&self) {
        self.echo();
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

    /// The heads of the last calls, 8 at most, the last one at the end.
    pub fn heads(&self) -> Vec<Head> {
        self.shared.heads.lock().iter().cloned().collect()
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

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
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
    let (mut go_away, mut cut) = (shared.go_away.subscribe(), shared.cut.subscribe());
    let max_streams = shared.max_streams.load(Ordering::Relaxed);
    let service = service_fn(|request| answer(Arc::clone(&shared), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new());
    if max_streams != u32::MAX {
        http2.max_concurrent_streams(max_streams);
    }
    let connection = builder.serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = go_away.changed() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    };
    tokio::select! {
        () = served => {}
        _ = cut.changed() => {}
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<CountedBody>, Reset> {
    let (head, body) = request.into_parts();
    shared.remember(&head);
    let mut number = 0;
    let counted = Counted::new(
        &shared,
        |counts| {
            counts.calls += 1;
            counts.active += 1;
            number = counts.calls;
        },
        |counts| counts.active -= 1,
    );
    let script = Arc::clone(&shared.script.lock());
    let released = shared.released.subscribe();
    let call = Call::new(number, head, Body::new(body), &shared.name, released);
    let response = script(call).await?;
    Ok(response.map(|body| CountedBody {
        body,
        call: Some(counted),
    }))
}

// === impl Shared ===

impl Shared {
    fn remember(&self, head: &http::request::Parts) {
        let mut heads = self.heads.lock();
        if heads.len() == HEADS {
            heads.pop_front();
        }
        heads.push_back(Head::of(head));
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .field("counts", &*self.counts.borrow())
            .finish_non_exhaustive()
    }
}

// === impl Head ===

impl Head {
    fn of(head: &http::request::Parts) -> Self {
        let host = || head.headers.get(http::header::HOST)?.to_str().ok();
        let authority = head.uri.authority().map(|authority| authority.as_str());
        Self {
            path: head.uri.path().to_owned(),
            authority: authority.or_else(host).map(str::to_owned),
            headers: head.headers.clone(),
        }
    }
}

// === impl Counted ===

impl Counted {
    fn new(shared: &Arc<Shared>, begin: impl FnOnce(&mut Counts), end: fn(&mut Counts)) -> Self {
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
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = &frame {
            self.call = None;
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
