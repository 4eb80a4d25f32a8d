//! The attempts of one call, from a plan to the response's headers or the last failure.

use std::{
    fmt::Write as _,
    future::poll_fn,
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    Extensions, HeaderMap, HeaderName, Request, Response, StatusCode, Version, header::USER_AGENT,
    request::Parts, uri::PathAndQuery,
};
use hyper::body::Incoming;
use mesh_core::{
    Code,
    balance::{InFlight, LinkState, PickCx, Picked},
    filter::{Reply, RequestHead, Verdict},
    resilience::{NoResponse, Permit, format_grpc_timeout},
    resolve::Plan,
    telemetry::{Cause, Instruments},
};
use tokio::time::Instant;

use super::{
    CallOptions, GRPC_TIMEOUT, Inner, Late, ResponseFuture, deadline_exceeded,
    http::{Asked, Exchange, check_scheme},
    outcome::{Failure, Next},
    sent::{Sending, Sent, Unanswered},
};
use crate::{
    body::{Held, Keeper, Outgoing, ResponseBody},
    conn::{Fate, Net, ResetReason, SendError, StreamGuard, Upgrading},
    error::Error,
    head::SavedHead,
    record::{CallGuard, End, of_method},
    retry::Retry,
    timer::{Expired, Timer},
};

const NO_ENDPOINT: &str = "while no endpoint was ready";
const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// A call that has no plan yet.
pub(super) struct Asking {
    pub(super) head: Parts,
    pub(super) body: Outgoing,
    pub(super) keeper: Keeper,
    pub(super) options: CallOptions,
    /// Under HTTP semantics.
    pub(super) http: Option<Asked>,
    /// The application's own time limit.
    pub(super) asked: Option<Duration>,
    pub(super) start: Instant,
    /// It has waited for its plan.
    pub(super) delayed: bool,
}

/// What a call carries through its attempts.
pub(super) struct Call {
    caller: Arc<Inner>,
    pub(super) options: CallOptions,
    /// The application's own time limit.
    asked: Option<Duration>,
    pub(super) plan: Plan<Net>,
    /// What only HTTP semantics have.
    pub(super) http: Option<Box<Exchange>>,
    pub(super) timer: Timer,
    pub(super) record: CallGuard,
    /// What it is recorded as, where its cluster may yet change.
    method: Option<Box<str>>,
    pub(super) retry: Retry,
    /// Endpoints that failed this call already.
    pub(super) tried: Vec<Arc<LinkState>>,
    /// Makes the request's body again.
    pub(super) keeper: Keeper,
    /// Makes the request's head again.
    saved: Option<SavedHead>,
}

/// Where a call is recorded.
#[inline]
fn instruments(plan: &Plan<Net>, method: Option<&str>) -> Option<Arc<dyn Instruments>> {
    let all = plan.destination.instruments.as_ref()?;
    Some(of_method(all, method))
}

// === impl Call ===

impl Call {
    /// Starts a call on its way. Where nothing has to be waited for, the request is in its
    /// endpoint's queue when this returns.
    pub(super) fn begin(
        caller: &Arc<Inner>,
        asking: Asking,
        mut timer: Timer,
        plan: Plan<Net>,
    ) -> ResponseFuture {
        let Asking {
            head,
            body,
            keeper,
            options,
            http,
            asked,
            start,
            delayed,
        } = asking;
        if let Some(limit) = &plan.destination.limit {
            timer.tighten(start + limit.duration);
        }
        let mut call = Call {
            caller: Arc::clone(caller),
            options,
            asked,
            record: CallGuard::new(
                instruments(&plan, options.method(caller.semantics, &head)),
                start,
            ),
            method: plan.aggregate().and_then(|_| {
                let method = options.method(caller.semantics, &head)?;
                Some(method.into())
            }),
            retry: Retry::default(),
            saved: None,
            http: None,
            plan,
            timer,
            tried: Vec::new(),
            keeper,
        };
        if let Some(asked) = http {
            match Exchange::begin(asked, caller, &head, &options, &call.plan, start) {
                Ok(mut exchange) => {
                    if call.keeper.is_empty() {
                        exchange.clock.sent();
                    }
                    // What filters do comes before the time that the route gives.
                    if call.plan.destination.filters.is_empty() {
                        exchange
                            .clock
                            .after(mem::take(&mut call.timer), Duration::ZERO);
                    }
                    call.http = Some(Box::new(exchange));
                }
                Err(error) => {
                    let error = call.failed(error);
                    return ResponseFuture::new(std::future::ready(Err(error)));
                }
            }
        }
        if !call.plan.destination.filters.is_empty() {
            return ResponseFuture::new(call.filtered(head, body));
        }
        let mut request = call.dress(head, body, start);
        if delayed {
            call.announce_time_left(request.headers_mut());
        }
        // At its place already: it is large, and moves no more.
        let mut unanswered = Box::pin(Unanswered {
            call: None,
            sent: None,
            rest: None,
        });
        let mut this = unanswered.as_mut().project();
        let unsent = match this.call.insert(call).try_send(request) {
            Ok(Ok(sent)) => {
                this.sent.set(Some(sent));
                return ResponseFuture(unanswered);
            }
            Ok(Err(request)) => Ok(request),
            Err(error) => Err(error),
        };
        match (this.call.take(), unsent) {
            (Some(call), Ok(request)) => ResponseFuture::new(call.unsent(request)),
            (Some(mut call), Err(error)) => {
                let error = call.failed(error);
                ResponseFuture::new(std::future::ready(Err(error)))
            }
            (None, _) => panic!("a call is where it was put"),
        }
    }

    /// The way through filters.
    async fn filtered(
        mut self,
        mut head: Parts,
        body: Outgoing,
    ) -> Result<Response<ResponseBody>, Error> {
        let since = Instant::now();
        match self.filter(&mut head).await {
            Ok(None) => {
                let now = Instant::now();
                if let Some(exchange) = &mut self.http {
                    let timer = mem::take(&mut self.timer);
                    exchange.clock.after(timer, now - since);
                }
                let request = self.dress(head, body, now);
                self.unsent(request).await
            }
            Ok(Some(reply)) => self.answer(reply),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The way of a request that no endpoint has yet.
    async fn unsent(mut self, request: Request<Outgoing>) -> Result<Response<ResponseBody>, Error> {
        match self.attempt(request).await {
            Ok(next) => self.again(next).await,
            Err(error) => Err(self.failed(error)),
        }
    }

    /// What follows an attempt: the end, or another.
    pub(super) async fn again(mut self, mut next: Next) -> Result<Response<ResponseBody>, Error> {
        loop {
            let request = match next {
                Next::Done(response, held, code) => return Ok(self.respond(response, held, code)),
                Next::Fail(error) => return Err(self.broken(error)),
                Next::Resend(request) => request,
                Next::Retry(failure, pause) => {
                    let (Some(body), Some(saved)) = (self.keeper.again(), &self.saved) else {
                        // Too much of the body is gone to send it again.
                        self.retry.undo();
                        return match failure {
                            Failure::Response(response, held, code) => {
                                Ok(self.respond(response, held, Some(code)))
                            }
                            Failure::Transport(error) => Err(self.broken(error)),
                            Failure::Late => Err(self.failed(late_attempt())),
                        };
                    };
                    let mut request = saved.request(|path| self.uri(path), body);
                    self.note(failure);
                    if let Some(exchange) = &mut self.http {
                        exchange.clock.again(&self.keeper);
                    }
                    if !pause.is_zero() {
                        let waits = self.waits();
                        let then = Instant::now() + pause;
                        if let Err(late) = waits.pause(then, "between two attempts").await {
                            self.retry.undo();
                            return Err(self.failed(late));
                        }
                    }
                    self.record.next_attempt();
                    self.add_headers(Instant::now(), request.headers_mut());
                    self.announce(request.headers_mut());
                    request
                }
            };
            next = match self.attempt(request).await {
                Ok(next) => next,
                Err(error) => return Err(self.failed(error)),
            };
        }
    }

    /// Runs the filters: a reply ends the call.
    async fn filter(&mut self, head: &mut Parts) -> Result<Option<Reply>, Error> {
        for filter in &self.plan.destination.filters {
            let authority = match &self.http {
                Some(exchange) => exchange.authority(),
                None => &self.caller.authority,
            };
            let mut seen = RequestHead {
                method: &head.method,
                authority: authority.as_str(),
                path: head.uri.path(),
                query: head.uri.query(),
                headers: &mut head.headers,
                peer: None,
            };
            let mut verdict = filter.request(&mut seen);
            loop {
                verdict = match verdict {
                    Verdict::Continue => break,
                    Verdict::Reply(reply) => return Ok(Some(reply)),
                    Verdict::Wait(wait) => match self.timer.limit(wait).await {
                        Ok(verdict) => verdict,
                        Err(Expired) => {
                            return Err(deadline_exceeded("while a filter held the call"));
                        }
                    },
                }
            }
        }
        Ok(None)
    }

    /// Makes the request ready to be sent, and keeps what is needed to make it again.
    fn dress(&mut self, mut head: Parts, body: Outgoing, now: Instant) -> Request<Outgoing> {
        let path = head.uri.path_and_query().cloned();
        let mut path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if let Some(exchange) = &mut self.http {
            let route = self.plan.destination.http.as_deref();
            exchange.edit(route, &self.caller.scheme, &mut head, &mut path);
        }
        head.version = Version::HTTP_2;
        head.extensions = Extensions::new();
        if self.http.as_ref().is_some_and(|exchange| exchange.upgrades) {
            head.extensions.insert(Upgrading);
        }
        self.saved = Some(SavedHead::of(&head, path.clone()));
        self.add_headers(now, &mut head.headers);
        head.uri = self.uri(path);
        self.record.first_attempt();
        Request::from_parts(head, body)
    }

    /// Adds what a request has that the application did not give it.
    fn add_headers(&self, now: Instant, headers: &mut HeaderMap) {
        if let Some(exchange) = &self.http {
            let route = self.plan.destination.http.as_deref();
            return exchange.announce(route, now, headers);
        }
        headers
            .entry(USER_AGENT)
            .or_insert_with(|| self.caller.user_agent.clone());
        // What the server is told is what the caller waits for.
        if let Some(limit) = &self.plan.destination.limit
            && self.asked.is_none_or(|asked| limit.duration < asked)
        {
            headers.insert(&GRPC_TIMEOUT, limit.grpc_timeout.clone());
        }
    }

    /// Makes one attempt: to an endpoint, and back with response headers or a failure.
    ///
    /// # Errors
    /// If the call ends here: nothing to send it to, or no time left.
    async fn attempt(&mut self, mut request: Request<Outgoing>) -> Result<Next, Error> {
        loop {
            // Time has passed since the caller's limit was set: the server is told what is left.
            self.announce_time_left(request.headers_mut());
            match self.try_send(request)? {
                Ok(sent) => return self.settle(sent).await,
                Err(back) => request = back,
            }
            self.wait_for_endpoint().await?;
            // If a pick found one and its connection is gone, its task has a chance to say so.
            let turn = tokio::task::yield_now();
            self.waits().limit(turn, NO_ENDPOINT).await?;
        }
    }

    /// Hands the request to a connection of an endpoint, without waiting; gives it back if none is
    /// ready.
    ///
    /// # Errors
    /// If the call is shed.
    fn try_send(
        &mut self,
        mut request: Request<Outgoing>,
    ) -> Result<Result<Sent<impl Sending + use<>>, Request<Outgoing>>, Error> {
        if self.plan.renew() {
            self.moved()?;
        }
        let cx = PickCx {
            tried: &self.tried,
            hash: self.options.hash(),
        };
        let Picked::Endpoint(endpoint) = self.plan.cluster().pick(&cx) else {
            return Ok(Err(request));
        };
        let permit = self.admit()?;
        if let Some(exchange) = &mut self.http {
            exchange.attempt();
            if let Some(route) = self.plan.destination.http.as_deref()
                && route.takes_host_of_endpoint()
                && let Some(name) = endpoint.link.hostname()
            {
                exchange.endpoint_host(route, name, &mut request);
            }
        }
        Ok(match endpoint.conn.try_send(request) {
            Ok(response) => Ok(Sent {
                response,
                place: Some((self.plan.cluster().begin(&endpoint), permit)),
            }),
            // Its connection went away between the pick and here.
            Err(back) => Err(*back),
        })
    }

    /// Waits for what becomes of a request that was sent.
    async fn settle<S: Sending>(&mut self, sent: Sent<S>) -> Result<Next, Error> {
        let Sent {
            response,
            mut place,
        } = sent;
        let mut response = pin!(response);
        let result = poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending => self.poll_late(cx).map(Err),
        });
        let result = result.await;
        self.settled(result, &mut place)
    }

    /// Ready once a time of the call is over.
    #[inline]
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        match &mut self.http {
            None => self.timer.poll_expired(cx).map(|Expired| Late::Deadline),
            Some(exchange) => exchange.clock.poll(cx, &self.keeper, 0),
        }
    }

    fn uri(&self, path: PathAndQuery) -> http::Uri {
        match &self.http {
            None => self.caller.uri(path),
            Some(exchange) => exchange.uri(&self.caller.scheme, path),
        }
    }

    /// What follows from a response, a failure or the deadline.
    #[inline]
    pub(super) fn settled(
        &mut self,
        result: Result<Result<(Response<Incoming>, StreamGuard), SendError>, Late>,
        place: &mut Option<(InFlight, Permit)>,
    ) -> Result<Next, Error> {
        let Some((mut in_flight, permit)) = place.take() else {
            return Err(Error::new(
                Code::Internal,
                Cause::Reset,
                "polled after its end",
            ));
        };
        match result {
            Ok(Ok((response, stream))) => {
                Ok(self.answered(response, Held::new(in_flight, permit, stream)))
            }
            Ok(Err(error)) => {
                in_flight.end(false);
                let unreachable = error.reason() == ResetReason::ConnectFailure;
                let again = unreachable && self.has_tried(in_flight.link());
                if error.fate() != Fate::Unsent || unreachable && !again {
                    self.tried.push(Arc::clone(in_flight.link()));
                }
                Ok(self.unanswered(error, again))
            }
            Err(late) => {
                in_flight.end(false);
                self.tried.push(Arc::clone(in_flight.link()));
                match late {
                    Late::Deadline | Late::Idle => {
                        let error = late.error("while waiting for the response");
                        let sending = (self.http.as_ref()).is_some_and(|it| it.clock.is_sending());
                        Err(match late {
                            // As Envoy: the request is not complete.
                            Late::Idle if sending => error.answered(StatusCode::REQUEST_TIMEOUT),
                            _ => error,
                        })
                    }
                    Late::Attempt | Late::AttemptIdle => {
                        match self.pause_after(NoResponse::Reset) {
                            Some(pause) => Ok(Next::Retry(Failure::Late, pause)),
                            None => Err(late_attempt()),
                        }
                    }
                }
            }
        }
    }

    fn has_tried(&self, link: &Arc<LinkState>) -> bool {
        self.tried.iter().any(|tried| Arc::ptr_eq(tried, link))
    }

    /// Passes the control plane's drops and the circuit breaker.
    #[inline]
    fn admit(&mut self) -> Result<Permit, Error> {
        if let Some(drop) = self.plan.cluster().dropped() {
            self.record.attempts(&self.retry);
            let end = End::dropped(Code::Unavailable, &drop.category);
            self.record.finish(&end);
            let text = format!("dropped on the control plane's order: {}", drop.category);
            return Err(Error::new(Code::Unavailable, Cause::Drop, text));
        }
        self.plan.cluster().admit().map_err(|overloaded| {
            Error::new(
                Code::Unavailable,
                Cause::CircuitBreaker,
                overloaded.to_string(),
            )
        })
    }

    /// Another cluster stands in for the aggregate one that the call goes to.
    ///
    /// # Errors
    /// If it may not have the call.
    #[cold]
    fn moved(&mut self) -> Result<(), Error> {
        let instruments = instruments(&self.plan, self.method.as_deref());
        self.record.moved(instruments);
        match self.http {
            Some(_) => check_scheme(&self.caller, &self.plan),
            None => Ok(()),
        }
    }

    /// Waits until an endpoint can be picked.
    #[cold]
    async fn wait_for_endpoint(&mut self) -> Result<(), Error> {
        let aggregate = self.plan.aggregate().cloned();
        loop {
            // From here on no change is missed.
            let of_aggregate = aggregate.as_ref().map(|aggregate| aggregate.notified());
            if self.plan.renew_now() {
                self.moved()?;
            }
            let cluster = self.plan.shared_cluster();
            let of_cluster = cluster.notified();
            match cluster.pick(&PickCx {
                tried: &self.tried,
                hash: self.options.hash(),
            }) {
                Picked::Endpoint(_) => return Ok(()),
                Picked::Fail(reason) if !self.options.waits_for_ready() => {
                    // It failed after the choice fell on it.
                    if self.plan.renew_now() {
                        self.moved()?;
                        continue;
                    }
                    let mut text = reason.to_string();
                    if let Some(note) = self.plan.note() {
                        let _ = write!(text, "; {note}");
                    }
                    // Under HTTP semantics those that could not be reached are told from none.
                    let cause = match self.http.is_some() && has_endpoints(&self.plan) {
                        true => Cause::ConnectFailed,
                        false => Cause::NoEndpoint,
                    };
                    return Err(Error::new(Code::Unavailable, cause, text));
                }
                Picked::Wait | Picked::Fail(_) => {}
            }
            let changed = async {
                match of_aggregate {
                    None => of_cluster.await,
                    Some(of_aggregate) => tokio::select! {
                        () = of_cluster => {}
                        () = of_aggregate => {}
                    },
                }
            };
            self.waits().limit(changed, NO_ENDPOINT).await?;
        }
    }

    /// Tells the server how many attempts it may have seen.
    fn announce(&self, headers: &mut HeaderMap) {
        if self.http.is_some() {
            return;
        }
        let previous = self.retry.previous_attempts();
        if previous > 0 {
            headers.insert(PREVIOUS_ATTEMPTS, previous.into());
        }
    }

    fn announce_time_left(&self, headers: &mut HeaderMap) {
        let now = Instant::now();
        if let Some(exchange) = &self.http {
            let route = self.plan.destination.http.as_deref();
            return exchange.announce(route, now, headers);
        }
        if let Some(deadline) = self.timer.deadline() {
            let left = deadline.saturating_duration_since(now);
            headers.insert(&GRPC_TIMEOUT, format_grpc_timeout(left));
        }
    }
}

fn late_attempt() -> Error {
    deadline_exceeded("of the attempt, while waiting for the response")
}

fn has_endpoints(plan: &Plan<Net>) -> bool {
    let mut localities = plan.cluster().endpoints().localities.iter();
    localities.any(|locality| !locality.endpoints.is_empty())
}
