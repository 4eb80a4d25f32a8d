mod io;
mod raw;
mod targets;

pub use io::MeshIo;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Method, Uri, uri::Scheme};
use mesh_core::{
    Code, Mesh,
    balance::{LinkState, PickCx, Picked},
    resolve::{Destination, NoPlan, Plan, State},
    route::Head,
    telemetry::Cause,
};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use self::{
    raw::Raw,
    targets::{Followed, Targets},
};
use crate::{
    client::{HostPort, listener},
    conn::ConnectError,
    error::Error,
};

/// Connects hyper-util's client, or any other that takes a `tower::Service` of URIs, to what the
/// mesh has for the URI's authority.
///
/// For each connection it finds the cluster of the authority's default route, picks an endpoint by
/// the cluster's policy, dials it, and makes the handshake that the cluster asks for, with the
/// certificates of that moment. An endpoint that fails is left alone for a growing pause, and up to
/// three are tried. What the cluster speaks is agreed on (ALPN) or told to the client: HTTP/1.1 or
/// HTTP/2. Whether TLS is used says the cluster, and never the scheme, which gives an authority
/// without a port its default port and nothing else.
///
/// A connection whose server is not trusted any more is closed at once, and one to an endpoint that
/// was removed after 10 minutes.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::{BodyExt, Empty};
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use mesh_core::testing::ControlPlane;
/// use mesh_hyper::MeshConnector;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A server, anywhere.
/// let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let address = socket.local_addr()?;
/// tokio::spawn(async move {
///     let (mut io, _) = socket.accept().await.unwrap();
///     let mut request = [0; 1024];
///     let _ = io.read(&mut request).await.unwrap();
///     let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nitems";
///     io.write_all(answer).await.unwrap();
/// });
///
/// // A control plane for tests; a service would say `Mesh::from_env().await?`.
/// let control_plane = ControlPlane::start().await;
/// control_plane.service("catalog.shop:8080").endpoint(address).apply();
/// let mesh = control_plane.mesh("frontend").await;
///
/// let client: Client<_, Empty<Bytes>> =
///     Client::builder(TokioExecutor::new()).build(MeshConnector::new(&mesh));
/// let response = client.get("http://catalog.shop:8080/items".parse()?).await?;
/// assert_eq!(response.into_body().collect().await?.to_bytes(), "items");
/// # Ok(()) }
/// ```
///
/// # What it cannot do that [`Client`](crate::Client) can
///
/// - It knows connections, not requests. All requests of an authority go where its route for
///   `GET /` goes: other routes, weights for each request, filters, fault injection, header changes,
///   rewrites, redirects, mirrors and hash policies are not looked at.
/// - No retries, no timeouts of routes, no deadline that is handed on: that is your client's affair.
/// - Balancing is by connection. A pool that keeps few of them spreads its requests over few
///   endpoints, and over HTTP/2 over one.
/// - An endpoint is known to be out of reach only after a connection to it has failed. Nobody
///   connects in advance.
/// - Circuit breakers, drops that the control plane orders, keepalive, windows and
///   `max_requests_per_connection` are not in force, and nothing is recorded.
/// - Nothing of it is in load reports (`lrs_server`): what those count are requests, how they end, and
///   what endpoints say of their load in responses, and a connection tells none of it.
/// - Hosts outside of the mesh are not reached.
///
/// Up to 256 authorities are followed beyond those of its live connections; one that was not
/// connected to for five minutes makes room at the next connection.
#[derive(Clone)]
pub struct MeshConnector(Arc<Inner>);

struct Inner {
    mesh: Mesh,
    targets: Targets,
}

/// A connection under way.
#[must_use = "futures do nothing unless polled"]
pub struct ConnectFuture(Pin<Box<dyn Future<Output = Result<MeshIo, Error>> + Send>>);

/// How many endpoints are tried for one connection.
const MOST_TRIED: usize = 3;

// === impl MeshConnector ===

impl MeshConnector {
    /// Connects to what `mesh` has. Its connections are made, and watched, in the tokio runtime
    /// that it is asked in.
    pub fn new(mesh: &Mesh) -> Self {
        Self(Arc::new(Inner {
            mesh: mesh.clone(),
            targets: Targets::new(Raw::new(mesh)),
        }))
    }
}

impl Service<Uri> for MeshConnector {
    type Response = MeshIo;
    type Error = Error;
    type Future = ConnectFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    /// # Errors
    /// If the URI has no authority or another scheme than `http` and `https`, the mesh does not have
    /// it, or no endpoint can be connected to.
    fn call(&mut self, uri: Uri) -> ConnectFuture {
        let inner = Arc::clone(&self.0);
        ConnectFuture(Box::pin(async move { inner.connect(&uri).await }))
    }
}

impl fmt::Debug for MeshConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshConnector")
            .field("targets", &self.0.targets.len())
            .finish()
    }
}

// === impl ConnectFuture ===

impl Future for ConnectFuture {
    type Output = Result<MeshIo, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ConnectFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectFuture")
    }
}

// === impl Inner ===

impl Inner {
    async fn connect(&self, uri: &Uri) -> Result<MeshIo, Error> {
        let target = self.target(uri)?;
        let mut plan = target.plan(uri).await?;
        let aggregate = plan.aggregate().cloned();
        let limit = plan.cluster().config().connections.connect_timeout;
        let mut tried = Vec::new();
        let mut failed: Option<ConnectError> = None;
        let fail = |plan: &Plan<Raw>, message: String, failed, tried: &[Arc<LinkState>]| {
            let Destination { route, cluster, .. } = &*plan.destination;
            let cause = match failed {
                Some(_) => Cause::ConnectFailed,
                None => Cause::NoEndpoint,
            };
            let tried = tried.iter().map(|link| link.address().clone());
            let error = Error::new(Code::Unavailable, cause, message).at(route, cluster);
            let error = error.tried(tried);
            match failed {
                Some(source) => error.caused_by(source),
                None => error,
            }
        };
        // Waiting for an endpoint may take no longer than connecting to one.
        let patience = Instant::now() + limit;
        while tried.len() < MOST_TRIED {
            // From here on no change is missed.
            let of_aggregate = aggregate.as_ref().map(|aggregate| aggregate.notified());
            plan.renew_now();
            let shared = plan.shared_cluster();
            let of_cluster = shared.notified();
            let changed = async {
                match of_aggregate {
                    None => of_cluster.await,
                    Some(of_aggregate) => tokio::select! {
                        () = of_cluster => {}
                        () = of_aggregate => {}
                    },
                }
            };
            let cx = PickCx {
                tried: &tried,
                ..PickCx::default()
            };
            let endpoint = match shared.pick(&cx) {
                Picked::Endpoint(endpoint) => endpoint,
                Picked::Fail(_) if failed.is_some() => break,
                Picked::Fail(reason) => {
                    let mut text = reason.to_string();
                    if let Some(note) = plan.note() {
                        text = format!("{text}; {note}");
                    }
                    return Err(fail(&plan, text, None, &tried));
                }
                Picked::Wait if failed.is_some() => break,
                Picked::Wait => match timeout_at(patience, changed).await {
                    Ok(()) => continue,
                    Err(_) => {
                        let text = format!("no endpoint could be picked within {limit:?}");
                        return Err(fail(&plan, text, None, &tried));
                    }
                },
            };
            if tried.iter().any(|link| Arc::ptr_eq(link, &endpoint.link)) {
                break;
            }
            match endpoint.conn.connect_once().await {
                Ok(secured) => {
                    let in_flight = endpoint.link.begin();
                    return Ok(MeshIo::start(secured, in_flight, &endpoint.conn, target));
                }
                Err(error) => {
                    tried.push(Arc::clone(&endpoint.link));
                    failed = Some(error);
                }
            }
        }
        let text = match &failed {
            Some(error) => error.to_string(),
            None => "no endpoint could be picked".to_owned(),
        };
        Err(fail(&plan, text, failed, &tried))
    }

    /// What the URI's authority names.
    fn target(&self, uri: &Uri) -> Result<Arc<Followed>, Error> {
        let invalid = |text: String| Error::new(Code::InvalidArgument, Cause::NoRoute, text);
        let Some(authority) = uri.authority() else {
            let text = format!("the URI \"{uri}\" has no authority, so it names no target");
            return Err(invalid(text));
        };
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => {
                let text = format!("the scheme of the URI \"{uri}\" is neither http nor https");
                return Err(invalid(text));
            }
        };
        let name = HostPort::parse(https, authority)?;
        let listener = listener(&self.mesh, &name)?;
        Ok(self.targets.get(&self.mesh, listener, authority.as_str()))
    }
}

// === impl Followed ===

impl Followed {
    /// Where connections for the URI go, once there is a configuration to say so.
    async fn plan(&self, uri: &Uri) -> Result<Plan<Raw>, Error> {
        let headers = HeaderMap::new();
        let head = Head {
            method: &Method::GET,
            scheme: uri.scheme_str().unwrap_or_default(),
            authority: uri.authority().map_or("", |authority| authority.as_str()),
            path: "/",
            query: None,
            headers: &headers,
        };
        loop {
            let changed = self.changed();
            match &**self.load() {
                State::Ready(snapshot) => {
                    return snapshot.plan(&head, &mut ()).map_err(|none| match none {
                        NoPlan::Reject(reject) => reject.into(),
                        NoPlan::Answer(answer) => Error::new(
                            Code::Unavailable,
                            Cause::Route,
                            format!(
                                "route {} answers by itself: it has no endpoints",
                                answer.route
                            ),
                        ),
                    });
                }
                State::Failed(error) => return Err(Error::unconfigured(error)),
                State::Waiting => {}
            }
            changed.await;
        }
    }
}
