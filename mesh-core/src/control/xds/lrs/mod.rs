//! Load reports (LRS: gRFC A27), as a state machine without IO.
//!
//! [`Lrs`] is told what happens ([`Input`]) and asked what to do ([`Output`]), as the client of
//! discovery is. What was reported, and what is to be, is in [`report`]; [`task`] moves the messages.

mod report;
mod task;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::core::v3::Node as WireNode,
    service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse},
};
use prost::Message;
use tokio::time::Instant;

use self::report::{Pending, Reported};
use super::{decode::duration, node};
use crate::{balance::ServerLoads, bootstrap::Node, resilience::Backoff, runtime::RpcStatus};

pub(in crate::control::xds) use task::LoadReporter;

/// The RPC.
const PATH: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";

/// What reports loads of clusters that were not asked for by name (gRFC A27).
const SEND_ALL: &str = "envoy.lrs.supports_send_all_clusters";

/// Reports are no more frequent than this, as in gRPC's own clients.
const SHORTEST: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Debug)]
enum Input {
    /// A cluster has come, or its last user has gone.
    Changed,
    /// The stream is open.
    Connected,
    /// There will be no stream, for this reason.
    ConnectFailed(String),
    /// The last [`Output::Send`] is on its way.
    Sent,
    /// A message came.
    Received(Bytes),
    /// The stream ended; `None`: with OK.
    Closed(Option<RpcStatus>),
    /// [`Lrs::wake_at`] has come.
    Timer,
}

/// Something to be done.
#[derive(Debug, PartialEq, Eq)]
enum Output {
    /// Open a stream of [`PATH`], then say [`Input::Connected`] or [`Input::ConnectFailed`].
    Connect,
    /// Close the stream, or stop opening it. Nothing more is to be heard of it.
    Close,
    /// Send this, then say [`Input::Sent`]. There is no other before that.
    Send(Bytes),
    /// Read one message, then say [`Input::Received`] or [`Input::Closed`].
    Read,
    /// Log this.
    Notice(Notice),
}

/// What an operator must know.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Notice {
    /// No reports go out.
    Failed(String),
    /// A message was ignored, or not followed to the letter.
    Unusable(String),
}

/// The client's side of the stream of load reports to one control plane.
#[derive(Debug)]
struct Lrs {
    node: WireNode,
    loads: Arc<ServerLoads>,
    connect_timeout: Duration,
    reported: Reported,
    link: Link,
    backoff: Backoff,
    /// No attempt before this.
    retry_at: Option<Instant>,
    now: Instant,
    outputs: VecDeque<Output>,
}

/// The state of the stream.
#[derive(Debug)]
enum Link {
    /// The next attempt is due at [`Lrs::retry_at`].
    Waiting,
    Connecting {
        deadline: Instant,
    },
    Open(Stream),
}

#[derive(Debug, Default)]
struct Stream {
    /// The node was sent.
    greeted: bool,
    sending: Option<Sending>,
    reading: bool,
    order: Option<Order>,
    /// The next report.
    due: Option<Instant>,
    /// Nothing counts any more, and the report that follows from that was made.
    hurried: bool,
}

/// The message on its way.
#[derive(Debug)]
enum Sending {
    Node,
    Report(Pending),
}

/// What the control plane wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    /// Of which clusters; `None`: of all.
    clusters: Option<Vec<String>>,
    interval: Duration,
    /// Load by endpoint, which is not kept.
    by_endpoint: bool,
}

// === impl Lrs ===

impl Lrs {
    fn new(node: &Node, loads: Arc<ServerLoads>, connect_timeout: Duration, now: Instant) -> Self {
        let mut node = node::encode(node);
        node.client_features.push(SEND_ALL.to_owned());
        Self {
            node,
            loads,
            connect_timeout,
            reported: Reported::default(),
            link: Link::Waiting,
            backoff: Backoff::control_plane(),
            retry_at: None,
            now,
            outputs: VecDeque::new(),
        }
    }

    /// Takes note of `input`. What follows from it is for [`Lrs::poll`] to say.
    fn handle(&mut self, input: Input, now: Instant) {
        self.now = now;
        match input {
            Input::Changed | Input::Timer => {
                if let Link::Connecting { deadline } = self.link
                    && deadline <= now
                {
                    self.outputs.push_back(Output::Close);
                    let limit = self.connect_timeout;
                    self.failed(format!("no stream within {limit:?}"));
                }
            }
            Input::Connected => {
                if matches!(self.link, Link::Connecting { .. }) {
                    self.link = Link::Open(Stream::default());
                }
            }
            Input::ConnectFailed(reason) => {
                if matches!(self.link, Link::Connecting { .. }) {
                    self.failed(reason);
                }
            }
            Input::Sent => self.sent(),
            Input::Received(message) => self.received(&message),
            Input::Closed(status) => {
                if let Link::Open(stream) = &self.link {
                    if stream.order.is_some() {
                        // It was of use: pauses start over.
                        self.backoff.reset();
                    }
                    let reason = match status {
                        Some(status) => format!("the stream ended: {status}"),
                        None => "the stream ended".to_owned(),
                    };
                    self.failed(reason);
                }
            }
        }
    }

    /// What to do next; `None`: nothing until the next input or [`Lrs::wake_at`].
    fn poll(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        match &mut self.link {
            Link::Waiting => {
                if self.loads.is_unused() || self.retry_at.is_some_and(|at| at > self.now) {
                    return None;
                }
                self.link = Link::Connecting {
                    deadline: self.now + self.connect_timeout,
                };
                Some(Output::Connect)
            }
            Link::Connecting { .. } => None,
            Link::Open(stream) => {
                if !stream.reading {
                    stream.reading = true;
                    return Some(Output::Read);
                }
                self.poll_send()
            }
        }
    }

    fn poll_send(&mut self) -> Option<Output> {
        let Link::Open(stream) = &mut self.link else {
            return None;
        };
        if stream.sending.is_some() {
            return None;
        }
        if !stream.greeted {
            stream.greeted = true;
            stream.sending = Some(Sending::Node);
            let request = LoadStatsRequest {
                node: Some(self.node.clone()),
                ..Default::default()
            };
            return Some(Output::Send(request.encode_to_vec().into()));
        }
        let order = stream.order.as_ref()?;
        // Nothing counts any more: there may be nothing after this report.
        let unused = self.loads.is_unused();
        let before = std::mem::replace(&mut stream.hurried, unused);
        let hurry = unused && !before;
        if stream.due? > self.now && !hurry {
            return None;
        }
        stream.due = Some(self.now + order.interval);
        let clusters = order.clusters.as_deref();
        let (cluster_stats, pending) = self.reported.report(&self.loads, clusters, self.now);
        stream.sending = Some(Sending::Report(pending));
        let request = LoadStatsRequest {
            cluster_stats,
            ..Default::default()
        };
        Some(Output::Send(request.encode_to_vec().into()))
    }

    /// When [`Input::Timer`] is due.
    fn wake_at(&self) -> Option<Instant> {
        match &self.link {
            Link::Waiting => self.retry_at.filter(|_| !self.loads.is_unused()),
            Link::Connecting { deadline } => Some(*deadline),
            Link::Open(stream) => stream.due.filter(|_| stream.sending.is_none()),
        }
    }

    /// Whether nothing counts any more, and what was counted is told, or nobody is there to be told.
    fn is_over(&self) -> bool {
        let told = || match &self.link {
            Link::Open(stream) => stream.order.as_ref().is_none_or(|order| {
                let clusters = order.clusters.as_deref();
                self.reported.is_all(&self.loads, clusters)
            }),
            Link::Waiting | Link::Connecting { .. } => true,
        };
        self.loads.is_unused() && told()
    }

    fn sent(&mut self) {
        if let Link::Open(stream) = &mut self.link
            && let Some(Sending::Report(pending)) = stream.sending.take()
        {
            self.reported.commit(&self.loads, pending);
        }
    }

    fn received(&mut self, message: &Bytes) {
        let Link::Open(stream) = &mut self.link else {
            return;
        };
        stream.reading = false;
        let response = match LoadStatsResponse::decode(message.clone()) {
            Ok(response) => response,
            Err(error) => {
                let text = format!("not a load stats response: {error}");
                return self.notice(Notice::Unusable(text));
            }
        };
        let order = Order::of(response);
        if stream.order.as_ref() == Some(&order) {
            // The same again does not put the next report off.
            return;
        }
        stream.due = Some(self.now + order.interval);
        let by_endpoint = order.by_endpoint;
        stream.order = Some(order);
        if by_endpoint {
            let text =
                "report_endpoint_granularity is not supported: loads are reported by locality";
            self.notice(Notice::Unusable(text.to_owned()));
        }
    }

    /// There is no stream, for this reason. What was not sent is told by the next.
    fn failed(&mut self, reason: String) {
        self.link = Link::Waiting;
        self.retry_at = Some(self.now + self.backoff.next_pause());
        self.notice(Notice::Failed(reason));
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

/// Receives `message` on a stream that has just opened, and does what follows: for fuzzing.
#[cfg(feature = "testing")]
pub(crate) fn receive(message: &[u8]) {
    let now = Instant::now();
    let loads = Arc::default();
    let mut lrs = Lrs::new(&Node::default(), loads, Duration::from_secs(20), now);
    lrs.link = Link::Open(Stream::default());
    lrs.handle(Input::Received(Bytes::copy_from_slice(message)), now);
    while let Some(output) = lrs.poll() {
        if let Output::Send(_) = output {
            lrs.handle(Input::Sent, now);
        }
    }
    let _ = lrs.wake_at();
}

// === impl Order ===

impl Order {
    fn of(response: LoadStatsResponse) -> Self {
        let LoadStatsResponse {
            clusters,
            send_all_clusters,
            load_reporting_interval,
            report_endpoint_granularity,
        } = response;
        // Whatever is no time is the shortest one.
        let interval = load_reporting_interval.and_then(|wire| duration(&wire).ok());
        let interval = interval.unwrap_or_default();
        Self {
            clusters: (!send_all_clusters).then_some(clusters),
            interval: interval.max(SHORTEST),
            by_endpoint: report_endpoint_granularity,
        }
    }
}
