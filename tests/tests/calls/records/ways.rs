//! The ways in which a call can end.

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use mesh_core::{
    Code,
    config::Kind,
    telemetry::Cause,
    testing::{ControlPlane, Corruption, Fault, Retry, cluster_name},
};
use mesh_tests::{
    fixture::{SERVICE, echo, within},
    pb::echo_client::EchoClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::Case;
use crate::routing;

type Run = for<'a> fn(&'a Case) -> BoxFuture<'a, ()>;

pub(super) struct Way {
    pub(super) what: &'static str,
    pub(super) run: Run,
    pub(super) code: Code,
    pub(super) cause: Cause,
    /// A route and a cluster took it.
    pub(super) routed: bool,
    /// It reached an endpoint.
    pub(super) endpoint: bool,
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

pub(super) const WAYS: [Way; 27] = [
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
        .until("the call came", |seen| seen.active == 1)
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
