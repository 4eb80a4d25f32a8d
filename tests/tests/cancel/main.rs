//! A call that is dropped gives back what it held, whatever it was waiting for.
//!
//! Active faults are counted per process, so the tests here run one at a time.

mod shapes;
mod waiting;

use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

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
use futures_util::future::{BoxFuture, join_all};
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
    testing::{ControlPlane, Fault},
};
use mesh_tests::{
    Dropped, alone,
    backend::{Answer, Backend, Call},
    eventually, every_way,
    pb::{EchoRequest, echo_client::EchoClient},
    poll_and_drop,
    way::{Ask, Call as _, Caller, Chat, Way},
    xds,
};
use mesh_tonic::Channel;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::{Request, Status, codegen::Service};

const SERVICE: &str = "echo:80";
/// Calls that the circuit breaker admits, and streams that the server does.
const LIMIT: u32 = 3;
/// How often a call that has a number fails before it succeeds, for the [`script`].
const FAILURES: u32 = 2;
/// Where calls have their numbers, so that a server knows the attempts of one.
const CALL: &str = "x-call";
/// What calls that the server is to hold have.
const HELD: &str = "x-held";

/// A client and a server, and all that counts what is in use between them.
struct Fixture {
    control_plane: ControlPlane,
    backend: Backend,
    mesh: Mesh,
    links: Links,
    way: Way,
    caller: Caller,
    calls: AtomicU32,
}

/// Round robin that shows the endpoints it was given.
#[derive(Debug, Clone, Default)]
struct Links(Arc<Mutex<Vec<Arc<LinkState>>>>);

// === impl Fixture ===

impl Fixture {
    /// One connection to one endpoint, with retries, faults and a deadline.
    async fn start(way: Way) -> Self {
        let fixture = Self::unconnected(way, LIMIT).await;
        fixture.configure();
        fixture.call().await.expect("the server is there");
        fixture
    }

    /// The same where the control plane knows nothing yet.
    async fn unconnected(way: Way, max_streams: u32) -> Self {
        let control_plane = ControlPlane::start().await;
        let mut backend = Backend::refusing("one");
        backend.max_streams(max_streams);
        backend.answer(script());
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
        let caller = way.caller(&mesh, SERVICE);
        Self {
            control_plane,
            backend,
            mesh,
            links,
            way,
            caller,
            calls: AtomicU32::new(0),
        }
    }

    fn configure(&self) {
        let backoff = Duration::from_millis(1);
        let retry = self.way.retry().times(2).backoff(backoff, backoff);
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
        self.control_plane.set(&self.way.cluster(cluster()));
        self.control_plane.release();
    }

    /// A call that is delayed by the filter, and fails twice.
    fn troubled(&self) -> Ask {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        Ask::new("payload")
            .header("x-envoy-fault-delay-request", "1")
            .header(CALL, &number.to_string())
    }

    /// A client of gRPC.
    fn client(&self) -> EchoClient<Channel> {
        EchoClient::new(self.caller.grpc().clone())
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
        self.ask(Ask::new("payload")).await
    }

    async fn ask(&self, ask: Ask) -> Result<(), Status> {
        let reply = self.caller.ask(ask).await?;
        assert_eq!((&*reply.server, &*reply.payload), ("one", &b"payload"[..]));
        Ok(())
    }

    /// Makes `calls` once for each number of polls after which it can be dropped, and sees to it
    /// that it always gives back all that it held.
    async fn dropped_at_every_await<F>(&self, what: &str, call: impl Fn() -> F)
    where
        F: Future<Output = Result<(), Status>>,
    {
        let mut cancelled = 0;
        for dropped in [Dropped::AtOnce, Dropped::Woken] {
            let mut polls = 0;
            loop {
                let what = format!("{what} dropped after {polls} polls, {dropped:?}");
                let before = self.counts();
                let ended = poll_and_drop(call(), polls, dropped).await;
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
        // Told by a header from calls that were dropped, which a server may see late.
        let (told, mut held) = mpsc::unbounded_channel();
        self.backend.answer(move |call| {
            let told = told.clone();
            async move {
                if !call.head.headers.contains_key(HELD) {
                    return call.echo().await;
                }
                let _ = told.send(());
                call.hold().await
            }
        });
        let hold = || self.ask(Ask::new("payload").header(HELD, "yes"));
        let admitted = join_all((0..LIMIT).map(|_| hold()));
        let refused = async {
            for _ in 0..LIMIT {
                held.recv().await.expect("the server has the sender");
            }
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
        if self.way != Way::Http1 {
            assert_eq!(self.backend.counts().open, 1, "one connection: {what}");
        }
        self.backend.answer(script());

        let (name, value, code) = match self.way {
            Way::Grpc => (
                "x-envoy-fault-abort-grpc-request",
                "10",
                tonic::Code::Aborted,
            ),
            Way::Http1 | Way::Http2 => (
                "x-envoy-fault-abort-request",
                "403",
                tonic::Code::PermissionDenied,
            ),
        };
        let aborted = self.ask(Ask::new("payload").header(name, value)).await;
        let aborted = aborted.err().map(|status| status.code());
        assert_eq!(aborted, Some(code), "active faults: {what}");
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

/// Fails each call that has a number twice, and echoes the attempt after that.
fn script() -> impl Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync + 'static {
    let attempts = Mutex::new(HashMap::new());
    move |call| {
        let number = call.head.headers.get(CALL).cloned();
        let seen = number.map_or(FAILURES, |number| {
            let mut attempts = attempts.lock();
            let seen = attempts.entry(number).or_insert(0);
            *seen += 1;
            *seen - 1
        });
        match seen < FAILURES {
            true => Box::pin(call.fail(Status::unavailable("not yet"))),
            false => Box::pin(call.echo()),
        }
    }
}

/// A request of gRPC that is delayed by the filter, and fails twice.
fn troubled<T>(fixture: &Fixture, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let number = fixture.calls.fetch_add(1, Ordering::Relaxed).to_string();
    for (name, value) in [("x-envoy-fault-delay-request", "1"), (CALL, &number)] {
        let value = value.parse().expect("a valid value");
        request.metadata_mut().insert(name, value);
    }
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

/// Under the incremental protocol, too.
#[test]
fn once_more_under_delta() {
    mesh_tests::once_more("MESH_TESTING_ADS", "delta", &[]);
}
