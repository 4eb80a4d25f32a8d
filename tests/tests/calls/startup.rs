//! Calls before there is a configuration or an endpoint; wait-for-ready.

use std::time::Duration;

use mesh_core::{Code, config::Kind, telemetry::Cause};
use mesh_tests::{
    fixture::{Fixture, SERVICE, echo, within},
    pb::{EchoReply, EchoRequest, echo_client::EchoClient},
    scripted::Scripted,
};
use mesh_tonic::{CallOptions, Channel};
use tokio::{task::JoinHandle, time::Instant};
use tonic::{Request, Response, Status};

use crate::errors::bare_call;

type Call = JoinHandle<Result<Response<EchoReply>, Status>>;

fn spawn(channel: Channel, request: Request<EchoRequest>) -> Call {
    let mut client = EchoClient::new(channel);
    tokio::spawn(async move { client.unary(request).await })
}

fn waiting(wait: bool) -> Request<EchoRequest> {
    let mut request = Request::new(echo("hi"));
    let options = CallOptions::default().wait_for_ready(wait);
    request.extensions_mut().insert(options);
    request
}

/// Waits until the client has asked for the listener.
async fn asked(fixture: &Fixture) {
    let subscribed =
        |c: &mesh_core::testing::ControlPlane| c.subscriptions(Kind::Listener).contains(SERVICE);
    fixture
        .control_plane
        .until("the listener is asked for", subscribed)
        .await;
}

#[tokio::test]
async fn a_call_waits_for_the_first_configuration() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::on(&[&backend]).await;
    fixture.control_plane.hold();
    let call = spawn(fixture.channel(), Request::new(echo("hi")));
    let ready = tokio::spawn({
        let channel = fixture.channel();
        async move { channel.ready().await }
    });
    asked(&fixture).await;
    assert!(!call.is_finished() && !ready.is_finished());
    fixture.control_plane.release();
    assert_eq!(
        within(call).await.unwrap().unwrap().into_inner().server,
        "a"
    );
    within(ready).await.unwrap().unwrap();
}

#[tokio::test]
async fn it_waits_until_its_deadline_at_most() {
    for wait in [false, true] {
        let fixture = Fixture::start().await;
        fixture.control_plane.hold();
        let mut request = waiting(wait);
        request.set_timeout(Duration::from_millis(200));
        let status = within(spawn(fixture.channel(), request))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(status.message().contains("configuration"), "{status}");
        let totals = fixture.mesh.metrics().totals();
        assert_eq!(totals.cause(Cause::Deadline), 1);
        assert_eq!((totals.started(), totals.finished()), (1, 1));
    }
}

#[tokio::test]
async fn it_fails_once_the_resource_timer_says_that_there_is_none() {
    let fixture = Fixture::with(|o| o.resource_timeout = Duration::from_millis(300)).await;
    let _in_use = fixture.channel();
    // Which is an answer: to wait for ready is to wait for what may come soon.
    let patient = spawn(fixture.channel(), waiting(true));
    let start = Instant::now();
    let status = within(spawn(fixture.channel(), waiting(false)))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains(SERVICE), "{status}");
    // A server of the incremental protocol says it at once.
    if !fixture.control_plane.features().delta {
        assert!(start.elapsed() >= Duration::from_millis(300));
        assert!(
            status.message().contains("300"),
            "says how long it waited: {status}"
        );
    }

    // From now on calls fail at once.
    let error = bare_call(&fixture.channel()).await.unwrap_err();
    assert_eq!(error.cause().cause(), Cause::NoRoute);
    assert_eq!(error.cause().code(), Code::Unavailable);
    let not_ready = within(fixture.mesh.ready()).await.unwrap_err();
    assert_eq!(&*not_ready.target, SERVICE);
    assert!(within(fixture.channel().ready()).await.is_err());

    let status = within(patient).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains(SERVICE), "{status}");
    // The service comes after all.
    let backend = Scripted::start("a").await;
    fixture.serve(&[&backend]).apply().acked().await;
    within(fixture.client().unary(echo("hi"))).await.unwrap();
    within(fixture.mesh.ready()).await.unwrap();
}

#[tokio::test]
async fn it_fails_at_once_if_no_control_plane_can_be_reached() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::on(&[&backend]).await;
    fixture.control_plane.stop().await;
    let patient = spawn(fixture.channel(), waiting(true));
    let status = within(spawn(fixture.channel(), waiting(false)))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let address = fixture.control_plane.address().unwrap().to_string();
    assert!(status.message().contains(&address), "{status}");
    let error = bare_call(&fixture.channel()).await.unwrap_err();
    assert_eq!(error.cause().cause(), Cause::NoConfig);
    let not_ready = within(fixture.mesh.ready()).await.unwrap_err();
    assert!(not_ready.to_string().contains(&address), "{not_ready}");

    assert!(!patient.is_finished());
    fixture.control_plane.restart().await;
    within(patient).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_mesh_is_ready_when_all_its_targets_are() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::on(&[&backend]).await;
    // No target, nothing to wait for.
    within(fixture.mesh.ready()).await.unwrap();
    fixture.control_plane.hold();
    let first = fixture.channel();
    let second = mesh_tonic::channel(&fixture.mesh, "other.test:8080").unwrap();
    let ready = tokio::spawn({
        let mesh = fixture.mesh.clone();
        async move { mesh.ready().await }
    });
    asked(&fixture).await;
    assert!(!ready.is_finished());
    fixture
        .control_plane
        .service("other.test:8080")
        .endpoint(backend.address())
        .apply();
    fixture.control_plane.release();
    within(ready).await.unwrap().unwrap();
    assert!(fixture.mesh.targets().iter().all(|target| target.ready));
    assert_eq!(fixture.mesh.targets().len(), 2);
    drop((first, second));
    assert_eq!(fixture.mesh.targets().len(), 0);
}

#[tokio::test]
async fn waiting_for_ready_is_the_channels_default_and_the_calls_choice() {
    let fixture = Fixture::start().await;
    fixture.service().version("v1").apply();
    let patient_channel = fixture.channel().wait_for_ready(true);
    let patient = [
        spawn(fixture.channel(), waiting(true)),
        spawn(patient_channel.clone(), Request::new(echo("hi"))),
        spawn(patient_channel.clone().clone(), waiting(true)),
    ];
    for impatient in [
        spawn(fixture.channel(), Request::new(echo("hi"))),
        spawn(fixture.channel(), waiting(false)),
        spawn(patient_channel, waiting(false)),
    ] {
        let status = within(impatient).await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
    assert!(patient.iter().all(|call| !call.is_finished()));
    let backend = Scripted::start("a").await;
    fixture.serve(&[&backend]).apply();
    for call in patient {
        within(call).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn waiting_for_ready_outlasts_endpoints_that_refuse() {
    let fixture = Fixture::with(|o| o.connect_backoff_base = Duration::from_millis(20)).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    fixture
        .service()
        .endpoint(socket.local_addr().unwrap())
        .apply();
    let status = within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let patient = spawn(fixture.channel(), waiting(true));
    let mut hurried = waiting(true);
    hurried.set_timeout(Duration::from_millis(100));
    let status = within(spawn(fixture.channel(), hurried))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert!(!patient.is_finished());
    let backend = Scripted::on("late", socket.listen(8).unwrap());
    within(patient).await.unwrap().unwrap();
    assert_eq!(backend.seen().calls, 1);
}
