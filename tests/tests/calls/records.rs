//! What is recorded: each call once, with the code and the cause of its end.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use mesh_core::{
    Code, Mesh,
    config::Kind,
    telemetry::{Attempt, CallRecord, Cause, Instruments, Recorder, Series},
    testing::{ControlPlane, Corruption, Fault, Retry, cluster_name},
};
use mesh_tests::{
    fixture::{SERVICE, echo, within},
    pb::echo_client::EchoClient,
    scripted::Scripted,
};
use mesh_tonic::Channel;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::routing;

/// Keeps all that it is told.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<Entry>>);

#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Started(Series),
    Attempt(Code, Cause, bool),
    Finished(Finished),
}

#[derive(Debug, Clone, PartialEq)]
struct Finished {
    code: Code,
    cause: Cause,
    drop_category: Option<String>,
    retries: u32,
    /// It has an endpoint.
    endpoint: bool,
    duration: Duration,
}

#[derive(Debug)]
struct Bound(Arc<Log>, Series);

#[derive(Debug)]
struct LogRecorder(Arc<Log>);

impl Recorder for LogRecorder {
    fn bind(&self, series: &Series) -> Arc<dyn Instruments> {
        Arc::new(Bound(Arc::clone(&self.0), series.clone()))
    }
}

impl Instruments for Bound {
    fn started(&self) {
        self.0.0.lock().push(Entry::Started(self.1.clone()));
    }

    fn attempt(&self, attempt: &Attempt<'_>) {
        let entry = Entry::Attempt(attempt.code, attempt.cause, attempt.endpoint.is_some());
        self.0.0.lock().push(entry);
    }

    fn finished(&self, call: &CallRecord<'_>) {
        self.0.0.lock().push(Entry::Finished(Finished {
            code: call.code,
            cause: call.cause,
            drop_category: call.drop_category.map(str::to_owned),
            retries: call.retries,
            endpoint: call.endpoint.is_some(),
            duration: call.duration,
        }));
    }
}

/// What one way to end a call needs.
struct Case {
    control_plane: ControlPlane,
    mesh: Mesh,
    log: Arc<Log>,
    backend: Scripted,
}

impl Case {
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        let log = Arc::new(Log::default());
        let mesh = Mesh::builder()
            .bootstrap(control_plane.bootstrap("test"))
            .options(|options| options.resource_timeout = Duration::from_millis(200))
            .recorder(Arc::new(LogRecorder(Arc::clone(&log))))
            .build()
            .await
            .unwrap();
        let backend = Scripted::start("a").await;
        control_plane
            .service(SERVICE)
            .version("v1")
            .endpoint(backend.address())
            .apply();
        Self {
            control_plane,
            mesh,
            log,
            backend,
        }
    }

    fn service(&self) -> mesh_core::testing::Service {
        self.control_plane.service(SERVICE)
    }

    fn client(&self) -> EchoClient<Channel> {
        EchoClient::new(mesh_tonic::channel(&self.mesh, SERVICE).unwrap())
    }

    async fn unary(&self) -> Result<(), Status> {
        within(self.client().unary(echo("hi"))).await.map(drop)
    }

    async fn timed(&self) -> Result<(), Status> {
        let mut request = Request::new(echo("hi"));
        request.set_timeout(Duration::from_millis(150));
        within(self.client().unary(request)).await.map(drop)
    }

    /// The one end in the log. There is no other entry but those of attempts.
    fn only_end(&self, what: &str) -> (Series, Vec<Entry>, Finished) {
        let mut log = self.log.0.lock().clone();
        let Some(Entry::Finished(finished)) = log.pop() else {
            panic!("{what}: the end is not last: {:?}", self.log);
        };
        let Entry::Started(series) = log.remove(0) else {
            panic!("{what}: the start is not first: {:?}", self.log);
        };
        let attempts = log.iter().all(|entry| matches!(entry, Entry::Attempt(..)));
        assert!(attempts, "{what}: {:?}", self.log);
        (series, log, finished)
    }
}

type Run = for<'a> fn(&'a Case) -> BoxFuture<'a, ()>;

struct Way {
    what: &'static str,
    run: Run,
    code: Code,
    cause: Cause,
    /// A route and a cluster took it.
    routed: bool,
    /// It reached an endpoint.
    endpoint: bool,
}

const fn way(
    what: &'static str,
    run: Run,
    code: Code,
    cause: Cause,
    routed: bool,
    endpoint: bool,
) -> Way {
    Way {
        what,
        run,
        code,
        cause,
        routed,
        endpoint,
    }
}

const WAYS: [Way; 27] = [
    way(
        "ok",
        |c| async { c.unary().await.unwrap() }.boxed(),
        Code::Ok,
        Cause::Response,
        true,
        true,
    ),
    way(
        "ok, a stream",
        |c| stream(c).boxed(),
        Code::Ok,
        Cause::Response,
        true,
        true,
    ),
    way(
        "an error",
        |c| error(c).boxed(),
        Code::NotFound,
        Cause::Response,
        true,
        true,
    ),
    way(
        "an error after headers",
        |c| late_error(c).boxed(),
        Code::DataLoss,
        Cause::Response,
        true,
        true,
    ),
    way(
        "no status",
        |c| no_status(c).boxed(),
        Code::Unknown,
        Cause::Response,
        true,
        true,
    ),
    way(
        "not gRPC",
        |c| not_grpc(c).boxed(),
        Code::Unavailable,
        Cause::Response,
        true,
        true,
    ),
    way(
        "cancelled before headers",
        |c| cancel_early(c).boxed(),
        Code::Cancelled,
        Cause::Cancelled,
        true,
        false,
    ),
    way(
        "cancelled mid-stream",
        |c| cancel_late(c).boxed(),
        Code::Cancelled,
        Cause::Cancelled,
        true,
        true,
    ),
    way(
        "cancelled before configuration",
        |c| cancel_waiting(c).boxed(),
        Code::Cancelled,
        Cause::Cancelled,
        false,
        false,
    ),
    way(
        "never polled",
        |c| never_polled(c).boxed(),
        Code::Ok,
        Cause::Response,
        true,
        true,
    ),
    way(
        "deadline before headers",
        |c| deadline_early(c).boxed(),
        Code::DeadlineExceeded,
        Cause::Deadline,
        true,
        true,
    ),
    way(
        "deadline mid-stream",
        |c| deadline_late(c).boxed(),
        Code::DeadlineExceeded,
        Cause::Deadline,
        true,
        true,
    ),
    way(
        "deadline before configuration",
        |c| deadline_waiting(c).boxed(),
        Code::DeadlineExceeded,
        Cause::Deadline,
        false,
        false,
    ),
    way(
        "deadline in a filter",
        |c| deadline_in_filter(c).boxed(),
        Code::DeadlineExceeded,
        Cause::Deadline,
        true,
        false,
    ),
    way(
        "deadline between attempts",
        |c| deadline_in_pause(c).boxed(),
        Code::DeadlineExceeded,
        Cause::Deadline,
        true,
        true,
    ),
    way(
        "deadline without an endpoint",
        |c| deadline_picking(c).boxed(),
        Code::DeadlineExceeded,
        Cause::Deadline,
        true,
        false,
    ),
    way(
        "fault",
        |c| fault(c, Code::Aborted).boxed(),
        Code::Aborted,
        Cause::Fault,
        true,
        false,
    ),
    way(
        "fault that is OK",
        |c| fault(c, Code::Ok).boxed(),
        Code::Ok,
        Cause::Fault,
        true,
        false,
    ),
    way(
        "drop",
        |c| dropped(c).boxed(),
        Code::Unavailable,
        Cause::Drop,
        true,
        false,
    ),
    way(
        "breaker",
        |c| breaker(c).boxed(),
        Code::Unavailable,
        Cause::CircuitBreaker,
        true,
        false,
    ),
    way(
        "no route",
        |c| no_route(c).boxed(),
        Code::Unavailable,
        Cause::NoRoute,
        false,
        false,
    ),
    way(
        "no listener",
        |c| no_listener(c).boxed(),
        Code::Unavailable,
        Cause::NoRoute,
        false,
        false,
    ),
    way(
        "no cluster",
        |c| no_cluster(c).boxed(),
        Code::Unavailable,
        Cause::NoCluster,
        false,
        false,
    ),
    way(
        "no endpoint",
        |c| no_endpoint(c).boxed(),
        Code::Unavailable,
        Cause::NoEndpoint,
        true,
        false,
    ),
    way(
        "no control plane",
        |c| no_control_plane(c).boxed(),
        Code::Unavailable,
        Cause::NoConfig,
        false,
        false,
    ),
    way(
        "reset",
        |c| reset(c).boxed(),
        Code::Internal,
        Cause::Reset,
        true,
        true,
    ),
    way(
        "reset mid-stream",
        |c| reset_late(c).boxed(),
        Code::Unavailable,
        Cause::Reset,
        true,
        true,
    ),
];

#[tokio::test]
async fn every_way_to_end_is_recorded_once() {
    for Way {
        what,
        run,
        code,
        cause,
        routed,
        endpoint,
    } in WAYS
    {
        let case = Case::start().await;
        run(&case).await;
        let (series, attempts, finished) = case.only_end(what);
        assert_eq!((finished.code, finished.cause), (code, cause), "{what}");
        assert_eq!(finished.endpoint, endpoint, "{what}: {finished:?}");
        assert_eq!(finished.retries, 0, "{what}");
        assert!(finished.duration < Duration::from_secs(20), "{what}");
        let category = (cause == Cause::Drop).then(|| "overload".to_owned());
        assert_eq!(finished.drop_category, category, "{what}");
        assert_eq!(&*series.target, SERVICE, "{what}");
        let (route, cluster) = match routed {
            true => ("#0", cluster_name(SERVICE, "v1")),
            false => ("", String::new()),
        };
        assert_eq!(
            (&*series.route, &*series.cluster),
            (route, &*cluster),
            "{what}"
        );
        assert!(attempts.len() <= 1, "{what}: {attempts:?}");
        if let Some(Entry::Attempt(attempt, ..)) = attempts.first() {
            // The attempt before the pause has an end of its own.
            let pausing = what == "deadline between attempts";
            let expected = if pausing { Code::Unavailable } else { code };
            assert_eq!(*attempt, expected, "{what}");
        }
    }
}

async fn stream(case: &Case) {
    let messages = futures_util::stream::iter([echo("a"), echo("b")]);
    let mut replies = within(case.client().chat(messages))
        .await
        .unwrap()
        .into_inner();
    while within(replies.message()).await.unwrap().is_some() {}
}

async fn error(case: &Case) {
    case.backend
        .answer(|call| call.fail(Status::not_found("no")));
    case.unary().await.unwrap_err();
}

async fn late_error(case: &Case) {
    case.backend
        .answer(|call| call.headers_then(Status::data_loss("no")));
    case.unary().await.unwrap_err();
}

/// A response that ends without trailers.
async fn no_status(case: &Case) {
    case.backend.answer(|call| async move {
        let response = call.headers_then(Status::ok("")).await?;
        Ok(response.map(|_| tonic::body::Body::empty()))
    });
    case.unary().await.unwrap_err();
}

async fn not_grpc(case: &Case) {
    case.backend.answer(|_| async move {
        let mut response = http::Response::new(tonic::body::Body::empty());
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        Ok(response)
    });
    case.unary().await.unwrap_err();
}

async fn cancel_early(case: &Case) {
    case.backend.answer(|call| call.hold());
    let mut client = case.client();
    let call = tokio::spawn(async move { client.unary(echo("hi")).await });
    case.backend
        .until("the call came", |seen| seen.open == 1)
        .await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
}

async fn cancel_late(case: &Case) {
    let (messages, outbox) = mpsc::channel(1);
    let mut client = case.client();
    let mut chat = within(client.chat(ReceiverStream::new(outbox)))
        .await
        .unwrap()
        .into_inner();
    messages.send(echo("hi")).await.unwrap();
    within(chat.message()).await.unwrap().unwrap();
    drop(chat);
}

async fn cancel_waiting(case: &Case) {
    case.control_plane.hold();
    let mut client = case.client();
    let call = tokio::spawn(async move { client.unary(echo("hi")).await });
    let asked = |c: &ControlPlane| c.subscriptions(Kind::Listener).contains(SERVICE);
    case.control_plane.until("it is asked", asked).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
}

/// A call that was made and not awaited has not begun.
async fn never_polled(case: &Case) {
    let mut client = case.client();
    drop(client.unary(echo("hi")));
    case.unary().await.unwrap();
}

async fn deadline_early(case: &Case) {
    case.backend.answer(|call| call.hold());
    case.timed().await.unwrap_err();
}

async fn deadline_late(case: &Case) {
    case.backend.answer(|call| call.stall());
    case.timed().await.unwrap_err();
}

async fn deadline_waiting(case: &Case) {
    case.control_plane.hold();
    case.timed().await.unwrap_err();
}

async fn deadline_in_filter(case: &Case) {
    let hour = Duration::from_secs(3_600);
    case.service()
        .fault(Fault::new().delay(hour, 100.0))
        .apply();
    case.timed().await.unwrap_err();
}

async fn deadline_in_pause(case: &Case) {
    let hour = Duration::from_secs(3_600);
    case.service()
        .retry(Retry::on([Code::Unavailable]).backoff(hour, hour))
        .apply();
    case.backend
        .answer(|call| call.fail(Status::unavailable("no")));
    case.timed().await.unwrap_err();
}

async fn deadline_picking(case: &Case) {
    case.service().clear_endpoints().apply();
    let mut request = Request::new(echo("hi"));
    request.set_timeout(Duration::from_millis(150));
    let channel = mesh_tonic::channel(&case.mesh, SERVICE).unwrap();
    let mut client = EchoClient::new(channel.wait_for_ready(true));
    within(client.unary(request)).await.unwrap_err();
}

async fn fault(case: &Case, code: Code) {
    case.service()
        .fault(Fault::new().abort(code, 100.0))
        .apply();
    let reply = within(case.client().expand(echo("hi"))).await;
    assert_eq!(reply.is_ok(), code == Code::Ok);
}

async fn dropped(case: &Case) {
    case.service().drop_percent("overload", 100.0).apply();
    case.unary().await.unwrap_err();
}

async fn breaker(case: &Case) {
    case.service().max_requests(0).apply();
    case.unary().await.unwrap_err();
}

async fn no_route(case: &Case) {
    case.control_plane.set(&routing::configuration(Vec::new()));
    case.unary().await.unwrap_err();
}

async fn no_listener(case: &Case) {
    case.service().remove();
    case.unary().await.unwrap_err();
}

async fn no_cluster(case: &Case) {
    let name = cluster_name(SERVICE, "v1");
    case.control_plane
        .corrupt(Kind::Cluster, &name, Corruption::WrongType);
    case.unary().await.unwrap_err();
}

async fn no_endpoint(case: &Case) {
    case.service().clear_endpoints().apply();
    case.unary().await.unwrap_err();
}

async fn no_control_plane(case: &Case) {
    case.control_plane.stop().await;
    case.unary().await.unwrap_err();
}

async fn reset(case: &Case) {
    case.backend
        .answer(|call| call.reset(h2::Reason::INTERNAL_ERROR));
    case.unary().await.unwrap_err();
}

async fn reset_late(case: &Case) {
    case.backend.answer(|call| call.stall());
    let mut replies = within(case.client().expand(echo("hi")))
        .await
        .unwrap()
        .into_inner();
    case.backend.cut();
    within(replies.message()).await.unwrap_err();
}

/// Retries are attempts of one call.
#[tokio::test]
async fn attempts_are_recorded_one_by_one() {
    let case = Case::start().await;
    let quick = Duration::from_millis(1);
    let retry = Retry::on([Code::Unavailable, Code::Internal]).times(3);
    case.service().retry(retry.backoff(quick, quick)).apply();
    case.backend.answer(|call| async move {
        match call.number {
            1 => call.fail(Status::unavailable("no")).await,
            2 => call.reset(h2::Reason::INTERNAL_ERROR).await,
            _ => call.echo().await,
        }
    });
    case.unary().await.unwrap();
    let (_, attempts, finished) = case.only_end("retries");
    assert_eq!(
        attempts,
        [
            Entry::Attempt(Code::Unavailable, Cause::Response, true),
            Entry::Attempt(Code::Internal, Cause::Reset, true),
            Entry::Attempt(Code::Ok, Cause::Response, true),
        ]
    );
    assert_eq!((finished.code, finished.retries), (Code::Ok, 2));
}
