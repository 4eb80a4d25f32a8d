//! The whole way out: from a request to its response, and what happens in between.
//!
//! `snapshot -> route -> filters -> cluster -> admit -> pick -> send -> classify -> record`, and
//! back to `admit` where a failure may be tried again.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri, Version,
    uri::{Authority, Scheme},
};
use http_body::Body;
use hyper::body::Incoming;
use mesh_core::{
    Code, Mesh, Semantics,
    balance::{Endpoint, LinkState, PickCx, Picked},
    control::SourceErrorKind,
    filter::{Reply, RequestHead, Verdict},
    resilience::{Pushback, RetryState, deadline},
    resolve::{Destination, Plan, State, Target, TargetSpec},
    route::Head,
    telemetry::{Cause, Instruments},
};
use tokio::time::Instant;

use crate::{
    body::{Held, Outgoing, ResponseBody},
    classify,
    conn::{H2Pool, Net, SendError, Sending},
    error::{BoxError, Error},
    head::SavedHead,
    plane::HyperPlane,
    record::CallGuard,
    timer::{Expired, Timer},
};

/// Makes calls to one target under the configuration of a mesh.
///
/// The base of the gRPC channel of `mesh-tonic`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mesh: Mesh,
    target: Arc<Target<Net>>,
    scheme: Scheme,
    authority: Authority,
    user_agent: HeaderValue,
    retry_buffer: usize,
    /// Where calls are recorded that no route took.
    unrouted: Option<Arc<dyn Instruments>>,
}

/// How one call differs from others of its caller; an extension of its request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallOptions {
    /// Waits for configuration and for a connected endpoint, until the deadline, where the call
    /// would otherwise fail at once (gRPC's wait-for-ready). Default false.
    pub wait_for_ready: bool,
}

/// A response under way.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Error>> + Send>>);

/// What a call carries through its attempts.
struct Call<'a> {
    caller: &'a Inner,
    options: CallOptions,
    plan: Plan<Net>,
    timer: Timer,
    record: CallGuard,
    /// Endpoints that failed this call already.
    tried: Vec<Arc<LinkState>>,
}

/// How an attempt failed that may be made again.
enum Failure {
    Response(Response<Incoming>, Held, Code),
    Transport(SendError),
}

// === impl CallOptions ===

impl CallOptions {
    /// Sets [`wait_for_ready`](Self::wait_for_ready).
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }
}

// === impl Caller ===

impl Caller {
    /// A caller of the target whose listener is called `listener`, with requests for `authority`.
    /// To be called in a tokio runtime.
    pub fn new(mesh: &Mesh, listener: &str, authority: Authority, semantics: Semantics) -> Self {
        let plane = HyperPlane::of(mesh);
        let spec = TargetSpec {
            listener: listener.into(),
            authority: authority.as_str().into(),
            semantics,
        };
        let unrouted = mesh_core::telemetry::Series::unrouted(spec.listener.clone(), semantics);
        Self(Arc::new(Inner {
            target: plane.target(mesh, spec),
            mesh: mesh.clone(),
            scheme: Scheme::HTTP,
            authority,
            user_agent: HeaderValue::from_static(concat!("mesh-rust/", env!("CARGO_PKG_VERSION"))),
            retry_buffer: mesh.options().retry_buffer,
            unrouted: Some(mesh.recorder().bind(&unrouted)),
        }))
    }

    /// The mesh it is of.
    pub fn mesh(&self) -> &Mesh {
        &self.0.mesh
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

    /// Makes a call. `defaults` apply where the request has no [`CallOptions`] of its own.
    pub fn call<B>(&self, request: Request<B>, defaults: CallOptions) -> ResponseFuture
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let caller = Arc::clone(&self.0);
        ResponseFuture(Box::pin(async move { run(&caller, request, defaults).await }))
    }
}

async fn run<B>(
    caller: &Inner,
    mut request: Request<B>,
    defaults: CallOptions,
) -> Result<Response<ResponseBody>, Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let start = Instant::now();
    let options = request.extensions().get::<CallOptions>().copied().unwrap_or(defaults);
    let asked = deadline::from_headers(request.headers());
    let mut timer = Timer::new(asked.map(|limit| start + limit));
    let mut record = CallGuard::new(caller.unrouted.clone(), start);

    let planned = match caller.plan(&request) {
        Some(planned) => planned,
        None => match timer.limit(caller.wait_for_plan(&request, options)).await {
            Ok(planned) => planned,
            Err(Expired) => Err(Error::new(
                Code::DeadlineExceeded,
                Cause::Deadline,
                "the deadline passed before the target's configuration arrived",
            )),
        },
    };
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => return Err(record.failed(error)),
    };
    record.routed(plan.destination.instruments.clone());
    if let Some(limit) = plan.destination.max_duration {
        timer.tighten(start + limit);
        // What the server is told is what the caller waits for.
        if asked.is_none_or(|asked| limit < asked) {
            deadline::insert(request.headers_mut(), limit);
        }
    }
    let mut call = Call { caller, options, plan, timer, record, tried: Vec::new() };
    match call.filter(&mut request).await {
        Ok(None) => {}
        Ok(Some(reply)) => return call.answer(reply),
        Err(error) => return Err(call.failed(error)),
    }
    call.attempts(request).await
}

// === impl Inner ===

impl Inner {
    /// Where the request goes, if there is a configuration to say so.
    #[inline]
    fn plan<B>(&self, request: &Request<B>) -> Option<Result<Plan<Net>, Error>> {
        match &**self.target.load() {
            State::Ready(snapshot) => {
                let head = Head {
                    method: request.method(),
                    scheme: self.scheme.as_str(),
                    authority: self.authority.as_str(),
                    path: request.uri().path(),
                    query: request.uri().query(),
                    headers: request.headers(),
                };
                Some(snapshot.plan(&head, &mut ()).map_err(Error::from))
            }
            State::Waiting | State::Failed(_) => None,
        }
    }

    #[cold]
    async fn wait_for_plan<B>(
        &self,
        request: &Request<B>,
        options: CallOptions,
    ) -> Result<Plan<Net>, Error> {
        loop {
            let mut changed = pin!(self.target.changed());
            changed.as_mut().enable();
            if let Some(planned) = self.plan(request) {
                return planned;
            }
            if !options.wait_for_ready
                && let State::Failed(error) = &**self.target.load()
            {
                let cause = match error.kind {
                    SourceErrorKind::Unreachable => Cause::NoConfig,
                    SourceErrorKind::DoesNotExist | SourceErrorKind::Invalid => Cause::NoRoute,
                };
                let text = error.text.to_string();
                return Err(Error::new(Code::Unavailable, cause, text).caused_by(error.clone()));
            }
            changed.await;
        }
    }

    /// Gives the request the absolute URI and the headers that HTTP/2 and gRPC want.
    fn dress<B>(&self, request: &mut Request<B>) {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        if parts.path_and_query.is_none() {
            parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        }
        // All three parts are there, which is all that can be wrong.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        request
            .headers_mut()
            .entry(http::header::USER_AGENT)
            .or_insert_with(|| self.user_agent.clone());
        *request.extensions_mut() = http::Extensions::new();
    }
}

// === impl Call ===

impl Call<'_> {
    /// Runs the filters: a reply ends the call.
    async fn filter<B>(&mut self, request: &mut Request<B>) -> Result<Option<Reply>, Error> {
        for index in 0..self.plan.destination.filters.len() {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let mut head =
                RequestHead { method: &method, path: uri.path(), headers: request.headers_mut() };
            let mut verdict = self.plan.destination.filters[index].request(&mut head);
            loop {
                match verdict {
                    Verdict::Continue => break,
                    Verdict::Reply(reply) => return Ok(Some(reply)),
                    Verdict::Wait(wait) => match self.timer.limit(wait).await {
                        Ok(next) => verdict = next,
                        Err(Expired) => return Err(deadline_exceeded("while a filter held the call")),
                    },
                }
            }
        }
        Ok(None)
    }

    async fn attempts<B>(mut self, mut request: Request<B>) -> Result<Response<ResponseBody>, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.caller.dress(&mut request);
        let saved = SavedHead::of(&request);
        let (parts, body) = request.into_parts();
        let mut retry = RetryState::new(self.plan.destination.retry.clone());
        let (body, keeper) = match retry.is_enabled() {
            true => Outgoing::replayable(body, self.caller.retry_buffer),
            false => Outgoing::new(body),
        };
        let mut next = Request::from_parts(parts, body);
        loop {
            let (sending, held) = match self.send(next).await {
                Ok(sent) => sent,
                Err(error) => return Err(self.failed(error)),
            };
            let address = held.link().key().address.clone();
            let result = match self.timer.limit(sending).await {
                Ok(result) => result,
                Err(Expired) => {
                    self.tried.push(Arc::clone(held.link()));
                    let error = deadline_exceeded("while waiting for the response");
                    return Err(self.failed(error));
                }
            };
            // What is known of the failure, and whether the request can go out again.
            let (failure, delay) = match result {
                Ok(response) => {
                    let code = classify::grpc_headers(response.status(), response.headers());
                    let pushback = Pushback::from_headers(response.headers());
                    match code {
                        Some(code) if code != Code::Ok => match retry.next(code, pushback) {
                            Some(delay) => (Failure::Response(response, held, code), delay),
                            None => return Ok(self.respond(response, held, Some(code), &retry)),
                        },
                        code => {
                            keeper.commit();
                            return Ok(self.respond(response, held, code, &retry));
                        }
                    }
                }
                Err(mut error) => {
                    self.tried.push(Arc::clone(held.link()));
                    drop(held);
                    if let Some(request) = error.take_request()
                        && retry.transparent_unsent()
                    {
                        // It never left: another connection, and nobody sees it.
                        self.tried.clear();
                        next = request;
                        continue;
                    }
                    let delay = if error.is_unprocessed() && retry.transparent_unprocessed() {
                        Some(std::time::Duration::ZERO)
                    } else {
                        retry.next(error.code(), None)
                    };
                    match delay {
                        Some(delay) => (Failure::Transport(error), delay),
                        None => return Err(self.broken(error, &retry)),
                    }
                }
            };
            let Some(body) = keeper.again() else {
                // Too much of the body is gone to send it again.
                return self.give_up(failure, &retry);
            };
            if !delay.is_zero() && self.timer.pause(Instant::now() + delay).await.is_err() {
                let error = deadline_exceeded("between two attempts");
                return Err(self.failed(error));
            }
            drop(failure);
            next = saved.request(body);
            self.prepare_retry(&mut next, &retry);
        }
    }

    /// Hands the request to a connection of an endpoint; waits only while no endpoint is ready.
    async fn send(&mut self, mut request: Request<Outgoing>) -> Result<(Sending, Held), Error> {
        loop {
            let cx = PickCx { tried: &self.tried };
            let endpoint = match self.plan.cluster.pick(&cx) {
                Picked::Endpoint(endpoint) => endpoint,
                Picked::Wait | Picked::Fail(_) => self.wait_for_endpoint().await?,
            };
            let cluster = &self.plan.cluster;
            if let Some(drop) = cluster.dropped() {
                let text = format!("dropped on the control plane's order: {}", drop.category);
                return Err(Error::new(Code::Unavailable, Cause::Drop, text));
            }
            let permit = cluster.admit().map_err(|overloaded| {
                Error::new(Code::Unavailable, Cause::CircuitBreaker, overloaded.to_string())
            })?;
            match endpoint.conn().try_send(request) {
                Ok((response, stream)) => {
                    return Ok((response, Held::new(endpoint.link().begin(), permit, stream)));
                }
                // Its connection went away between the pick and here: pick again, once its task
                // had a chance to say so.
                Err(back) => {
                    request = *back;
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Waits until an endpoint can be picked.
    #[cold]
    async fn wait_for_endpoint(&mut self) -> Result<Arc<Endpoint<H2Pool>>, Error> {
        let Self { plan, timer, tried, options, .. } = self;
        loop {
            // Endpoints may have changed since this call was planned.
            let cluster = plan.cluster.latest();
            let mut changed = pin!(cluster.changed());
            // Registered before the look, so that no change is missed.
            changed.as_mut().enable();
            match cluster.pick(&PickCx { tried }) {
                Picked::Endpoint(endpoint) => {
                    plan.cluster = Arc::clone(&cluster);
                    return Ok(endpoint);
                }
                Picked::Fail(reason) if !options.wait_for_ready => {
                    return Err(Error::new(
                        Code::Unavailable,
                        Cause::NoEndpoint,
                        reason.to_string(),
                    ));
                }
                Picked::Wait | Picked::Fail(_) => {}
            }
            if timer.limit(changed).await.is_err() {
                return Err(deadline_exceeded("while no endpoint was ready"));
            }
        }
    }

    /// Turns a response into what the caller gets.
    fn respond(
        mut self,
        response: Response<Incoming>,
        held: Held,
        code: Option<Code>,
        retry: &RetryState,
    ) -> Response<ResponseBody> {
        self.record.attempts(retry);
        let (parts, incoming) = response.into_parts();
        let body = ResponseBody::new(incoming, code, held, self.timer, self.record);
        Response::from_parts(parts, body)
    }

    /// A filter's answer, in place of an endpoint's.
    fn answer(mut self, reply: Reply) -> Result<Response<ResponseBody>, Error> {
        if reply.grpc != Code::Ok {
            let error = Error::new(reply.grpc, Cause::Filter, reply.message);
            return Err(self.failed(error));
        }
        self.record.finish(Code::Ok, Cause::Filter);
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        Ok(response)
    }

    fn prepare_retry(&self, request: &mut Request<Outgoing>, retry: &RetryState) {
        let headers = request.headers_mut();
        if retry.previous_attempts() > 0 {
            headers.insert("grpc-previous-rpc-attempts", retry.previous_attempts().into());
        }
        if let Some(at) = self.timer.deadline() {
            deadline::insert(headers, at.saturating_duration_since(Instant::now()));
        }
    }

    /// The end of a call that cannot be tried again.
    fn give_up(
        self,
        failure: Failure,
        retry: &RetryState,
    ) -> Result<Response<ResponseBody>, Error> {
        match failure {
            Failure::Response(response, held, code) => {
                Ok(self.respond(response, held, Some(code), retry))
            }
            Failure::Transport(error) => Err(self.broken(error, retry)),
        }
    }

    fn broken(mut self, error: SendError, retry: &RetryState) -> Error {
        self.record.attempts(retry);
        let text = error.to_string();
        self.failed(Error::new(error.code(), Cause::Reset, text).caused_by(error))
    }

    /// Records the failure and adds where it happened.
    fn failed(&mut self, error: Error) -> Error {
        let Destination { route, cluster, .. } = &*self.plan.destination;
        let tried = self.tried.iter().map(|link| link.key().address.clone());
        let error = error.at(route, cluster).tried(tried);
        self.record.failed(error)
    }
}

#[cold]
fn deadline_exceeded(when: &str) -> Error {
    Error::new(Code::DeadlineExceeded, Cause::Deadline, format!("the deadline passed {when}"))
}

// === impl ResponseFuture ===

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
