//! The reference's list "Server" (grpc-go), as far as it is about listeners and routes. Its cases
//! of one decision each are in `mesh-core/src/resolve/inbound/deps/tests.rs` as well.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use envoy_types::pb::envoy::{
    config::{
        core::v3::CidrRange,
        listener::v3::{FilterChain, FilterChainMatch, Listener},
        route::v3::{RouteConfiguration, route_action::ClusterSpecifier},
    },
    extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier,
};
use mesh_core::{
    Mesh,
    bootstrap::{Bootstrap, ServerConfig, ServerFeatures},
    config::Kind,
    control::SourceErrorKind,
    testing::{ControlPlane, Corruption, route_name, server_listener_name},
};
use mesh_tests::{
    eventually,
    fixture::within,
    pb::echo_client::EchoClient,
    running::{Running, hello, port},
    secured::echo_server,
    xds,
};
use mesh_tonic::ServingMode;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tonic::{Code, Status, transport::Channel};

/// A server in plaintext, under a control plane.
struct World {
    control_plane: ControlPlane,
    mesh: Mesh,
    running: Running,
}

impl World {
    /// With what the control plane says of its address.
    async fn start(push: impl FnOnce(&ControlPlane, SocketAddr)) -> Self {
        Self::with(ServerFeatures::default(), port().await, push).await
    }

    async fn with(
        mut features: ServerFeatures,
        listener: TcpListener,
        push: impl FnOnce(&ControlPlane, SocketAddr),
    ) -> Self {
        let control_plane = ControlPlane::start().await;
        push(&control_plane, listener.local_addr().unwrap());
        features.delta = control_plane.features().delta;
        let server = ServerConfig::insecure(control_plane.address().unwrap().to_string());
        let bootstrap = Bootstrap::builder()
            .server(server.features(features))
            .node_id("server")
            .server_listener_template("server/%s");
        let mesh = Mesh::builder()
            .bootstrap(bootstrap.build().unwrap())
            .options(|options| options.resource_timeout = Duration::from_millis(500))
            .build()
            .await
            .unwrap();
        let running = Running::start(echo_server(&mesh), listener).await;
        Self {
            control_plane,
            mesh,
            running,
        }
    }

    fn server(&self) -> mesh_core::testing::ServerListener {
        self.control_plane.server(self.running.address)
    }

    /// The name of its listener.
    fn name(&self) -> String {
        server_listener_name(self.running.address)
    }

    /// Why it does not serve.
    async fn refuses(&mut self) -> SourceErrorKind {
        let refuses = |mode: &ServingMode| matches!(mode, ServingMode::NotServing(_));
        match self.running.until(refuses).await {
            ServingMode::NotServing(error) => error.kind,
            mode => panic!("{mode:?}"),
        }
    }

    async fn serves(&mut self) {
        self.running
            .until(|mode| *mode == ServingMode::Serving)
            .await;
        call(&mut self.running.client().await).await.unwrap();
    }

    /// Calls on one connection until one ends with this code, and what it says.
    async fn until_code(&self, client: &mut EchoClient<Channel>, code: Code) -> Status {
        let found = async {
            loop {
                match call(client).await {
                    Err(status) if status.code() == code => return status,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        within(found).await
    }
}

async fn call(client: &mut EchoClient<Channel>) -> Result<(), Status> {
    within(client.unary(hello())).await.map(drop)
}

fn gives_up() -> ServerFeatures {
    let mut features = ServerFeatures::default();
    features.fail_on_data_errors = true;
    features
}

fn plaintext(control_plane: &ControlPlane, address: SocketAddr) {
    control_plane.server(address).apply();
}

/// Routes of this name that serve all.
fn all_served(name: &str) -> RouteConfiguration {
    xds::routes(name, "*", vec![xds::served("")])
}

fn inline(routes: RouteConfiguration) -> FilterChain {
    xds::server_chain(Vec::new(), RouteSpecifier::RouteConfig(routes))
}

/// ServingModeChanges_SingleServer, ListenerResourceRemoved,
/// ListenerResourceDeletionOnServerNotIgnored.
#[tokio::test]
async fn a_listener_that_comes_and_goes() {
    let listener = port().await;
    let mut world = World::with(gives_up(), listener, plaintext).await;
    world.serves().await;
    for _ in 0..3 {
        world.server().remove();
        assert_eq!(world.refuses().await, SourceErrorKind::DoesNotExist);
        // What there was is drained; what comes is closed without a byte.
        let gone = || world.mesh.connections().is_empty().then_some(());
        eventually(gone, || "its connections are drained".to_owned()).await;
        let mut io = TcpStream::connect(world.running.address).await.unwrap();
        let mut got = Vec::new();
        let _ = within(io.read_to_end(&mut got)).await;
        assert!(got.is_empty());
        assert!(world.mesh.ready().await.is_err());
        world.server().apply();
        world.serves().await;
        world.mesh.ready().await.unwrap();
    }
}

/// Nobody has told the control plane of this server yet, as istiod before it knows the port.
#[tokio::test]
async fn a_listener_that_is_never_sent() {
    let mut world = World::start(|_, _| {}).await;
    let told = match mesh_tests::is_delta() {
        true => SourceErrorKind::DoesNotExist,
        false => SourceErrorKind::NotSent,
    };
    assert_eq!(world.refuses().await, told);
    let mut io = TcpStream::connect(world.running.address).await.unwrap();
    let mut got = Vec::new();
    let _ = within(io.read_to_end(&mut got)).await;
    assert!(got.is_empty());
    world.server().apply();
    world.serves().await;
}

/// ListenerResourceDeletionOnServerIgnored: unless the control plane's entry says otherwise, what
/// was there stays (gRFC A88).
#[tokio::test]
async fn a_listener_that_is_removed_stays_in_force() {
    let mut world = World::start(plaintext).await;
    world.serves().await;
    let mut client = world.running.client().await;
    world.server().remove().acked().await;
    let other = ([127, 0, 0, 1], 1).into();
    world.control_plane.server(other).apply();
    for _ in 0..10 {
        call(&mut client).await.unwrap();
    }
    world.serves().await;
}

/// ServingModeChanges_MultipleServers: each for itself.
#[tokio::test]
async fn servers_of_one_process_change_each_for_itself() {
    let mut world = World::with(gives_up(), port().await, plaintext).await;
    let listener = port().await;
    let other = listener.local_addr().unwrap();
    world.control_plane.server(other).apply();
    let mut running = Running::start(echo_server(&world.mesh), listener).await;
    world.serves().await;
    let mut client = running.client().await;
    call(&mut client).await.unwrap();

    world.server().remove();
    world.refuses().await;
    call(&mut client).await.unwrap();
    world.server().apply();
    world.control_plane.server(other).remove();
    world.serves().await;
    running
        .until(|mode| matches!(mode, ServingMode::NotServing(_)))
        .await;
    world.serves().await;
}

/// ClientSideListenerReceivedOnServer.
#[tokio::test]
async fn a_listener_for_clients_is_not_served() {
    let mut world = World::start(|control_plane, address| {
        let name = server_listener_name(address);
        control_plane.set(&xds::inline_listener(&name, all_served("routes")));
    })
    .await;
    assert_eq!(world.refuses().await, SourceErrorKind::Invalid);
    world.server().apply();
    world.serves().await;
}

/// MismatchedAddressListener.
#[tokio::test]
async fn a_listener_of_another_address_is_not_served() {
    let mut world = World::start(|control_plane, address| {
        let name = server_listener_name(address);
        let other = SocketAddr::new(address.ip(), address.port() ^ 1);
        let chains = vec![inline(all_served("routes"))];
        control_plane.set(&xds::server_listener(&name, other, chains));
    })
    .await;
    assert_eq!(world.refuses().await, SourceErrorKind::Invalid);
    world.server().apply();
    world.serves().await;
}

/// ListenerMatchWithWildcardPort: a server on all addresses is asked for by that name, and takes
/// connections to each of them.
#[tokio::test]
async fn a_server_on_all_addresses() {
    let any = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let mut world = World::with(ServerFeatures::default(), any, plaintext).await;
    world
        .running
        .until(|mode| *mode == ServingMode::Serving)
        .await;
    let port = world.running.address.port();
    for ip in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        let uri = format!("http://{}", SocketAddr::from((ip, port)));
        let mut client = EchoClient::connect(uri).await.unwrap();
        call(&mut client).await.unwrap();
    }
}

/// RedundantUpdateSuppression: connections stay, and nobody is told anything.
#[tokio::test]
async fn an_update_that_changes_nothing() {
    let world = World::start(plaintext).await;
    let mut client = world.running.client().await;
    call(&mut client).await.unwrap();
    let before = world.mesh.connections().list()[0].id;
    let name = world.name();
    for round in 0..5 {
        // Another resource, of the same meaning.
        let mut listener = xds::server_listener(
            &name,
            world.running.address,
            vec![xds::server_chain(Vec::new(), xds::rds(&route_name(&name)))],
        );
        listener.stat_prefix = format!("round {round}");
        world.control_plane.set(&listener).acked().await;
        call(&mut client).await.unwrap();
    }
    let now: Vec<_> = world.mesh.connections().list();
    assert_eq!(now.iter().map(|one| one.id).collect::<Vec<_>>(), [before]);
}

/// RouteConfiguration_ResourceNotFound: the server serves, and its requests fail with the reason.
#[tokio::test]
async fn routes_that_are_not_there() {
    let mut world = World::start(|control_plane, address| {
        let name = server_listener_name(address);
        let chain = xds::server_chain(Vec::new(), xds::rds("nowhere"));
        control_plane.set(&xds::server_listener(&name, address, vec![chain]));
    })
    .await;
    world
        .running
        .until(|mode| *mode == ServingMode::Serving)
        .await;
    let mut client = world.running.client().await;
    let status = call(&mut client).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    world.control_plane.set(&all_served("nowhere"));
    within(async { while call(&mut client).await.is_err() {} }).await;
    assert_eq!(world.mesh.connections().len(), 1, "the connection stays");
}

/// RouteConfiguration_ResourceNACK: with routes that were good, those stay; without, requests fail.
#[tokio::test]
async fn routes_that_cannot_be_read() {
    let world = World::start(plaintext).await;
    let mut client = world.running.client().await;
    call(&mut client).await.unwrap();
    let routes = route_name(&world.name());
    let bad = world
        .control_plane
        .corrupt(Kind::Route, &routes, Corruption::Truncated);
    bad.nacked().await;
    call(&mut client).await.unwrap();

    let world = World::start(|control_plane, address| {
        control_plane.server(address).apply();
        let routes = route_name(&server_listener_name(address));
        control_plane.corrupt(Kind::Route, &routes, Corruption::Truncated);
    })
    .await;
    let mut client = world.running.client().await;
    let status = call(&mut client).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let routes = route_name(&world.name());
    world.control_plane.repair(Kind::Route, &routes);
    within(async { while call(&mut client).await.is_err() {} }).await;
}

/// MultipleRouteConfigurations: each chain has its own, and a change of one reaches its
/// connections alone.
#[tokio::test]
async fn chains_with_routes_of_their_own() {
    fn listener(name: &str, at: SocketAddr) -> Listener {
        let chain = |ip: &str, routes| FilterChain {
            filter_chain_match: Some(FilterChainMatch {
                prefix_ranges: vec![CidrRange {
                    address_prefix: ip.to_owned(),
                    prefix_len: Some(xds::uint32(32)),
                }],
                ..FilterChainMatch::default()
            }),
            ..xds::server_chain(Vec::new(), xds::rds(routes))
        };
        let chains = vec![chain("127.0.0.1", "one"), chain("127.0.0.2", "two")];
        xds::server_listener(name, at, chains)
    }
    let any = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let mut world = World::with(ServerFeatures::default(), any, |control_plane, address| {
        control_plane.set(&all_served("one"));
        control_plane.set(&xds::routes("two", "*", vec![xds::served("/nobody")]));
        control_plane.set(&listener(&server_listener_name(address), address));
    })
    .await;
    world
        .running
        .until(|mode| *mode == ServingMode::Serving)
        .await;
    let port = world.running.address.port();
    let client = async |ip: [u8; 4]| {
        let uri = format!("http://{}", SocketAddr::from((ip, port)));
        EchoClient::connect(uri).await.unwrap()
    };
    let (mut one, mut two) = (client([127, 0, 0, 1]).await, client([127, 0, 0, 2]).await);
    call(&mut one).await.unwrap();
    assert_eq!(call(&mut two).await.unwrap_err().code(), Code::Unavailable);
    world.control_plane.set(&all_served("two"));
    within(async { while call(&mut two).await.is_err() {} }).await;
    world
        .control_plane
        .set(&xds::routes("one", "*", vec![xds::served("/nobody")]));
    world.until_code(&mut one, Code::Unavailable).await;
    call(&mut two).await.unwrap();
    // No chain is for this address.
    let uri = format!("http://{}", SocketAddr::from(([127, 0, 0, 3], port)));
    if let Ok(mut three) = EchoClient::connect(uri).await {
        call(&mut three).await.unwrap_err();
    }
}

/// FailWithRouteActionRoute.
#[tokio::test]
async fn a_route_for_clients_fails_requests() {
    let to = ClusterSpecifier::Cluster("elsewhere".to_owned());
    let world = World::start(|control_plane, address| {
        let action = xds::forward(to);
        let both = vec![xds::route("/mesh.test.Echo/Unary", action), xds::served("")];
        let name = server_listener_name(address);
        let chains = vec![inline(xds::routes("routes", "*", both))];
        control_plane.set(&xds::server_listener(&name, address, chains));
    })
    .await;
    let mut client = world.running.client().await;
    let status = call(&mut client).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let many = client.expand(hello()).await;
    assert!(many.is_ok(), "the other methods are served: {many:?}");
}

/// ConnectionCleanup.
#[tokio::test]
async fn connections_that_end_leave_nothing() {
    let world = World::start(plaintext).await;
    for _ in 0..10 {
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = world.running.client().await;
            call(&mut client).await.unwrap();
            clients.push(client);
        }
        assert_eq!(world.mesh.connections().len(), 10);
        drop(clients);
        let gone = || world.mesh.connections().is_empty().then_some(());
        eventually(gone, || format!("{:?}", world.mesh.connections().list())).await;
    }
}
