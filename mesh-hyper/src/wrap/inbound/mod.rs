mod future;
mod peers;

pub use future::{InboundBody, InboundFuture};

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body;
use mesh_core::{Context, Mesh, Semantics, identity::Peer};
use tower_layer::Layer;
use tower_service::Service;

use self::{future::Step, peers::Peers};
use super::PeerInfo;
use crate::{
    ServeError, ServingMode,
    body::BoxError,
    serve::{Form, Held, Inspector, NotServed, Recorded, Ruling, Said},
};

/// Enforces the routes and filters of a listener, RBAC among them, before any `tower::Service` of
/// HTTP (gRFC A36, A41), and hands its handlers the deadline and the peer.
///
/// A request is read in its one form or refused, routed under the listener's configuration of that
/// moment, and checked. It is denied with a status of HTTP, or with trailers if its content type is
/// gRPC's. The service runs under a [`Context`](mesh_core::Context): until `grpc-timeout` or
/// `x-envoy-expected-rq-timeout-ms` has passed, when it is dropped and answered for. Its requests
/// have an `Arc<Peer>` in their extensions.
///
/// # Who sent a request
///
/// The first of these in its extensions says so:
///
/// 1. an `Arc<`[`Peer`]`>` that you put there, if your loop makes the handshakes;
/// 2. a [`PeerInfo`], as tonic puts it there with [`MeshListener`](super::MeshListener);
/// 3. axum's `ConnectInfo<PeerInfo>` (feature `axum`).
///
/// Without any of them the request is unauthenticated: no principal of RBAC that names somebody or
/// an address matches it. Where the listener wants TLS, a request is refused whose peer is not said
/// to have it (403, PERMISSION_DENIED), and so is one without a certificate where one is required:
/// whoever makes the handshake vouches for what it says.
///
/// # With axum
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, extract::ConnectInfo, routing::get};
/// use mesh_core::testing::{ControlPlane, Permission, Principal, Rbac};
/// use mesh_hyper::{MeshListener, PeerInfo};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// // A control plane for tests; a service would say `Mesh::from_env().await?`.
/// let control_plane = ControlPlane::start().await;
/// let mesh = control_plane.mesh("catalog").await;
/// let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
/// let address = socket.local_addr().unwrap();
/// let nobody = Rbac::deny().policy("all", Permission::any(), Principal::any());
/// control_plane.server(address).rbac(nobody).apply();
///
/// let listener = MeshListener::bind(&mesh, socket).await.unwrap();
/// let router = Router::new()
///     .route("/", get(async |ConnectInfo(peer): ConnectInfo<PeerInfo>| format!("{:?}", peer.id())))
///     .layer(listener.layer()); // the last: it covers the routes and the fallback before it
/// let drain = listener.drain_begun();
/// let service = router.into_make_service_with_connect_info::<PeerInfo>();
/// tokio::spawn(axum::serve(listener, service).with_graceful_shutdown(drain).into_future());
///
/// let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
/// let request = b"GET / HTTP/1.1\r\nhost: catalog.shop\r\nconnection: close\r\n\r\n";
/// client.write_all(request).await.unwrap();
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await.unwrap();
/// assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
/// # });
/// # }
/// ```
///
/// # What it cannot do that [`Server`](crate::Server) can
///
/// - It knows requests, not connections. It secures none, closes none and tells none to go away; on
///   one of a [`MeshListener`](super::MeshListener) that was told to end, it adds `Connection: close`
///   to responses of HTTP/1.1.
/// - The request has been parsed by then: how strict that is, what headers may weigh, and how many
///   requests there may be, is your loop's affair.
/// - A listener's `stream_idle_timeout` is not in force: what comes of a request's body is not seen.
/// - Connections have no memory here but a [`PeerInfo`]. Requests that have an `Arc<Peer>` of their
///   own each, in place of one for each connection, have the filters bound to it each time.
/// - What it passes on it cannot see: as axum's `Router::layer`, it covers what was added before it.
#[derive(Clone)]
pub struct InboundLayer(Arc<Shared>);

/// A service behind an [`InboundLayer`].
#[derive(Clone)]
pub struct Inbound<S> {
    service: S,
    shared: Arc<Shared>,
}

struct Shared {
    inspector: Arc<Inspector>,
    /// That of requests which nobody has sent.
    nobody: PeerInfo,
    peers: Peers,
}

// === impl InboundLayer ===

impl InboundLayer {
    /// Follows the listener that the control plane has for the server at `address`, under the
    /// semantics of HTTP. To be called in a tokio runtime.
    ///
    /// Requests wait until it is known whether there is one. Without one they are answered with 503
    /// (UNAVAILABLE). Next to a [`MeshListener`](super::MeshListener), take its
    /// [`layer`](super::MeshListener::layer): both follow the same then.
    ///
    /// # Errors
    /// If the bootstrap has no `server_listener_resource_name_template`.
    pub fn new(mesh: &Mesh, address: SocketAddr) -> Result<Self, ServeError> {
        let inspector = Inspector::open(mesh, address, Semantics::Http)?;
        Ok(Self::of(Arc::new(inspector)))
    }

    /// As [`new`](Self::new), under the semantics of gRPC: for a server that serves nothing else.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn grpc(mesh: &Mesh, address: SocketAddr) -> Result<Self, ServeError> {
        let inspector = Inspector::open(mesh, address, Semantics::Grpc)?;
        Ok(Self::of(Arc::new(inspector)))
    }

    pub(super) fn of(inspector: Arc<Inspector>) -> Self {
        let mut nobody = Peer::default();
        nobody.local = Some(inspector.address());
        Self(Arc::new(Shared {
            inspector,
            nobody: Arc::new(nobody).into(),
            peers: Peers::default(),
        }))
    }

    /// Whether there is a listener to follow.
    pub fn mode(&self) -> ServingMode {
        self.0.inspector.mode()
    }

    /// Waits until there is a listener, or it is known that there is none: what is so.
    pub async fn settled(&self) -> ServingMode {
        self.0.inspector.settled().await;
        self.mode()
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = Inbound<S>;

    fn layer(&self, service: S) -> Inbound<S> {
        Inbound {
            service,
            shared: Arc::clone(&self.0),
        }
    }
}

impl fmt::Debug for InboundLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundLayer")
            .field("address", &self.0.inspector.address())
            .field("mode", &self.mode())
            .finish()
    }
}

// === impl Inbound ===

impl<S, A, B> Service<Request<A>> for Inbound<S>
where
    S: Service<Request<A>, Response = Response<B>> + Clone,
    A: Send + 'static,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<InboundBody<B>>;
    type Error = S::Error;
    type Future = InboundFuture<S, A>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let info = self.shared.info(&request);
        let peer = Arc::clone(info.peer());
        request.extensions_mut().insert(Arc::clone(&peer));
        let said = Said::by(request.headers());
        let form = Form::of(&said);
        let is_http1 = request.version() <= Version::HTTP_11;
        let inspector = &self.shared.inspector;
        let mut recorded = Recorded::default();
        let (ruling, deadline) = match inspector.deadline(form, &said) {
            Ok(deadline) => (inspector.rule(request, &info, &mut recorded), deadline),
            Err(reply) => (Ruling::NotServed(NotServed::Reply(reply)), None),
        };
        let context = Context::new(peer, deadline);
        let is_refused = matches!(ruling, Ruling::Refuse(_));
        let close = is_http1 && is_refused;
        let mut held = Held::elsewhere(context.clone(), form, close, info.begin(), recorded);
        let step = match ruling {
            Ruling::Admit(mut request) => {
                held.take_change(&mut request);
                let future = context.sync_scope(|| self.service.call(request));
                Step::Called { future }
            }
            Ruling::NotServed(why) => Step::answered(why),
            Ruling::Refuse(reply) => Step::answered(NotServed::Reply(reply)),
            Ruling::Wait(rest) => {
                // The one that is ready waits; the next caller asks another.
                let next = self.service.clone();
                let service = std::mem::replace(&mut self.service, next);
                let service = Some(service);
                Step::Waiting { rest, service }
            }
        };
        InboundFuture::new(step, held, is_http1.then_some(info))
    }
}

impl<S: fmt::Debug> fmt::Debug for Inbound<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("service", &self.service)
            .field("address", &self.shared.inspector.address())
            .finish()
    }
}

// === impl Shared ===

impl Shared {
    /// Who sent the request.
    fn info<A>(&self, request: &Request<A>) -> PeerInfo {
        let extensions = request.extensions();
        let told = extensions.get::<PeerInfo>();
        #[cfg(feature = "axum")]
        let told = told.or_else(|| {
            let told = extensions.get::<axum::extract::ConnectInfo<PeerInfo>>();
            told.map(|axum::extract::ConnectInfo(told)| told)
        });
        match (extensions.get::<Arc<Peer>>(), told) {
            (Some(peer), Some(told)) if Arc::ptr_eq(peer, told.peer()) => told.clone(),
            (Some(peer), _) => self.peers.info(peer),
            (None, Some(told)) => told.clone(),
            (None, None) => self.nobody.clone(),
        }
    }
}
