//! What happens to each request of a connection, up to its handler.

use std::{cell::RefCell, collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use mesh_core::{
    Context, Scoped, Semantics,
    connections::{ConnectionHandle, Ending, Order},
    filter::{Filter, Reply, RequestHead, Verdict},
    identity::Peer,
    resolve::{Ends, InboundChain, InboundRoute, InboundState},
    rewrite::RequestCx,
};
use tower_service::Service;

use super::{
    body::{Held, RequestBody, ResponseChange},
    deadline,
    follow::Follow,
    handling::{Handling, NotServed, Step},
    pace::Pace,
    reply::{self, Form},
    stream::Protocol,
    target::Target,
    upgrade::{self, Asked, Tunnel},
};
use crate::body::BoxError;

/// Takes the requests of one connection. Called from its task alone, so what it keeps between
/// requests needs no lock.
pub(super) struct Dispatch<S> {
    pub(super) service: S,
    pub(super) follow: Arc<Follow>,
    pub(super) semantics: Semantics,
    pub(super) connection: ConnectionHandle,
    pub(super) peer: Arc<Peer>,
    pub(super) ends: Ends,
    pub(super) known: RefCell<Known>,
    pub(super) protocol: Protocol,
    /// What the connection may become.
    pub(super) tunnel: Tunnel,
    pub(super) limits: Limits,
}

/// How much a connection may be asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// With so many requests it is drained.
    pub(super) requests: u64,
    /// And has this long to finish.
    pub(super) drain_grace: Duration,
}

/// What the last request of a connection found.
pub(super) struct Known {
    /// The state it saw: while there is no other, nothing is looked for again.
    state: Arc<InboundState>,
    chain: Arc<InboundChain>,
    last: Option<Arc<Bound>>,
    /// By the address of the route, which is kept by what it leads to.
    bound: HashMap<usize, Arc<Bound>>,
}

/// The filters of a route, bound to this connection.
pub(super) struct Bound {
    route: Arc<InboundRoute>,
    filters: Box<[Arc<dyn Filter>]>,
}

/// What the filters have decided.
pub(super) enum Decision {
    Admit,
    Reply(Reply),
    /// The request is not understood, so that the next one on an HTTP/1.1 connection would not be
    /// either.
    Refuse(Reply),
    /// The route answers by itself.
    Answer(Box<Response<Bytes>>),
    Wait {
        verdict: BoxFuture<'static, Verdict>,
        bound: Arc<Bound>,
        /// The filter after the one that waits.
        next: usize,
        target: Target,
    },
}

// === impl Dispatch ===

impl<S> Dispatch<S> {
    /// What becomes of a request with this head. Runs the filters up to one that waits.
    fn decide(&self, head: &mut Parts, asked: &Asked) -> Decision {
        if self.connection.is_shut() {
            return Decision::Reply(reply::going_away());
        }
        let known = &mut *self.known.borrow_mut();
        known.refresh(&self.follow, self.ends);
        known.decide(head, asked, &self.peer, &self.follow)
    }
}

fn scheme(peer: &Peer) -> &'static str {
    match peer.tls {
        Some(_) => "https",
        None => "http",
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Dispatch<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
{
    type Response = Response<super::body::Served<B>>;
    type Error = std::convert::Infallible;
    type Future = Scoped<Handling<S>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = self.connection.begin();
        let is_last = self.connection.requests() >= self.limits.requests;
        if is_last && self.connection.ending().is_none() {
            let drain = Order::Drain(Ending::Requests, self.limits.drain_grace);
            self.connection.order(drain);
        }
        let (mut head, body) = request.into_parts();
        let asked = upgrade::asked(&mut head);
        let mut body = RequestBody::new(body);
        let has_body = !body.is_end_stream();
        let form = Form::of(&head.headers);
        let deadline = deadline::read(self.semantics, form, &head.headers);
        let (decision, deadline) = match deadline {
            Ok(deadline) => (self.decide(&mut head, &asked), deadline),
            Err(reply) => (Decision::Reply(reply), None),
        };
        let idle = match self.semantics {
            Semantics::Grpc => None,
            Semantics::Http => self.known.borrow().chain.stream_idle_timeout(),
        };
        let received = idle.and_then(|_| body.watch());
        let admit = |mut head: Parts| {
            head.extensions.insert(Arc::clone(&self.peer));
            head
        };
        let is_refused = matches!(decision, Decision::Refuse(_));
        let step = match decision {
            Decision::Admit => Step::Admitted {
                service: self.service.clone(),
                request: Some(Request::from_parts(admit(head), body)),
            },
            Decision::Reply(reply) | Decision::Refuse(reply) => Step::answered(reply),
            Decision::Answer(answer) => Step::routed(answer),
            Decision::Wait {
                verdict,
                bound,
                next,
                target,
            } => Step::Waiting {
                rest: Box::pin(bound.wait(verdict, next, target, admit(head), body)),
                service: Some(self.service.clone()),
            },
        };
        let context = Context::new(Arc::clone(&self.peer), deadline);
        let held = Held {
            pace: Pace::until(deadline).idle(idle, received),
            context: context.clone(),
            form,
            close: self.protocol == Protocol::Http1 && is_refused,
            // Which it does from its last request on.
            close_if_draining: self.protocol == Protocol::Http1,
            tunnel: (asked != Asked::Nothing).then(|| self.tunnel.clone()),
            receiving: (self.protocol == Protocol::Http1 && has_body).then(|| self.tunnel.clone()),
            guard: Some(guard),
            change: None,
        };
        context.scope(Handling::new(step, held))
    }
}

// === impl Known ===

impl Known {
    pub(super) fn new(state: Arc<InboundState>, chain: Arc<InboundChain>) -> Self {
        Self {
            state,
            chain,
            last: None,
            bound: HashMap::new(),
        }
    }

    /// Follows the state in force. A chain that is gone stays: its connection is being drained, and
    /// what it still takes is treated as before.
    #[inline]
    pub(super) fn refresh(&mut self, follow: &Follow, ends: Ends) {
        let state = follow.load();
        if Arc::ptr_eq(&state, &self.state) {
            return;
        }
        if let InboundState::Serving(snapshot) = &**state
            && let Some(chain) = snapshot.chain(ends)
            && !Arc::ptr_eq(chain, &self.chain)
        {
            self.chain = Arc::clone(chain);
            self.last = None;
            self.bound.clear();
        }
        self.state = Arc::clone(&state);
    }

    /// What becomes of a request with this head. Runs the filters up to one that waits.
    #[inline]
    pub(super) fn decide(
        &mut self,
        head: &mut Parts,
        asked: &Asked,
        peer: &Arc<Peer>,
        follow: &Follow,
    ) -> Decision {
        if head.method == Method::CONNECT {
            return Decision::Refuse(reply::connect());
        }
        let target = match Target::read(head) {
            Ok(target) => target,
            Err(ambiguity) => return Decision::Refuse(ambiguity.reply()),
        };
        let route = self.chain.route(&target.head(head, scheme(peer)), &mut ());
        let route = match route {
            Ok(route) => route,
            Err(reject) => return Decision::Reply(reply::rejected(reject)),
        };
        if let Asked::Protocol(protocol) = asked
            && !follow.allows_upgrade(protocol)
            && !(route.http.as_ref()).is_some_and(|http| http.allows_upgrade(protocol))
        {
            return Decision::Reply(reply::no_upgrade());
        }
        if route.filters.is_empty() && route.http.is_none() && route.answer.is_none() {
            return Decision::Admit;
        }
        let route = Arc::clone(route);
        let bound = self.bind(route, peer);
        match bound.run(0, head, &target, peer) {
            (Verdict::Continue, _) => match bound.finish(head, &target, peer) {
                Some(answer) => Decision::Answer(answer),
                None => Decision::Admit,
            },
            (Verdict::Reply(reply), _) => Decision::Reply(reply),
            (Verdict::Wait(verdict), next) => Decision::Wait {
                verdict,
                bound: Arc::clone(bound),
                next,
                target,
            },
        }
    }

    /// The treatment of the connection.
    pub(super) fn chain(&self) -> &InboundChain {
        &self.chain
    }

    /// The filters of `route` for this connection.
    #[inline]
    fn bind(&mut self, route: Arc<InboundRoute>, peer: &Arc<Peer>) -> &Arc<Bound> {
        let bound = match self.last.take() {
            Some(last) if Arc::ptr_eq(&last.route, &route) => last,
            _ => {
                let key = Arc::as_ptr(&route).addr();
                let bound = self.bound.entry(key);
                Arc::clone(bound.or_insert_with(|| Arc::new(Bound::new(route, peer))))
            }
        };
        self.last.insert(bound)
    }
}

// === impl Bound ===

impl Bound {
    fn new(route: Arc<InboundRoute>, peer: &Arc<Peer>) -> Self {
        let filters = route
            .filters
            .iter()
            .map(|filter| filter.bind(peer).unwrap_or_else(|| Arc::clone(filter)))
            .collect();
        Self { route, filters }
    }

    /// Runs the filters from this one on, up to one that does not continue; with the number of the
    /// one after that.
    fn run(
        &self,
        from: usize,
        head: &mut Parts,
        target: &Target,
        peer: &Arc<Peer>,
    ) -> (Verdict, usize) {
        for (number, filter) in self.filters.iter().enumerate().skip(from) {
            let mut seen = RequestHead {
                method: &head.method,
                authority: target.authority(&head.uri),
                path: head.uri.path(),
                query: head.uri.query(),
                headers: &mut head.headers,
                peer: Some(peer),
            };
            match filter.request(&mut seen) {
                Verdict::Continue => {}
                verdict => return (verdict, number + 1),
            }
        }
        (Verdict::Continue, self.filters.len())
    }

    /// What the route does with a request that its filters let pass: it answers, or changes the
    /// headers.
    #[inline]
    fn finish(
        &self,
        head: &mut Parts,
        target: &Target,
        peer: &Arc<Peer>,
    ) -> Option<Box<Response<Bytes>>> {
        let scheme = scheme(peer);
        if let Some(answer) = &self.route.answer {
            let cx = RequestCx {
                peer: Some(peer),
                version: head.version,
            };
            return Some(Box::new(answer.respond(&target.head(head, scheme), &cx)));
        }
        if let Some(http) = &self.route.http {
            let mut seen = RequestHead {
                method: &head.method,
                authority: target.authority(&head.uri),
                path: head.uri.path(),
                query: head.uri.query(),
                headers: &mut head.headers,
                peer: Some(peer),
            };
            let remembered = http.served(&mut seen, scheme, head.version);
            if http.changes_responses() {
                let route = Arc::clone(&self.route);
                // The request carries it to where its response will be known.
                let change = ResponseChange { route, remembered };
                head.extensions.insert(Arc::new(change));
            }
        }
        None
    }

    /// The rest of the way of a request that a filter holds.
    pub(super) async fn wait<B>(
        self: Arc<Self>,
        mut verdict: BoxFuture<'static, Verdict>,
        mut next: usize,
        target: Target,
        mut head: Parts,
        body: B,
    ) -> Result<Request<B>, NotServed> {
        let peer = head.extensions.get::<Arc<Peer>>().cloned();
        loop {
            verdict = match verdict.await {
                Verdict::Wait(again) => again,
                Verdict::Reply(reply) => return Err(NotServed::Reply(reply)),
                Verdict::Continue => {
                    let Some(peer) = &peer else {
                        return Err(NotServed::Reply(reply::failed()));
                    };
                    match self.run(next, &mut head, &target, peer) {
                        (Verdict::Continue, _) => {
                            return match self.finish(&mut head, &target, peer) {
                                Some(answer) => Err(NotServed::Answer(answer)),
                                None => Ok(Request::from_parts(head, body)),
                            };
                        }
                        (Verdict::Reply(reply), _) => return Err(NotServed::Reply(reply)),
                        (Verdict::Wait(other), after) => {
                            next = after;
                            other
                        }
                    }
                }
            };
        }
    }
}
