//! Envoy's response flags, each by what it stands for: `%RESPONSE_FLAGS%` of its access log.

use mesh_core::{
    config::Kind,
    testing::{
        Corruption, cluster_name,
        envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost},
        route_name,
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    raw::{ByHand, Peer},
    *,
};

const URL: &str = "http://catalog.shop/";

/// What became of a call that nobody but its client ends.
async fn called(client: &Client) -> Error {
    within(client.get("http://catalog.shop/hang/9").send())
        .await
        .unwrap_err()
}

fn flags(error: &Error) -> Vec<&'static str> {
    error.response_flags().collect()
}

#[tokio::test]
async fn uh_nobody_is_there() {
    for protocol in PROTOCOLS {
        let server = ByHand::start(protocol).await;
        server.service().clear_endpoints().apply();
        assert_eq!(flags(&called(&server.client).await), ["UH"], "{protocol:?}");
    }
}

#[tokio::test]
async fn uf_nobody_can_be_reached() {
    for protocol in PROTOCOLS {
        let server = ByHand::start(protocol).await;
        let nowhere = mesh_tests::running::port().await.local_addr().unwrap();
        let service = server.service().clear_endpoints();
        service.endpoint(nowhere).apply();
        assert_eq!(flags(&called(&server.client).await), ["UF"], "{protocol:?}");
    }
}

/// The only connection is another's, and no more can be made.
#[tokio::test]
async fn uf_nobody_can_be_reached_while_another_request_goes_on() {
    let world = World::start(HttpProtocol::Http1).await;
    let gone = mesh_tests::running::port().await;
    let address = gone.local_addr().unwrap();
    let service = world.service().clear_endpoints();
    service.endpoint(address).apply();
    let forever = || world.client.get(URL).timeout(Duration::ZERO).send();
    let first = tokio::spawn(forever());
    let mut held = Peer(within(gone.accept()).await.unwrap().0);
    held.head().await;
    drop(gone);
    let error = within(forever()).await.unwrap_err();
    assert_eq!(flags(&error), ["UF"], "{error}");
    assert_eq!(error.endpoints_tried().len(), 1, "{error}");
    // Another endpoint takes what this one cannot.
    world.service().endpoint(address).apply().acked().await;
    for _ in 0..6 {
        let response = within(forever()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert!(!first.is_finished());
}

#[tokio::test]
async fn uo_there_is_too_much_of_it() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().max_requests(0).apply();
        assert_eq!(flags(&called(&world.client).await), ["UO"], "{protocol:?}");
    }
}

#[tokio::test]
async fn ut_it_takes_too_long() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().timeout(Duration::from_millis(50)).apply();
        assert_eq!(flags(&called(&world.client).await), ["UT"], "{protocol:?}");
    }
}

#[tokio::test]
async fn si_nothing_happens_for_too_long() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let short = Duration::from_millis(50);
        world.service().idle_timeout(short).apply();
        assert_eq!(flags(&called(&world.client).await), ["SI"], "{protocol:?}");
    }
}

#[tokio::test]
async fn nr_no_route_takes_it() {
    for protocol in PROTOCOLS {
        let server = ByHand::start(protocol).await;
        // The route configuration of the service, without a route.
        server.control_plane.set(&RouteConfiguration {
            name: route_name(TARGET),
            virtual_hosts: vec![VirtualHost {
                name: "all".to_owned(),
                domains: vec!["*".to_owned()],
                ..VirtualHost::default()
            }],
            ..RouteConfiguration::default()
        });
        assert_eq!(flags(&called(&server.client).await), ["NR"], "{protocol:?}");
    }
}

#[tokio::test]
async fn nc_its_cluster_is_not_there() {
    for protocol in PROTOCOLS {
        let server = ByHand::start(protocol).await;
        let name = cluster_name(TARGET, "");
        let control_plane = &server.control_plane;
        control_plane.corrupt(Kind::Cluster, &name, Corruption::WrongType);
        assert_eq!(flags(&called(&server.client).await), ["NC"], "{protocol:?}");
    }
}

#[tokio::test]
async fn do_the_control_plane_orders_so() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().drop_percent("all", 100.0).apply();
        assert_eq!(flags(&called(&world.client).await), ["DO"], "{protocol:?}");
    }
}

#[tokio::test]
async fn uc_the_connection_ends() {
    let server = ByHand::start(HttpProtocol::Http1).await;
    let call = tokio::spawn(server.client.get(URL).send());
    server.http1().await.head().await;
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(flags(&error), ["UC"]);

    let server = ByHand::start(HttpProtocol::Http2).await;
    let call = tokio::spawn(server.client.get(URL).send());
    drop(server.http2().await);
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(flags(&error), ["UC"]);
}

/// HTTP/1.1 cannot reset a request alone.
#[tokio::test]
async fn ur_the_server_resets_it() {
    let server = ByHand::start(HttpProtocol::Http2).await;
    let call = tokio::spawn(server.client.get(URL).send());
    let mut stream = server.http2().await;
    stream.respond.send_reset(h2::Reason::INTERNAL_ERROR);
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(flags(&error), ["UR"]);
}

/// Reads frames up to the HEADERS of a request.
async fn request_over_http2(peer: &mut Peer) {
    let mut preface = [0; 24];
    within(peer.0.read_exact(&mut preface)).await.unwrap();
    loop {
        let mut head = [0; 9];
        within(peer.0.read_exact(&mut head)).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        within(peer.0.read_exact(&mut payload)).await.unwrap();
        if head[3] == 1 {
            return;
        }
    }
}

#[tokio::test]
async fn upe_what_comes_is_not_http() {
    let server = ByHand::start(HttpProtocol::Http1).await;
    let call = tokio::spawn(server.client.get(URL).send());
    let mut peer = server.http1().await;
    peer.head().await;
    peer.write("220 smtp.example.com ESMTP\r\n\r\n").await;
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(flags(&error), ["UPE"]);
    assert_eq!(error.status(), StatusCode::BAD_GATEWAY);

    let server = ByHand::start(HttpProtocol::Http2).await;
    let call = tokio::spawn(server.client.get(URL).send());
    let mut peer = server.http1().await;
    // SETTINGS, and once the request has come DATA of no stream (RFC 9113 section 6.1).
    peer.0
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    request_over_http2(&mut peer).await;
    peer.0
        .write_all(&[0, 0, 1, 0, 0, 0, 0, 0, 0, b'x'])
        .await
        .unwrap();
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(flags(&error), ["UPE"]);
    assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn lr_the_request_itself_fails() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        let parts = [Ok(Bytes::from("some")), Err("no more")];
        let body = Body::from_stream(futures_util::stream::iter(parts));
        let request = Request::post(URL).body(body).unwrap();
        let error = within(world.client.request(request)).await.unwrap_err();
        assert_eq!(flags(&error), ["LR"], "{protocol:?}");
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn urx_and_it_was_tried_often_enough() {
    let retry = || {
        let quick = Duration::from_millis(1);
        Retry::conditions(["reset", "5xx"]).backoff(quick, quick)
    };
    let server = ByHand::start(HttpProtocol::Http1).await;
    server.service().retry(retry()).apply();
    let call = tokio::spawn(server.client.get(URL).send());
    for _ in 0..2 {
        server.http1().await.head().await;
    }
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(flags(&error), ["UC", "URX"]);

    let server = ByHand::start(HttpProtocol::Http2).await;
    server.service().retry(retry()).apply();
    let call = tokio::spawn(server.client.get(URL).send());
    for _ in 0..2 {
        drop(server.http2().await);
    }
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(flags(&error), ["UC", "URX"]);
    // A response that failed has it in its extensions.
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().retry(retry()).apply();
        let get = world.client.get("http://catalog.shop/fail/9/503");
        let response = within(get.send()).await.unwrap();
        let told = response.extensions().get::<NoRetry>();
        assert_eq!(told.map(|why| why.response_flag()), Some("URX"));
    }
}

/// Where there is nobody to be told, and where it is a response, the flag is recorded.
#[tokio::test]
async fn dc_the_caller_gives_up_and_fi_a_fault_was_injected() {
    for protocol in PROTOCOLS {
        let server = ByHand::start(protocol).await;
        let call = tokio::spawn(server.client.get(URL).send());
        let (mut one, mut two) = (None, None);
        match protocol {
            HttpProtocol::Http2 => two = Some(server.http2().await),
            _ => _ = one.insert(server.http1().await).head().await,
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        drop((one, two));
        let recorded = server.mesh.metrics().totals();
        assert_eq!(recorded.finished(), 1, "{protocol:?}");
        let causes: Vec<_> = recorded.causes().collect();
        assert_eq!(causes, [(Cause::Cancelled, 1)], "{protocol:?}");

        let server = ByHand::start(protocol).await;
        server
            .service()
            .http_filter("fault", &unavailable())
            .apply();
        let response = within(server.client.get(URL).send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let recorded = server.mesh.metrics().totals();
        let causes: Vec<_> = recorded.causes().collect();
        assert_eq!(causes, [(Cause::Fault, 1)], "{protocol:?}");
    }
    assert_eq!(Cause::Cancelled.response_flag(), Some("DC"));
    assert_eq!(Cause::Fault.response_flag(), Some("FI"));
}
