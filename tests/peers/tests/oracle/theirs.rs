//! Envoy: a listener for each configuration.

use std::net::SocketAddr;

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::{
            listener::v3::{Filter, FilterChain, Listener, filter::ConfigType as FilterConfig},
            route::v3::RouteConfiguration,
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier,
                http_filter::ConfigType,
            },
        },
    },
    google::protobuf::{Any, BoolValue},
};
use http::{Request, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use mesh_peers::envoy::{Envoy, config};
use prost::Message;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::{backend::Backends, generate::Asked, outcome::Outcome};

/// An Envoy that has all configurations of a batch.
pub(crate) struct Theirs(Envoy);

/// A connection to one of its listeners.
pub(crate) struct Connection {
    to: SocketAddr,
    open: Option<SendRequest<Empty<Bytes>>>,
}

impl Theirs {
    pub(crate) async fn start(backends: &Backends, batch: &[RouteConfiguration]) -> Self {
        let listeners = batch.iter().enumerate();
        let listeners = listeners.map(|(number, routes)| listener(number, routes.clone()));
        Self(Envoy::start_with(listeners.collect(), backends.clusters().to_vec()).await)
    }

    /// How it writes a configuration: in the JSON of protobuf.
    pub(crate) async fn written(routes: &RouteConfiguration) -> String {
        let listeners = vec![listener(0, routes.clone())];
        let envoy = Envoy::start_with(listeners, Vec::new()).await;
        let path = "/config_dump?resource=static_route_configs";
        let dump = envoy.admin(path).await;
        let dump: Value = serde_json::from_str(&dump).expect("its admin answers in JSON");
        format!("{:#}", dump["configs"][0]["route_config"])
    }

    /// To the configuration of this number.
    pub(crate) fn connection(&self, number: usize) -> Connection {
        Connection::new(self.0.address(&name(number)))
    }
}

impl Connection {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, open: None }
    }

    pub(crate) async fn ask(&mut self, asked: &Asked) -> Outcome {
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(connect(self.to).await),
        };
        // It may have been closed after the last answer.
        if open.ready().await.is_err() {
            *open = connect(self.to).await;
        }
        let mut request = Request::builder().method(&*asked.method).uri(&*asked.path);
        request = request.header(HOST, &*asked.authority);
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Empty::new())
            .unwrap_or_else(|error| panic!("{error}: {asked:?}"));
        let response = open.send_request(request).await;
        let response = response.unwrap_or_else(|error| panic!("{error:?}: {asked:?}"));
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a body ends").to_bytes();
        Outcome::new(head.status, &head.headers, &body)
    }
}

async fn connect(to: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(to).await.expect("Envoy listens");
    stream.set_nodelay(true).expect("a socket has options");
    let (open, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    open
}

fn name(number: usize) -> String {
    format!("{number}")
}

/// The extension's message, as listeners have it.
pub(crate) fn pack(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/envoy.extensions.filters.{name}"),
        value: message.encode_to_vec(),
    }
}

/// The last of the HTTP filters.
pub(crate) fn router() -> HttpFilter {
    HttpFilter {
        name: "router".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack(
            "http.router.v3.Router",
            &Router::default(),
        ))),
        ..HttpFilter::default()
    }
}

/// The manager of a listener for these routes.
pub(crate) fn manager(routes: RouteConfiguration) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: "oracle".to_owned(),
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        generate_request_id: Some(BoolValue { value: false }),
        http_filters: vec![router()],
        ..HttpConnectionManager::default()
    }
}

/// Its type.
pub(crate) const MANAGER: &str = "network.http_connection_manager.v3.HttpConnectionManager";

fn listener(number: usize, routes: RouteConfiguration) -> Listener {
    listening(&name(number), ([127, 0, 0, 1], 0).into(), &manager(routes))
}

/// A listener at this address.
pub(crate) fn listening(
    name: &str,
    address: SocketAddr,
    manager: &HttpConnectionManager,
) -> Listener {
    let filter = Filter {
        name: "http".to_owned(),
        config_type: Some(FilterConfig::TypedConfig(pack(MANAGER, manager))),
    };
    Listener {
        name: name.to_owned(),
        address: Some(config::address(address)),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}
