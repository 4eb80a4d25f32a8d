//! The aggregated discovery service, as a state machine without IO.
//!
//! [`Ads`] is told what happens ([`Input`]) and asked what to do ([`Output`]), until it has nothing
//! more to say. What is independent of the variant of the protocol is here: what happens
//! ([`inputs`]) and what follows from it ([`outputs`]), watches and what is known of their
//! resources ([`cache`], [`entry`]), responses ([`received`]) and the judgement of them ([`response`]), what an operator
//! must know ([`notice`]). [`sotw`] and [`delta`] frame the messages; [`codec`] is either of them.

pub(in crate::control) mod cache;
mod codec;
mod delta;
pub(in crate::control) mod entry;
mod inputs;
mod notice;
mod outputs;
mod received;
mod response;
mod sotw;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::Instant;

use self::{cache::Cache, codec::Codec};
use super::{decode::Decode, dump::ConfigDump, node, server::ServerStatus};
use crate::{
    bootstrap::{Node, ServerConfig},
    config::{Kind, ResourceId},
    control::{Event, SourceError, SourceErrorKind},
    resilience::Backoff,
    runtime::RpcStatus,
};

pub(crate) use notice::{Limiter, Notice, Reporter};

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
    /// All that the bootstrap says of it.
    pub(crate) config: Arc<ServerConfig>,
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

    codec: Codec,
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

/// Deliveries of the last response. Before they are processed, it is not answered, and the next is
/// not read (gRFC A27).
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
        let Self { server, node, .. } = self;
        SourceError {
            kind,
            text: format!("{what} (xDS server {server:?}, node {node:?})").into(),
        }
    }

    /// The error of an outage, for the watchers of `id` or for all.
    fn unreachable(&self, id: Option<&ResourceId>, reason: &str) -> SourceError {
        let what = match id {
            Some(id) => format!("{id}: control plane out of reach: {reason}"),
            None => format!("control plane out of reach: {reason}"),
        };
        self.error(SourceErrorKind::Unreachable, &what)
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
                config: Arc::new(server.clone()),
                node: node.id.as_str().into(),
            },
            decode,
            timeouts,
            fail_on_data_errors: server.features.fail_on_data_errors,
            timeout_is_transient,
            codec: Codec::new(server.features.delta, node::encode(node)),
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
        self.codec.path()
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
            (Some(reason), _) => ServerStatus::Failed(self.identity.unreachable(None, reason)),
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
            resources: self.cache.dump(&self.identity.server),
        }
    }

    /// What is known of those of `ids` that are watched.
    pub(crate) fn dump_of(&self, ids: &BTreeSet<ResourceId>) -> ConfigDump {
        ConfigDump {
            server: Arc::clone(&self.identity.server),
            node_id: Arc::clone(&self.identity.node),
            resources: self.cache.dump_of(ids, &self.identity.server),
        }
    }
}
