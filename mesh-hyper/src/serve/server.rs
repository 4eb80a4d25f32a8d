use std::{fmt, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mesh_core::{Mesh, Registration, Semantics};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tower_service::Service;

use super::{
    Bind, LocalAddress, OnMissing, RequestBody, ServeError, ServerOptions, ServerTls, ServingMode,
    ServingState, Shared, accept,
    connection::Handler,
    follow::Follow,
    handover::Handover,
    listen::{Acceptor, Bound, Listen, bind_error},
    shared::Parts,
    trust::{self, Watcher},
};
use crate::{body::BoxError, wrap::MeshListener};

/// Serves HTTP/1.1 and HTTP/2 on one port, under the listener that the control plane has for it
/// (gRFC A36).
///
/// The service is any `tower::Service`, such as an axum `Router`. Its requests carry an
/// `Arc<`[`Peer`](mesh_core::identity::Peer)`>` in their extensions, and it runs under a
/// [`Context`](mesh_core::Context).
///
/// Where the bootstrap has a `server_listener_resource_name_template`, the control plane says who
/// may connect, how connections are secured and what is allowed, and until it has said so no
/// connection is taken. Without a template it has to be said in code: [`Server::tls`].
///
/// ```
/// use std::convert::Infallible;
///
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use mesh_hyper::{RequestBody, Server, ServerTls};
///
/// # #[derive(Clone)]
/// # struct Hello;
/// # impl tower_service::Service<Request<RequestBody>> for Hello {
/// #     type Response = Response<Full<bytes::Bytes>>;
/// #     type Error = Infallible;
/// #     type Future = std::future::Ready<Result<Self::Response, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
/// #         std::task::Poll::Ready(Ok(()))
/// #     }
/// #     fn call(&mut self, _: Request<RequestBody>) -> Self::Future {
/// #         std::future::ready(Ok(Response::new(Full::from("hello"))))
/// #     }
/// # }
/// # async fn example(mesh: mesh_core::Mesh) -> Result<(), mesh_hyper::ServeError> {
/// Server::new(&mesh)
///     .tls(ServerTls::mtls("default"))
///     .on_serving(|state| println!("{}: {:?}", state.address, state.mode))
///     .serve(([0, 0, 0, 0], 8080), Hello)
///     .await
/// # }
/// ```
///
/// # What of HTTP there is, item by item
///
/// | | |
/// |---|---|
/// | trailers | both ways. Over HTTP/1.1 a response has those alone that its `Trailer` header names (RFC 9110 section 6.6.2), none with a body whose length is known beforehand, and none if the request does not say `TE: trailers` |
/// | 1xx | 100 is sent for `Expect: 100-continue`, see below. A handler cannot send any: a response of 1xx other than 101 is answered with 500 in its place |
/// | `Expect: 100-continue` | over HTTP/1.1 100 is sent when the handler first asks for the body; if it answers without that, the connection is closed. Over HTTP/2 nothing is said, and the body is taken when it comes |
/// | a response before the request is complete | over HTTP/1.1 the last of its connection (`Connection: close`), as in Envoy; the handler may read on. What it does not read is read and dropped for a second at most, so that the client gets the response. Over HTTP/2 only the stream ends |
/// | `Upgrade`, WebSocket | over HTTP/1.1, where the listener or its routes allow it, or [`ServerOptions::upgrades`]; 403 otherwise. `h2c` is overlooked. An upgraded connection has no idle time |
/// | WebSocket over HTTP/2 (RFC 8441) | not offered, and a protocol error |
/// | `CONNECT` | answered with 501 |
/// | how long nothing may happen | `stream_idle_timeout` of the listener, 5 min by default, for HTTP and not for gRPC: 408 while the request is not complete, else 504; once the response has begun, the stream is reset. It ends up to a quarter late. Not seen is a peer that does not read a response. A server's routes have no time of their own: `non_forwarding_action` has none |
#[must_use = "a server does nothing before it serves"]
pub struct Server {
    mesh: Mesh,
    semantics: Semantics,
    http1: bool,
    tls: Option<ServerTls>,
    on_missing: OnMissing,
    options: ServerOptions,
    on_serving: Option<OnServing>,
}

type OnServing = Box<dyn Fn(&ServingState) + Send + Sync>;

/// A server that is about to accept.
pub(super) struct Prepared {
    pub(super) shared: Arc<Shared>,
    pub(super) watchers: mpsc::UnboundedReceiver<Watcher>,
    /// In which time its listener should arrive.
    pub(super) overdue: Duration,
    pub(super) teller: Teller,
    pub(super) registration: Registration,
}

/// Tells of each state once.
pub(super) struct Teller {
    address: LocalAddress,
    told: Mutex<Option<ServingMode>>,
    on_serving: Option<OnServing>,
}

// === impl Server ===

impl Server {
    /// A server of HTTP.
    pub fn new(mesh: &Mesh) -> Self {
        Self::of(mesh, Semantics::Http)
    }

    /// A server of gRPC: HTTP/2 only, and `grpc-timeout` is enforced. `mesh-tonic` makes one of
    /// generated services.
    pub fn grpc(mesh: &Mesh) -> Self {
        Self::of(mesh, Semantics::Grpc)
    }

    fn of(mesh: &Mesh, semantics: Semantics) -> Self {
        Self {
            mesh: mesh.clone(),
            semantics,
            http1: semantics == Semantics::Http,
            tls: None,
            on_missing: OnMissing::default(),
            options: ServerOptions::default(),
            on_serving: None,
        }
    }

    /// Whether HTTP/1.1 is spoken beside HTTP/2; default true, false for gRPC.
    pub fn http1(mut self, http1: bool) -> Self {
        self.http1 = http1;
        self
    }

    /// How connections are secured where the bootstrap has no
    /// `server_listener_resource_name_template`, and over Unix domain sockets ([`Bind`]). With one the
    /// listener says so: this has no effect then, and a warning tells.
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// What happens if no listener arrives; default [`OnMissing::NotServing`].
    pub fn on_missing(mut self, on_missing: OnMissing) -> Self {
        self.on_missing = on_missing;
        self
    }

    /// Changes [`ServerOptions`].
    pub fn options(mut self, change: impl FnOnce(&mut ServerOptions)) -> Self {
        change(&mut self.options);
        self
    }

    /// Calls `told` with the first state, and with each that follows. It must not block.
    pub fn on_serving(mut self, told: impl Fn(&ServingState) + Send + Sync + 'static) -> Self {
        self.on_serving = Some(Box::new(told));
        self
    }

    /// Serves until the mesh is [drained](Mesh::drain). Dropping the future closes the port and
    /// every connection at once.
    ///
    /// # Errors
    /// If the address cannot be listened on, or nothing says how connections are secured. Once it
    /// listens, nothing ends it but a drain.
    pub async fn serve<S, B>(self, at: impl Into<Bind>, service: S) -> Result<(), ServeError>
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.serve_with_shutdown(at, service, std::future::pending())
            .await
    }

    /// Serves until `shutdown` resolves, or the mesh is [drained](Mesh::drain). Then the port is
    /// closed, connections are told to go away, and those that take longer than
    /// [`drain_grace`](ServerOptions::drain_grace) are cut.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn serve_with_shutdown<S, B>(
        self,
        at: impl Into<Bind>,
        service: S,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError>
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let listener = at.into().listen().await?;
        let address = listener.address();
        self.serve_from(listener, address, service, shutdown).await
    }

    /// Accepts and secures connections as [`serve`](Self::serve) would, for a server loop of your
    /// own. To be called in a tokio runtime.
    ///
    /// # Errors
    /// As [`serve`](Self::serve), and for Unix domain sockets.
    pub async fn listen(self, at: impl Into<Bind>) -> Result<MeshListener, ServeError> {
        let (listener, address) = match at.into().listen().await? {
            Bound::Tcp(listener, address) => (listener, address),
            #[cfg(unix)]
            Bound::Unix(_, path) => {
                let text = "a MeshListener takes TCP alone: use Server::serve";
                let source = std::io::Error::new(std::io::ErrorKind::Unsupported, text);
                return Err(bind_error(LocalAddress::Unix(path), source));
            }
        };
        let semantics = self.semantics;
        let prepared = self.prepare(LocalAddress::Tcp(address))?;
        let handover = Handover::start(prepared, listener, address);
        Ok(MeshListener::new(handover, semantics))
    }

    /// Serves what comes from `listener`, which is bound to `address`.
    pub(super) async fn serve_from<L, S, B>(
        self,
        listener: L,
        address: LocalAddress,
        service: S,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError>
    where
        L: Listen<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>,
        S: Handler<B>,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let Prepared {
            shared,
            watchers,
            overdue,
            teller,
            registration: _registration,
        } = self.prepare(address)?;
        let tell = |mode| teller.tell(mode);
        tell(shared.follow.mode());
        let acceptor = Acceptor::new(listener);
        let draining = || tell(ServingMode::Draining);
        tokio::select! {
            biased;
            () = accept::run(&shared, acceptor, service, shutdown, draining) => {}
            never = shared.supervise(overdue, &tell) => match never {},
            () = trust::run(watchers) => {}
        }
        Ok(())
    }

    /// Follows the configuration of `address` from now on.
    pub(super) fn prepare(self, address: LocalAddress) -> Result<Prepared, ServeError> {
        let follow = Follow::new(
            &self.mesh,
            &address,
            self.semantics,
            self.tls.as_ref(),
            &self.on_missing,
            &self.options.upgrades,
        )?;
        let follow = Arc::new(follow);
        let readiness = Arc::downgrade(&follow);
        let registration = self.mesh.register(readiness);
        let parts = Parts {
            semantics: self.semantics,
            speaks_http1: self.http1,
            options: self.options,
            follow,
            identities: self.mesh.identities().clone(),
            connections: self.mesh.connections().clone(),
        };
        let (shared, watchers) = Shared::new(parts);
        Ok(Prepared {
            shared,
            watchers,
            overdue: self.mesh.options().resource_timeout,
            teller: Teller {
                address,
                told: Mutex::new(None),
                on_serving: self.on_serving,
            },
            registration,
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("semantics", &self.semantics)
            .field("tls", &self.tls)
            .field("on_missing", &self.on_missing)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

// === impl Teller ===

impl Teller {
    pub(super) fn tell(&self, mode: ServingMode) {
        if self.told.lock().replace(mode.clone()).as_ref() == Some(&mode) {
            return;
        }
        let address = self.address.clone();
        if let ServingMode::NotServing(error) = &mode {
            tracing::warn!(%address, %error, "not serving");
        }
        if let Some(on_serving) = &self.on_serving {
            on_serving(&ServingState { address, mode });
        }
    }
}
