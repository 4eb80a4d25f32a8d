//! What updates and failures do to connections, and to the calls on them.

use std::time::Duration;

use mesh_core::{
    config::Kind,
    testing::{Route, cluster_name, zone},
};
use mesh_tests::{
    backend::Backend,
    every_way,
    load::{Load, call, spread, until_failure, until_from},
    way::{Chat, Way},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{SERVICE, World, assert_connections, assert_unavailable, backends};

/// Updates that do not touch an endpoint leave its connection alone.
async fn config_swap_keeps_connections(way: Way) {
    let world = World::over(way).await;
    let [a, b, c] = backends(["a", "b", "c"]).await;
    world
        .service()
        .endpoint(a.address())
        .endpoint(b.address())
        .apply();
    until_from(&world.channel, &["a", "b"]).await;
    let load = Load::start(&world.channel, 4);
    let mut chat = Chat::open(&world.channel).await.expect("it is served");
    let changes: [(&str, &dyn Fn() -> mesh_core::testing::Service); 7] = [
        ("a retry policy", &|| world.service().retry(way.retry())),
        ("a rule", &|| {
            world
                .service()
                .route(Route::prefix("/mesh.test.").percent(50.0))
        }),
        ("a limit of time", &|| {
            world.service().max_stream_duration(Duration::from_secs(60))
        }),
        ("a circuit breaker", &|| world.service().max_requests(500)),
        ("a weight", &|| {
            let heavy = mesh_core::testing::Endpoint::new(a.address()).weight(7);
            world.service().endpoint(heavy)
        }),
        ("drops", &|| world.service().drop_percent("none", 0.0001)),
        ("a policy", &|| world.service().least_request(2)),
    ];
    for (what, change) in changes {
        change().apply().acked().await;
        load.more(20).await;
        load.take().assert_no_failure();
        for server in [&a, &b] {
            println!("{what} makes no new connection");
            assert_connections(way, server, 5);
        }
    }
    // One endpoint comes and goes; the others do not notice.
    world.service().endpoint(c.address()).apply().acked().await;
    load.until("c is called", |seen| seen.from("c") > 0).await;
    world.service().take_out(c.address()).apply().acked().await;
    c.until("its connection is closed", |counts| counts.open == 0)
        .await;
    // Gone for a moment is not gone.
    world.service().take_out(b.address()).apply().acked().await;
    world.service().restore(b.address()).apply().acked().await;
    load.take();
    load.until("b is called", |seen| seen.from("b") > 0).await;
    chat.say().await.expect("the stream goes on");
    chat.finish().await.expect("the stream ends");
    load.stop().await.assert_no_failure();
    for server in [&a, &b] {
        assert_connections(way, server, 5);
    }
}

async fn one_dead_endpoint_of_three_fails_no_call(way: Way) {
    let world = World::over(way).await;
    let [one, two] = backends(["one", "two"]).await;
    let dead = Backend::refusing("dead");
    world
        .service()
        .endpoint(dead.address())
        .endpoint(one.address())
        .endpoint(two.address())
        .apply();
    // From the very first call on, and with no retry policy.
    let load = Load::start(&world.channel, 8);
    load.more(500).await;
    let seen = load.stop().await;
    seen.assert_no_failure();
    assert!(seen.from("one") > 100 && seen.from("two") > 100, "{seen:?}");
}

/// One that dies under its calls, which a retry policy saves.
async fn an_endpoint_killed_hard_fails_no_call_under_a_retry_policy(way: Way) {
    let world = World::over(way).await;
    let [mut victim, one, two] = backends(["victim", "one", "two"]).await;
    let mut service = world.service().retry(way.retry().times(3));
    for backend in [&victim, &one, &two] {
        service = service.endpoint(backend.address());
    }
    service.apply();
    until_from(&world.channel, &["victim", "one", "two"]).await;
    let load = Load::start(&world.channel, 8);
    for round in 1..=3 {
        load.until("the victim is called", |seen| seen.from("victim") > 5)
            .await;
        victim.stop().await;
        load.more(100).await;
        victim.open();
        victim
            .until("it is connected again", |counts| {
                counts.accepted == round + 1
            })
            .await;
        load.take().assert_no_failure();
    }
    load.stop().await.assert_no_failure();
}

/// A server that goes away politely fails nobody, retry policy or not.
async fn goaway_fails_no_call(way: Way) {
    let world = World::over(way).await;
    let [only] = backends(["only"]).await;
    world.service().endpoint(only.address()).apply();
    until_from(&world.channel, &["only"]).await;
    let load = Load::start(&world.channel, 8);
    for round in 1..=5 {
        load.more(50).await;
        only.go_away();
        only.until("it is connected again", |counts| {
            counts.accepted == round + 1
        })
        .await;
    }
    load.more(50).await;
    load.stop().await.assert_no_failure();
}

/// A refused port is tried again by itself, and nobody who calls notices.
async fn refused_port_that_reopens_gets_traffic_within_one_maximum_backoff(way: Way) {
    let max = Duration::from_millis(150);
    let world = World::over_with(way, |options| {
        // The first pause is the longest already: nothing has to be waited for.
        options.connect_backoff_base = max;
        options.connect_backoff_max = max;
    })
    .await;
    let [steady] = backends(["steady"]).await;
    let mut flaky = Backend::refusing("flaky");
    world
        .service()
        .endpoint(steady.address())
        .endpoint(flaky.address())
        .apply();
    until_from(&world.channel, &["steady"]).await;
    let load = Load::start(&world.channel, 2);
    for round in 1..=2 {
        // Calls go on while the port refuses.
        load.more(100).await;
        load.take().assert_no_failure();
        let opened = Instant::now();
        flaky.open();
        load.until("it is called", |seen| seen.from("flaky") > 0)
            .await;
        let took = opened.elapsed();
        // The jitter is a fifth; the rest is for a busy machine.
        assert!(took < max.mul_f64(1.2) + Duration::from_secs(2), "{took:?}");
        assert_eq!(flaky.counts().accepted, round, "one connection at a time");
        // Between calls, so that none is broken.
        load.take().assert_no_failure();
        world
            .service()
            .take_out(flaky.address())
            .apply()
            .acked()
            .await;
        flaky
            .until("it has no call and no connection", |counts| {
                counts.active == 0 && counts.open == 0
            })
            .await;
        flaky.stop().await;
        world
            .service()
            .restore(flaky.address())
            .apply()
            .acked()
            .await;
    }
    load.stop().await.assert_no_failure();
}

/// However many calls are made, an endpoint that does not answer is dialled once at a time, and
/// the others serve.
async fn one_connect_in_flight(way: Way) {
    let world = World::over(way).await;
    let [steady] = backends(["steady"]).await;
    // Accepts, and never says a word of HTTP/2.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = mute.local_addr().expect("it is bound");
    let (accepted, mut seen) = watch::channel(0);
    let mute = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = mute.accept().await {
            connections.push(connection);
            accepted.send_replace(connections.len());
        }
    });
    world
        .service()
        .endpoint(steady.address())
        .endpoint(address)
        .apply();
    let load = Load::start(&world.channel, 16);
    seen.wait_for(|accepted| *accepted > 0)
        .await
        .expect("it is dialled");
    load.more(500).await;
    assert_eq!(*seen.borrow(), 1);
    load.stop().await.assert_no_failure();
    mute.abort();
}

async fn scale_out_at_the_peers_stream_limit(way: Way) {
    let world = World::over(way).await;
    let mut only = Backend::refusing("only");
    only.max_streams(2);
    only.open();
    only.hold();
    world
        .service()
        .max_connections_per_host(3)
        .endpoint(only.address())
        .apply();
    let mut calls = JoinSet::new();
    let spawn = |calls: &mut JoinSet<_>| {
        let channel = world.channel.clone();
        calls.spawn(async move { call(&channel).await });
    };
    for begun in 1..=6 {
        spawn(&mut calls);
        let counts = only
            .until("the call is there", |counts| counts.active == begun)
            .await;
        assert_eq!(counts.open, begun.div_ceil(2), "filled one after the other");
    }
    // More wait for a stream: they neither fail nor make a fourth connection.
    for _ in 0..4 {
        spawn(&mut calls);
    }
    let waiting = timeout(Duration::from_millis(50), calls.join_next()).await;
    waiting.expect_err("nothing ends");
    assert_eq!(only.counts().active, 6);
    assert_eq!(only.counts().accepted, 3);
    only.release();
    while let Some(ended) = calls.join_next().await {
        ended.expect("no panic").expect("it ends well");
    }
    assert_eq!(only.counts().accepted, 3);
    assert_eq!(only.calls(), 10);
}

/// What is open on a removed endpoint ends as it would have; nothing new goes there.
async fn removed_endpoints_open_streams_end_normally_and_no_new_call_reaches_it(way: Way) {
    let world = World::over(way).await;
    let [leaving, staying] = backends(["leaving", "staying"]).await;
    world.service().endpoint(leaving.address()).apply();
    let mut chat = Chat::open(&world.channel).await.expect("it is served");
    assert_eq!(chat.say().await.expect("it is served"), "leaving");
    world
        .service()
        .endpoint_in(zone("b"), staying.address())
        .apply();
    until_from(&world.channel, &["staying"]).await;
    let load = Load::start(&world.channel, 4);
    load.more(20).await;

    world
        .service()
        .take_out(leaving.address())
        .apply()
        .acked()
        .await;
    load.until("calls from before are over", |seen| seen.calls > 50)
        .await;
    let calls = leaving.calls();
    load.take().assert_no_failure();
    load.more(100).await;
    assert_eq!(load.take().from("leaving"), 0);
    assert_eq!(leaving.calls(), calls);
    for _ in 0..3 {
        assert_eq!(chat.say().await.expect("the stream goes on"), "leaving");
    }
    // The grace in which it could have come back is over when the connection takes no more.
    chat.finish().await.expect("the stream ends well");
    leaving
        .until("its connection is closed", |counts| counts.open == 0)
        .await;
    load.stop().await.assert_no_failure();
}

/// Nothing of a cluster's past comes back with it: no failure, no backoff, no count.
async fn a_cluster_that_leaves_and_comes_back_is_fresh(way: Way) {
    // A pause that no test outlasts: whoever inherits it gets no connection.
    let world = World::over_with(way, |options| {
        options.connect_backoff_base = Duration::from_secs(3600);
        options.connect_backoff_max = Duration::from_secs(3600);
    })
    .await;
    let [other] = backends(["other"]).await;
    let mut flaky = Backend::refusing("flaky");
    let with_flaky = |address| {
        let service = world.service().version("flaky").weight(1);
        service.endpoint(address).split(&[("flaky", 1)]).apply()
    };
    let without_flaky = || {
        let service = world.service().remove_version("flaky");
        service.split(&[("other", 1)]).apply()
    };
    let service = world.service().version("other").weight(0);
    service.endpoint(other.address()).apply();
    with_flaky(flaky.address());
    let status = until_failure(&world.channel).await;
    assert_unavailable::<()>(Err(status), &["all 1 endpoints", "refused"]);

    without_flaky();
    world
        .control_plane
        .until("the cluster is gone", |c| {
            !c.subscriptions(Kind::Cluster)
                .contains(&cluster_name(SERVICE, "flaky"))
        })
        .await;
    until_from(&world.channel, &["other"]).await;
    flaky.open();
    with_flaky(flaky.address());
    until_from(&world.channel, &["flaky"]).await;

    // And once more, from a state in which it worked, with a call that outlives it.
    let mut chat = Chat::open(&world.channel).await.expect("it is served");
    assert_eq!(chat.say().await.expect("it is served"), "flaky");
    without_flaky();
    until_from(&world.channel, &["other"]).await;
    chat.finish().await.expect("the stream ends well");
    flaky
        .until("its connection is closed", |counts| counts.open == 0)
        .await;
    with_flaky(flaky.address());
    until_from(&world.channel, &["flaky"]).await;
    assert_eq!(spread(&world.channel, 10).await["flaky"], 10);
    // One before, for all that was called beside the stream, and one after.
    let (accepted, most) = (flaky.counts().accepted, way.connections(2) + 1);
    assert!((2..=most).contains(&accepted), "{accepted} of {most}");
}

every_way!(
    config_swap_keeps_connections,
    one_dead_endpoint_of_three_fails_no_call,
    removed_endpoints_open_streams_end_normally_and_no_new_call_reaches_it,
    a_cluster_that_leaves_and_comes_back_is_fresh,
);
every_way!(grpc and http2:
    an_endpoint_killed_hard_fails_no_call_under_a_retry_policy,
    goaway_fails_no_call,
    refused_port_that_reopens_gets_traffic_within_one_maximum_backoff,
    one_connect_in_flight,
    scale_out_at_the_peers_stream_limit,
);
