//! The client over channels that stand for streams, under paused time.

#[cfg(feature = "testing")]
mod both_codecs;
#[cfg(feature = "testing")]
mod reconnect;
mod servers;

use std::collections::HashMap;

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{
    Code,
    config::Kind,
    control::xds::{
        dump::ResourceStatus,
        testing::{self, FakeDecode, any, content},
        type_url::type_url,
    },
    runtime::{Messages, RpcStatus, SideCallError, SideCallFuture},
};

/// Hands every stream that is to be opened to the test.
#[derive(Debug)]
struct FakeCalls(mpsc::UnboundedSender<Call>);

/// A stream that is to be opened.
#[derive(Debug)]
struct Call {
    server: String,
    config: ServerConfig,
    path: &'static str,
    limits: Limits,
    reply: oneshot::Sender<Result<Messages, SideCallError>>,
}

/// The control plane's end of a stream.
struct Stream {
    requests: mpsc::Receiver<Bytes>,
    responses: mpsc::Sender<Result<Bytes, RpcStatus>>,
}

struct World {
    client: Arc<XdsClient>,
    calls: mpsc::UnboundedReceiver<Call>,
    inbox: Inbox,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
}

impl SideCall for FakeCalls {
    fn stream(
        &self,
        server: &crate::bootstrap::ServerConfig,
        path: &'static str,
        _: http::HeaderMap,
        limits: Limits,
    ) -> SideCallFuture {
        let (reply, answer) = oneshot::channel();
        let call = Call {
            server: server.uri.clone(),
            config: server.clone(),
            path,
            limits,
            reply,
        };
        // Without a test that listens, nothing is ever opened.
        let _ = self.0.send(call);
        Box::pin(async move {
            match answer.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Call {
    fn accept(self) -> Stream {
        let (send, requests) = mpsc::channel(1);
        let (responses, recv) = mpsc::channel(1);
        let messages = Messages { send, recv };
        self.reply.send(Ok(messages)).expect("the client waits");
        Stream {
            requests,
            responses,
        }
    }

    fn refuse(self, reason: &str) {
        let error = SideCallError {
            server: "xds.test:1".into(),
            reason: reason.into(),
        };
        self.reply.send(Err(error)).expect("the client waits");
    }
}

impl Stream {
    async fn request(&mut self) -> DiscoveryRequest {
        let message = self.requests.recv().await.expect("a request");
        DiscoveryRequest::decode(message).expect("a DiscoveryRequest")
    }

    async fn respond(&self, kind: Kind, version: &str, resources: &[(&str, &str)]) {
        let resources = resources.iter().map(|(name, text)| any(kind, name, text));
        let response = DiscoveryResponse {
            version_info: version.into(),
            nonce: version.into(),
            type_url: type_url(kind).into(),
            resources: resources.collect(),
            ..Default::default()
        };
        let message = response.encode_to_vec().into();
        self.responses.send(Ok(message)).await.expect("a reader");
    }

    async fn end(self, code: Code, message: &str) {
        let status = RpcStatus {
            code,
            message: message.into(),
        };
        self.responses.send(Err(status)).await.expect("a reader");
    }

    /// Waits until the client has dropped both ends.
    async fn closed(mut self) {
        while self.requests.recv().await.is_some() {}
        self.responses.closed().await;
    }
}

impl World {
    fn new() -> Self {
        Self::of(testing::bootstrap())
    }

    fn of(bootstrap: Arc<Bootstrap>) -> Self {
        let (calls, receiver) = mpsc::unbounded_channel();
        let (inbox, deliveries) = mpsc::unbounded_channel();
        Self {
            client: XdsClient::new(
                bootstrap,
                Arc::new(FakeDecode),
                Arc::new(FakeCalls(calls)),
                XdsOptions::default(),
            ),
            calls: receiver,
            inbox,
            deliveries,
        }
    }

    fn watch(&self, kind: Kind, name: &str) -> Watch {
        let id = ResourceId::new(kind, name);
        self.client.watch(id, self.inbox.clone())
    }

    async fn accept(&mut self) -> Stream {
        self.calls.recv().await.expect("a call").accept()
    }

    async fn delivery(&mut self) -> Delivery {
        self.deliveries.recv().await.expect("a delivery")
    }

    /// The next news, processed at once.
    async fn update(&mut self) -> String {
        match self.delivery().await.event {
            Event::Update(resource) => content(&resource),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_happens_before_the_first_watch() {
    let mut world = World::new();
    assert_eq!(world.client.dump().await.resources, []);
    assert_eq!(*world.client.status().borrow(), ServerStatus::Idle);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(world.calls.try_recv().is_err());
    let _watch = world.watch(Kind::Listener, "a");
    let call = world.calls.recv().await.expect("a call");
    assert_eq!(
        call.path,
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
    );
    assert_eq!(call.limits.max_message, 64 << 20);
}

#[tokio::test(start_paused = true)]
async fn updates_reach_watchers_and_the_dump() {
    let mut world = World::new();
    let _watches = [
        world.watch(Kind::Cluster, "b"),
        world.watch(Kind::Cluster, "a"),
    ];
    let mut stream = world.accept().await;
    // Watches that begin together are asked for together.
    assert_eq!(stream.request().await.resource_names, ["a", "b"]);
    stream
        .respond(Kind::Cluster, "1", &[("a", "x"), ("b", "!bad")])
        .await;
    assert_eq!(world.update().await, "x");
    let Event::Gone(error) = world.delivery().await.event else {
        panic!("gone")
    };
    assert_eq!(error.kind, SourceErrorKind::Invalid);
    assert_eq!(
        &*error.text,
        "cluster \"b\": rejected: some.field: bad (xDS server \"xds.test:1\", node \"node-7\")"
    );
    let nack = stream.request().await;
    assert_eq!(
        (nack.response_nonce.as_str(), nack.version_info.as_str()),
        ("1", "")
    );
    assert!(nack.error_detail.is_some());
    let dump = world.client.dump().await;
    assert_eq!((&*dump.server, &*dump.node_id), ("xds.test:1", "node-7"));
    let statuses: Vec<_> = dump.resources.iter().map(|r| r.status).collect();
    assert_eq!(statuses, [ResourceStatus::Acked, ResourceStatus::Nacked]);
}

#[tokio::test(start_paused = true)]
async fn the_next_response_is_read_when_the_last_is_processed() {
    let mut world = World::new();
    let _watch = world.watch(Kind::Cluster, "a");
    let mut stream = world.accept().await;
    stream.request().await;
    stream.respond(Kind::Cluster, "1", &[("a", "x")]).await;
    let first = world.delivery().await;
    // The channel takes one, the client none.
    stream.respond(Kind::Cluster, "2", &[("a", "y")]).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(stream.responses.try_reserve().is_err());
    assert!(world.deliveries.try_recv().is_err());
    // Nor is the first answered. The drop alone wakes the client for both.
    assert!(stream.requests.try_recv().is_err());
    drop(first);
    assert_eq!(stream.request().await.response_nonce, "1");
    assert_eq!(world.update().await, "y");
    assert_eq!(stream.request().await.response_nonce, "2");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_no_longer_listens_stops_nobody() {
    let mut world = World::new();
    let (inbox, deaf) = mpsc::unbounded_channel();
    let id = ResourceId::new(Kind::Cluster, "a");
    let _deaf = world.client.watch(id, inbox);
    let _watch = world.watch(Kind::Cluster, "a");
    drop(deaf);
    let mut stream = world.accept().await;
    stream.request().await;
    for (version, text) in [("1", "x"), ("2", "y"), ("3", "z")] {
        stream.respond(Kind::Cluster, version, &[("a", text)]).await;
        assert_eq!(world.update().await, text);
        assert_eq!(stream.request().await.version_info, version);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_watch_closes_the_stream_and_the_next_opens_another() {
    let mut world = World::new();
    let watch = world.watch(Kind::Cluster, "a");
    let mut stream = world.accept().await;
    stream.request().await;
    stream.respond(Kind::Cluster, "1", &[("a", "x")]).await;
    world.update().await;
    // From another thread, outside the runtime.
    std::thread::spawn(move || drop(watch))
        .join()
        .expect("no panic");
    stream.closed().await;
    assert_eq!(world.client.dump().await.resources, []);
    let mut status = world.client.status();
    status
        .wait_for(|s| *s == ServerStatus::Idle)
        .await
        .expect("the task runs");

    let _watch = world.watch(Kind::Cluster, "a");
    let mut stream = world.accept().await;
    let request = stream.request().await;
    assert_eq!(request.version_info, "");
    assert!(request.node.is_some());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_client_ends_the_stream_whatever_is_watched() {
    let mut world = World::new();
    let watch = world.watch(Kind::Cluster, "a");
    let mut stream = world.accept().await;
    stream.request().await;
    let mut status = world.client.status();
    drop(world.client);
    stream.closed().await;
    // The task is gone, with all it held.
    while status.changed().await.is_ok() {}
    drop(world.inbox);
    assert!(world.deliveries.recv().await.is_none());
    assert!(world.calls.recv().await.is_none());
    drop(watch);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_client_stops_an_attempt() {
    let mut world = World::new();
    let _watch = world.watch(Kind::Cluster, "a");
    let mut call = world.calls.recv().await.expect("a call");
    drop(world.client);
    call.reply.closed().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_watches_leave_nothing() {
    let mut world = World::new();
    let watches: Vec<Watch> = (0..10_000)
        .map(|n| world.watch(Kind::ALL[n % 5], &n.to_string()))
        .collect();
    let mut stream = world.accept().await;
    for _ in Kind::ALL {
        assert_eq!(stream.request().await.resource_names.len(), 2000);
    }
    assert_eq!(world.client.dump().await.resources.len(), 10_000);
    drop(watches);
    stream.closed().await;
    assert_eq!(world.client.dump().await.resources, []);
    // Nothing holds the inbox any more.
    drop(world.inbox);
    assert!(world.deliveries.recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_come_and_go_on_every_thread() {
    let mut world = World::new();
    let keep = world.watch(Kind::Listener, "keep");
    let mut stream = world.accept().await;
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (client, inbox) = (Arc::clone(&world.client), world.inbox.clone());
            tokio::task::spawn_blocking(move || {
                for n in 0..500 {
                    let name = format!("{}", (n + thread) % 7);
                    let id = ResourceId::new(Kind::Cluster, name);
                    drop(client.watch(id, inbox.clone()));
                }
            })
        })
        .collect();
    for thread in threads {
        // The client may wait for room on the stream; that must stop no thread.
        thread.await.expect("no panic");
    }
    let last = world.watch(Kind::Cluster, "last");
    while stream.request().await.resource_names != ["last"] {}
    let names: Vec<_> = world.client.dump().await.resources;
    assert_eq!(names.len(), 2);
    drop((keep, last));
    stream.closed().await;
}

#[tokio::test(start_paused = true)]
async fn silence_means_that_there_is_none() {
    let mut world = World::new();
    let _watch = world.watch(Kind::Listener, "a");
    let call = world.calls.recv().await.expect("a call");
    // Not connected, there is no answer to wait for.
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert!(world.deliveries.try_recv().is_err());
    let mut stream = call.accept();
    stream.request().await;
    let start = Instant::now();
    let Event::Gone(error) = world.delivery().await.event else {
        panic!("gone")
    };
    assert_eq!(error.kind, SourceErrorKind::NotSent);
    let waited = start.elapsed();
    assert!((15..16).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_reached_is_known_at_once() {
    let mut world = World::new();
    let mut status = world.client.status();
    let _watch = world.watch(Kind::Listener, "a");
    world
        .calls
        .recv()
        .await
        .expect("a call")
        .refuse("connection refused");
    let failed = status
        .wait_for(|status| matches!(status, ServerStatus::Failed(_)))
        .await
        .expect("the task runs")
        .clone();
    let ServerStatus::Failed(error) = failed else {
        unreachable!("waited for")
    };
    let text = error.text.to_string();
    for part in ["connection refused", "xds.test:1", "node-7"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(matches!(world.delivery().await.event, Event::Ambient(_)));
    // It stays known until there is an answer, and then all is well.
    let mut stream = world.accept().await;
    stream.request().await;
    assert!(matches!(*status.borrow(), ServerStatus::Failed(_)));
    stream.respond(Kind::Listener, "1", &[("a", "x")]).await;
    assert_eq!(world.update().await, "x");
    status
        .wait_for(|status| *status == ServerStatus::Connected)
        .await
        .expect("the task runs");
}

#[tokio::test(start_paused = true)]
async fn unauthenticated_for_ever_is_told_once_and_tried_less_and_less() {
    fastrand::seed(5);
    let mut world = World::new();
    let _watch = world.watch(Kind::Listener, "a");
    let start = Instant::now();
    let mut attempts = 0;
    while start.elapsed() < Duration::from_secs(3600) {
        let stream = world.accept().await;
        stream.end(Code::Unauthenticated, "no token").await;
        attempts += 1;
    }
    assert!((30..150).contains(&attempts), "{attempts} in an hour");
    let Event::Ambient(error) = world.delivery().await.event else {
        panic!("ambient")
    };
    assert!(error.text.contains("UNAUTHENTICATED: no token"), "{error}");
    assert!(world.deliveries.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_given_up() {
    let mut world = World::new();
    let _watch = world.watch(Kind::Listener, "a");
    let mut call = world.calls.recv().await.expect("a call");
    let start = Instant::now();
    call.reply.closed().await;
    assert_eq!(start.elapsed().as_secs(), 20);
    let Event::Ambient(error) = world.delivery().await.event else {
        panic!("ambient")
    };
    assert!(error.text.contains("no connection within 20s"), "{error}");
    // And there is another.
    world.accept().await.request().await;
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_does_not_read_stops_nothing() {
    let mut world = World::new();
    let mut watches = vec![world.watch(Kind::Cluster, "0")];
    let mut stream = world.accept().await;
    // Nobody reads: the first request fills the channel, later ones wait and are merged.
    for n in 1..100 {
        watches.push(world.watch(Kind::Cluster, &n.to_string()));
        stream
            .respond(Kind::Cluster, &n.to_string(), &[("0", &n.to_string())])
            .await;
        assert_eq!(world.update().await, n.to_string());
    }
    assert!(stream.request().await.resource_names.len() < 100);
    let mut last = stream.request().await;
    while last.resource_names.len() < 100 {
        last = stream.request().await;
    }
    assert_eq!(last.response_nonce, "99");
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_control_plane_is_not_noticed_by_watchers() {
    let mut world = World::new();
    let _watches: Vec<_> = Kind::ALL.map(|kind| world.watch(kind, "a")).into();
    for round in ["1", "2"] {
        let mut stream = world.accept().await;
        let mut versions = HashMap::new();
        for _ in Kind::ALL {
            let request = stream.request().await;
            versions.insert(request.type_url, request.version_info);
        }
        let expected = if round == "1" { "" } else { "1" };
        assert!(versions.values().all(|v| v == expected), "{versions:?}");
        for kind in Kind::ALL {
            stream.respond(kind, round, &[("a", "same")]).await;
            if round == "1" {
                assert_eq!(world.update().await, "same");
            }
            assert_eq!(stream.request().await.version_info, round);
        }
        stream.end(Code::Unavailable, "restart").await;
    }
    world.accept().await.request().await;
    assert!(world.deliveries.try_recv().is_err());
}
