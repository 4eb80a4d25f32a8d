//! Plain HTTP with Envoy: in front of our server, and behind our client, over both protocols.

mod drains;
mod exchanges;
mod goaway;
mod resets;
mod streams;
mod traffic;

use std::net::SocketAddr;

use mesh_core::{
    Mesh,
    config::HttpProtocol,
    testing::{ListenerTls, SanMatch, Service, Tls},
};
use mesh_hyper::{Server, ServerOptions};
use mesh_peers::{
    Files,
    envoy::{
        Envoy,
        config::{Protocol, all_to, cluster, listener},
    },
    http::App,
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::world::{World, identity};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
const PROVIDER: &str = "default";

/// A server of ours that asks for certificates, for an Envoy in front of it.
struct OurServer {
    app: App,
    mesh: Mesh,
    address: SocketAddr,
    serving: JoinHandle<()>,
    _files: Files,
}

impl OurServer {
    /// Of this node of the world.
    async fn start(world: &World, node: &str, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let files = world.node(node);
        let mesh = world.control_plane.mesh(node).await;
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let tls = ListenerTls::present(PROVIDER).require_client(PROVIDER);
        world.control_plane.server(address).tls(tls).apply();
        let app = App::new(node);
        let server = Server::new(&mesh)
            .options(change)
            .serve(socket, app.clone());
        let serving = tokio::spawn(async move { server.await.unwrap() });
        Self {
            app,
            mesh,
            address,
            serving,
            _files: files,
        }
    }

    /// An Envoy in front of it, whose listener is `front` and whose cluster is `ours`.
    async fn behind_envoy(&self, files: &Files, upstream: Protocol) -> Envoy {
        Envoy::start(
            vec![listener("front", None, all_to("ours"))],
            vec![cluster("ours", self.address, upstream, Some(files))],
        )
        .await
    }
}

impl Drop for OurServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An Envoy that asks for certificates, whose listener is `entry`, before this application.
async fn before(app: SocketAddr, files: &Files, upstream: Protocol) -> Envoy {
    Envoy::start(
        vec![listener("entry", Some(files), all_to("app"))],
        vec![cluster("app", app, upstream, None)],
    )
    .await
}

/// The service of `http://app.shop`, whose endpoints are these Envoys.
fn behind(world: &World, envoys: &[&Envoy], protocol: HttpProtocol) -> Service {
    let service = world.control_plane.service("app.shop:80").clear_endpoints();
    let expected = Tls::trust(PROVIDER).present(PROVIDER);
    let expected = expected.san(SanMatch::uri(identity("envoy")));
    let service = service.protocol(protocol).tls(expected);
    envoys.iter().fold(service, |service, envoy| {
        service.endpoint(envoy.address("entry"))
    })
}
