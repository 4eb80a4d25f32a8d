//! mTLS between two trust domains, with certificates of Workload APIs alone.

use std::sync::Arc;

use mesh_core::{
    Mesh,
    bootstrap::{Bootstrap, ServerConfig},
    identity::Peer,
    testing::{CertificateAuthority, ControlPlane, Issued, Leaf, SanMatch, Tls, WorkloadApi},
};
use mesh_tests::{
    fixture::{SERVICE, within},
    pb::{EchoReply, EchoRequest, echo_client::EchoClient, echo_server::EchoServer},
};
use mesh_tonic::{Channel, Server, ServerTls};
use tonic::{Request, Status};

use crate::running::{Answering, Running, hello, port};

const CLIENT: &str = "spiffe://web/client";
const SERVER: &str = "spiffe://shop/server";

/// A client and a server, each with a Workload API of its own.
struct Federation {
    web: CertificateAuthority,
    shop: CertificateAuthority,
    client_api: WorkloadApi,
    server_api: WorkloadApi,
    client: EchoClient<Channel>,
    _server: Running,
    _control_plane: ControlPlane,
}

impl Federation {
    async fn start() -> Self {
        let web = CertificateAuthority::new("web");
        let shop = CertificateAuthority::new("shop");
        let (client_api, server_api) = (WorkloadApi::start(), WorkloadApi::start());
        let issued = web.issue(Leaf::spiffe(CLIENT));
        client_api.push(&issued, &web, &[("shop", &shop)]);
        let issued = shop.issue(Leaf::spiffe(SERVER));
        server_api.push(&issued, &shop, &[("web", &web)]);

        let control_plane = ControlPlane::start().await;
        let uri = control_plane.address().expect("it has a port").to_string();
        let mesh = mesh("server", &uri, &server_api).await;
        let server = Server::new(&mesh)
            .add_service(EchoServer::new(Answering(whoami)))
            .tls(ServerTls::mtls("default"));
        let server = Running::start(server, port().await).await;

        let tls = Tls::trust("default").present("default");
        control_plane
            .service(SERVICE)
            .endpoint(server.address)
            .tls(tls.san(SanMatch::uri(SERVER)))
            .apply();
        let mesh = self::mesh("client", &uri, &client_api).await;
        let channel = mesh_tonic::channel(&mesh, SERVICE).expect("a valid target");
        Self {
            web,
            shop,
            client_api,
            server_api,
            client: EchoClient::new(channel),
            _server: server,
            _control_plane: control_plane,
        }
    }

    /// What the server saw of the client: its identity and the serial number.
    async fn call(&self) -> Result<String, Status> {
        let reply = within(self.client.clone().unary(hello()))
            .await?
            .into_inner();
        Ok(String::from_utf8_lossy(&reply.payload).into_owned())
    }

    async fn until(&self, wanted: impl Fn(&Result<String, Status>) -> bool) {
        let wait = async {
            while !wanted(&self.call().await) {
                tokio::task::yield_now().await;
            }
        };
        within(wait).await;
    }
}

async fn mesh(node: &str, control_plane: &str, api: &WorkloadApi) -> Mesh {
    let bootstrap = Bootstrap::builder()
        .server(ServerConfig::insecure(control_plane))
        .node_id(node)
        .certificate_provider("default", api.config())
        .build()
        .expect("it is valid");
    let mesh = Mesh::builder().bootstrap(bootstrap).build().await;
    mesh.expect("a given bootstrap is all that a mesh needs")
}

async fn whoami(request: Request<EchoRequest>) -> Result<EchoReply, Status> {
    let peer = request.extensions().get::<Arc<Peer>>();
    let certificate = peer
        .and_then(|peer| peer.tls.as_ref()?.certificate.as_ref())
        .ok_or_else(|| Status::unauthenticated("no certificate"))?;
    let id = certificate.spiffe_id().unwrap_or_default();
    Ok(EchoReply {
        payload: format!("{id} {}", certificate.serial).into(),
        ..EchoReply::default()
    })
}

fn serial(issued: &Issued) -> String {
    issued.identity().leaf().serial.to_string()
}

#[tokio::test]
async fn workloads_of_federated_domains_know_each_other() {
    let federation = Federation::start().await;
    let seen = federation.call().await.expect("they trust each other");
    assert!(seen.starts_with("spiffe://web/client "), "{seen}");

    // Both get new certificates: calls go on, and new connections show the new one.
    federation.server_api.rotate();
    let rotated = serial(&federation.client_api.rotate());
    federation.call().await.expect("they still do");

    // The server trusts the client's domain no more, which ends the connection there is.
    let Federation { shop, web, .. } = &federation;
    let issued = shop.issue(Leaf::spiffe(SERVER));
    federation.server_api.push(&issued, shop, &[]);
    federation.until(Result::is_err).await;
    // And does again.
    federation.server_api.push(&issued, shop, &[("web", web)]);
    let new =
        |seen: &Result<String, Status>| seen.as_ref().is_ok_and(|seen| seen.ends_with(&rotated));
    federation.until(new).await;
}

#[tokio::test]
async fn a_workload_api_that_is_away_stops_nothing() {
    let federation = Federation::start().await;
    federation.call().await.expect("they trust each other");
    federation.client_api.stop().await;
    federation.server_api.stop().await;
    federation.call().await.expect("what was received stays");
}
