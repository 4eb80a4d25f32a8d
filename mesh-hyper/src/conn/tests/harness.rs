use std::{
    any::Any,
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::server::SendResponse;
use http_body_util::BodyExt;
use mesh_core::{
    balance::{
        Connectivity, Group, LinkContext, LinkState, Observer, Pick, PickCx, Policy, PolicySpec,
        TlsId,
    },
    config::{
        Address, Breakers, CaSource, CertificateProvider, Cluster, Connections, Discovery,
        EndpointConfig, Health, LbPolicy, PolicyConfig, UpstreamTls,
    },
    runtime::Transport,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, watch},
};

use crate::{
    body::Outgoing,
    conn::{Dial, DialFuture, Net, NetOptions, Pool, SendError, Stream, StreamGuard},
};

pub(super) type Call = (http::Request<h2::RecvStream>, SendResponse<Bytes>);
pub(super) type Reply = Result<(http::Response<hyper::body::Incoming>, StreamGuard), SendError>;

/// A network of one address, in memory: the test gets the other end of what is dialled.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) dials: AtomicUsize,
    pub(super) refuse: AtomicBool,
    pub(super) hang: AtomicBool,
    accept: mpsc::UnboundedSender<DuplexStream>,
}

impl Dial for Memory {
    fn dial(&self, _address: &Address) -> DialFuture {
        self.dials.fetch_add(1, Ordering::SeqCst);
        if self.hang.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        if self.refuse.load(Ordering::SeqCst) {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        let (client, server) = tokio::io::duplex(1 << 16);
        // If nobody accepts, the stream is closed at once.
        let _ = self.accept.send(server);
        Box::pin(async { Ok(Stream::new(client)) })
    }
}

/// A pool, and all that a test looks at.
pub(super) struct Fixture {
    pub(super) net: Net,
    pub(super) pool: Option<Pool>,
    pub(super) link: Arc<LinkState>,
    pub(super) memory: Arc<Memory>,
    pub(super) log: Arc<Log>,
    accept: mpsc::UnboundedReceiver<DuplexStream>,
    /// Tasks that were there before.
    tasks: usize,
}

/// All changes of a link.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) changes: Mutex<Vec<Connectivity>>,
    latest: watch::Sender<Connectivity>,
}

impl Observer for Log {
    fn changed(&self, _link: &LinkState, _from: Connectivity, to: Connectivity) {
        self.changes.lock().push(to);
        self.latest.send_replace(to);
    }
}

/// What a test sets of the configuration.
#[derive(Default)]
pub(super) struct Config {
    pub(super) connections: Connections,
    pub(super) cap: Option<u32>,
    pub(super) tls: bool,
    /// HTTP semantics.
    pub(super) http: bool,
    pub(super) breakers: Breakers,
    pub(super) options: NetOptions,
}

#[derive(Debug)]
struct NoPolicy;

impl PolicySpec for NoPolicy {
    fn name(&self) -> &'static str {
        "none"
    }
    fn build(&self, _: &Arc<Group>) -> Box<dyn Policy> {
        Box::new(NoPolicy)
    }
    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn Any).is::<NoPolicy>()
    }
}

impl Policy for NoPolicy {
    fn pick(&self, _: &PickCx<'_>) -> Pick {
        Pick::None
    }
}

/// An endpoint, and all that happens to it.
pub(super) fn link_and_log(address: Address, config: &Config) -> (Arc<LinkState>, Arc<Log>) {
    let log = Arc::new(Log {
        changes: Mutex::default(),
        latest: watch::Sender::new(Connectivity::Idle),
    });
    let observer: Weak<dyn Observer> = {
        let log: Arc<dyn Observer> = Arc::clone(&log) as _;
        Arc::downgrade(&log)
    };
    let context = LinkContext {
        semantics: match config.http {
            true => mesh_core::Semantics::Http,
            false => mesh_core::Semantics::Grpc,
        },
        cluster: Arc::new(Cluster {
            name: "backends".into(),
            discovery: Discovery::Eds("backends".into()),
            lb: LbPolicy::Endpoints(PolicyConfig(Arc::new(NoPolicy))),
            breakers: Breakers {
                max_connections_per_host: config.cap,
                ..config.breakers
            },
            connections: config.connections.clone(),
            tls: config.tls.then(|| {
                Arc::new(UpstreamTls {
                    roots: CaSource::Provider(CertificateProvider {
                        instance: "default".into(),
                        certificate: "".into(),
                    }),
                    identity: None,
                    sans: Vec::new(),
                    sni: None,
                    auto_host_sni: false,
                    auto_sni_san_validation: false,
                })
            }),
            report_load: None,
            service: None,
            panic_threshold: 50.0,
        }),
        tls: TlsId::PLAINTEXT,
        locality: Arc::default(),
        observer,
    };
    let endpoint = EndpointConfig {
        address,
        more: Box::default(),
        weight: 1,
        health: Health::Unknown,
        hostname: None,
        workload: None,
    };
    (Arc::new(LinkState::new(&endpoint, Arc::new(context))), log)
}

pub(super) fn fixture(config: Config) -> Fixture {
    let address = Address::Socket(SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 80)));
    let (accept_tx, accept) = mpsc::unbounded_channel();
    let memory = Arc::new(Memory {
        dials: AtomicUsize::new(0),
        refuse: AtomicBool::new(false),
        hang: AtomicBool::new(false),
        accept: accept_tx,
    });
    let (link, log) = link_and_log(address, &config);
    let net = Net::with_dial(config.options.clone(), Arc::clone(&memory) as _);
    let pool = net.open(&link);
    Fixture {
        net,
        pool: Some(pool),
        link,
        memory,
        log,
        accept,
        tasks: tasks(),
    }
}

pub(super) fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

impl Log {
    /// Waits for a state.
    pub(super) async fn until(&self, state: Connectivity) {
        let mut latest = self.latest.subscribe();
        latest
            .wait_for(|&latest| latest == state)
            .await
            .expect("the log is here");
    }
}

impl Fixture {
    pub(super) fn pool(&self) -> &Pool {
        self.pool.as_ref().expect("not dropped yet")
    }

    pub(super) fn connect(&self) {
        self.net.connect(self.pool(), &self.link);
    }

    pub(super) fn dials(&self) -> usize {
        self.memory.dials.load(Ordering::SeqCst)
    }

    pub(super) async fn accept(&mut self) -> DuplexStream {
        self.accept.recv().await.expect("the network is here")
    }

    /// Connects to a server that answers by the test's hand.
    pub(super) async fn server(&mut self, max_streams: Option<u32>) -> Server {
        self.connect();
        let server = Server::start(self.accept().await, max_streams);
        self.log.until(Connectivity::Ready).await;
        server
    }

    /// Sends a request without a body, in a task.
    pub(super) fn call(&self, path: &str) -> tokio::task::JoinHandle<Reply> {
        let sent = self.pool().try_send(get(path)).expect("a connection is up");
        tokio::spawn(sent)
    }

    /// Waits until no task is left but those that were there before and `others`.
    pub(super) async fn settled(&self, others: usize) {
        let settled = async {
            while tasks() > self.tasks + others {
                tokio::task::yield_now().await;
            }
        };
        let settled = tokio::time::timeout(Duration::from_secs(3600), settled).await;
        assert!(settled.is_ok(), "{} tasks are left", tasks() - self.tasks);
    }

    pub(super) fn last_error(&self) -> String {
        self.link.last_error().expect("an error").to_string()
    }
}

/// The other end of a connection; dropping it closes the connection.
pub(super) struct Server {
    pub(super) calls: mpsc::UnboundedReceiver<Call>,
    goaway: mpsc::UnboundedSender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(super) fn start(io: DuplexStream, max_streams: Option<u32>) -> Self {
        let (calls_tx, calls) = mpsc::unbounded_channel();
        let (goaway, mut goaways) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut builder = h2::server::Builder::new();
            if let Some(max) = max_streams {
                builder.max_concurrent_streams(max);
            }
            let mut connection = builder.handshake(io).await.expect("a client");
            loop {
                tokio::select! {
                    call = connection.accept() => match call {
                        Some(Ok(call)) => calls_tx.send(call).unwrap_or(()),
                        _ => return,
                    },
                    Some(()) = goaways.recv() => connection.graceful_shutdown(),
                }
            }
        });
        Self {
            calls,
            goaway,
            task,
        }
    }

    pub(super) async fn next(&mut self) -> Call {
        self.calls.recv().await.expect("the connection is up")
    }

    pub(super) fn goaway(&self) {
        self.goaway.send(()).expect("the connection is up");
    }

    /// Waits for the connection's end.
    pub(super) async fn closed(mut self) {
        (&mut self.task).await.expect("no panic");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn get(path: &str) -> http::Request<Outgoing> {
    request(path, Outgoing::empty())
}

pub(super) fn request(path: &str, body: Outgoing) -> http::Request<Outgoing> {
    http::Request::builder()
        .uri(format!("http://greeter.shop{path}"))
        .body(body)
        .expect("valid")
}

/// Answers with `text`, in full.
pub(super) fn answer((_, mut respond): Call, text: &'static str) {
    let mut body = respond
        .send_response(http::Response::new(()), false)
        .expect("open");
    body.send_data(Bytes::from_static(text.as_bytes()), true)
        .expect("open");
}

/// The text of a response, in full.
pub(super) async fn text(reply: Reply) -> String {
    let (response, guard) = reply.expect("a response");
    let body = response.into_body().collect().await.expect("a whole body");
    drop(guard);
    String::from_utf8(body.to_bytes().to_vec()).expect("text")
}

/// HTTP/2 frames by hand.
pub(super) struct Raw(pub(super) DuplexStream);

impl Raw {
    pub(super) const HEADERS: u8 = 1;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const GOAWAY: u8 = 7;

    pub(super) async fn accept(mut io: DuplexStream) -> Self {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.expect("a client");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Self(io)
    }

    pub(super) async fn send(&mut self, kind: u8, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [length[1], length[2], length[3], kind, 0, 0, 0, 0, 0];
        self.0.write_all(&head).await.expect("open");
        self.0.write_all(payload).await.expect("open");
    }

    /// SETTINGS with a limit of streams.
    pub(super) async fn limit(&mut self, streams: u32) {
        let mut payload = vec![0, 3];
        payload.extend(streams.to_be_bytes());
        self.send(Self::SETTINGS, &payload).await;
    }

    /// Reads frames until one of this kind.
    pub(super) async fn until(&mut self, wanted: u8) -> BTreeMap<u8, usize> {
        let mut seen = BTreeMap::new();
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.expect("open");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.expect("open");
            *seen.entry(head[3]).or_default() += 1;
            if head[3] == wanted {
                return seen;
            }
        }
    }
}
