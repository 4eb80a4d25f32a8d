//! A call that is dropped gives back what it held, whatever it was waiting for.
//!
//! Active faults are counted per process, so the tests here run one at a time.

mod shapes;
mod waiting;

use std::{any::Any, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::{
    envoy::config::{
        cluster::v3::{
            CircuitBreakers, Cluster, LoadBalancingPolicy, circuit_breakers::Thresholds,
            load_balancing_policy,
        },
        core::v3::TypedExtensionConfig,
    },
    google::protobuf,
};
use futures_util::future::join_all;
use http::request::Parts;
use http_body_util::{BodyExt, Full};
use mesh_core::{
    Code, Mesh,
    balance::{Group, LinkState, Policy, PolicySpec, RoundRobin},
    config::PolicyConfig,
    control::xds::{
        PolicyDecoder, PolicyRegistry,
        decode::{Extension, FieldError, Message},
    },
    telemetry::{Cause, Counts},
    testing::{ControlPlane, Fault, Retry},
};
use mesh_tests::{
    Dropped, alone,
    backend::{Answer, Backend},
    eventually,
    pb::{EchoRequest, echo_client::EchoClient},
    poll_and_drop, xds,
};
use mesh_tonic::Channel;
use parking_lot::Mutex;
use prost::Message as _;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Status, codegen::Service as _};

const SERVICE: &str = "echo";
/// Calls that the circuit breaker admits, and streams that the server does.
const LIMIT: u32 = 3;
/// How often a call of a test fails before it succeeds, for the [`script`].
const FAILURES: &str = "x-failures";

/// A client and a server, and all that counts what is in use between them.
struct Fixture {
    control_plane: ControlPlane,
    backend: Backend,
    mesh: Mesh,
    links: Links,
    channel: Channel,
}

/// Round robin that shows the endpoints it was given.
#[derive(Debug, Clone, Default)]
struct Links(Arc<Mutex<Vec<Arc<LinkState>>>>);

// === impl Fixture ===

impl Fixture {
    /// One connection to one endpoint, with retries, faults and a deadline.
    async fn start() -> Self {
        let fixture = Self::unconnected(LIMIT).await;
        fixture.configure();
        fixture.call().await.expect("the server is there");
        fixture
    }

    /// The same where the control plane knows nothing yet.
    async fn unconnected(max_streams: u32) -> Self {
        let control_plane = ControlPlane::start().await;
        let mut backend = Backend::refusing("one");
        backend.max_streams(max_streams);
        backend.answer(script);
        backend.open();
        let links = Links::default();
        let mesh = Mesh::builder()
            .bootstrap(control_plane.bootstrap("cancel"))
            .policies(PolicyRegistry::standard().register(links.clone()))
            .options(|options| {
                options.connect_backoff_base = Duration::from_millis(1);
                options.connect_backoff_max = Duration::from_millis(5);
            })
            .build()
            .await
            .expect("a given bootstrap is all that a mesh needs");
        let channel = mesh_tonic::channel(&mesh, SERVICE).expect("a valid target");
        Self {
            control_plane,
            backend,
            mesh,
            links,
            channel,
        }
    }

    fn configure(&self) {
        let backoff = Duration::from_millis(1);
        let retry = Retry::on([Code::Unavailable])
            .times(2)
            .backoff(backoff, backoff);
        let fault = Fault::new()
            .delay_by_header(100.0)
            .abort_by_header(100.0)
            .max_active(1);
        self.control_plane.hold();
        self.control_plane
            .service(SERVICE)
            .endpoint(self.backend.address())
            .retry(retry)
            .fault(fault)
            .max_stream_duration(Duration::from_secs(60))
            .apply();
        self.control_plane.set(&cluster());
        self.control_plane.release();
    }

    fn client(&self) -> EchoClient<Channel> {
        EchoClient::new(self.channel.clone())
    }

    /// Calls on the endpoint.
    fn in_flight(&self) -> u32 {
        let links = self.links.0.lock();
        links.iter().map(|link| link.in_flight()).sum()
    }

    fn counts(&self) -> Counts {
        self.mesh.metrics().totals()
    }

    /// A call to which nothing happens.
    async fn call(&self) -> Result<(), Status> {
        let reply = self.client().unary(EchoRequest::default()).await?;
        assert_eq!(reply.into_inner().server, "one");
        Ok(())
    }

    /// Makes `calls` once for each number of polls after which it can be dropped, and sees to it
    /// that it always gives back all that it held.
    async fn dropped_at_every_await<F>(&self, what: &str, call: impl Fn(EchoClient<Channel>) -> F)
    where
        F: Future<Output = Result<(), Status>>,
    {
        let mut cancelled = 0;
        for dropped in [Dropped::AtOnce, Dropped::Woken] {
            let mut polls = 0;
            loop {
                let what = format!("{what} dropped after {polls} polls, {dropped:?}");
                let before = self.counts();
                let ended = poll_and_drop(call(self.client()), polls, dropped).await;
                let after = self.counts();
                assert_eq!(after.in_flight(), 0, "{what}");
                let begun = after.started() - before.started();
                match &ended {
                    Some(result) => {
                        assert!(result.is_ok(), "{what}: {result:?}");
                        assert_eq!(begun, 1, "{what}");
                        assert_eq!(after.retries() - before.retries(), 2, "{what}");
                    }
                    None => {
                        assert_eq!(begun, u64::from(polls > 0), "{what}");
                        let seen = after.code(Code::Cancelled) - before.code(Code::Cancelled);
                        assert_eq!(seen, begun, "{what}");
                        cancelled += seen;
                    }
                }
                self.all_is_given_back(&what).await;
                if ended.is_some() {
                    break;
                }
                polls += 1;
            }
        }
        // The filter, two pauses and three attempts make it wait, each time it is dropped.
        assert!(cancelled >= 12, "{what} was cancelled {cancelled} times");
    }

    /// Checks that nothing is in use: neither of the endpoint, the breaker, the streams of the
    /// connection nor the faults, and by the server's account as well.
    async fn all_is_given_back(&self, what: &str) {
        assert_eq!(self.in_flight(), 0, "calls on the endpoint: {what}");

        let before = self.counts();
        self.backend.hold();
        let admitted = join_all((0..LIMIT).map(|_| self.call()));
        let refused = async {
            self.backend
                .until("as many calls as admitted", |counts| {
                    counts.active == u64::from(LIMIT)
                })
                .await;
            let refused = self.call().await;
            self.backend.release();
            refused.err().map(|status| status.code())
        };
        let (admitted, refused) = tokio::join!(admitted, refused);
        assert_eq!(refused, Some(tonic::Code::Unavailable), "{what}");
        for admitted in admitted {
            assert_eq!(admitted.err().map(|status| status.code()), None, "{what}");
        }
        let after = self.counts();
        let refused = after.cause(Cause::CircuitBreaker) - before.cause(Cause::CircuitBreaker);
        assert_eq!(refused, 1, "{what}");
        assert_eq!(self.backend.counts().open, 1, "one connection: {what}");
        self.backend.answer(script);

        let mut aborted = Request::new(EchoRequest::default());
        set(&mut aborted, "x-envoy-fault-abort-grpc-request", "10");
        let aborted = self.client().unary(aborted).await;
        let aborted = aborted.err().map(|status| status.code());
        assert_eq!(aborted, Some(tonic::Code::Aborted), "active faults: {what}");
    }
}

/// The service's cluster, with its circuit breaker and [`Links`] as its policy.
fn cluster() -> Cluster {
    let policy = TypedExtensionConfig {
        name: SPY.name.to_owned(),
        typed_config: Some(protobuf::Any {
            type_url: format!("type.googleapis.com/{}", SPY.name),
            value: Vec::new(),
        }),
    };
    Cluster {
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_requests: Some(xds::uint32(LIMIT)),
                ..Thresholds::default()
            }],
            ..CircuitBreakers::default()
        }),
        load_balancing_policy: Some(LoadBalancingPolicy {
            policies: vec![load_balancing_policy::Policy {
                typed_extension_config: Some(policy),
            }],
        }),
        ..xds::cluster(SERVICE, SERVICE)
    }
}

/// Fails calls as often as they ask for, and echoes the attempt after that.
fn script(head: &Parts) -> Answer {
    let number = |name: &str| -> u32 {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    match number("grpc-previous-rpc-attempts") < number(FAILURES) {
        true => Answer::Status(Status::unavailable("not yet")),
        false => Answer::Echo,
    }
}

fn set<T>(request: &mut Request<T>, name: &'static str, value: &'static str) {
    let value = value.parse().expect("a valid value");
    request.metadata_mut().insert(name, value);
}

/// A request that is delayed by the filter, and fails twice.
fn troubled<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    set(&mut request, "x-envoy-fault-delay-request", "1");
    set(&mut request, FAILURES, "2");
    request
}

fn message(count: u32) -> EchoRequest {
    EchoRequest {
        payload: Bytes::from_static(b"payload"),
        count,
    }
}

// === impl Links ===

static SPY: Message = Message {
    name: "mesh.test.Spy",
    fields: &[],
};

impl PolicyDecoder for Links {
    fn messages(&self) -> &'static [&'static Message] {
        const { &[&SPY] }
    }

    fn decode(&self, _: &str, _: &Extension) -> Result<PolicyConfig, FieldError> {
        Ok(PolicyConfig(Arc::new(self.clone())))
    }
}

impl PolicySpec for Links {
    fn name(&self) -> &'static str {
        "spy"
    }

    fn build(&self, group: &Arc<Group>) -> Box<dyn Policy> {
        self.0.lock().extend(group.links().iter().cloned());
        RoundRobin.build(group)
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn Any).is::<Self>()
    }
}
