//! A server and a client of the mesh with mTLS between them.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use mesh_core::{
    Mesh,
    bootstrap::Bootstrap,
    connections::{ConnectionStatus, Ending, Order},
    identity::{Identity, InCode, Roots, Trust},
    testing::{CertificateAuthority, ControlPlane, Leaf, ListenerTls, SanMatch, Service, Tls},
};
use mesh_tonic::{Channel, Server};

use crate::{
    echo::EchoService,
    eventually,
    fixture::SERVICE,
    load,
    pb::echo_server::EchoServer,
    running::{Running, port},
    way::{Caller, Way},
};

/// The client's identity.
pub const CLIENT: &str = "spiffe://shop/ns/web/sa/client";
/// The server's identity.
pub const SERVER: &str = "spiffe://shop/ns/backend/sa/server";

/// A server and a client of the mesh. The control plane says how they connect.
#[derive(Debug)]
pub struct Secured {
    /// Where both get their configuration from.
    pub control_plane: ControlPlane,
    /// Whose certificates they have, and whom they trust.
    pub ca: CertificateAuthority,
    /// The client.
    pub client: Side,
    /// The server.
    pub server: Side,
    /// The server's port.
    pub running: Running,
    /// The client's channel to the server.
    pub channel: Caller,
    way: Way,
}

/// One end, with the certificates that code gives it, as the provider instance `default`.
#[derive(Debug)]
pub struct Side {
    /// Its mesh.
    pub mesh: Mesh,
    /// Its certificate, and whom it trusts.
    pub certificates: Arc<InCode>,
    id: &'static str,
}

// === impl Secured ===

impl Secured {
    /// With mTLS, for calls of gRPC.
    pub async fn start() -> Self {
        Self::over(Way::Grpc).await
    }

    /// With mTLS, for calls that are made this way.
    pub async fn over(way: Way) -> Self {
        Self::with(way, server_tls(), client_tls()).await
    }

    /// In plaintext, for calls that are made this way.
    pub async fn in_plaintext_over(way: Way) -> Self {
        Self::with(way, None, None).await
    }

    async fn with(
        way: Way,
        server_tls: impl Into<Option<ListenerTls>>,
        client_tls: impl Into<Option<Tls>>,
    ) -> Self {
        let control_plane = ControlPlane::start().await;
        let ca = CertificateAuthority::new("root");
        let client = Side::start(&control_plane, "client", CLIENT, &ca).await;
        let server = Side::start(&control_plane, "server", SERVER, &ca).await;
        let listener = port().await;
        let address = listener.local_addr().expect("it is bound");
        let described = control_plane.server(address);
        match server_tls.into() {
            Some(tls) => described.tls(tls).apply(),
            None => described.apply(),
        };
        let running = Running::echo(way, &server.mesh, listener).await;
        let service = way.of(control_plane.service(SERVICE).version("v1"));
        service.endpoint(address).tls(client_tls).apply();
        Self {
            channel: way.caller(&client.mesh, SERVICE),
            way,
            control_plane,
            ca,
            client,
            server,
            running,
        }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Describes the service, as the client sees it.
    pub fn service(&self) -> Service {
        self.way.of(self.control_plane.service(SERVICE))
    }

    /// Describes the server.
    pub fn listener(&self) -> mesh_core::testing::ServerListener {
        self.control_plane.server(self.address())
    }

    /// Makes one call; the message if it fails.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn call(&self) -> Result<(), String> {
        let called = load::call(&self.channel).await;
        called
            .map(drop)
            .map_err(|status| status.message().to_owned())
    }

    /// The server's connections.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        self.server.mesh.connections().list()
    }

    /// Replaces all connections: see [`reconnect`].
    ///
    /// # Panics
    /// If there is none, or that takes longer than 10 s.
    pub async fn reconnect(&self) {
        reconnect(&self.server.mesh, self.way, &self.channel).await;
    }

    /// Waits until the server has no connection.
    ///
    /// # Panics
    /// If that takes longer than 10 s.
    pub async fn disconnected(&self) {
        eventually(
            || self.connections().is_empty().then_some(()),
            || format!("there are connections: {:#?}", self.connections()),
        )
        .await;
    }
}

// === impl Side ===

impl Side {
    /// A node of this name and identity, which trusts in `ca`.
    pub async fn start(
        control_plane: &ControlPlane,
        node: &str,
        id: &'static str,
        ca: &CertificateAuthority,
    ) -> Self {
        Self::of(control_plane.bootstrap(node), id, ca).await
    }

    /// The same with a bootstrap of its own.
    ///
    /// # Panics
    /// Never: the bootstrap is given.
    pub async fn of(bootstrap: Bootstrap, id: &'static str, ca: &CertificateAuthority) -> Self {
        let certificates = Arc::new(InCode::new());
        certificates.present(ca.identity(id));
        certificates.trust_in(Trust::Roots(ca.roots()));
        let mesh = Mesh::builder()
            .bootstrap(bootstrap)
            .certificates("default", Arc::clone(&certificates) as _)
            .options(|options| {
                options.connect_backoff_base = Duration::from_millis(10);
                options.connect_backoff_max = Duration::from_millis(50);
            })
            .build()
            .await
            .expect("a given bootstrap is all that a mesh needs");
        Self {
            mesh,
            certificates,
            id,
        }
    }

    /// A channel to the service.
    ///
    /// # Panics
    /// Never: the target is valid.
    pub fn channel(&self) -> Channel {
        mesh_tonic::channel(&self.mesh, SERVICE).expect("a valid target")
    }

    /// Presents a new certificate of this authority, and waits until it is in use: its serial
    /// number.
    ///
    /// # Panics
    /// If that takes longer than 10 s.
    pub async fn rotate(&self, ca: &CertificateAuthority) -> String {
        self.present(ca.issue(Leaf::spiffe(self.id)).identity())
            .await
    }

    /// The same with any certificate.
    ///
    /// # Panics
    /// If that takes longer than 10 s.
    pub async fn present(&self, identity: Identity) -> String {
        let serial = identity.leaf().serial.to_string();
        self.certificates.present(identity);
        let used = |serial: &str| {
            let all = self.mesh.certificates();
            let mut leaves = all.iter().map(|status| status.leaf.as_ref());
            leaves.all(|leaf| leaf.is_some_and(|leaf| *leaf.serial == *serial))
        };
        eventually(
            || used(&serial).then_some(()),
            || format!("{serial} is not in use: {:?}", self.mesh.certificates()),
        )
        .await;
        serial
    }

    /// Trusts the roots of these authorities, and no others.
    ///
    /// # Panics
    /// If there is none.
    pub fn trust_in(&self, authorities: &[&CertificateAuthority]) {
        let roots = authorities.iter().map(|ca| ca.root_der().clone());
        let roots = Roots::from_der(roots).expect("at least one");
        self.certificates.trust_in(Trust::Roots(roots));
    }
}

/// A server of the echo service that calls itself `ours`.
pub fn echo_server(mesh: &Mesh) -> Server {
    Server::new(mesh).add_service(EchoServer::new(EchoService::new("ours")))
}

/// The TLS of the server's listener: clients must have a certificate.
pub fn server_tls() -> ListenerTls {
    ListenerTls::present("default").require_client("default")
}

/// The TLS of the client's cluster: the server must be [`SERVER`].
pub fn client_tls() -> Tls {
    let server = SanMatch::uri(SERVER);
    Tls::trust("default").present("default").san(server)
}

/// Tells all connections of a server to go away, as if they were too old.
pub fn go_away(server: &Mesh) {
    let connections = server.connections();
    let servers = connections.list().into_iter().map(|one| one.server);
    for server in servers.collect::<BTreeSet<_>>() {
        for connection in connections.of(server) {
            connection.order(Order::Drain(Ending::Age, Duration::from_secs(60)));
        }
    }
}

/// Tells all connections of a server to go away, and waits until they have gone and there are
/// others in their place. HTTP/1.1 makes its next one when a call needs it, so `caller` makes one,
/// however it ends.
///
/// # Panics
/// If there is none, or that takes longer than 10 s.
pub async fn reconnect(server: &Mesh, way: Way, caller: &Caller) {
    let now = || server.connections().list();
    let last = now().last().expect("there is a connection").id;
    go_away(server);
    let others = || {
        let now = now();
        let needed = way != Way::Http1;
        (!(needed && now.is_empty()) && now.iter().all(|one| one.id > last)).then_some(())
    };
    eventually(others, || format!("connections after {last}: {:#?}", now())).await;
    if way == Way::Http1 {
        let _ = load::call(caller).await;
    }
}
