use std::{
    convert::Infallible,
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::Body;
use mesh_core::Mesh;
use mesh_hyper::{
    Bind, OnMissing, RequestBody, ServeError, ServerOptions, ServerTls, ServingState,
};
use tonic::{
    codegen::Service,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};

/// Serves generated gRPC services under the listener that the control plane has for them
/// (gRFC A36), in the place of [`tonic::transport::Server`].
///
/// What decides about connections and requests is told at [`mesh_hyper::Server`]. Requests carry an
/// `Arc<`[`Peer`](mesh_core::identity::Peer)`>` in their extensions. `grpc-timeout` is enforced: at
/// the deadline the handler is dropped, and its client gets DEADLINE_EXCEEDED. Calls that the
/// handler makes through this crate's [`channel`](crate::channel()) inherit what is left of it.
///
/// ```
/// use mesh_tonic::{Server, ServerTls};
///
/// # async fn example(mesh: mesh_core::Mesh) -> Result<(), mesh_tonic::ServeError> {
/// // gRPC's health service, as tonic-health has it.
/// let (reporter, health) = tonic_health::server::health_reporter();
/// reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
/// Server::new(&mesh)
///     .add_service(health)
///     .tls(ServerTls::mtls("default"))
///     .serve(([0, 0, 0, 0], 8080))
///     .await
/// # }
/// ```
#[must_use = "a server does nothing before it serves"]
pub struct Server {
    server: mesh_hyper::Server,
    services: RoutesBuilder,
    http: Option<Http>,
}

type BoxError = Box<dyn StdError + Send + Sync>;

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, E>> + Send>>;

/// A service for requests that are not gRPC's.
type Http = Arc<dyn Fn(Request<RequestBody>) -> Answer<BoxError> + Send + Sync>;

/// The services of one port.
#[derive(Clone)]
struct Services {
    grpc: Routes,
    http: Option<Http>,
}

/// The answer of one of them.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation for every gRPC call"
)]
enum Answering {
    Grpc(<Routes as Service<Request<RequestBody>>>::Future),
    Http(Answer<BoxError>),
}

// === impl Server ===

impl Server {
    /// A server without services yet.
    pub fn new(mesh: &Mesh) -> Self {
        Self {
            server: mesh_hyper::Server::grpc(mesh),
            services: Routes::builder(),
            http: None,
        }
    }

    /// Serves this too.
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<
                Request<tonic::body::Body>,
                Response = Response<tonic::body::Body>,
                Error = Infallible,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.services.add_service(service);
        self
    }

    /// Serves this too, if there is one.
    pub fn add_optional_service<S>(self, service: Option<S>) -> Self
    where
        S: Service<
                Request<tonic::body::Body>,
                Response = Response<tonic::body::Body>,
                Error = Infallible,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        match service {
            Some(service) => self.add_service(service),
            None => self,
        }
    }

    /// Gives requests that are not gRPC's, by their `content-type`, to this service, such as an
    /// axum `Router`; over HTTP/1.1 too.
    pub fn http<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.server = self.server.http1(true);
        self.http = Some(Arc::new(move |request| {
            let mut service = service.clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx))
                    .await
                    .map_err(Into::into)?;
                let response = service.call(request).await.map_err(Into::into)?;
                Ok(response.map(tonic::body::Body::new))
            })
        }));
        self
    }

    /// How connections are secured where the bootstrap has no
    /// `server_listener_resource_name_template`, and over Unix domain sockets ([`Bind`]). With one the
    /// listener says so: this has no effect then, and a warning tells.
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.server = self.server.tls(tls);
        self
    }

    /// What happens if no listener arrives; default [`OnMissing::NotServing`].
    pub fn on_missing(mut self, on_missing: OnMissing) -> Self {
        self.server = self.server.on_missing(on_missing);
        self
    }

    /// Changes [`ServerOptions`].
    pub fn options(mut self, change: impl FnOnce(&mut ServerOptions)) -> Self {
        self.server = self.server.options(change);
        self
    }

    /// Calls `told` with the first state, and with each that follows. It must not block.
    pub fn on_serving(mut self, told: impl Fn(&ServingState) + Send + Sync + 'static) -> Self {
        self.server = self.server.on_serving(told);
        self
    }

    /// Serves until the mesh is [drained](Mesh::drain). Dropping the future closes the port and
    /// every connection at once. With port 0 the system chooses: [`on_serving`](Self::on_serving)
    /// tells which. A listener that is bound already is served as well as an address, and a Unix
    /// domain socket, given or by its path, as well as TCP ([`Bind`]).
    ///
    /// # Errors
    /// If the address cannot be listened on, or nothing says how connections are secured. Once it
    /// listens, nothing ends it but a drain.
    pub async fn serve(self, at: impl Into<Bind>) -> Result<(), ServeError> {
        self.serve_with_shutdown(at, std::future::pending()).await
    }

    /// Serves until `shutdown` resolves, or the mesh is [drained](Mesh::drain). Then the port is
    /// closed, connections are told to go away, and those that take longer than
    /// [`drain_grace`](ServerOptions::drain_grace) are cut.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn serve_with_shutdown(
        self,
        at: impl Into<Bind>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let services = Services {
            grpc: self.services.routes().prepare(),
            http: self.http,
        };
        self.server
            .serve_with_shutdown(at, services, shutdown)
            .await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("server", &self.server)
            .field("http", &self.http.is_some())
            .finish_non_exhaustive()
    }
}

// === impl Services ===

impl Service<Request<RequestBody>> for Services {
    type Response = Response<tonic::body::Body>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Routes are always ready, and the other service is asked in its turn.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Answering {
        match &self.http {
            Some(http) if !is_grpc(&request) => Answering::Http(http(request)),
            _ => Answering::Grpc(self.grpc.call(request)),
        }
    }
}

fn is_grpc(request: &Request<RequestBody>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

// === impl Answering ===

impl Future for Answering {
    type Output = Result<Response<tonic::body::Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Grpc(answer) => Pin::new(answer).poll(cx).map_err(|never| match never {}),
            Self::Http(answer) => answer.as_mut().poll(cx),
        }
    }
}
