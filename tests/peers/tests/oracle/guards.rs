//! Servers with access rules: an Envoy, and ours.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::{
        listener::v3::Listener,
        route::v3::{
            DirectResponseAction, NonForwardingAction, Route, RouteConfiguration, VirtualHost,
            route::Action,
        },
    },
    extensions::filters::{
        http::rbac::v3::{Rbac, RbacPerRoute},
        network::http_connection_manager::v3::{
            HttpConnectionManager, HttpFilter, http_filter::ConfigType,
        },
    },
};
use http::{Request, Response};
use http_body_util::Full;
use mesh_core::{
    config::Kind,
    testing::{ControlPlane, server_listener_name},
};
use mesh_hyper::Server;
use mesh_peers::envoy::Envoy;
use tokio::{net::TcpListener, task::JoinSet};
use tower_service::Service;

use crate::{
    generate::Asked,
    ours::resource,
    theirs::{Connection, listening, manager, pack},
};

/// The access rules of a server.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Guard {
    /// Of the whole server: all must let a request pass.
    pub(crate) filters: Vec<Rbac>,
    /// In place of the first one, for paths that begin with `/a`.
    pub(crate) own: Option<RbacPerRoute>,
}

/// What is asked of a server with these rules.
pub(crate) type Asking = (Guard, Vec<Asked>);

/// The statuses with which Envoy answers.
pub(crate) async fn ask_theirs(batch: &[Asking]) -> Vec<Vec<u16>> {
    let action = || {
        Action::DirectResponse(DirectResponseAction {
            status: 200,
            ..DirectResponseAction::default()
        })
    };
    let listeners = batch.iter().enumerate().map(|(number, (guard, _))| {
        let name = number.to_string();
        listening(&name, ([127, 0, 0, 1], 0).into(), &guard.manager(action))
    });
    let envoy = Envoy::start_with(listeners.collect(), Vec::new()).await;
    let mut asking = JoinSet::new();
    for (number, (_, requests)) in batch.iter().cloned().enumerate() {
        let connection = Connection::new(envoy.address(&number.to_string()));
        asking.spawn(async move { (number, ask(connection, requests).await) });
    }
    in_order(asking).await
}

/// The statuses with which our server answers.
pub(crate) async fn ask_ours(batch: &[Asking]) -> Vec<Vec<u16>> {
    let control_plane = ControlPlane::start().await;
    let mesh = control_plane.mesh("server").await;
    let (mut serving, mut asking) = (JoinSet::new(), JoinSet::new());
    let mut connections = Vec::new();
    control_plane.hold();
    for (guard, _) in batch {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await;
        let socket = socket.expect("loopback has a port");
        let address = socket.local_addr().expect("a listener has an address");
        let name = server_listener_name(address);
        let action = || Action::NonForwardingAction(NonForwardingAction::default());
        let listener: Listener = listening(&name, address, &guard.manager(action));
        let any = resource("listener.v3.Listener", &listener);
        control_plane.set_any(Kind::Listener, name, any);
        serving.spawn(Server::new(&mesh).serve(socket, Served));
        connections.push(Connection::new(address));
    }
    // Each has asked for its listener before any gets one.
    control_plane.release();
    control_plane.acked(Kind::Listener).await;
    for (number, connection) in connections.into_iter().enumerate() {
        let requests = batch[number].1.clone();
        asking.spawn(async move { (number, ask(connection, requests).await) });
    }
    in_order(asking).await
}

async fn ask(mut connection: Connection, requests: Vec<Asked>) -> Vec<u16> {
    let mut statuses = Vec::with_capacity(requests.len());
    for asked in &requests {
        statuses.push(connection.ask(asked).await.status);
    }
    statuses
}

async fn in_order(asking: JoinSet<(usize, Vec<u16>)>) -> Vec<Vec<u16>> {
    let mut all = asking.join_all().await;
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, statuses)| statuses).collect()
}

// === impl Guard ===

impl Guard {
    fn manager(&self, action: impl Fn() -> Action) -> HttpConnectionManager {
        let own = self.own.iter().map(|own| {
            let any = pack("http.rbac.v3.RBACPerRoute", own);
            ("rbac-0".to_owned(), any)
        });
        let route = |prefix: &str, own: HashMap<_, _>| {
            let mut route = crate::generate::anything(prefix);
            route.action = Some(action());
            Route {
                typed_per_filter_config: own,
                ..route
            }
        };
        let host = VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route("/a", own.collect()), route("/", HashMap::new())],
            ..VirtualHost::default()
        };
        let mut manager = manager(RouteConfiguration {
            name: "guarded".to_owned(),
            virtual_hosts: vec![host],
            ..RouteConfiguration::default()
        });
        for (number, filter) in self.filters.iter().enumerate().rev() {
            let config = ConfigType::TypedConfig(pack("http.rbac.v3.RBAC", filter));
            manager.http_filters.insert(
                0,
                HttpFilter {
                    name: format!("rbac-{number}"),
                    config_type: Some(config),
                    ..HttpFilter::default()
                },
            );
        }
        manager
    }
}

/// Serves whatever is let through.
#[derive(Debug, Clone)]
struct Served;

impl<B> Service<Request<B>> for Served {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::default()))
    }
}
