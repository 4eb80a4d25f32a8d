//! The whole way out: from a request to its response, and what happens in between.
//!
//! `snapshot -> route -> filters -> cluster -> admit -> pick -> send -> classify -> record`, and
//! back to `admit` where a failure may be tried again.

mod attempts;
mod clock;
mod http;
mod options;
mod outcome;
mod sent;
mod waits;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use ::http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, Uri,
    request::Parts,
    uri::{self, Authority, PathAndQuery, Scheme},
};
use bytes::Bytes;
use http_body::Body;
use mesh_core::{
    Code, Context, Mesh, Semantics,
    control::SourceErrorKind,
    resilience::{format_grpc_timeout, parse_grpc_timeout},
    resolve::{Answer, NoPlan, Plan, State, TargetSpec},
    route::{Head, first_value},
    telemetry::{Cause, Instruments, Series},
};
use tokio::time::Instant;

pub use self::options::CallOptions;
use self::{
    attempts::{Asking, Call},
    http::Asked,
};
pub(crate) use self::{
    clock::{Clock, Late},
    http::code_of,
};
use crate::{
    body::{BoxError, Outgoing, ResponseBody},
    conn::Net,
    error::Error,
    plane::{HyperPlane, Origin, SharedTarget},
    record::{CallGuard, End, of_method},
    timer::{Expired, Timer},
};

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Makes calls to one target under the configuration of a mesh.
///
/// The base of the gRPC channel of `mesh-tonic`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mesh: Mesh,
    semantics: Semantics,
    target: Arc<SharedTarget>,
    scheme: Scheme,
    authority: Authority,
    user_agent: HeaderValue,
    retry_buffer: usize,
    /// Where calls are recorded that no route took.
    unrouted: Arc<dyn Instruments>,
}

/// A response under way.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Error>> + Send>>,
);

// === impl Caller ===

impl Caller {
    /// A caller of gRPC methods of the target whose listener is called `listener`, with requests
    /// for `authority`.
    /// To be called in a tokio runtime.
    pub fn grpc(mesh: &Mesh, listener: &str, authority: Authority) -> Self {
        let origin = Origin::Mesh;
        Self::of(
            mesh,
            Semantics::Grpc,
            origin,
            listener,
            Scheme::HTTP,
            authority,
        )
    }

    /// A caller under HTTP semantics of the target whose listener is called `listener`, with
    /// requests for `authority`; a `host` header of theirs is not sent.
    /// To be called in a tokio runtime.
    pub fn http(mesh: &Mesh, listener: &str, scheme: Scheme, authority: Authority) -> Self {
        Self::http_from(mesh, Origin::Mesh, listener, scheme, authority)
    }

    /// As [`http`](Self::http), where the configuration may come from elsewhere.
    pub(crate) fn http_from(
        mesh: &Mesh,
        origin: Origin,
        listener: &str,
        scheme: Scheme,
        authority: Authority,
    ) -> Self {
        Self::of(mesh, Semantics::Http, origin, listener, scheme, authority)
    }

    fn of(
        mesh: &Mesh,
        semantics: Semantics,
        origin: Origin,
        listener: &str,
        scheme: Scheme,
        authority: Authority,
    ) -> Self {
        let plane = HyperPlane::of(mesh);
        let spec = TargetSpec {
            listener: listener.into(),
            authority: authority.as_str().into(),
            semantics,
        };
        let unrouted = Series::client(spec.listener.clone(), "", "", semantics);
        Self(Arc::new(Inner {
            target: plane.target(mesh, spec, origin),
            mesh: mesh.clone(),
            semantics,
            scheme,
            authority,
            user_agent: HeaderValue::from_static(concat!("mesh-rust/", env!("CARGO_PKG_VERSION"))),
            retry_buffer: mesh.options().retry_buffer,
            unrouted: mesh.recorder().bind(&unrouted),
        }))
    }

    /// The mesh it is of.
    pub fn mesh(&self) -> &Mesh {
        &self.0.mesh
    }

    /// Whether calls are under way, or another holds this caller.
    pub(crate) fn is_busy(&self) -> bool {
        Arc::strong_count(&self.0) > 1
            || match &**self.0.target.load() {
                State::Ready(snapshot) => snapshot.is_busy(),
                State::Waiting | State::Failed(_) => false,
            }
    }

    /// Waits until the target has a configuration.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn ready(&self) -> Result<(), Error> {
        self.0.target.ready().await.map_err(|error| {
            Error::new(Code::Unavailable, Cause::NoConfig, error.to_string()).caused_by(error)
        })
    }

    /// Makes a call. `defaults` apply to what the request's own [`CallOptions`] leave open.
    ///
    /// With a configuration and an endpoint at hand, the request is in the endpoint's queue when
    /// this returns.
    pub fn call<B>(&self, request: Request<B>, defaults: CallOptions) -> ResponseFuture
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let start = Instant::now();
        let (mut head, body) = request.into_parts();
        // Kept without a retry policy too: what the server did not process is sent again (gRFC A6).
        let (body, keeper) = match self.0.semantics {
            Semantics::Grpc => Outgoing::replayable(body, self.0.retry_buffer),
            Semantics::Http => Outgoing::watched(body, self.0.retry_buffer),
        };
        let options = match head.extensions.get::<CallOptions>() {
            Some(own) => own.over(&defaults),
            None => defaults,
        };
        let (mut asked, mut http) = (None, None);
        let timer = match self.0.semantics {
            Semantics::Grpc => {
                asked = match options.is_detached() {
                    true => grpc_timeout(&head.headers),
                    false => inherit(&mut head.headers, start),
                };
                Timer::new(asked.and_then(|limit| start.checked_add(limit)))
            }
            Semantics::Http => match Asked::read(&mut head, &options) {
                Ok(read) => Timer::new(http.insert(read).deadline),
                Err(error) => {
                    let unrouted = Some(Arc::clone(&self.0.unrouted));
                    let mut record = CallGuard::unrouted(unrouted, start);
                    record.finish(&End::new(error.code(), error.cause(), None));
                    return ResponseFuture::new(std::future::ready(Err(error)));
                }
            },
        };
        let asking = Asking {
            head,
            body,
            keeper,
            options,
            http,
            asked,
            start,
            delayed: false,
        };
        match self.0.plan(&asking.head) {
            Some(Ok(plan)) => Call::begin(&self.0, asking, timer, plan),
            planned => {
                let caller = Arc::clone(&self.0);
                ResponseFuture::new(caller.call_unplanned(asking, timer, planned))
            }
        }
    }
}

fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    // One that cannot be read is the server's to refuse.
    first_value(headers, &GRPC_TIMEOUT).and_then(|value| parse_grpc_timeout(value).ok())
}

/// The application's own time limit, or what is left to the request that is being handled, if that
/// is less: then the server is told that.
fn inherit(headers: &mut HeaderMap, start: Instant) -> Option<Duration> {
    let asked = grpc_timeout(headers);
    let Some(deadline) = Context::current_deadline() else {
        return asked;
    };
    let left = deadline.saturating_duration_since(start);
    if asked.is_some_and(|asked| asked <= left) {
        return asked;
    }
    headers.insert(&GRPC_TIMEOUT, format_grpc_timeout(left));
    Some(left)
}

/// The answer of a route, in place of an endpoint's.
fn routed(answer: Answer, method: Option<&str>, start: Instant) -> Response<ResponseBody> {
    let mut record = CallGuard::new(
        answer
            .instruments
            .as_ref()
            .map(|all| of_method(all, method)),
        start,
    );
    record.answered(answer.status);
    record.finish(&End::new(http::code_of(answer.status), Cause::Route, None));
    let mut response = Response::new(ResponseBody::text(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

#[cold]
fn deadline_exceeded(when: &str) -> Error {
    Error::new(
        Code::DeadlineExceeded,
        Cause::Deadline,
        format!("the deadline passed {when}"),
    )
}

/// Why a call has no plan.
enum Unplanned {
    Answer(Box<Answer>),
    Error(Error),
}

impl From<NoPlan> for Unplanned {
    fn from(none: NoPlan) -> Self {
        match none {
            NoPlan::Answer(answer) => Self::Answer(answer),
            NoPlan::Reject(reject) => Self::Error(reject.into()),
        }
    }
}

impl From<Error> for Unplanned {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

// === impl Inner ===

impl Inner {
    /// Where the request goes, if there is a configuration to say so.
    #[inline]
    fn plan(&self, head: &Parts) -> Option<Result<Plan<Net>, NoPlan>> {
        match &**self.target.load() {
            State::Ready(snapshot) => {
                let head = Head {
                    method: &head.method,
                    scheme: self.scheme.as_str(),
                    authority: self.authority.as_str(),
                    path: head.uri.path(),
                    query: head.uri.query(),
                    headers: &head.headers,
                };
                Some(snapshot.plan(&head, &mut ()))
            }
            State::Waiting | State::Failed(_) => None,
        }
    }

    /// The way of a call that cannot be planned at once: it waits, or it fails and is recorded.
    async fn call_unplanned(
        self: Arc<Self>,
        mut asking: Asking,
        mut timer: Timer,
        planned: Option<Result<Plan<Net>, NoPlan>>,
    ) -> Result<Response<ResponseBody>, Error> {
        let method = asking.options.method(self.semantics, &asking.head);
        let unrouted = Some(of_method(&self.unrouted, method));
        let mut record = CallGuard::unrouted(unrouted, asking.start);
        let planned = match planned {
            Some(planned) => planned.map_err(Unplanned::from),
            None => {
                let wait = self.wait_for_plan(&asking.head, asking.options);
                let deadline = timer.deadline();
                let patience = asking.http.as_ref().and_then(|asked| asked.patience());
                if let Some(end) = patience.and_then(|limit| asking.start.checked_add(limit)) {
                    timer.tighten(end);
                }
                let planned = timer.limit(wait).await.unwrap_or_else(|Expired| {
                    Err(Unplanned::Error(deadline_exceeded(
                        "before the target's configuration arrived",
                    )))
                });
                timer.set(deadline);
                planned
            }
        };
        match planned {
            Ok(plan) => {
                asking.delayed = true;
                record.routed();
                Call::begin(&self, asking, timer, plan).await
            }
            Err(Unplanned::Answer(answer)) => {
                record.routed();
                let method = asking.options.method(self.semantics, &asking.head);
                Ok(routed(*answer, method, asking.start))
            }
            Err(Unplanned::Error(error)) => {
                record.finish(&End::new(error.code(), error.cause(), None));
                Err(error)
            }
        }
    }

    async fn wait_for_plan(
        &self,
        head: &Parts,
        options: CallOptions,
    ) -> Result<Plan<Net>, Unplanned> {
        loop {
            let changed = self.target.changed();
            if let Some(planned) = self.plan(head) {
                return planned.map_err(Unplanned::from);
            }
            // A control plane that cannot be reached may be soon; what it says, it has said.
            if let State::Failed(error) = &**self.target.load()
                && !(options.waits_for_ready() && error.kind == SourceErrorKind::Unreachable)
            {
                return Err(Error::unconfigured(error).into());
            }
            changed.await;
        }
    }

    /// The absolute URI that HTTP/2 wants.
    fn uri(&self, path: PathAndQuery) -> Uri {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        // A scheme, an authority and a path always make a URI.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

// === impl ResponseFuture ===

impl ResponseFuture {
    fn new<F>(response: F) -> Self
    where
        F: Future<Output = Result<Response<ResponseBody>, Error>> + Send + 'static,
    {
        Self(Box::pin(response))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

/// A call can be spawned, and a caller shared.
const _: fn() = || {
    fn send<T: Send + 'static>() {}
    fn send_sync_clone<T: Send + Sync + Clone + 'static>() {}
    send::<ResponseFuture>();
    send::<ResponseBody>();
    send_sync_clone::<Caller>();
};
