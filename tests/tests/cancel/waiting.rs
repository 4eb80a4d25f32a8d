//! Calls dropped while they wait for what the mesh does not have yet.

use super::*;

async fn while_there_is_no_configuration(way: Way) {
    let fixture = Fixture::unconnected(way, LIMIT).await;
    let waiting = |dropped| {
        let call = fixture.call();
        async move { poll_and_drop(call, 1, dropped).await }
    };
    assert!(waiting(Dropped::AtOnce).await.is_none());
    let configure = async { fixture.configure() };
    let (woken, ()) = tokio::join!(waiting(Dropped::Woken), configure);
    assert!(woken.is_none());
    let counts = fixture.counts();
    assert_eq!((counts.started(), counts.code(Code::Cancelled)), (2, 2));
    fixture.call().await.expect("the server is there");
    fixture.all_is_given_back("waiting for configuration").await;
}

async fn while_no_endpoint_is_ready(way: Way) {
    let mut fixture = Fixture::start(way).await;
    for dropped in [Dropped::AtOnce, Dropped::Woken] {
        let before = fixture.counts();
        fixture.backend.stop().await;
        let link = Arc::clone(&fixture.links.0.lock()[0]);
        let lost = || (!link.is_ready()).then_some(());
        eventually(lost, || format!("the loss is not seen: {link:?}")).await;

        let patient = || Ask::new("payload").wait_for_ready(true);
        let waiting = poll_and_drop(fixture.caller.ask(patient()), 1, dropped);
        let open = async { fixture.backend.open() };
        let (waiting, ()) = tokio::join!(waiting, open);
        assert!(waiting.is_none());
        fixture.ask(patient()).await.expect("the server is back");
        let after = fixture.counts();
        let cancelled = after.code(Code::Cancelled) - before.code(Code::Cancelled);
        assert_eq!((after.started() - before.started(), cancelled), (2, 1));
        fixture.all_is_given_back("waiting for an endpoint").await;
    }
}

async fn while_the_server_admits_no_stream(way: Way) {
    let fixture = Fixture::unconnected(way, 1).await;
    fixture.configure();
    fixture.call().await.expect("the server is there");
    for dropped in [Dropped::AtOnce, Dropped::Woken] {
        let (before, calls) = (fixture.counts(), fixture.backend.calls());
        fixture.backend.hold();
        let others = async {
            fixture
                .backend
                .until("the stream is taken", |counts| counts.active == 1)
                .await;
            // The first in line goes away, at the latest when it could have the stream: the
            // one behind it gets it.
            let first = poll_and_drop(fixture.call(), 1, dropped);
            let release = async { fixture.backend.release() };
            tokio::join!(first, fixture.call(), release)
        };
        let (held, (first, behind, ())) = tokio::join!(fixture.call(), others);
        held.expect("the call on the stream ends well");
        assert!(first.is_none());
        behind.expect("the call behind the dropped one ends well");
        assert_eq!(fixture.backend.calls() - calls, 2);
        let after = fixture.counts();
        let cancelled = after.code(Code::Cancelled) - before.code(Code::Cancelled);
        assert_eq!((after.started() - before.started(), cancelled), (3, 1));
        assert_eq!((after.in_flight(), fixture.in_flight()), (0, 0));
    }
    assert_eq!(fixture.backend.counts().accepted, 1);
}

every_way!(alone; while_there_is_no_configuration);
every_way!(grpc and http2, alone;
    while_no_endpoint_is_ready,
    while_the_server_admits_no_stream,
);
