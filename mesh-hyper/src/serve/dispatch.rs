//! What happens to each request of a connection, up to its handler.

use std::{cell::RefCell, collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Extensions, Method, Request, Response, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use mesh_core::{
    Context, Semantics,
    authz::{Ambiguity, LastAuthority},
    connections::{ConnectionHandle, Ending, Order},
    filter::{Filter, Reply, Verdict},
    identity::Peer,
    resolve::{Ends, InboundChain, InboundRoute, InboundState},
    rewrite::RequestCx,
};
use tower_service::Service;

use super::{
    Said,
    body::{Held, RequestBody, ResponseChange},
    deadline,
    follow::Follow,
    handling::{Handling, NotServed, Step},
    pace::Pace,
    record::{Recorded, Recording},
    reply::{self, Form},
    stream::Protocol,
    target,
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
    /// What each request has: the peer, if that is wanted.
    pub(super) extensions: Option<Extensions>,
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
    /// Of what it saw; `None` before its first request.
    version: Option<u64>,
    chain: Arc<InboundChain>,
    routes: Routes,
    authority: LastAuthority,
    recording: Recording,
}

/// The routes that requests of a connection took.
#[derive(Default)]
struct Routes {
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
    /// With what its route does with the response.
    Admit(Option<Arc<ResponseChange>>),
    Reply(Reply),
    /// The request is not understood, so that the next one on an HTTP/1.1 connection would not be
    /// either.
    Refuse(Reply),
    /// The route answers by itself.
    Answer(Box<Response<Bytes>>),
    Wait(Waiting),
}

/// A request that a filter holds.
pub(super) struct Waiting {
    verdict: BoxFuture<'static, Verdict>,
    bound: Arc<Bound>,
    /// The filter after the one that waits.
    next: usize,
    authority: Box<str>,
    peer: Arc<Peer>,
}

// === impl Dispatch ===

impl<S> Dispatch<S> {
    /// What becomes of a request with this head. Runs the filters up to one that waits.
    fn decide(
        &self,
        known: &mut Known,
        head: &mut Parts,
        asked: &Asked,
        read: Result<(), Ambiguity>,
        recorded: &mut Recorded,
    ) -> Decision {
        if self.connection.is_shut() {
            return Decision::Reply(reply::going_away());
        }
        known.refresh(&self.follow, self.ends);
        known.decide(head, asked, read, &self.peer, &self.follow, recorded)
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
    type Future = Handling<S>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = self.connection.begin();
        let is_last = self.connection.requests() >= self.limits.requests;
        if is_last && self.connection.ending().is_none() {
            let drain = Order::Drain(Ending::Requests, self.limits.drain_grace);
            self.connection.order(drain);
        }
        let (mut head, body) = request.into_parts();
        let mut body = RequestBody::new(body, self.semantics);
        let may_be_early = self.protocol == Protocol::Http1 && !body.is_end_stream();
        let said = Said::by(&head.headers);
        let form = Form::of(&said);
        let deadline = deadline::read(self.semantics, form, &said);
        let known = &mut *self.known.borrow_mut();
        let read = known.read(&head, &said);
        let asked = match said.upgrade {
            Some(_) => upgrade::asked(&mut head),
            None => Asked::Nothing,
        };
        let mut recorded = Recorded::default();
        let (mut decision, deadline) = match deadline {
            Ok(deadline) => {
                let decision = self.decide(known, &mut head, &asked, read, &mut recorded);
                (decision, deadline)
            }
            Err(reply) => (Decision::Reply(reply), None),
        };
        let idle = match self.semantics {
            Semantics::Grpc => None,
            Semantics::Http => known.chain.stream_idle_timeout(),
        };
        let watched = (idle.is_some() || recorded.is_on()) && !body.is_end_stream();
        let received = watched.then(|| known.recording.receive());
        if let Some(received) = &received {
            body.watch(received);
            recorded.receiving(Some(Arc::clone(received)));
        }
        if let (Some(extensions), Decision::Admit(_) | Decision::Wait(_)) =
            (&self.extensions, &decision)
        {
            // To copy what holds the peer costs less than to put it there.
            match head.extensions.is_empty() {
                true => head.extensions = extensions.clone(),
                false => head.extensions.extend(extensions.clone()),
            }
        }
        let held = Held {
            pace: Pace::new(received),
            idle: idle.map_or(0, whole_millis),
            context: Context::new(Arc::clone(&self.peer), deadline),
            form,
            close: self.protocol == Protocol::Http1 && matches!(decision, Decision::Refuse(_)),
            // Which it does from its last request on.
            close_if_draining: self.protocol == Protocol::Http1,
            tunnel: (asked != Asked::Nothing).then(|| self.tunnel.clone()),
            receiving: may_be_early.then(|| self.tunnel.clone()),
            guard: Some(guard),
            change: match &mut decision {
                Decision::Admit(change) => change.take(),
                _ => None,
            },
            recorded,
        };
        let step = match decision {
            Decision::Admit(_) => Step::Admitted {
                service: self.service.clone(),
                request: Some(Request::from_parts(head, body)),
            },
            Decision::Reply(reply) | Decision::Refuse(reply) => Step::answered(reply),
            Decision::Answer(answer) => Step::routed(answer),
            Decision::Wait(waiting) => Step::Waiting {
                rest: Box::pin(waiting.rest(head, body)),
                service: Some(self.service.clone()),
            },
        };
        Handling::new(step, held)
    }
}

// === impl Known ===

impl Known {
    pub(super) fn new(
        state: Arc<InboundState>,
        chain: Arc<InboundChain>,
        recording: Recording,
    ) -> Self {
        Self {
            state,
            version: None,
            chain,
            routes: Routes::default(),
            authority: LastAuthority::default(),
            recording,
        }
    }

    /// Follows the state in force. A chain that is gone stays: its connection is being drained, and
    /// what it still takes is treated as before.
    #[inline]
    pub(super) fn refresh(&mut self, follow: &Follow, ends: Ends) {
        let version = Some(follow.version());
        if version == self.version {
            return;
        }
        self.version = version;
        let state = follow.load();
        if Arc::ptr_eq(&state, &self.state) {
            return;
        }
        if let InboundState::Serving(snapshot) = &**state
            && let Some(chain) = snapshot.chain(ends)
            && !Arc::ptr_eq(chain, &self.chain)
        {
            self.chain = Arc::clone(chain);
            self.routes = Routes::default();
        }
        self.state = Arc::clone(&state);
    }

    /// Reads the target of a request, before anything else looks at it.
    ///
    /// # Errors
    /// If it can be read in more than one way.
    #[inline]
    pub(super) fn read(&mut self, head: &Parts, said: &Said<'_>) -> Result<(), Ambiguity> {
        target::read(head, said, &mut self.authority)
    }

    /// What becomes of a request with this head, whose target was [read](Self::read) last. Runs the
    /// filters up to one that waits.
    #[inline]
    pub(super) fn decide(
        &mut self,
        head: &mut Parts,
        asked: &Asked,
        read: Result<(), Ambiguity>,
        peer: &Arc<Peer>,
        follow: &Follow,
        recorded: &mut Recorded,
    ) -> Decision {
        if head.method == Method::CONNECT {
            *recorded = self.recording.begin(self.chain.instruments(), head);
            return Decision::Refuse(reply::connect());
        }
        if let Err(ambiguity) = read {
            *recorded = self.recording.begin(self.chain.instruments(), head);
            return Decision::Refuse(ambiguity.reply());
        }
        let sent = self.authority.as_str();
        let authority = self.chain.authority(sent, peer.local);
        if authority.len() != sent.len()
            && let Err(ambiguity) =
                target::strip(head, |said| self.chain.authority(said, peer.local))
        {
            *recorded = self.recording.begin(self.chain.instruments(), head);
            return Decision::Refuse(ambiguity.reply());
        }
        let seen = target::seen(head, scheme(peer), authority);
        let route = match self.chain.route(&seen, &mut ()) {
            Ok(route) => route,
            Err(reject) => {
                *recorded = self.recording.begin(self.chain.instruments(), head);
                return Decision::Reply(reply::rejected(reject));
            }
        };
        *recorded = (self.recording).begin(route.instruments.as_ref(), head);
        if let Asked::Protocol(protocol) = asked
            && !follow.allows_upgrade(protocol)
            && !(route.http.as_ref()).is_some_and(|http| http.allows_upgrade(protocol))
        {
            return Decision::Reply(reply::no_upgrade());
        }
        if route.filters.is_empty() && route.http.is_none() && route.answer.is_none() {
            return Decision::Admit(None);
        }
        let route = Arc::clone(route);
        let bound = self.routes.bind(route, peer);
        match bound.run(0, head, authority, peer) {
            (Verdict::Continue, _) => match bound.finish(head, authority, peer) {
                Ok(change) => Decision::Admit(change),
                Err(answer) => Decision::Answer(answer),
            },
            (Verdict::Reply(reply), _) => Decision::Reply(reply),
            (Verdict::Wait(verdict), next) => Decision::Wait(Waiting {
                verdict,
                bound: Arc::clone(bound),
                next,
                authority: authority.into(),
                peer: Arc::clone(peer),
            }),
        }
    }

    /// The treatment of the connection.
    pub(super) fn chain(&self) -> &InboundChain {
        &self.chain
    }
}

// === impl Routes ===

impl Routes {
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
        authority: &str,
        peer: &Arc<Peer>,
    ) -> (Verdict, usize) {
        for (number, filter) in self.filters.iter().enumerate().skip(from) {
            match filter.request(&mut target::open(head, authority, peer)) {
                Verdict::Continue => {}
                verdict => return (verdict, number + 1),
            }
        }
        (Verdict::Continue, self.filters.len())
    }

    /// What the route does with a request that its filters let pass: it answers, or changes the
    /// headers, and maybe those of the response.
    #[inline]
    fn finish(
        &self,
        head: &mut Parts,
        authority: &str,
        peer: &Arc<Peer>,
    ) -> Result<Option<Arc<ResponseChange>>, Box<Response<Bytes>>> {
        let scheme = scheme(peer);
        if let Some(answer) = &self.route.answer {
            let cx = RequestCx {
                peer: Some(peer),
                version: head.version,
            };
            let seen = target::seen(head, scheme, authority);
            return Err(Box::new(answer.respond(&seen, &cx)));
        }
        if let Some(http) = &self.route.http {
            let version = head.version;
            let mut seen = target::open(head, authority, peer);
            let remembered = http.served(&mut seen, scheme, version);
            if http.changes_responses() {
                let route = Arc::clone(&self.route);
                return Ok(Some(Arc::new(ResponseChange { route, remembered })));
            }
        }
        Ok(None)
    }
}

// === impl Waiting ===

impl Waiting {
    /// The rest of the way of the request.
    pub(super) async fn rest<B>(self, mut head: Parts, body: B) -> Result<Request<B>, NotServed> {
        let Self {
            mut verdict,
            bound,
            mut next,
            authority,
            peer,
        } = self;
        loop {
            verdict = match verdict.await {
                Verdict::Wait(again) => again,
                Verdict::Reply(reply) => return Err(NotServed::Reply(reply)),
                Verdict::Continue => match bound.run(next, &mut head, &authority, &peer) {
                    (Verdict::Continue, _) => {
                        return match bound.finish(&mut head, &authority, &peer) {
                            Err(answer) => Err(NotServed::Answer(answer)),
                            Ok(change) => Ok(carrying(change, head, body)),
                        };
                    }
                    (Verdict::Reply(reply), _) => return Err(NotServed::Reply(reply)),
                    (Verdict::Wait(other), after) => {
                        next = after;
                        other
                    }
                },
            };
        }
    }
}

/// In milliseconds, and one more for a part of one. Longer than 49 days is as long as that.
fn whole_millis(time: Duration) -> u32 {
    let part = u64::from(time.subsec_nanos().div_ceil(1_000_000));
    let millis = time.as_secs().saturating_mul(1000).saturating_add(part);
    millis.try_into().unwrap_or(u32::MAX)
}

/// A request that takes what is to be done with its response to where that will be known.
pub(super) fn carrying<B>(
    change: Option<Arc<ResponseChange>>,
    mut head: Parts,
    body: B,
) -> Request<B> {
    if let Some(change) = change {
        head.extensions.insert(change);
    }
    Request::from_parts(head, body)
}
