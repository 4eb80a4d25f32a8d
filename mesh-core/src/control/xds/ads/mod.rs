//! The aggregated discovery service, as a state machine without IO.
//!
//! [`Ads`] is told what happens ([`Input`]) and asked what to do ([`Output`]), until it has nothing
//! more to say. It holds what is independent of the variant of the protocol: the stream's life,
//! watches and cache ([`cache`]), the judgement of responses ([`response`]), time limits, backoff,
//! flow control. [`sotw`] frames the messages.

mod cache;
mod notice;
mod response;
mod sotw;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::Instant;

use self::{
    cache::{Bad, Cache},
    response::{Judgement, Received},
    sotw::Sotw,
};
use super::{
    decode::Decode,
    dump::{ConfigDump, ResourceStatus},
    node,
    server::ServerStatus,
};
use crate::{
    Code,
    bootstrap::{Node, ServerConfig},
    config::{Kind, ResourceId},
    control::{Event, SourceError, SourceErrorKind},
    resilience::Backoff,
    runtime::RpcStatus,
};

pub(crate) use notice::{Notice, Reporter};

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A watch begins.
    Watch { watcher: WatcherId, id: ResourceId },
    /// A watch ends.
    Unwatch(WatcherId),
    /// The stream is open.
    Connected,
    /// There will be no stream, for this reason.
    ConnectFailed(String),
    /// The last [`Output::Send`] is on its way.
    Sent,
    /// A message came.
    Received {
        /// The message.
        message: Bytes,
        /// When, for the dump.
        at: SystemTime,
    },
    /// The stream ended; `None`: with OK.
    Closed(Option<RpcStatus>),
    /// The deliveries before the last [`Output::AwaitProcessed`] are processed.
    Processed,
    /// [`Ads::wake_at`] has come.
    Timer,
}

/// Something to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Open a stream of [`Ads::path`], then say [`Input::Connected`] or [`Input::ConnectFailed`].
    Connect,
    /// Close the stream, or stop opening it. Nothing more is to be heard of it.
    Close,
    /// Send this, then say [`Input::Sent`]. There is no other before that.
    Send(Bytes),
    /// Read one message, then say [`Input::Received`] or [`Input::Closed`].
    Read,
    /// Tell a watcher.
    Deliver {
        watcher: WatcherId,
        id: ResourceId,
        event: Event,
        /// Counts for the next [`Output::AwaitProcessed`].
        gated: bool,
    },
    /// Wait for the gated deliveries so far, then say [`Input::Processed`].
    AwaitProcessed,
    /// Log this.
    Notice(Notice),
}

/// Names a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WatcherId(pub(crate) u64);

/// Who talks to whom; part of every error.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The control plane, as the bootstrap names it.
    pub(crate) server: Arc<str>,
    /// The id of our node.
    pub(crate) node: Arc<str>,
}

/// Limits of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// From asking for a resource to the conclusion that there is none.
    pub(crate) resource: Duration,
    /// For opening a stream.
    pub(crate) connect: Duration,
}

/// The client's side of the stream to one control plane, reopened as often as it breaks.
#[derive(Debug)]
pub(crate) struct Ads {
    identity: Identity,
    decode: Arc<dyn Decode>,
    timeouts: Timeouts,
    fail_on_data_errors: bool,
    timeout_is_transient: bool,

    codec: Sotw,
    cache: Cache,
    link: Link,
    backoff: Backoff,
    /// No attempt before this, even if nothing was watched in between.
    retry_at: Option<Instant>,
    /// Why the control plane is out of reach; kept until it answers.
    outage: Option<Arc<str>>,
    unprocessed: Unprocessed,
    now: Instant,
    outputs: VecDeque<Output>,
}

/// The state of the stream.
#[derive(Debug)]
enum Link {
    /// Nothing is watched.
    Idle,
    /// The next attempt is due at [`Ads::retry_at`].
    Waiting,
    Connecting {
        deadline: Instant,
    },
    Open(Stream),
}

#[derive(Debug)]
struct Stream {
    /// A response came.
    heard: bool,
    /// A response with an accepted resource came.
    useful: bool,
    reading: bool,
    /// What the request on its way asked for first.
    sending: Option<(Kind, Vec<Arc<str>>)>,
    /// When an open stream without a response counts as a sign of life, after an outage: a control
    /// plane that has nothing new may be silent for long.
    settles_at: Instant,
}

/// Deliveries of the last response. The next is not read before they are processed (gRFC A27).
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unprocessed {
    No,
    Announced,
    Since(Instant),
}

// === impl Identity ===

impl Identity {
    /// An error that names both ends.
    fn error(&self, kind: SourceErrorKind, what: &str) -> SourceError {
        let Self { server, node } = self;
        SourceError {
            kind,
            text: format!("{what} (xDS server {server:?}, node {node:?})").into(),
        }
    }
}

// === impl Ads ===

impl Ads {
    /// An idle client of `server` that is `node`.
    pub(crate) fn new(
        server: &ServerConfig,
        node: &Node,
        decode: Arc<dyn Decode>,
        mut timeouts: Timeouts,
        now: Instant,
    ) -> Self {
        let timeout_is_transient = server.features.resource_timer_is_transient_error;
        if timeout_is_transient {
            // 30 s in place of 15 s (gRFC A88).
            timeouts.resource *= 2;
        }
        Self {
            identity: Identity {
                server: server.uri.as_str().into(),
                node: node.id.as_str().into(),
            },
            decode,
            timeouts,
            fail_on_data_errors: server.features.fail_on_data_errors,
            timeout_is_transient,
            codec: Sotw::new(node::encode(node)),
            cache: Cache::default(),
            link: Link::Idle,
            backoff: Backoff::control_plane(),
            retry_at: None,
            outage: None,
            unprocessed: Unprocessed::No,
            now,
            outputs: VecDeque::new(),
        }
    }

    /// Both ends of the stream.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The RPC to open.
    pub(crate) fn path(&self) -> &'static str {
        Sotw::PATH
    }

    /// Takes note of `input`. What follows from it is for [`Ads::poll`] to say; inputs that come
    /// together are best handled together, so that their requests become one.
    pub(crate) fn handle(&mut self, input: Input, now: Instant) {
        self.now = now;
        match input {
            Input::Watch { watcher, id } => self.watch(watcher, id),
            Input::Unwatch(watcher) => self.cache.unwatch(watcher),
            Input::Connected => self.connected(),
            Input::ConnectFailed(reason) => self.connect_failed(&reason),
            Input::Sent => self.sent(),
            Input::Received { message, at } => self.received(&message, at),
            Input::Closed(status) => self.closed(status),
            Input::Processed => self.processed(),
            Input::Timer => self.timer(),
        }
    }

    /// What to do next; `None`: nothing until the next input or [`Ads::wake_at`].
    pub(crate) fn poll(&mut self) -> Option<Output> {
        while let Some(output) = self.outputs.pop_front() {
            match output {
                // The watch may have ended since.
                Output::Deliver { watcher, .. } if !self.cache.is_watching(watcher) => {}
                output => return Some(output),
            }
        }
        self.poll_link()
            .or_else(|| self.poll_request())
            .or_else(|| self.poll_read())
    }

    /// When [`Input::Timer`] is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let link = match &self.link {
            Link::Idle => None,
            Link::Waiting => self.retry_at,
            Link::Connecting { deadline } => Some(*deadline),
            Link::Open(stream) => {
                (self.outage.is_some() && !stream.heard).then_some(stream.settles_at)
            }
        };
        let resources = match self.unprocessed {
            Unprocessed::No => self.cache.next_deadline(),
            _ => None,
        };
        link.into_iter().chain(resources).min()
    }

    /// How it stands with the control plane.
    pub(crate) fn status(&self) -> ServerStatus {
        match (&self.outage, &self.link) {
            (Some(reason), _) => ServerStatus::Failed(self.unreachable(None, reason)),
            (None, Link::Idle) => ServerStatus::Idle,
            (None, Link::Waiting | Link::Connecting { .. }) => ServerStatus::Connecting,
            (None, Link::Open(_)) => ServerStatus::Connected,
        }
    }

    /// What is known of every watched resource.
    pub(crate) fn dump(&self) -> ConfigDump {
        ConfigDump {
            server: Arc::clone(&self.identity.server),
            node_id: Arc::clone(&self.identity.node),
            resources: self.cache.dump(),
        }
    }

    // Outputs.

    fn poll_link(&mut self) -> Option<Output> {
        match &self.link {
            Link::Idle if self.cache.is_idle() => {
                self.cache.clear_unwatched();
                None
            }
            Link::Idle => {
                self.link = Link::Waiting;
                self.poll_link()
            }
            Link::Waiting if self.cache.is_idle() => {
                self.go_idle();
                None
            }
            Link::Waiting if self.retry_at.is_none_or(|at| at <= self.now) => {
                self.retry_at = None;
                self.link = Link::Connecting {
                    deadline: self.now + self.timeouts.connect,
                };
                Some(Output::Connect)
            }
            // A stream for nobody is closed rather than told so.
            Link::Connecting { .. } | Link::Open(_) if self.cache.is_idle() => {
                if matches!(&self.link, Link::Open(stream) if stream.useful) {
                    self.backoff.reset();
                }
                self.go_idle();
                Some(Output::Close)
            }
            _ => None,
        }
    }

    fn go_idle(&mut self) {
        self.link = Link::Idle;
        self.cache.unsubscribe_all();
        self.codec.forget();
    }

    fn poll_request(&mut self) -> Option<Output> {
        let Link::Open(stream) = &mut self.link else {
            return None;
        };
        if stream.sending.is_some() {
            return None;
        }
        for kind in Kind::ALL {
            // What a response makes its watchers ask for is asked for at once, when they are done.
            let asks = self.unprocessed == Unprocessed::No && self.cache.is_touched(kind);
            if !asks && !self.codec.owes_answer(kind) {
                continue;
            }
            let subscription = self.cache.subscribe(kind);
            if let Some(request) = self.codec.request(kind, &subscription) {
                stream.sending = Some((kind, subscription.added));
                return Some(Output::Send(request));
            }
        }
        None
    }

    fn poll_read(&mut self) -> Option<Output> {
        if self.unprocessed == Unprocessed::Announced {
            self.unprocessed = Unprocessed::Since(self.now);
            return Some(Output::AwaitProcessed);
        }
        let Link::Open(stream) = &mut self.link else {
            return None;
        };
        if self.unprocessed != Unprocessed::No || stream.reading {
            return None;
        }
        stream.reading = true;
        Some(Output::Read)
    }

    // Inputs.

    fn watch(&mut self, watcher: WatcherId, id: ResourceId) {
        let entry = self.cache.watch(watcher, id.clone());
        let mut news: Vec<Event> = entry.news().collect();
        if let Some(reason) = &self.outage {
            let error = unreachable(&self.identity, Some(&id), reason);
            news.push(Event::Ambient(error));
        }
        for event in news {
            self.outputs.push_back(Output::Deliver {
                watcher,
                id: id.clone(),
                event,
                gated: false,
            });
        }
    }

    fn connected(&mut self) {
        if !matches!(self.link, Link::Connecting { .. }) {
            return;
        }
        self.codec.open();
        self.cache.unsubscribe_all();
        self.link = Link::Open(Stream {
            heard: false,
            useful: false,
            reading: false,
            sending: None,
            settles_at: self.now + self.timeouts.resource,
        });
    }

    fn connect_failed(&mut self, reason: &str) {
        if matches!(self.link, Link::Connecting { .. }) {
            self.fail(reason);
            self.retry();
        }
    }

    fn sent(&mut self) {
        if let Link::Open(stream) = &mut self.link
            && let Some((kind, names)) = stream.sending.take()
        {
            for name in &names {
                self.cache
                    .arm(kind, name, self.now + self.timeouts.resource);
            }
        }
    }

    fn received(&mut self, message: &Bytes, at: SystemTime) {
        let Link::Open(stream) = &mut self.link else {
            return;
        };
        stream.reading = false;
        let response = match self.codec.read(message) {
            Received::Response(response) => response,
            // What was not asked for is ignored: an ACK would say that it is good, a NACK that it
            // is bad, and neither is known.
            Received::Unasked(kind) => {
                return self.ignore(format!("{kind} resources, which were not asked for"));
            }
            Received::UnknownType(url) => {
                return self.ignore(format!("resources of unknown type {url:?}"));
            }
            Received::Unreadable(reason) => {
                return self.ignore(format!("not a DiscoveryResponse: {reason}"));
            }
        };
        stream.heard = true;
        let (kind, version) = (response.kind, Arc::clone(&response.version));
        let (nonce, judgement) = response::apply(
            &mut self.cache,
            &*self.decode,
            &self.identity,
            self.fail_on_data_errors,
            response,
            at,
        );
        stream.useful |= judgement.accepted > 0;
        let Judgement {
            news,
            refusal,
            deleted,
            returned,
            ..
        } = judgement;
        for id in deleted {
            let kept = !self.fail_on_data_errors;
            self.notice(Notice::Deleted { id, kept });
        }
        for id in returned {
            self.notice(Notice::Returned { id });
        }
        if let Some(reason) = &refusal {
            self.notice(Notice::Nacked {
                kind,
                version: Arc::clone(&version),
                reason: reason.clone(),
            });
        }
        self.codec
            .answer(kind, &version, nonce, refusal.map_or(Ok(()), Err));
        let told: HashSet<ResourceId> = news.iter().map(|(id, _)| id.clone()).collect();
        let mut gated = false;
        for (id, event) in news {
            gated |= self.deliver(&id, &event, true);
        }
        gated |= self.recover(&told, true);
        if gated {
            self.unprocessed = Unprocessed::Announced;
        }
    }

    fn closed(&mut self, status: Option<RpcStatus>) {
        let Link::Open(Stream { heard, useful, .. }) = self.link else {
            return;
        };
        // A server may end a stream that it has answered on: a restart, an age limit (gRFC A57).
        // But exhaustion comes back with the next stream, be it the server that sheds load or a
        // response too large to be read.
        let exhausted = matches!(&status, Some(status) if status.code == Code::ResourceExhausted);
        if useful && !exhausted {
            self.backoff.reset();
        }
        if !heard || exhausted {
            let ending = match &status {
                Some(status) => status.to_string(),
                None => "OK".to_owned(),
            };
            self.fail(&if heard {
                format!("the stream ended with {ending}")
            } else {
                format!("the stream ended before the first response, with {ending}")
            });
        }
        self.retry();
    }

    fn processed(&mut self) {
        if let Unprocessed::Since(start) = self.unprocessed {
            // What was not read for that time may have been there in time.
            self.cache
                .postpone(self.now.saturating_duration_since(start));
            self.unprocessed = Unprocessed::No;
        }
    }

    fn timer(&mut self) {
        match &self.link {
            Link::Connecting { deadline } if *deadline <= self.now => {
                self.outputs.push_back(Output::Close);
                let limit = self.timeouts.connect;
                self.connect_failed(&format!("no connection within {limit:?}"));
            }
            Link::Open(stream) if stream.settles_at <= self.now && !stream.heard => {
                self.recover(&HashSet::new(), false);
            }
            _ => {}
        }
        if self.unprocessed == Unprocessed::No {
            while let Some(id) = self.cache.pop_due(self.now) {
                self.timed_out(&id);
            }
        }
    }

    fn timed_out(&mut self, id: &ResourceId) {
        let limit = self.timeouts.resource;
        let (status, kind) = if self.timeout_is_transient {
            (ResourceStatus::Timeout, SourceErrorKind::Unreachable)
        } else {
            (ResourceStatus::DoesNotExist, SourceErrorKind::DoesNotExist)
        };
        let what = match kind {
            SourceErrorKind::DoesNotExist => "does not exist: ",
            _ => "",
        };
        let error = self
            .identity
            .error(kind, &format!("{id}: {what}not sent within {limit:?}"));
        let bad = Bad {
            status,
            error,
            failure: None,
            drop_value: false,
        };
        if let Some(event) = self.cache.reject(id.kind, &id.name, bad) {
            self.notice(Notice::TimedOut { id: id.clone() });
            self.deliver(id, &event, false);
        }
    }

    // Consequences.

    /// The control plane is out of reach: watchers are told once for each reason, and those that
    /// have a value keep it (gRFC A57, A88).
    fn fail(&mut self, reason: &str) {
        self.notice(Notice::Unreachable {
            reason: reason.to_owned(),
        });
        if self.outage.as_deref() == Some(reason) {
            return;
        }
        self.outage = Some(reason.into());
        for id in self.watched() {
            let error = unreachable(&self.identity, Some(&id), reason);
            self.deliver(&id, &Event::Ambient(error), false);
        }
    }

    /// The control plane answers: watchers that were told otherwise, and were not `told` better
    /// since, are told what is in force. Says whether there were any.
    fn recover(&mut self, told: &HashSet<ResourceId>, gated: bool) -> bool {
        if self.outage.take().is_none() {
            return false;
        }
        self.notice(Notice::Recovered);
        let mut any = false;
        for id in self.watched() {
            if told.contains(&id) {
                continue;
            }
            let entry = self.cache.get(id.kind, &id.name);
            let news: Vec<Event> = entry.into_iter().flat_map(|entry| entry.news()).collect();
            for event in news {
                any |= self.deliver(&id, &event, gated);
            }
        }
        any
    }

    fn retry(&mut self) {
        self.cache.unsubscribe_all();
        self.retry_at = Some(self.now + self.backoff.next());
        self.link = Link::Waiting;
    }

    fn ignore(&mut self, reason: String) {
        self.notice(Notice::Unusable { reason });
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    /// Tells every watcher of `id`; says whether there are any.
    fn deliver(&mut self, id: &ResourceId, event: &Event, gated: bool) -> bool {
        let mut any = false;
        if let Some(entry) = self.cache.get(id.kind, &id.name) {
            for watcher in entry.watchers() {
                any = true;
                self.outputs.push_back(Output::Deliver {
                    watcher,
                    id: id.clone(),
                    event: event.clone(),
                    gated,
                });
            }
        }
        any
    }

    fn watched(&self) -> Vec<ResourceId> {
        let kinds = Kind::ALL.into_iter();
        kinds
            .flat_map(|kind| {
                let names = self.cache.of_kind(kind);
                names.map(move |(name, _)| ResourceId::new(kind, Arc::clone(name)))
            })
            .collect()
    }

    fn unreachable(&self, id: Option<&ResourceId>, reason: &str) -> SourceError {
        unreachable(&self.identity, id, reason)
    }
}

fn unreachable(identity: &Identity, id: Option<&ResourceId>, reason: &str) -> SourceError {
    let what = match id {
        Some(id) => format!("{id}: control plane out of reach: {reason}"),
        None => format!("control plane out of reach: {reason}"),
    };
    identity.error(SourceErrorKind::Unreachable, &what)
}
