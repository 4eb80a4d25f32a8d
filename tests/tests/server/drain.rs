//! Servers that are to go away.

use std::time::Duration;

use mesh_tests::{
    backend::Backend,
    every_way,
    fixture::within,
    load::{Load, until_failure, until_from},
    secured::Secured,
    way::{Chat, Way},
};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

/// What is under way ends as it would have, and then the server is over.
async fn a_drain_waits_for_what_is_open(way: Way) {
    let mut secured = Secured::over(way).await;
    let mut chat = within(Chat::open(&secured.channel)).await.unwrap();
    within(chat.say()).await.unwrap();
    let drain = tokio::spawn({
        let mesh = secured.server.mesh.clone();
        async move { mesh.drain(LONG).await }
    });
    secured.server.mesh.connections().drain_begun().await;
    // No other call is served.
    until_failure(&secured.channel).await;
    within(chat.say()).await.unwrap();
    assert!(!drain.is_finished());
    within(chat.finish()).await.unwrap();
    let report = within(drain).await.unwrap();
    assert_eq!((report.finished, report.cut), (1, 0));
    within(&mut secured.running.task).await.unwrap().unwrap();
    assert!(secured.connections().is_empty());
}

async fn a_drain_cuts_what_outlasts_it(way: Way) {
    let secured = Secured::over(way).await;
    let mut chat = within(Chat::open(&secured.channel)).await.unwrap();
    within(chat.say()).await.unwrap();
    let report = within(secured.server.mesh.drain(SHORT)).await;
    assert_eq!((report.finished, report.cut), (0, 1));
    within(chat.hear()).await.unwrap_err();
}

/// Calls go to the others, whatever a server that drains does with those that it has.
async fn a_drain_under_load_fails_no_call(way: Way) {
    let secured = Secured::in_plaintext_over(way).await;
    let other = Backend::start("other").await;
    let service = secured.service().version("v1");
    service.endpoint(other.address()).apply();
    until_from(&secured.channel, &["ours", "other"]).await;
    let load = Load::start(&secured.channel, 4);
    load.more(50).await;
    let report = within(secured.server.mesh.drain(LONG)).await;
    assert_eq!(report.cut, 0);
    load.more(50).await;
    let seen = load.stop().await;
    seen.assert_no_failure();
    assert!(seen.from("other") > 50, "{seen:?}");
}

every_way!(
    a_drain_waits_for_what_is_open,
    a_drain_cuts_what_outlasts_it,
    a_drain_under_load_fails_no_call,
);
