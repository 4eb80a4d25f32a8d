//! Records each request that a server gets, once.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, StatusCode, request::Parts};
use mesh_core::{
    Code, Semantics,
    config::Workload,
    filter::Reply,
    identity::Peer,
    telemetry::{Amount, CallRecord, Cause, Instruments, Security},
};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use tokio::time::Instant;

use super::pace::Received;
use crate::{
    body::Tally,
    call::code_of,
    classify,
    record::{of_method, verb},
};

/// What the requests of one connection are recorded with.
pub(super) struct Recording {
    who: Arc<Who>,
    methods: Arc<Methods>,
    /// That of the last request: most connections ask for few.
    last: Option<Last>,
    /// Those that requests had: one that nobody holds any more is used again.
    received: Vec<Arc<Received>>,
    turn: usize,
}

/// The gRPC methods that a server has: those that it has answered other than UNIMPLEMENTED. Names
/// that callers make up are not among them, so that metrics may be labelled with these.
#[derive(Debug, Default)]
pub(super) struct Methods {
    known: ArcSwap<FxHashSet<Box<str>>>,
    growing: Mutex<()>,
}

/// What is the same for all requests of a connection.
struct Who {
    semantics: Semantics,
    security: Security,
    workload: Option<Arc<Workload>>,
    methods: Arc<Methods>,
}

struct Last {
    series: Arc<dyn Instruments>,
    method: Box<str>,
    instruments: Arc<dyn Instruments>,
}

/// One request, until its response has ended; if it is dropped before, its sender gave up.
#[derive(Default)]
pub(crate) struct Recorded(Option<Live>);

struct Live {
    instruments: Arc<dyn Instruments>,
    /// The method, which may not exist: it counts, as what it is, once there is an answer.
    unknown: Option<Box<str>>,
    who: Arc<Who>,
    start: Instant,
    received: Option<Arc<Received>>,
    sent: Tally,
    status: Option<StatusCode>,
    code: Option<Code>,
    cause: Cause,
    /// The response has ended, or will without anybody being asked for more of it.
    complete: bool,
}

/// Methods that a server may have.
const MOST_METHODS: usize = 1_000;
/// Requests with a body that may be under way on a connection without one allocation more each.
const MOST_SPARES: usize = 128;

// === impl Recording ===

impl Recording {
    /// For a connection of `peer`.
    pub(super) fn new(semantics: Semantics, peer: &Peer, methods: &Arc<Methods>) -> Self {
        let certificate = peer.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        let workload = peer.id().map(|id| {
            // spiffe://trust-domain/ns/NAMESPACE/sa/ACCOUNT, where it has that form.
            let mut path = id.split('/').skip(3);
            let namespace = match path.next() {
                Some("ns") => path.next().unwrap_or_default(),
                _ => "",
            };
            let nothing = Workload::new(["", namespace, "", "", "", "", ""]);
            Arc::new(nothing.with_principal(id))
        });
        Self {
            who: Arc::new(Who {
                semantics,
                security: match certificate {
                    Some(_) => Security::MutualTls,
                    None => Security::None,
                },
                workload,
                methods: Arc::clone(methods),
            }),
            methods: Arc::clone(methods),
            last: None,
            received: Vec::new(),
            turn: 0,
        }
    }

    /// A request that `series` counts begins.
    #[inline]
    pub(super) fn begin(
        &mut self,
        series: Option<&Arc<dyn Instruments>>,
        head: &Parts,
    ) -> Recorded {
        let Some(series) = series else {
            return Recorded(None);
        };
        let method = match self.who.semantics {
            Semantics::Http => verb(&head.method),
            Semantics::Grpc => head.uri.path().get(1..),
        };
        let (instruments, unknown) = match method {
            Some(method) => self.instruments(series, method),
            None => (Arc::clone(series), None),
        };
        if unknown.is_none() {
            instruments.started();
        }
        Recorded(Some(Live {
            instruments,
            unknown,
            who: Arc::clone(&self.who),
            start: Instant::now(),
            received: None,
            sent: Tally::default(),
            status: None,
            code: None,
            cause: Cause::Response,
            complete: false,
        }))
    }

    /// Where a method's requests are recorded; else its series, and the name that is not known.
    fn instruments(
        &mut self,
        series: &Arc<dyn Instruments>,
        method: &str,
    ) -> (Arc<dyn Instruments>, Option<Box<str>>) {
        if let Some(last) = &self.last
            && *last.method == *method
            && Arc::ptr_eq(&last.series, series)
        {
            return (Arc::clone(&last.instruments), None);
        }
        if self.who.semantics == Semantics::Grpc && !self.methods.has(method) {
            return (Arc::clone(series), Some(method.into()));
        }
        let instruments = of_method(series, Some(method));
        self.last = Some(Last {
            series: Arc::clone(series),
            method: method.into(),
            instruments: Arc::clone(&instruments),
        });
        (instruments, None)
    }

    /// Where to note what comes of a request's body.
    pub(super) fn receive(&mut self) -> Arc<Received> {
        let places = self.received.len();
        if places > 0 {
            self.turn = (self.turn + 1) % places;
            if let Some(spare) = Arc::get_mut(&mut self.received[self.turn]) {
                *spare = Received::default();
                return Arc::clone(&self.received[self.turn]);
            }
        }
        let new = Arc::<Received>::default();
        if places < MOST_SPARES {
            self.received.push(Arc::clone(&new));
        }
        new
    }
}

// === impl Methods ===

impl Methods {
    fn has(&self, method: &str) -> bool {
        self.known.load().contains(method)
    }

    #[cold]
    fn add(&self, method: Box<str>) {
        let _growing = self.growing.lock();
        let known = self.known.load();
        if known.len() < MOST_METHODS {
            let mut more = FxHashSet::clone(&known);
            more.insert(method);
            self.known.store(Arc::new(more));
        }
    }
}

// === impl Recorded ===

impl Recorded {
    /// Whether it is wanted to know how much comes of the request's body.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Where that is noted.
    pub(super) fn receiving(&mut self, received: Option<Arc<Received>>) {
        if let Some(live) = &mut self.0 {
            live.received = received;
        }
    }

    /// A reply takes the place of a handler's response.
    pub(crate) fn replied(&mut self, reply: &Reply) {
        if let Some(live) = &mut self.0 {
            (live.cause, live.code) = (reply.cause, Some(reply.grpc));
        }
    }

    /// The route answers by itself.
    pub(crate) fn routed(&mut self) {
        if let Some(live) = &mut self.0 {
            live.cause = Cause::Route;
        }
    }

    /// The response has this head.
    #[inline]
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        if let Some(live) = &mut self.0 {
            live.status = Some(status);
            if live.code.is_none() {
                live.code = match live.who.semantics {
                    Semantics::Http => Some(code_of(status)),
                    Semantics::Grpc => classify::grpc_headers(status, headers),
                };
            }
        }
    }

    /// Data of the response goes by.
    #[inline]
    pub(super) fn sent(&mut self, data: &[u8]) {
        if let Some(live) = &mut self.0 {
            live.sent.count(live.who.semantics, data);
        }
    }

    /// The response has these trailers, and so has ended.
    #[inline]
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(live) = &mut self.0 {
            live.complete = true;
            if live.who.semantics == Semantics::Grpc {
                live.code = classify::grpc_trailers(trailers).or(live.code);
            }
        }
    }

    /// Nothing more of the response is to come.
    #[inline]
    pub(super) fn complete(&mut self) {
        if let Some(live) = &mut self.0 {
            live.complete = true;
        }
    }

    /// The response ends with an error, which resets its stream.
    pub(super) fn broken(&mut self) {
        if let Some(live) = &mut self.0 {
            live.complete = true;
            if live.cause == Cause::Response {
                (live.cause, live.code) = (Cause::Reset, Some(Code::Internal));
            }
        }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if let Some(live) = self.0.take() {
            live.finish();
        }
    }
}

// === impl Live ===

impl Live {
    fn finish(mut self) {
        let (code, cause) = match (self.code, self.complete) {
            (Some(code), true) => (code, self.cause),
            // A gRPC service that says nothing.
            (None, true) => (Code::Unknown, self.cause),
            (_, false) => (Code::Cancelled, Cause::Cancelled),
        };
        if let Some(method) = self.unknown.take() {
            if cause == Cause::Response && code != Code::Unimplemented {
                self.instruments = of_method(&self.instruments, Some(&method));
                self.who.methods.add(method);
            }
            self.instruments.started();
        }
        let mut record = CallRecord::new(code, cause, self.start.elapsed());
        record.status = self.status;
        if cause == Cause::Cancelled && self.who.semantics == Semantics::Http {
            // As Envoy has it: nobody was there to see one.
            record.status = None;
        }
        record.peer = self.who.workload.as_ref();
        record.security = self.who.security;
        record.sent = self.sent.amount();
        record.received = match &self.received {
            Some(received) => received.amount(),
            None => Amount::default(),
        };
        self.instruments.finished(&record);
    }
}
