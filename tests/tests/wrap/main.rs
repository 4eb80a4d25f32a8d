//! The parts for those who keep their own server loop or client: a listener for `axum::serve` and
//! tonic's `serve_with_incoming`, a layer, and a connector for hyper-util's client.

mod axum_serve;
mod connector;
mod ends;
mod layer;
mod tonic_serve;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::ConnectInfo, routing::get};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy, rt::TokioExecutor};
use mesh_core::{
    Mesh,
    bootstrap::{Bootstrap, ServerConfig},
    testing::{CertificateAuthority, ControlPlane, ListenerTls, ServerListener, Tls},
};
use mesh_hyper::{MeshConnector, MeshListener, PeerInfo};
use mesh_tests::{
    fixture::{SERVICE, within},
    running::port,
    secured::{CLIENT, SERVER, Side, client_tls, server_tls},
};
use tokio::{net::TcpListener, task::JoinHandle};

type Client = legacy::Client<MeshConnector, Empty<Bytes>>;

/// `axum::serve` behind a [`MeshListener`] and its layer, and hyper-util's client in front of a
/// [`MeshConnector`].
struct World {
    control_plane: ControlPlane,
    ca: CertificateAuthority,
    client: Side,
    server: Side,
    address: SocketAddr,
    http: Client,
    serving: JoinHandle<()>,
}

impl World {
    /// With mTLS.
    async fn start(router: Router) -> Self {
        Self::with(router, server_tls(), client_tls(), |_| {}).await
    }

    async fn with(
        router: Router,
        server_tls: impl Into<Option<ListenerTls>>,
        client_tls: impl Into<Option<Tls>>,
        options: impl FnOnce(&mut mesh_hyper::ServerOptions),
    ) -> Self {
        let control_plane = ControlPlane::start().await;
        let ca = CertificateAuthority::new("root");
        let client = Side::start(&control_plane, "client", CLIENT, &ca).await;
        let server = Side::start(&control_plane, "server", SERVER, &ca).await;
        let socket = port().await;
        let address = socket.local_addr().unwrap();
        let described = control_plane.server(address);
        match server_tls.into() {
            Some(tls) => described.tls(tls).apply(),
            None => described.apply(),
        };
        let service = control_plane.service(SERVICE);
        service.endpoint(address).tls(client_tls).apply();
        let listener = mesh_hyper::Server::new(&server.mesh).options(options);
        let listener = listener.listen(socket).await.unwrap();
        Self {
            http: reuse(&client.mesh),
            serving: tokio::spawn(serve(listener, router)),
            control_plane,
            ca,
            client,
            server,
            address,
        }
    }

    fn listener(&self) -> ServerListener {
        self.control_plane.server(self.address)
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        get_from(&self.http, path).await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// As the documentation says it is to be done.
async fn serve(listener: MeshListener, router: Router) {
    let drain = listener.drain_begun();
    let router = router.layer(listener.layer());
    let service = router.into_make_service_with_connect_info::<PeerInfo>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(drain);
    serving.await.unwrap();
}

/// Says who asks.
fn who() -> Router {
    let who = async |ConnectInfo(peer): ConnectInfo<PeerInfo>| {
        let tls = peer.tls.as_ref();
        let certificate = tls.and_then(|tls| tls.certificate.as_ref());
        let serial = certificate.map_or("", |certificate| &*certificate.serial);
        format!("{} {serial}", peer.id().unwrap_or("nobody"))
    };
    Router::new().route("/who", get(who)).fallback(who)
}

/// A client that keeps connections.
fn reuse(mesh: &Mesh) -> Client {
    legacy::Client::builder(TokioExecutor::new()).build(MeshConnector::new(mesh))
}

/// A client that makes a connection for each request.
fn anew(mesh: &Mesh) -> Client {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_max_idle_per_host(0);
    builder.build(MeshConnector::new(mesh))
}

async fn get_from(client: &Client, path: &str) -> Result<(StatusCode, String), legacy::Error> {
    let request = Request::get(format!("http://{SERVICE}{path}"));
    send(client, request.body(Empty::new()).unwrap()).await
}

async fn send(
    client: &Client,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, String), legacy::Error> {
    let response = within(client.request(request)).await?;
    let status = response.status();
    let body = within(response.into_body().collect()).await.unwrap();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    Ok((status, text))
}

/// A server of `router` on plain TCP, without a mesh.
async fn plain(router: Router) -> (SocketAddr, JoinHandle<()>) {
    let socket: TcpListener = port().await;
    let address = socket.local_addr().unwrap();
    let serving = async { axum::serve(socket, router).await.unwrap() };
    (address, tokio::spawn(serving))
}

/// A server that believes the control plane when it takes back a listener (gRFC A88).
async fn obedient(control_plane: &ControlPlane) -> Mesh {
    let mut features = control_plane.features();
    features.fail_on_data_errors = true;
    let server = ServerConfig::insecure(control_plane.address().unwrap().to_string());
    let bootstrap = Bootstrap::builder()
        .server(server.features(features))
        .node_id("server")
        .server_listener_template("server/%s");
    let bootstrap = bootstrap.build().unwrap();
    Mesh::builder().bootstrap(bootstrap).build().await.unwrap()
}

const SHORT: Duration = Duration::from_millis(100);

/// Under the incremental protocol, too.
#[test]
fn once_more_under_delta() {
    mesh_tests::once_more("MESH_TESTING_ADS", "delta", &[]);
}
