//! Calls before there is a configuration or an endpoint; wait-for-ready.

use std::time::Duration;

use mesh_core::{Code, config::Kind, telemetry::Cause};
use mesh_tests::{
    backend::Backend,
    every_way,
    fixture::{Fixture, SERVICE, within},
    load::call,
    way::{Ask, Call as _, Caller, Reply, Way, cause},
};
use tokio::{task::JoinHandle, time::Instant};
use tonic::Status;

type Call = JoinHandle<Result<Reply, Status>>;

fn spawn(caller: Caller, ask: Ask) -> Call {
    tokio::spawn(async move { caller.ask(ask).await })
}

fn waiting(wait: bool) -> Ask {
    Ask::new("hi").wait_for_ready(wait)
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

async fn a_call_waits_for_the_first_configuration(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    fixture.control_plane.hold();
    let call = spawn(fixture.caller(), waiting(false));
    let ready = tokio::spawn({
        let mesh = fixture.mesh.clone();
        async move { mesh.ready().await }
    });
    asked(&fixture).await;
    assert!(!call.is_finished() && !ready.is_finished());
    fixture.control_plane.release();
    assert_eq!(within(call).await.unwrap().unwrap().server, "a");
    within(ready).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_channel_waits_for_its_first_configuration() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    fixture.control_plane.hold();
    let ready = tokio::spawn({
        let channel = fixture.channel();
        async move { channel.ready().await }
    });
    asked(&fixture).await;
    assert!(!ready.is_finished());
    fixture.control_plane.release();
    within(ready).await.unwrap().unwrap();
}

async fn it_waits_until_its_deadline_at_most(way: Way) {
    for wait in [false, true] {
        let fixture = Fixture::over(way).await;
        fixture.control_plane.hold();
        let ask = waiting(wait).timeout(Duration::from_millis(200));
        let status = fixture.ask(ask).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(status.message().contains("configuration"), "{status}");
        let totals = fixture.mesh.metrics().totals();
        assert_eq!(totals.cause(Cause::Deadline), 1);
        assert_eq!((totals.started(), totals.finished()), (1, 1));
    }
}

async fn it_fails_once_the_resource_timer_says_that_there_is_none(way: Way) {
    let short = Duration::from_millis(300);
    let fixture = Fixture::with(way, |o| o.resource_timeout = short).await;
    let _in_use = fixture.caller();
    // Which is an answer: to wait for ready is to wait for what may come soon.
    let patient = spawn(fixture.caller(), waiting(true));
    let start = Instant::now();
    let status = fixture.call().await.unwrap_err();
    assert_eq!(cause(&status).code(), Code::Unavailable);
    assert!(status.message().contains(SERVICE), "{status}");
    // A server of the incremental protocol says it at once.
    if !fixture.control_plane.features().delta {
        assert!(start.elapsed() >= short);
        assert!(
            status.message().contains("300"),
            "says how long it waited: {status}"
        );
    }

    // From now on calls fail at once.
    let status = fixture.call().await.unwrap_err();
    assert_eq!(cause(&status).cause(), Cause::NoRoute);
    assert_eq!(cause(&status).code(), Code::Unavailable);
    let not_ready = within(fixture.mesh.ready()).await.unwrap_err();
    assert_eq!(&*not_ready.target, SERVICE);
    if way == Way::Grpc {
        assert!(within(fixture.channel().ready()).await.is_err());
    }

    let status = within(patient).await.unwrap().unwrap_err();
    assert_eq!(cause(&status).code(), Code::Unavailable);
    assert!(status.message().contains(SERVICE), "{status}");
    // The service comes after all.
    let backend = Backend::start("a").await;
    fixture.serve(&[&backend]).apply().acked().await;
    fixture.call().await.unwrap();
    within(fixture.mesh.ready()).await.unwrap();
}

async fn it_fails_at_once_if_no_control_plane_can_be_reached(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    fixture.control_plane.stop().await;
    let patient = spawn(fixture.caller(), waiting(true));
    let status = fixture.call().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let address = fixture.control_plane.address().unwrap().to_string();
    assert!(status.message().contains(&address), "{status}");
    let status = fixture.call().await.unwrap_err();
    assert_eq!(cause(&status).cause(), Cause::NoConfig);
    let not_ready = within(fixture.mesh.ready()).await.unwrap_err();
    assert!(not_ready.to_string().contains(&address), "{not_ready}");

    assert!(!patient.is_finished());
    fixture.control_plane.restart().await;
    within(patient).await.unwrap().unwrap();
}

async fn the_mesh_is_ready_when_all_its_targets_are(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    // No target, nothing to wait for.
    within(fixture.mesh.ready()).await.unwrap();
    fixture.control_plane.hold();
    let first = fixture.caller();
    let second = way.caller(&fixture.mesh, "other.test:8080");
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

async fn waiting_for_ready_is_the_callers_default_and_the_calls_choice(way: Way) {
    let fixture = Fixture::over(way).await;
    fixture.service().version("v1").apply();
    let patient_caller = way.patient(&fixture.mesh, SERVICE);
    let by_default = tokio::spawn({
        let caller = patient_caller.clone();
        async move { call(&caller).await }
    });
    let patient = [
        spawn(fixture.caller(), waiting(true)),
        spawn(patient_caller.clone(), waiting(true)),
    ];
    for impatient in [
        spawn(fixture.caller(), waiting(false)),
        spawn(patient_caller, waiting(false)),
    ] {
        let status = within(impatient).await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
    assert!(!by_default.is_finished() && patient.iter().all(|call| !call.is_finished()));
    let backend = Backend::start("a").await;
    fixture.serve(&[&backend]).apply();
    for call in patient {
        within(call).await.unwrap().unwrap();
    }
    within(by_default).await.unwrap().unwrap();
}

async fn waiting_for_ready_outlasts_endpoints_that_refuse(way: Way) {
    let often = Duration::from_millis(20);
    let fixture = Fixture::with(way, |o| o.connect_backoff_base = often).await;
    let mut late = Backend::refusing("late");
    fixture.service().endpoint(late.address()).apply();
    let status = fixture.call().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let patient = spawn(fixture.caller(), waiting(true));
    let hurried = waiting(true).timeout(Duration::from_millis(100));
    let status = fixture.ask(hurried).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert!(!patient.is_finished());
    late.open();
    within(patient).await.unwrap().unwrap();
    assert_eq!(late.calls(), 1);
}

every_way!(
    a_call_waits_for_the_first_configuration,
    it_waits_until_its_deadline_at_most,
    it_fails_once_the_resource_timer_says_that_there_is_none,
    it_fails_at_once_if_no_control_plane_can_be_reached,
    the_mesh_is_ready_when_all_its_targets_are,
    waiting_for_ready_is_the_callers_default_and_the_calls_choice,
    waiting_for_ready_outlasts_endpoints_that_refuse,
);
