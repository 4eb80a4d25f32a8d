use std::{collections::HashMap, future::pending, net::SocketAddr};

use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::*;
use crate::{
    interop::{Method, TestServer},
    testing::{
        ClientConfigureRequest, LoadBalancerAccumulatedStatsRequest, LoadBalancerStatsRequest,
        client_configure_request::{Metadata, RpcType},
        load_balancer_stats_response::MetadataType,
        load_balancer_stats_service_client::LoadBalancerStatsServiceClient,
        xds_update_client_configure_service_client::XdsUpdateClientConfigureServiceClient,
    },
};

/// A client under way that calls test servers over tonic's own channels.
struct Running {
    client: JoinHandle<Result<(), ClientError>>,
    stop: oneshot::Sender<()>,
    driver: Channel,
}

fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

async fn start(flags: &Flags, servers: &[TestServer]) -> Running {
    let channels = servers
        .iter()
        .map(|server| channel(server.address()))
        .collect();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let driver = channel(listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel();
    let client = Client::new(flags, channels);
    let stopped = async {
        // A test that is done with its client leaves it running.
        if stopped.await.is_err() {
            pending().await
        }
    };
    let client = tokio::spawn(client.run(listener, stopped));
    Running {
        client,
        stop,
        driver,
    }
}

impl Running {
    fn stats(&self) -> LoadBalancerStatsServiceClient<Channel> {
        LoadBalancerStatsServiceClient::new(self.driver.clone())
    }

    async fn configure(&self, method: RpcType, behavior: &str, timeout_sec: i32) {
        let metadata = Metadata {
            r#type: method.into(),
            key: "rpc-behavior".into(),
            value: behavior.into(),
        };
        let types = vec![method.into()];
        let request = ClientConfigureRequest {
            types,
            metadata: vec![metadata],
            timeout_sec,
        };
        let mut service = XdsUpdateClientConfigureServiceClient::new(self.driver.clone());
        service.configure(request).await.unwrap();
    }
}

fn flags() -> Flags {
    Flags {
        qps: 200,
        ..Flags::default()
    }
}

fn next(num_rpcs: i32) -> LoadBalancerStatsRequest {
    LoadBalancerStatsRequest {
        num_rpcs,
        timeout_sec: 60,
        metadata_keys: vec![],
    }
}

#[tokio::test]
async fn drivers_are_told_where_calls_went() {
    let servers = [
        TestServer::start("host-a").await.unwrap(),
        TestServer::start("host-b").await.unwrap(),
    ];
    let flags = Flags {
        rpc: Method::ALL.to_vec(),
        ..flags()
    };
    let running = start(&flags, &servers).await;
    let request = LoadBalancerStatsRequest {
        metadata_keys: vec!["hostname".into()],
        ..next(40)
    };
    let seen = running
        .stats()
        .get_client_stats(request)
        .await
        .unwrap()
        .into_inner();

    let each = |count| HashMap::from([("host-a".into(), count), ("host-b".into(), count)]);
    assert_eq!((seen.num_failures, &seen.rpcs_by_peer), (0, &each(20)));
    for method in Method::ALL {
        assert_eq!(seen.rpcs_by_method[method.name()].rpcs_by_peer, each(10));
    }
    for (host, metadata) in &seen.metadatas_by_peer {
        assert_eq!(metadata.rpc_metadata.len(), 20);
        for call in &metadata.rpc_metadata {
            let [entry] = &call.metadata[..] else {
                panic!("{call:?}")
            };
            assert_eq!((&*entry.key, &entry.value), ("hostname", host));
            assert_eq!(entry.r#type(), MetadataType::Initial);
        }
    }

    let request = LoadBalancerAccumulatedStatsRequest {};
    let totals = running
        .stats()
        .get_client_accumulated_stats(request)
        .await
        .unwrap()
        .into_inner();
    assert!(totals.num_rpcs_succeeded_by_method["EMPTY_CALL"] >= 20);
    assert!(totals.stats_per_method["UNARY_CALL"].result[&0] >= 20);
}

#[tokio::test]
async fn drivers_change_what_is_called() {
    let servers = [TestServer::start("host").await.unwrap()];
    let running = start(&flags(), &servers).await;
    let seen = running
        .stats()
        .get_client_stats(next(5))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        seen.rpcs_by_method.keys().collect::<Vec<_>>(),
        ["UnaryCall"]
    );

    running
        .configure(RpcType::EmptyCall, "error-code-7", 0)
        .await;
    let seen = running
        .stats()
        .get_client_stats(next(5))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((seen.num_failures, seen.rpcs_by_peer.len()), (5, 0));
    let request = LoadBalancerAccumulatedStatsRequest {};
    let totals = running
        .stats()
        .get_client_accumulated_stats(request)
        .await
        .unwrap()
        .into_inner();
    let denied = Code::PermissionDenied as i32;
    assert!(totals.stats_per_method["EMPTY_CALL"].result[&denied] >= 5);
    assert_eq!(totals.num_rpcs_succeeded_by_method["EMPTY_CALL"], 0);

    let request = ClientConfigureRequest {
        timeout_sec: -3,
        ..Default::default()
    };
    let mut service = XdsUpdateClientConfigureServiceClient::new(running.driver.clone());
    assert_eq!(
        service.configure(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_watch_that_times_out_tells_what_there_is() {
    let servers = [TestServer::start("host").await.unwrap()];
    let running = start(&flags(), &servers).await;
    running.configure(RpcType::UnaryCall, "keep-open", 0).await;
    let request = LoadBalancerStatsRequest {
        timeout_sec: 1,
        ..next(1_000)
    };
    let seen = running
        .stats()
        .get_client_stats(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((seen.num_failures, seen.rpcs_by_peer.len()), (1_000, 0));
    let request = LoadBalancerStatsRequest {
        timeout_sec: -1,
        ..next(1)
    };
    let error = running.stats().get_client_stats(request).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_services_are_healthy() {
    let running = start(&flags(), &[TestServer::start("host").await.unwrap()]).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(running.driver.clone());
    for service in [
        "",
        "grpc.testing.LoadBalancerStatsService",
        "grpc.testing.XdsUpdateClientConfigureService",
    ] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let response = health.check(request).await.unwrap().into_inner();
        assert_eq!(response.status(), ServingStatus::Serving, "{service}");
    }
}

#[tokio::test]
async fn a_failed_call_ends_a_client_that_allows_none() {
    let flags = Flags {
        fail_on_failed_rpc: true,
        ..flags()
    };
    let servers = [TestServer::start("host").await.unwrap()];
    let running = start(&flags, &servers).await;
    running.stats().get_client_stats(next(5)).await.unwrap();
    running
        .configure(RpcType::UnaryCall, "error-code-9", 0)
        .await;
    let error = running.client.await.unwrap().unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("a call to UnaryCall ended with FailedPrecondition after"),
        "{text}"
    );
}

#[tokio::test]
async fn stopping_waits_for_neither_calls_nor_drivers() {
    let servers = [TestServer::start("host").await.unwrap()];
    let running = start(&flags(), &servers).await;
    running.configure(RpcType::UnaryCall, "keep-open", 0).await;
    running.stats().get_client_stats(next(0)).await.unwrap();
    let mut stats = running.stats();
    let waiting = tokio::spawn(async move { stats.get_client_stats(next(1_000)).await });
    let request = LoadBalancerStatsRequest {
        timeout_sec: 0,
        ..next(1)
    };
    running.stats().get_client_stats(request).await.unwrap();
    running.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(30), running.client)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    waiting.abort();
}
