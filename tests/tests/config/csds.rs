//! The client status discovery service (gRFC A40): what a tool is told of a client.

use std::time::Duration;

use envoy_types::pb::envoy::{
    admin::v3::ClientResourceStatus,
    service::status::v3::{
        ClientConfig, ClientStatusRequest, client_config::GenericXdsConfig,
        client_status_discovery_service_client::ClientStatusDiscoveryServiceClient,
    },
};
use mesh_core::testing::Route;
use mesh_tests::{
    load::until_from,
    running::{Running, alone, port},
    way::Way,
};
use mesh_tonic::{Csds, Server, ServerTls};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{NODE, SERVICE, World, assert_text, backends};

/// The service itself, without a connection.
type Tool = ClientStatusDiscoveryServiceClient<Csds>;

async fn fetch(tool: &mut Tool) -> ClientConfig {
    let request = ClientStatusRequest::default();
    let response = tool.fetch_client_status(request).await.unwrap();
    let [config] = <[_; 1]>::try_from(response.into_inner().config).expect("one control plane");
    config
}

fn of_kind(config: &ClientConfig, kind: &str) -> Vec<GenericXdsConfig> {
    let all = config.generic_xds_configs.iter();
    all.filter(|told| told.type_url.ends_with(kind))
        .cloned()
        .collect()
}

fn only(config: &ClientConfig, kind: &str) -> GenericXdsConfig {
    let [told] = <[_; 1]>::try_from(of_kind(config, kind)).expect("one of the kind");
    told
}

#[tokio::test]
async fn states_versions_and_contents_are_told() {
    let world = World::over(Way::Grpc).await;
    let mut tool = Tool::new(Csds::new(&world.mesh));
    let [server] = backends(["one"]).await;
    world
        .service()
        .version("v1")
        .endpoint(server.address())
        .apply();
    until_from(&world.channel, &["one"]).await;

    let config = fetch(&mut tool).await;
    let node = config.node.as_ref().expect("who it is");
    assert_eq!(node.id, NODE);
    assert!(!node.client_features.is_empty());
    assert_eq!(config.client_scope, "");
    assert_eq!(config.generic_xds_configs.len(), 4);
    for told in &config.generic_xds_configs {
        assert_eq!(told.client_status(), ClientResourceStatus::Acked);
        assert!(!told.version_info.is_empty());
        assert_eq!(told.error_state, None);
        assert!(told.last_updated.is_some());
        let contents = told.xds_config.as_ref().expect("the contents");
        assert_eq!(contents.type_url, told.type_url);
    }

    // Refused: the good one is in force, and both versions are told.
    let kind = "RouteConfiguration";
    let good = only(&config, kind);
    let nack = world
        .service()
        .route(Route::regex("("))
        .apply()
        .nacked()
        .await;
    let refused = only(&fetch(&mut tool).await, kind);
    assert_eq!(refused.client_status(), ClientResourceStatus::Nacked);
    assert_eq!(refused.version_info, good.version_info);
    assert_eq!(refused.xds_config, good.xds_config);
    let error = refused.error_state.expect("why");
    assert_ne!(error.version_info, good.version_info);
    assert_text(&nack.message, &[&error.details]);

    // Repaired, with a version of its own.
    world.service().clear_routes().apply().acked().await;
    let told = only(&fetch(&mut tool).await, kind);
    assert_eq!(told.client_status(), ClientResourceStatus::Acked);
    assert_eq!(told.error_state, None);
    assert_ne!(told.version_info, error.version_info);
    assert_ne!(told.version_info, good.version_info);
    assert_eq!(told.xds_config, good.xds_config);
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let world = World::over_with(Way::Grpc, |options| {
        options.resource_timeout = Duration::from_millis(50)
    })
    .await;
    let mut tool = Tool::new(Csds::new(&world.mesh));
    world.mesh.ready().await.expect_err("there is none");
    let told = only(&fetch(&mut tool).await, "Listener");
    assert_eq!(told.client_status(), ClientResourceStatus::DoesNotExist);
    assert_eq!((&*told.name, &*told.version_info), (SERVICE, ""));
    assert_eq!(told.xds_config, None);
}

/// Over a connection, from a server of the mesh; one answer for each request of a stream.
#[tokio::test]
async fn a_server_answers_over_either_method() {
    let world = World::over(Way::Grpc).await;
    let [backend] = backends(["one"]).await;
    world
        .service()
        .version("v1")
        .endpoint(backend.address())
        .apply();
    until_from(&world.channel, &["one"]).await;
    let server = Server::new(&alone().await)
        .add_service(Csds::new(&world.mesh))
        .tls(ServerTls::Plaintext);
    let running = Running::start(server, port().await).await;
    let uri = format!("http://{}", running.address);
    let mut tool = ClientStatusDiscoveryServiceClient::connect(uri)
        .await
        .unwrap();

    let fetched = tool
        .fetch_client_status(ClientStatusRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(fetched.config[0].generic_xds_configs.len(), 4);

    let (requests, stream) = tokio::sync::mpsc::channel(1);
    let answers = tool.stream_client_status(ReceiverStream::new(stream)).await;
    let mut answers = answers.unwrap().into_inner();
    requests.send(ClientStatusRequest::default()).await.unwrap();
    assert_eq!(answers.message().await.unwrap(), Some(fetched));
    let brief = ClientStatusRequest {
        exclude_resource_contents: true,
        ..Default::default()
    };
    requests.send(brief).await.unwrap();
    let answer = answers.message().await.unwrap().expect("an answer");
    let told = &answer.config[0].generic_xds_configs;
    assert!(told.iter().all(|told| told.xds_config.is_none()));
    // What cannot be answered ends the stream.
    let choosy = ClientStatusRequest {
        node_matchers: vec![Default::default()],
        ..Default::default()
    };
    requests.send(choosy.clone()).await.unwrap();
    let refused = answers.message().await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_text(refused.message(), &["node_matchers"]);

    let refused = tool.fetch_client_status(choosy).await;
    assert_eq!(refused.expect_err("refused").code(), Code::InvalidArgument);
}
