//! HTTP out: the client that users hold.
//!
//! [`Client`] finds what its requests name; [`ClientBuilder`] sets what applies to all of them,
//! [`RequestBuilder`] what applies to one. [`Outside`] says what becomes of hosts that are not of the
//! mesh.
//!
//! # What of HTTP there is, item by item
//!
//! | | |
//! |---|---|
//! | bodies | any [`http_body::Body`]; one that is neither empty nor of a common `Unpin` type is boxed once |
//! | the authority | sent as it is written; a `Host` header of the request is replaced by it |
//! | user information in the URI | refused: credentials belong in a header |
//! | fragment of the URI | not sent (RFC 9110 section 4.2.4) |
//! | schemes | `http` and `https`; others are refused |
//! | trailers | both ways. HTTP/1.1 carries those alone that the request's `Trailer` header names (RFC 9110 section 6.6.2), and none with a body whose length is known beforehand, and gets some only if the request says `TE: trailers` |
//! | 1xx (100, 102, 103) | read over: what comes is the final response |
//! | `Expect: 100-continue` | sent as it is; the body does not wait |
//! | a response before the request is sent | is whole; the rest of the request is not sent. Over HTTP/1.1 its connection is closed, over HTTP/2 its stream reset |
//! | `Upgrade`, WebSocket | over HTTP/1.1 and where the route allows it (`upgrade_configs`), 403 otherwise, and for more than one `Upgrade` header; `h2c` is overlooked. The response is 101, and `hyper::upgrade::on` it gives the bytes, which have no time limit. A cluster that speaks HTTP/2, or might, refuses it with 503: RFC 8441 is not spoken. A 101 that the request did not ask for is an error of the server (502, `UPE`) |
//! | `CONNECT` | refused: 405, or without a scheme as any such URI |
//! | time limit | the route's `timeout`, 15 s by default, or the caller's: for all waits, attempts and the response, but not while the request's body is being sent: Envoy counts from the end of the request. `per_try_timeout` counts from there for each attempt |
//! | how long nothing may happen | the route's `idle_timeout`, else the listener's `stream_idle_timeout`, 5 min by default: 408 while the request is being sent, else 504. It ends up to a quarter late |
//! | retries | by the route's policy; what the request's own `x-envoy-retry-on` asks for, only with [`retry_headers`](RequestBuilder::retry_headers). Why a failure was not tried again: [`NoRetry`](crate::NoRetry), in [`Error::no_retry`] and in the extensions of a response |
//! | answers of filters, such as a fault | a response, with its [`Cause`] in the extensions: no server has said that |
//! | headers of responses | over HTTP/2 64 KiB at most, over HTTP/1.1 400 KiB and 100 of them; more is an error, of flag `UPE` |
//! | redirects | not followed: the response is the caller's |
//! | cookies, caches, content codings | none: headers and bodies are passed as they are |

mod bodies;
mod builder;
mod future;
mod name;
mod outside;
mod request;
mod table;

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    Method, Request, Response, Uri,
    uri::{Authority, Scheme},
};
use http_body::Body;
use http_body_util::{Empty, Full};
use mesh_core::{Code, Mesh, telemetry::Cause};
use tower_service::Service;

pub(crate) use self::table::Tables;
pub use self::{
    builder::ClientBuilder,
    future::ResponseFuture,
    outside::{InvalidHost, Outside, PassthroughHosts},
    request::RequestBuilder,
};
use self::{
    name::Named,
    table::{Key, Table},
};
use crate::{
    body::{BoxError, ResponseBody},
    call::{CallOptions, Caller},
    error::Error,
};
pub(crate) use name::{HostPort, listener};

/// An HTTP client under the configuration of a mesh.
///
/// The authority of a request's URI is what it is sent to: `http://catalog.shop:8080/items` goes
/// where the listener `catalog.shop:8080` says. A name without a port gets its scheme's for that;
/// the request carries the authority as it is written. A `Host` header is not sent: the URI wins,
/// as in a proxy (RFC 9112 section 3.2.2).
///
/// Targets that requests name are watched from the first request on, until nobody has asked for
/// them for [`target_idle`](ClientBuilder::target_idle), and for no longer than there is a client.
/// Clients of a mesh with the same settings share them: keep one, clone it, or make another while
/// one lives. A client that is made for one request, and dropped, begins anew each time.
///
/// Always ready: waiting and failing happen in the call, which can be spawned. Cheap to clone.
///
/// What of HTTP there is, item by item: [the module's documentation](crate::client).
///
/// ```
/// use http_body_util::BodyExt;
/// use mesh_core::testing::ControlPlane;
/// use mesh_hyper::Client;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A control plane for tests; a service would say `Mesh::from_env().await?`.
/// let control_plane = ControlPlane::start().await;
/// # control_plane.service("catalog.shop:8080").version("").apply();
/// let mesh = control_plane.mesh("frontend").await;
///
/// let client = Client::new(&mesh);
/// match client.get("http://catalog.shop:8080/items").header("accept", "text/plain").await {
///     Ok(page) => println!("{:?}", page.into_body().collect().await?.to_bytes()),
///     // Here: there is no server.
///     Err(error) => assert!(error.is_no_endpoint(), "{error}"),
/// }
///
/// // What is not of the mesh has to be allowed.
/// assert!(client.get("ftp://catalog.shop/items").await.is_err());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    mesh: Mesh,
    options: CallOptions,
    error_responses: bool,
    way: Way,
}

enum Way {
    /// To what each request names.
    Named(Arc<Table>),
    /// To one target.
    Bound {
        caller: Caller,
        scheme: Scheme,
        authority: Authority,
    },
}

// === impl Client ===

impl Client {
    /// A client of whatever its requests name.
    pub fn new(mesh: &Mesh) -> Self {
        Self::builder(mesh).build()
    }

    /// A client with settings.
    pub fn builder(mesh: &Mesh) -> ClientBuilder {
        ClientBuilder::new(mesh)
    }

    /// A client of one target, such as `http://catalog.shop:8080`, which it watches from now on. The
    /// URIs of its requests may be relative; one of another scheme or authority is refused.
    /// To be called in a tokio runtime.
    ///
    /// # Errors
    /// If it is not a URL with a scheme and an authority, and nothing else.
    pub fn to(mesh: &Mesh, url: &str) -> Result<Self, Error> {
        Self::builder(mesh).to(url)
    }

    /// The mesh it is of.
    pub fn mesh(&self) -> &Mesh {
        &self.0.mesh
    }

    /// How many targets it and the clients with the same settings keep.
    pub fn targets(&self) -> usize {
        match &self.0.way {
            Way::Named(table) => table.len(),
            Way::Bound { .. } => 1,
        }
    }

    /// A GET request. It is sent when it is awaited.
    pub fn get<U: TryInto<Uri, Error: Into<http::Error>>>(&self, url: U) -> RequestBuilder {
        self.prepare(Method::GET, url, Empty::new())
    }

    /// A HEAD request. It is sent when it is awaited.
    pub fn head<U: TryInto<Uri, Error: Into<http::Error>>>(&self, url: U) -> RequestBuilder {
        self.prepare(Method::HEAD, url, Empty::new())
    }

    /// A DELETE request. It is sent when it is awaited.
    pub fn delete<U: TryInto<Uri, Error: Into<http::Error>>>(&self, url: U) -> RequestBuilder {
        self.prepare(Method::DELETE, url, Empty::new())
    }

    /// A POST request. It is sent when it is awaited.
    pub fn post<U: TryInto<Uri, Error: Into<http::Error>>>(
        &self,
        url: U,
        body: impl Into<Bytes>,
    ) -> RequestBuilder<Full<Bytes>> {
        self.prepare(Method::POST, url, Full::new(body.into()))
    }

    /// A PUT request. It is sent when it is awaited.
    pub fn put<U: TryInto<Uri, Error: Into<http::Error>>>(
        &self,
        url: U,
        body: impl Into<Bytes>,
    ) -> RequestBuilder<Full<Bytes>> {
        self.prepare(Method::PUT, url, Full::new(body.into()))
    }

    fn prepare<U, B>(&self, method: Method, url: U, body: B) -> RequestBuilder<B>
    where
        U: TryInto<Uri, Error: Into<http::Error>>,
    {
        let request = Request::builder().method(method);
        let request = match url.try_into() {
            Ok(uri) => request.uri(uri).body(body),
            Err(error) => Err(error.into()),
        };
        RequestBuilder::new(self.clone(), self.0.options, request.map_err(malformed))
    }

    /// Sends `request`. Its own [`CallOptions`] extension, if it has one, goes before the client's,
    /// option by option.
    pub fn request<B>(&self, request: Request<B>) -> ResponseFuture
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match self.send(request) {
            Ok(sent) => ResponseFuture::sent(sent, self.denies()),
            Err(error) => ResponseFuture::failed(error),
        }
        .responding(self.0.error_responses)
    }

    fn send<B>(&self, request: Request<B>) -> Result<crate::ResponseFuture, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let options = self.0.options;
        match &self.0.way {
            Way::Bound {
                caller,
                scheme,
                authority,
            } => {
                check_bound(request.uri(), scheme, authority)?;
                Ok(bodies::call(caller, request, options))
            }
            Way::Named(table) => {
                let (scheme, authority) = absolute(request.uri())?;
                let key = Key {
                    https: *scheme == Scheme::HTTPS,
                    authority: authority.as_str(),
                };
                let mesh = &self.0.mesh;
                let found = table.get(mesh, key, || {
                    Named::new(mesh, &table.settings().outside, scheme.clone(), authority)
                })?;
                Ok(bodies::call(found.caller(), request, options))
            }
        }
    }

    /// Whether the advice to allow a host is of use.
    fn denies(&self) -> bool {
        match &self.0.way {
            Way::Named(table) => match &table.settings().outside {
                Outside::Deny => true,
                Outside::Passthrough(hosts) => !hosts.has_all(),
            },
            Way::Bound { .. } => false,
        }
    }
}

impl<B> Service<Request<B>> for Client
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = ResponseFuture;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.request(request)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut client = f.debug_struct("Client");
        match &self.0.way {
            Way::Named(table) => client.field("targets", table),
            Way::Bound {
                scheme, authority, ..
            } => client.field("to", &format_args!("{scheme}://{authority}")),
        };
        client.finish_non_exhaustive()
    }
}

/// The parts of a URI that say where to.
fn absolute(uri: &Uri) -> Result<(&Scheme, &Authority), Error> {
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(invalid(format!(
            "the URI \"{uri}\" does not say where to: write its scheme and its authority, as in \
             http://catalog.shop:8080/items, or make a client of one target with Client::to"
        )));
    };
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return Err(invalid(format!(
            "the scheme \"{scheme}\" is not supported: write http or https"
        )));
    }
    Ok((scheme, authority))
}

/// A relative URI, or one of the target itself.
fn check_bound(uri: &Uri, scheme: &Scheme, authority: &Authority) -> Result<(), Error> {
    if uri.authority().is_none() && uri.scheme().is_none() {
        return Ok(());
    }
    let (other_scheme, other) = absolute(uri)?;
    if other_scheme == scheme {
        let https = *scheme == Scheme::HTTPS;
        if other == authority
            || HostPort::parse(https, other)? == HostPort::parse(https, authority)?
        {
            return Ok(());
        }
    }
    Err(invalid(format!(
        "the client is bound to {scheme}://{authority} and cannot send to \
         {other_scheme}://{other}: make another with Client::to, or one of any target with \
         Client::new"
    )))
}

/// A request that cannot be sent anywhere.
fn invalid(text: String) -> Error {
    Error::new(Code::InvalidArgument, Cause::NoRoute, text)
}

fn malformed(error: http::Error) -> Error {
    invalid(format!("the request is malformed: {error}")).caused_by(error)
}

/// There is no room for another target.
fn too_many_targets(limit: usize) -> Error {
    Error::new(
        Code::ResourceExhausted,
        Cause::CircuitBreaker,
        format!(
            "the client has {limit} targets, which is the limit, and calls are under way to all \
             of them; raise it with ClientBuilder::max_targets"
        ),
    )
}

/// A client can be shared, and its calls be spawned.
const _: fn() = || {
    fn send<T: Send + 'static>() {}
    fn send_sync_clone<T: Send + Sync + Clone + 'static>() {}
    send::<ResponseFuture>();
    send_sync_clone::<Client>();
};
