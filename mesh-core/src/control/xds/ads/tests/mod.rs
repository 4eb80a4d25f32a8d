//! The state machine under a hand-driven clock and a control plane that is the test itself.
//! Tests are named after those of the gRPC implementations where they check the same.

mod delta;
mod flow;
mod history;
mod protocol;
mod stream;
mod watchers;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse, ResourceError, ResourceName,
    },
    google::{protobuf::Any, rpc},
};
use prost::Message;
use tokio::time::Instant;

use super::{Ads, Codec, Input, Notice, Output, Timeouts, WatcherId};
use crate::{
    Code,
    bootstrap::ServerFeatures,
    config::{Kind, ResourceId},
    control::{
        Event, SourceErrorKind,
        xds::{
            dump::{ResourceDump, ResourceStatus},
            testing::{self, FakeDecode, any, content},
            type_url::{kind_of, type_url},
        },
    },
    runtime::RpcStatus,
};

const SECOND: Duration = Duration::from_secs(1);

/// The state machine and everything it has said.
struct Client {
    ads: Ads,
    now: Instant,
    watchers: u64,
    connects: usize,
    closes: usize,
    reads: usize,
    requests: VecDeque<Request>,
    /// The same where the server speaks delta.
    delta_requests: VecDeque<DeltaDiscoveryRequest>,
    events: VecDeque<(WatcherId, ResourceId, Seen)>,
    notices: Vec<Notice>,
    /// `Send` outputs whose `Sent` is withheld.
    unsent: usize,
    hold_sends: bool,
    /// Whether deliveries of a response wait to be processed.
    unprocessed: bool,
    hold_processed: bool,
}

/// A request, as a control plane reads it.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    kind: Kind,
    version: String,
    nonce: String,
    names: Vec<String>,
    error: Option<rpc::Status>,
    node: bool,
}

/// What a watcher was told.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Update(String),
    Ambient(SourceErrorKind, String),
    Gone(SourceErrorKind, String),
}

impl Client {
    fn new() -> Self {
        Self::with(ServerFeatures::default())
    }

    fn with(features: ServerFeatures) -> Self {
        let now = Instant::now();
        let timeouts = Timeouts {
            resource: 15 * SECOND,
            connect: 20 * SECOND,
        };
        Self {
            ads: Ads::new(
                &testing::server(features),
                &testing::node(),
                Arc::new(FakeDecode),
                timeouts,
                now,
            ),
            now,
            watchers: 0,
            connects: 0,
            closes: 0,
            reads: 0,
            requests: VecDeque::new(),
            delta_requests: VecDeque::new(),
            events: VecDeque::new(),
            notices: Vec::new(),
            unsent: 0,
            hold_sends: false,
            unprocessed: false,
            hold_processed: false,
        }
    }

    /// A client with a watch for each name and an open stream, whose first requests are read.
    fn watching<const N: usize>(kind: Kind, names: [&str; N]) -> (Self, [WatcherId; N]) {
        let mut client = Self::new();
        let watchers = client.watch_all(kind, names);
        (client, watchers)
    }

    fn watch_all<const N: usize>(&mut self, kind: Kind, names: [&str; N]) -> [WatcherId; N] {
        let watchers = names.map(|name| self.watch_later(kind, name));
        self.act();
        self.connect();
        let request = self.request();
        assert_eq!(request.names.len(), N);
        watchers
    }

    /// Handles `input`, then does what there is to do.
    fn step(&mut self, input: Input) {
        self.ads.handle(input, self.now);
        self.act();
    }

    fn act(&mut self) {
        while let Some(output) = self.ads.poll() {
            match output {
                Output::Connect => self.connects += 1,
                Output::Close => {
                    self.closes += 1;
                    self.reads = 0;
                    self.unsent = 0;
                }
                Output::Send(message) => {
                    assert_eq!(self.unsent, 0, "one message at a time");
                    if matches!(self.ads.codec, Codec::Delta(_)) {
                        let request = DeltaDiscoveryRequest::decode(message);
                        let request = request.expect("a DeltaDiscoveryRequest");
                        self.delta_requests.push_back(request);
                    } else {
                        self.requests.push_back(Request::read(message));
                    }
                    self.unsent += 1;
                    if !self.hold_sends {
                        self.sent();
                    }
                }
                Output::Read => self.reads += 1,
                Output::Deliver {
                    watcher, id, event, ..
                } => self.events.push_back((watcher, id, Seen::from(&event))),
                Output::AwaitProcessed => {
                    assert!(!self.unprocessed, "one response at a time");
                    self.unprocessed = true;
                    if !self.hold_processed {
                        self.processed();
                    }
                }
                Output::Notice(notice) => self.notices.push(notice),
            }
        }
    }

    fn sent(&mut self) {
        assert_eq!(std::mem::take(&mut self.unsent), 1);
        self.ads.handle(Input::Sent, self.now);
    }

    fn processed(&mut self) {
        assert!(std::mem::take(&mut self.unprocessed));
        self.ads.handle(Input::Processed, self.now);
    }

    /// Begins a watch without acting on it.
    fn watch_later(&mut self, kind: Kind, name: &str) -> WatcherId {
        self.watchers += 1;
        let watcher = WatcherId(self.watchers);
        let id = ResourceId::new(kind, name);
        self.ads.handle(Input::Watch { watcher, id }, self.now);
        watcher
    }

    fn watch(&mut self, kind: Kind, name: &str) -> WatcherId {
        let watcher = self.watch_later(kind, name);
        self.act();
        watcher
    }

    fn unwatch(&mut self, watcher: WatcherId) {
        self.step(Input::Unwatch(watcher));
    }

    /// Opens the stream that is being asked for, once the backoff is over.
    fn connect(&mut self) {
        if self.connects == 0 {
            let at = self.ads.wake_at().expect("an attempt to wait for");
            self.now = self.now.max(at);
            self.step(Input::Timer);
        }
        assert_eq!(std::mem::take(&mut self.connects), 1);
        self.step(Input::Connected);
        assert_eq!(self.reads, usize::from(!self.unprocessed));
    }

    fn connect_failed(&mut self, reason: &str) {
        assert_eq!(std::mem::take(&mut self.connects), 1);
        self.step(Input::ConnectFailed(reason.into()));
    }

    fn closed(&mut self, status: Option<(Code, &str)>) {
        (self.reads, self.unsent) = (0, 0);
        self.step(Input::Closed(status.map(|(code, message)| RpcStatus {
            code,
            message: message.into(),
        })));
    }

    /// The one request that was sent since the last look.
    fn request(&mut self) -> Request {
        let request = self.requests.pop_front().expect("a request");
        assert!(self.requests.is_empty(), "one request: {:?}", self.requests);
        request
    }

    fn no_request(&self) {
        assert!(self.requests.is_empty(), "{:?}", self.requests);
    }

    /// What `watcher` was told since the last look, if only it was told anything.
    fn told(&mut self, watcher: WatcherId) -> Vec<Seen> {
        let told = self.take_told(watcher);
        assert!(self.events.is_empty(), "others: {:?}", self.events);
        told
    }

    fn take_told(&mut self, watcher: WatcherId) -> Vec<Seen> {
        let (told, others) = std::mem::take(&mut self.events)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(to, _, _)| *to == watcher);
        self.events = others;
        told.into_iter().map(|(_, _, seen)| seen).collect()
    }

    fn quiet(&self) {
        assert!(self.events.is_empty(), "{:?}", self.events);
    }

    /// The control plane answers.
    fn respond(&mut self, kind: Kind, version: &str, nonce: &str, resources: &[(&str, &str)]) {
        let resources = resources
            .iter()
            .map(|(name, content)| any(kind, name, content));
        self.respond_raw(response(kind, version, nonce, resources.collect()));
    }

    fn respond_raw(&mut self, response: DiscoveryResponse) {
        self.receive(response.encode_to_vec().into());
    }

    fn receive(&mut self, message: Bytes) {
        assert_eq!(std::mem::take(&mut self.reads), 1, "the client reads");
        self.step(Input::Received {
            message,
            at: SystemTime::now(),
        });
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.ads.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step(Input::Timer);
        }
        self.now = end;
    }

    fn dump(&self, kind: Kind, name: &str) -> ResourceDump {
        let dump = self.ads.dump();
        let found = dump
            .resources
            .into_iter()
            .find(|resource| resource.id == ResourceId::new(kind, name));
        found.expect("a watched resource")
    }

    fn status(&self, kind: Kind, name: &str) -> ResourceStatus {
        self.dump(kind, name).status
    }

    /// A watch of another kind that keeps the stream open; its request is read.
    fn keep_open(&mut self, other_than: Kind) -> WatcherId {
        let kind = if other_than == Kind::Listener {
            Kind::Cluster
        } else {
            Kind::Listener
        };
        let watcher = self.watch(kind, "keep");
        assert_eq!(self.request().names, ["keep"]);
        watcher
    }
}

impl Request {
    fn read(message: Bytes) -> Self {
        let request = DiscoveryRequest::decode(message).expect("a DiscoveryRequest");
        Self {
            kind: kind_of(&request.type_url).expect("a known type"),
            version: request.version_info,
            nonce: request.response_nonce,
            names: request.resource_names,
            error: request.error_detail,
            node: request.node.is_some(),
        }
    }

    /// Whether it is an ACK of this.
    fn assert_ack(&self, kind: Kind, version: &str, nonce: &str) {
        assert_eq!(
            (self.kind, &*self.version, &*self.nonce, &self.error),
            (kind, version, nonce, &None)
        );
    }

    /// The text of the NACK it is: of `nonce`, while `version` is in force.
    fn assert_nack(&self, kind: Kind, version: &str, nonce: &str) -> &str {
        assert_eq!(
            (self.kind, &*self.version, &*self.nonce),
            (kind, version, nonce)
        );
        let error = self.error.as_ref().expect("a NACK");
        assert_eq!(error.code, Code::InvalidArgument as i32);
        &error.message
    }
}

impl Seen {
    fn update(content: &str) -> Self {
        Seen::Update(content.into())
    }

    fn is_gone(&self, kind: SourceErrorKind, text: &str) -> bool {
        matches!(self, Seen::Gone(k, t) if *k == kind && t.contains(text))
    }

    fn is_ambient(&self, kind: SourceErrorKind, text: &str) -> bool {
        matches!(self, Seen::Ambient(k, t) if *k == kind && t.contains(text))
    }
}

impl From<&Event> for Seen {
    fn from(event: &Event) -> Self {
        match event {
            Event::Update(resource) => Seen::Update(content(resource)),
            Event::Ambient(error) => Seen::Ambient(error.kind, error.text.to_string()),
            Event::Gone(error) => Seen::Gone(error.kind, error.text.to_string()),
        }
    }
}

fn response(kind: Kind, version: &str, nonce: &str, resources: Vec<Any>) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.into(),
        type_url: type_url(kind).into(),
        nonce: nonce.into(),
        resources,
        ..Default::default()
    }
}

fn reported(name: &str, code: Code, message: &str) -> ResourceError {
    ResourceError {
        resource_name: Some(ResourceName {
            name: name.into(),
            ..Default::default()
        }),
        error_detail: Some(rpc::Status {
            code: code as i32,
            message: message.into(),
            details: Vec::new(),
        }),
    }
}
