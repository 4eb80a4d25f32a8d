//! A control plane, a certificate authority, and nodes with certificates in files.

use std::net::SocketAddr;

use mesh_core::testing::{
    CertificateAuthority, ControlPlane, Issued, Leaf, ListenerTls, SanMatch, Tls,
};
use mesh_peers::{Answer, Call, Client, Files, Server, Side};

pub(crate) const TARGET: &str = "xds:///greeter";

/// The certificate provider of all nodes.
const PROVIDER: &str = "default";

pub(crate) struct World {
    pub(crate) control_plane: ControlPlane,
    pub(crate) ca: CertificateAuthority,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self {
            control_plane: ControlPlane::start().await,
            ca: CertificateAuthority::new("first"),
        }
    }

    /// Gives a node a certificate for its own identity.
    pub(crate) fn node(&self, node: &str) -> Files {
        let issued = self.ca.issue(Leaf::spiffe(identity(node)));
        self.node_with(node, &issued, &[&self.ca])
    }

    /// Gives a node this certificate, and these roots.
    pub(crate) fn node_with(
        &self,
        node: &str,
        issued: &Issued,
        roots: &[&CertificateAuthority],
    ) -> Files {
        let files = Files::new(issued, roots);
        let view = self.control_plane.view(node);
        view.certificate_provider(PROVIDER, files.provider());
        files
    }

    pub(crate) async fn client(&self, side: Side, node: &str) -> Client {
        Client::start(side, &self.control_plane, node).await
    }

    pub(crate) async fn server(&self, side: Side, node: &str) -> Server {
        Server::start(side, &self.control_plane, node).await
    }

    /// mTLS between the clients of `greeter` and the server of this node.
    pub(crate) fn mutual_tls(&self, node: &str, address: SocketAddr) {
        let tls = ListenerTls::present(PROVIDER).require_client(PROVIDER);
        self.control_plane.server(address).tls(tls).apply();
        let service = self.control_plane.service("greeter").clear_endpoints();
        service
            .endpoint(address)
            .tls(self.expects(&identity(node)))
            .apply();
    }

    /// TLS of clients that expect this identity of the server. C-core reads no other field of
    /// matchers than the deprecated one, and takes any server where that is empty.
    pub(crate) fn expects(&self, identity: &str) -> Tls {
        Tls::trust(PROVIDER)
            .present(PROVIDER)
            .san(SanMatch::uri(identity))
            .deprecated_sans()
    }

    /// TLS of servers that take clients without a certificate too.
    pub(crate) fn asks(&self) -> ListenerTls {
        ListenerTls::present(PROVIDER).ask_client(PROVIDER)
    }

    /// TLS of clients that have no certificate.
    pub(crate) fn nameless(&self) -> Tls {
        Tls::trust(PROVIDER)
    }
}

/// The identity of a node.
pub(crate) fn identity(node: &str) -> String {
    format!("spiffe://peers.test/{node}")
}

pub(crate) fn call() -> Call {
    Call::to(TARGET)
}

/// Whether all calls were answered by this server.
pub(crate) fn served_by(server: &str) -> impl Fn(&[Answer]) -> bool {
    move |answers| {
        let so = |answer: &Answer| matches!(answer, Ok(reply) if reply.server == server);
        answers.iter().all(so)
    }
}

/// Whether the server knew all calls as those of this node.
pub(crate) fn known_as(node: &str) -> impl Fn(&[Answer]) -> bool + use<> {
    let identity = identity(node);
    move |answers| {
        let so = |answer: &Answer| matches!(answer, Ok(reply) if reply.peer == [&*identity]);
        answers.iter().all(so)
    }
}

/// Whether all calls failed with this code.
pub(crate) fn failed_with(code: &str) -> impl Fn(&[Answer]) -> bool {
    move |answers| {
        let so = |answer: &Answer| matches!(answer, Err(failure) if failure.code == code);
        answers.iter().all(so)
    }
}

/// Tests of a scenario for every pair of a client and a server.
macro_rules! pairs {
    ($scenario:ident) => {
        mod $scenario {
            use mesh_peers::Side::{Core, Ours};

            #[tokio::test]
            async fn core_to_core() {
                mesh_peers::within(super::$scenario(Core, Core)).await;
            }

            #[tokio::test]
            async fn core_to_ours() {
                mesh_peers::within(super::$scenario(Core, Ours)).await;
            }

            #[tokio::test]
            async fn ours_to_core() {
                mesh_peers::within(super::$scenario(Ours, Core)).await;
            }

            #[tokio::test]
            async fn ours_to_ours() {
                mesh_peers::within(super::$scenario(Ours, Ours)).await;
            }
        }
    };
}

pub(crate) use pairs;
