//! How many targets there are, and for how long.

use std::time::Duration;

use futures_util::future::join_all;
use mesh_core::{config::Kind, testing::ControlPlane};
use mesh_hyper::Client;
use mesh_tests::eventually;
use tokio::runtime::Handle;

use super::{HttpServer, mesh, service, text};

fn listeners(control_plane: &ControlPlane) -> Vec<String> {
    let listeners = control_plane.subscriptions(Kind::Listener);
    listeners.into_iter().collect()
}

/// Waits until these are the listeners that are watched.
async fn watched(control_plane: &ControlPlane, expected: &[&str]) {
    eventually(
        || (listeners(control_plane) == expected).then_some(()),
        || format!("{expected:?} expected: {:?}", listeners(control_plane)),
    )
    .await;
}

/// The services `a.shop:80` to `c.shop:80`.
async fn shops(control_plane: &ControlPlane, server: &HttpServer) {
    for name in ["a.shop:80", "b.shop:80", "c.shop:80"] {
        service(control_plane, name, server).apply();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_tasks_make_one_target() {
    let control_plane = ControlPlane::start().await;
    let server = HttpServer::start("one").await;
    shops(&control_plane, &server).await;
    let mesh = mesh(&control_plane).await;
    let client = Client::new(&mesh);
    let tasks = (0..1_000).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { text(client.get("http://a.shop/")).await })
    });
    let tasks: Vec<_> = tasks.collect();
    for answer in join_all(tasks).await {
        assert_eq!(answer.unwrap().unwrap(), "one GET a.shop / ");
    }
    assert_eq!(client.targets(), 1);
    assert_eq!(mesh.targets().len(), 1);
    // Another client with the same settings has it too, one with others has its own.
    assert_eq!(Client::new(&mesh).targets(), 1);
    assert_eq!(Client::builder(&mesh).max_targets(7).build().targets(), 0);
}

#[tokio::test]
async fn at_the_limit_the_target_that_was_used_longest_ago_goes() {
    let control_plane = ControlPlane::start().await;
    let server = HttpServer::start("one").await;
    shops(&control_plane, &server).await;
    let client = Client::builder(&mesh(&control_plane).await)
        .max_targets(2)
        .build();
    for url in [
        "http://a.shop/",
        "http://b.shop/",
        "http://a.shop/",
        "http://c.shop/",
    ] {
        text(client.get(url)).await.unwrap();
    }
    assert_eq!(client.targets(), 2);
    watched(&control_plane, &["a.shop:80", "c.shop:80"]).await;
}

#[tokio::test]
async fn at_the_limit_targets_in_use_stay_and_the_call_fails() {
    let control_plane = ControlPlane::start().await;
    let server = HttpServer::start("one").await;
    shops(&control_plane, &server).await;
    let client = Client::builder(&mesh(&control_plane).await)
        .max_targets(2)
        .build();
    server.hold();
    let calls = ["http://a.shop/", "http://b.shop/"].map(|url| {
        let call = client.get(url);
        tokio::spawn(async move { text(call).await })
    });
    server.active(2).await;
    let error = text(client.get("http://c.shop/")).await.unwrap_err();
    assert!(error.is_shed(), "{error}");
    assert!(error.message().contains("has 2 targets"), "{error}");
    server.release();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    // There is room again.
    text(client.get("http://c.shop/")).await.unwrap();
}

#[tokio::test]
async fn a_target_that_nobody_asks_for_expires_and_one_in_use_does_not() {
    let control_plane = ControlPlane::start().await;
    let server = HttpServer::start("one").await;
    shops(&control_plane, &server).await;
    let mesh = mesh(&control_plane).await;
    let client = Client::builder(&mesh)
        .target_idle(Duration::from_millis(50))
        .build();
    server.hold();
    let call = client.get("http://b.shop/");
    let held = tokio::spawn(async move { text(call).await });
    server.active(1).await;
    // Another one, which comes later and goes earlier: nothing answers there.
    control_plane
        .service("a.shop:80")
        .version("")
        .clear_endpoints()
        .apply();
    let _ = client.get("http://a.shop/").send().await;
    watched(&control_plane, &["b.shop:80"]).await;
    assert!(!held.is_finished());

    server.release();
    held.await.unwrap().unwrap();
    watched(&control_plane, &[]).await;
    assert_eq!(client.targets(), 0);
    assert!(mesh.targets().is_empty());
    // It is there again when somebody asks.
    text(client.get("http://b.shop/")).await.unwrap();
}

#[tokio::test]
async fn the_last_client_takes_everything_with_it() {
    let control_plane = ControlPlane::start().await;
    let server = HttpServer::start("one").await;
    shops(&control_plane, &server).await;
    let mesh = mesh(&control_plane).await;
    // Keeps the connection to the control plane, and the one to the server.
    let kept = Client::to(&mesh, "http://a.shop").unwrap();
    text(kept.get("/")).await.unwrap();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let client = Client::new(&mesh);
    for url in ["http://b.shop/", "http://c.shop/"] {
        text(client.get(url)).await.unwrap();
    }
    assert!(tasks() > before);
    drop(client);
    watched(&control_plane, &["a.shop:80"]).await;
    eventually(
        || (tasks() <= before).then_some(()),
        || format!("{before} tasks before, {} now", tasks()),
    )
    .await;
    assert_eq!(mesh.targets().len(), 1);
}
