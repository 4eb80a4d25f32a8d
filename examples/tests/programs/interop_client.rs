//! The interop client as its drivers run it: a program of its own, configured by the environment.
//! The cases are those of gRPC's `doc/xds-test-descriptions.md`.

use std::{collections::HashMap, time::Duration};

use mesh_core::testing::{ControlPlane, Route};
use mesh_examples::{
    interop::TestServer,
    testing::{
        ClientConfigureRequest, LoadBalancerAccumulatedStatsRequest,
        LoadBalancerAccumulatedStatsResponse, LoadBalancerStatsRequest, LoadBalancerStatsResponse,
        client_configure_request::{Metadata, RpcType},
        load_balancer_stats_service_client::LoadBalancerStatsServiceClient,
        xds_update_client_configure_service_client::XdsUpdateClientConfigureServiceClient,
    },
};
use tokio::time::Instant;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::support::{PATIENCE, Program, fails};

const SERVICE: &str = "interop.test:8080";
const BOTH: &str = "--rpc=EmptyCall,UnaryCall";

/// The client program under way, and what a driver needs to talk to it.
struct Client {
    program: Program,
    stats: LoadBalancerStatsServiceClient<Channel>,
    configure: XdsUpdateClientConfigureServiceClient<Channel>,
    channel: Channel,
}

impl Client {
    async fn start(control_plane: &ControlPlane, flags: &[&str]) -> Self {
        let target = format!("--server=xds:///{SERVICE}");
        let always = [
            &*target,
            "--qps=100",
            "--stats_port=0",
            "--secure_mode=true",
        ];
        let flags: Vec<_> = always.iter().chain(flags).copied().collect();
        let bootstrap = control_plane.bootstrap_json("interop");
        let program = Program::start("interop_client", &bootstrap, &flags).await;
        let port = program.port("]:");
        let uri = format!("http://127.0.0.1:{port}");
        let channel = Endpoint::from_shared(uri).unwrap().connect_lazy();
        Self {
            program,
            stats: LoadBalancerStatsServiceClient::new(channel.clone()),
            configure: XdsUpdateClientConfigureServiceClient::new(channel.clone()),
            channel,
        }
    }

    /// Where the next `num_rpcs` calls go.
    async fn next(&mut self, num_rpcs: i32) -> LoadBalancerStatsResponse {
        let request = LoadBalancerStatsRequest {
            num_rpcs,
            timeout_sec: 1,
            metadata_keys: vec![],
        };
        self.stats
            .get_client_stats(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Waits for a run of 20 calls that goes to these peers alone, by method.
    async fn sends(&mut self, expected: [(&str, &[&str]); 2]) {
        let expected = expected.map(|(method, peers)| (method, peers.to_vec()));
        let start = Instant::now();
        loop {
            let seen = self.next(20).await;
            let found = expected.clone().map(|(method, _)| {
                let peers = seen
                    .rpcs_by_method
                    .get(method)
                    .map(|seen| &seen.rpcs_by_peer);
                let mut peers: Vec<&str> = peers
                    .into_iter()
                    .flat_map(HashMap::keys)
                    .map(String::as_str)
                    .collect();
                peers.sort_unstable();
                (method, peers)
            });
            if found == expected && seen.num_failures == 0 {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "expected {expected:?}, but saw {seen:?}"
            );
        }
    }

    /// Waits for totals that fit.
    async fn totals(
        &mut self,
        what: &str,
        fit: impl Fn(&LoadBalancerAccumulatedStatsResponse) -> bool,
    ) {
        let start = Instant::now();
        loop {
            let request = LoadBalancerAccumulatedStatsRequest {};
            let response = self
                .stats
                .get_client_accumulated_stats(request)
                .await
                .unwrap();
            let totals = response.into_inner();
            if fit(&totals) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {totals:?}");
            // The pace of the calls themselves.
            self.next(5).await;
        }
    }

    async fn configure(
        &mut self,
        types: &[RpcType],
        metadata: &[(RpcType, &str, &str)],
        timeout_sec: i32,
    ) {
        let types = types.iter().map(|&rpc_type| rpc_type.into()).collect();
        let metadata = metadata.iter().map(|&(rpc_type, key, value)| Metadata {
            r#type: rpc_type.into(),
            key: key.into(),
            value: value.into(),
        });
        let request = ClientConfigureRequest {
            types,
            metadata: metadata.collect(),
            timeout_sec,
        };
        self.configure.configure(request).await.unwrap();
    }
}

fn results(totals: &LoadBalancerAccumulatedStatsResponse, method: &str, code: Code) -> i32 {
    let stats = totals.stats_per_method.get(method);
    stats
        .and_then(|stats| stats.result.get(&(code as i32)))
        .copied()
        .unwrap_or_default()
}

fn in_flight(totals: &LoadBalancerAccumulatedStatsResponse, method: &str) -> i32 {
    let stats = totals
        .stats_per_method
        .get(method)
        .cloned()
        .unwrap_or_default();
    stats.rpcs_started - stats.result.values().sum::<i32>()
}

#[tokio::test]
async fn round_robin_and_a_backend_that_goes() {
    let control_plane = ControlPlane::start().await;
    let [a, b] = [
        TestServer::start("a").await.unwrap(),
        TestServer::start("b").await.unwrap(),
    ];
    control_plane
        .service(SERVICE)
        .endpoint(a.address())
        .endpoint(b.address())
        .apply();
    let mut client = Client::start(&control_plane, &[BOTH, "--num_channels=2"]).await;
    client
        .sends([("EmptyCall", &["a", "b"]), ("UnaryCall", &["a", "b"])])
        .await;

    // Two channels, each in its own turn: neighbours in time may pass each other.
    let seen = client.next(100).await;
    assert_eq!(seen.num_failures, 0, "{seen:?}");
    for peer in ["a", "b"] {
        assert!((48..=52).contains(&seen.rpcs_by_peer[peer]), "{seen:?}");
    }

    control_plane
        .service(SERVICE)
        .take_out(b.address())
        .apply()
        .acked()
        .await;
    client
        .sends([("EmptyCall", &["a"]), ("UnaryCall", &["a"])])
        .await;
    let totals = |totals: &LoadBalancerAccumulatedStatsResponse| {
        totals
            .num_rpcs_failed_by_method
            .values()
            .all(|&failed| failed == 0)
    };
    client.totals("no call failed", totals).await;
}

#[tokio::test]
async fn paths_and_headers_choose_the_backend() {
    let control_plane = ControlPlane::start().await;
    let [a, b] = [
        TestServer::start("a").await.unwrap(),
        TestServer::start("b").await.unwrap(),
    ];
    let route = |route: Option<Route>| {
        let service = control_plane.service(SERVICE).clear_routes();
        let service = match route {
            Some(route) => service.route(route.to("other")),
            None => service,
        };
        service.apply()
    };
    control_plane
        .service(SERVICE)
        .version("default")
        .endpoint(a.address())
        .version("other")
        .weight(0)
        .endpoint(b.address())
        .apply();
    let metadata = "--metadata=EmptyCall:xds_md:empty_ytpme,UnaryCall:xds_md:unary_yranu,\
                    UnaryCall:xds_md_numeric:159";
    let mut client = Client::start(&control_plane, &[BOTH, metadata]).await;
    client
        .sends([("EmptyCall", &["a"]), ("UnaryCall", &["a"])])
        .await;

    for rule in [
        Route::path("/grpc.testing.TestService/EmptyCall"),
        Route::prefix("/").header("xds_md", "empty_ytpme"),
        Route::prefix("/").header_regex("xds_md", "^em.*me$"),
        Route::prefix("/").header_present("xds_md_numeric", false),
    ] {
        route(Some(rule)).acked().await;
        client
            .sends([("EmptyCall", &["b"]), ("UnaryCall", &["a"])])
            .await;
        route(None).acked().await;
        client
            .sends([("EmptyCall", &["a"]), ("UnaryCall", &["a"])])
            .await;
    }
    for rule in [
        Route::prefix("/grpc.testing.TestService/Unary"),
        Route::regex(r"^\/.*\/UnaryCall$"),
        Route::prefix("/").header_prefix("xds_md", "un"),
        Route::prefix("/").header_present("xds_md_numeric", true),
    ] {
        route(Some(rule)).acked().await;
        client
            .sends([("EmptyCall", &["a"]), ("UnaryCall", &["b"])])
            .await;
        route(None).acked().await;
        client
            .sends([("EmptyCall", &["a"]), ("UnaryCall", &["a"])])
            .await;
    }
}

#[tokio::test]
async fn circuit_breakers_bound_calls_in_flight() {
    let control_plane = ControlPlane::start().await;
    let server = TestServer::start("a").await.unwrap();
    let service = || control_plane.service(SERVICE);
    service().max_requests(5).endpoint(server.address()).apply();
    let mut client = Client::start(
        &control_plane,
        &["--metadata=UnaryCall:rpc-behavior:keep-open"],
    )
    .await;
    let full = |limit| {
        move |totals: &LoadBalancerAccumulatedStatsResponse| {
            in_flight(totals, "UNARY_CALL") == limit
                && results(totals, "UNARY_CALL", Code::Unavailable) >= 10
        }
    };
    client.totals("5 in flight", full(5)).await;
    service().max_requests(8).apply().acked().await;
    client.totals("8 in flight", full(8)).await;
}

#[tokio::test]
async fn the_route_and_the_caller_limit_the_time_of_a_call() {
    let control_plane = ControlPlane::start().await;
    let server = TestServer::start("a").await.unwrap();
    let limit = Duration::from_millis(200);
    control_plane
        .service(SERVICE)
        .version("only")
        .endpoint(server.address())
        .route(
            Route::path("/grpc.testing.TestService/UnaryCall")
                .max_stream_duration(limit)
                .to("only"),
        )
        .apply();
    let mut client = Client::start(&control_plane, &[BOTH]).await;
    client
        .sends([("EmptyCall", &["a"]), ("UnaryCall", &["a"])])
        .await;

    let hang = |rpc_type| (rpc_type, "rpc-behavior", "keep-open");
    let both = [RpcType::EmptyCall, RpcType::UnaryCall];
    client
        .configure(&both, &[hang(RpcType::UnaryCall)], 0)
        .await;
    let late = |method| {
        move |totals: &LoadBalancerAccumulatedStatsResponse| {
            results(totals, method, Code::DeadlineExceeded) >= 10
        }
    };
    client.totals("the route's limit", late("UNARY_CALL")).await;
    let none_failed = |totals: &LoadBalancerAccumulatedStatsResponse| {
        totals.num_rpcs_failed_by_method["EMPTY_CALL"] == 0
    };
    client.totals("another route", none_failed).await;

    client
        .configure(&[RpcType::EmptyCall], &[hang(RpcType::EmptyCall)], 1)
        .await;
    client
        .totals("the caller's limit", late("EMPTY_CALL"))
        .await;
}

#[cfg(unix)]
/// The answer of the client status discovery service, as far as it is of interest here.
#[derive(prost::Message)]
struct Told {
    #[prost(message, repeated, tag = "1")]
    config: Vec<ToldConfig>,
}

#[derive(prost::Message)]
struct ToldConfig {
    #[prost(message, repeated, tag = "3")]
    resources: Vec<ToldResource>,
}

#[derive(prost::Message)]
struct ToldResource {
    #[prost(string, tag = "2")]
    name: String,
    /// 3: accepted.
    #[prost(int32, tag = "7")]
    status: i32,
}

#[tokio::test]
async fn tools_are_told_what_it_has() {
    let control_plane = ControlPlane::start().await;
    let backend = TestServer::start("one").await.unwrap();
    let service = control_plane.service(SERVICE);
    service.endpoint(backend.address()).apply();
    let mut client = Client::start(&control_plane, &[BOTH]).await;
    client
        .sends([("EmptyCall", &["one"]), ("UnaryCall", &["one"])])
        .await;

    let mut tool = tonic::client::Grpc::new(client.channel.clone());
    tool.ready().await.unwrap();
    let path = "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus";
    let codec = tonic_prost::ProstCodec::<(), Told>::default();
    let told = tool
        .unary(tonic::Request::new(()), path.parse().unwrap(), codec)
        .await
        .unwrap()
        .into_inner();
    let resources = &told.config[0].resources;
    assert_eq!(resources.len(), 4);
    assert!(resources.iter().any(|told| told.name == SERVICE));
    assert!(resources.iter().all(|told| told.status == 3), "{told:?}");
}

#[tokio::test]
async fn a_signal_ends_it_in_good_order() {
    let control_plane = ControlPlane::start().await;
    let server = TestServer::start("a").await.unwrap();
    control_plane
        .service(SERVICE)
        .endpoint(server.address())
        .apply();
    for signal in ["-TERM", "-INT"] {
        let mut client = Client::start(&control_plane, &["--print_response"]).await;
        client.next(5).await;
        let status = client.program.end(signal).await;
        assert_eq!(status, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_command_line_that_is_not_valid_is_told() {
    for (arguments, code, text) in [
        (
            &["--server=xds:///s", "--nope"][..],
            2,
            "unknown flag --nope",
        ),
        (&[], 2, "--server is required"),
        (&["--server=xds:///s"], 1, "GRPC_XDS_BOOTSTRAP"),
        (&["--help"], 0, ""),
    ] {
        let (status, error) = fails("interop_client", arguments).await;
        assert_eq!(status, Some(code), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
}
