//! Certificates from a certificate authority over gRPC, for servers and clients of the mesh.

use std::time::Duration;

use mesh_core::{
    Code, Mesh,
    bootstrap::{Bootstrap, ServerConfig},
    testing::{CertificateService, ControlPlane, Service, SigningFault},
};
use mesh_tests::{
    eventually, every_way,
    fixture::{SERVICE, within},
    load::{Load, call, until_success},
    running::{Running, port},
    secured::{CLIENT, SERVER, client_tls, go_away, reconnect, server_tls},
    way::{Caller, Way},
};

/// A server and a client whose certificates come from a certificate authority.
struct World {
    control_plane: ControlPlane,
    ca: CertificateService,
    client: Mesh,
    server: Mesh,
    running: Running,
    channel: Caller,
    way: Way,
}

impl World {
    /// Certificates are valid for this long.
    async fn start(way: Way, lifetime: Duration) -> Self {
        let control_plane = ControlPlane::start().await;
        let ca = CertificateService::start().await;
        ca.set_lifetime(Some(lifetime));
        let client = mesh(&control_plane, &ca, "client", CLIENT).await;
        let server = mesh(&control_plane, &ca, "server", SERVER).await;
        let listener = port().await;
        let address = listener.local_addr().unwrap();
        control_plane.server(address).tls(server_tls()).apply();
        let running = Running::echo(way, &server, listener).await;
        let service = way.of(control_plane.service(SERVICE).version("v1"));
        service.endpoint(address).tls(client_tls()).apply();
        let has_one = || World::serial(&server);
        eventually(has_one, || "it has none before the first connection".into()).await;
        Self {
            channel: way.caller(&client, SERVICE),
            way,
            control_plane,
            ca,
            client,
            server,
            running,
        }
    }

    /// Describes the service, as the client sees it.
    fn service(&self) -> Service {
        self.way.of(self.control_plane.service(SERVICE))
    }

    /// Replaces all connections to the server.
    async fn reconnect(&self) {
        reconnect(&self.server, self.way, &self.channel).await;
    }

    /// The serial number of the certificate that `mesh` presents.
    fn serial(mesh: &Mesh) -> Option<String> {
        let status = mesh.certificates().pop()?;
        Some(status.leaf?.serial.to_string())
    }
}

async fn mesh(control_plane: &ControlPlane, ca: &CertificateService, node: &str, id: &str) -> Mesh {
    let address = control_plane.address().expect("it has a port");
    let bootstrap = Bootstrap::builder()
        .server(ServerConfig::insecure(address.to_string()))
        .node_id(node)
        .server_listener_template("server/%s")
        .certificate_provider("default", ca.config().spiffe_id(id))
        .build()
        .unwrap();
    Mesh::builder()
        .bootstrap(bootstrap)
        .options(|options| {
            options.connect_backoff_base = Duration::from_millis(10);
            options.connect_backoff_max = Duration::from_millis(50);
        })
        .build()
        .await
        .unwrap()
}

async fn certificates_of_five_seconds_renew_under_load_and_no_call_fails(way: Way) {
    let world = World::start(way, Duration::from_secs(5)).await;
    call(&world.channel).await.unwrap();
    let load = Load::start(&world.channel, 2);
    for _ in 0..2 {
        let before = [&world.client, &world.server].map(World::serial);
        let renewed = async {
            while [&world.client, &world.server]
                .map(World::serial)
                .iter()
                .zip(&before)
                .any(|(now, before)| now == before)
            {
                load.more(1).await;
            }
        };
        within(renewed).await;
        world.reconnect().await;
        load.more(50).await;
    }
    load.stop().await.assert_no_failure();
    assert!(world.ca.requests().len() >= 6, "{:?}", world.ca.requests());
}

async fn a_valid_certificate_is_kept_while_the_authority_is_down(way: Way) {
    let world = World::start(way, Duration::from_secs(3600)).await;
    call(&world.channel).await.unwrap();
    let before = [&world.client, &world.server].map(World::serial);
    world
        .ca
        .set_fault(Some(SigningFault::Refuse(Code::Unavailable)));
    for _ in 0..3 {
        world.reconnect().await;
        for _ in 0..10 {
            call(&world.channel).await.unwrap();
        }
    }
    assert_eq!([&world.client, &world.server].map(World::serial), before);
}

/// Nobody is connected, and the listener changes: the server's certificate is its own still.
async fn a_server_keeps_its_certificate_while_nobody_is_connected(way: Way) {
    let world = World::start(way, Duration::from_secs(3600)).await;
    let address = world.running.address;
    let serial = World::serial(&world.server);
    assert!(serial.is_some());
    call(&world.channel).await.unwrap();

    world
        .ca
        .set_fault(Some(SigningFault::Refuse(Code::Unavailable)));
    let push = world.service().take_out(address).apply();
    push.acked().await;
    let gone = || world.server.connections().is_empty().then_some(());
    eventually(gone, || "the connection is gone".into()).await;
    let other = world.control_plane.server(address).domains(["*", "other"]);
    other.apply().acked().await;
    assert_eq!(World::serial(&world.server), serial);
    world.service().restore(address).apply();
    until_success(&world.channel).await;
    assert_eq!(World::serial(&world.server), serial);
}

async fn a_certificate_that_expires_fails_calls_with_the_reason_until_there_is_another(way: Way) {
    let world = World::start(way, Duration::from_secs(3)).await;
    call(&world.channel).await.unwrap();
    world
        .ca
        .set_fault(Some(SigningFault::Refuse(Code::Unavailable)));
    let expired = |mesh: &Mesh| {
        let all = mesh.certificates();
        let mut stages = all.iter().map(|status| status.stage);
        stages.any(|stage| stage == mesh_core::identity::LifeStage::Expired)
    };
    let both = || (expired(&world.client) && expired(&world.server)).then_some(());
    eventually(both, || format!("{:?}", world.server.certificates())).await;
    // In the second of its end a certificate is still accepted, and after it no connection is made.
    let expired = async {
        loop {
            go_away(&world.server);
            match call(&world.channel).await {
                Err(status) if status.message().contains("expired") => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    within(expired).await;
    world.ca.set_fault(None);
    until_success(&world.channel).await;
}

every_way!(
    certificates_of_five_seconds_renew_under_load_and_no_call_fails,
    a_valid_certificate_is_kept_while_the_authority_is_down,
    a_server_keeps_its_certificate_while_nobody_is_connected,
    a_certificate_that_expires_fails_calls_with_the_reason_until_there_is_another,
);
