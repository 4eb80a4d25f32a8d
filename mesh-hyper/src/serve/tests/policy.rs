//! What a control plane says, and what becomes of live connections when it says something else.

use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use http::StatusCode;
use mesh_core::{
    Code, Mesh, MeshBuilder,
    config::{
        ChainMatch, Domain, FilterChain, FilterConfig, HttpFilter, HttpManager, PathMatcher,
        Resource, ResourceId, Route, RouteAction, RouteConfig, RouteMatch, RouteSource,
        ServerListener, VirtualHost,
    },
    connections::{ConnectionState, Ending},
    control::{Delivery, Event, Inbox, Processed, Source, SourceError, SourceErrorKind, Watch},
    filter::{Filter, FilterSpec, Reply, RequestHead, Verdict},
    identity::Peer,
    telemetry::Cause,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::*;
use crate::{OnMissing, Server, ServerTls, ServingMode};

/// Delivers the listener that a test says.
#[derive(Debug, Default)]
pub(super) struct Told {
    inbox: Mutex<Option<(ResourceId, Inbox)>>,
    last: Mutex<HashMap<ResourceId, Event>>,
}

impl Source for Told {
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        if let Some(event) = self.last.lock().get(&id).cloned() {
            deliver(&id, &inbox, event);
        }
        *self.inbox.lock() = Some((id, inbox));
        Watch::new(|| {})
    }
}

impl Told {
    fn say(&self, event: Event) {
        if let Some((id, inbox)) = &*self.inbox.lock() {
            self.last.lock().insert(id.clone(), event.clone());
            deliver(id, inbox, event);
        }
    }

    fn listener(&self, gate: &Gate) {
        self.serve(listener(Some(gate)));
    }

    pub(super) fn is_watched(&self) -> bool {
        self.inbox.lock().is_some()
    }

    pub(super) fn encrypted(&self, tls: ServerTls) {
        let mut listener = listener(None);
        listener.chains[0].tls = tls.setting();
        self.serve(listener);
    }

    pub(super) fn serve(&self, listener: ServerListener) {
        self.say(Event::Update(Resource::ServerListener(Arc::new(listener))));
    }
}

fn deliver(id: &ResourceId, inbox: &Inbox, event: Event) {
    let _ = inbox.send(Delivery {
        id: id.clone(),
        event,
        processed: Processed::default(),
    });
}

/// A filter that lets those in who come from one address, which it decides once per connection.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    from: u8,
    bound: Arc<AtomicU32>,
}

#[derive(Debug)]
struct Bound {
    open: bool,
}

impl FilterSpec for Gate {
    fn build(&self, _: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
        Some(Arc::new(self.clone()))
    }

    fn equals(&self, other: &dyn FilterSpec) -> bool {
        let other = (other as &dyn Any).downcast_ref::<Self>();
        other.is_some_and(|other| other.from == self.from)
    }
}

impl Filter for Gate {
    fn request(&self, _: &mut RequestHead<'_>) -> Verdict {
        panic!("it was bound");
    }

    fn bind(&self, peer: &Arc<Peer>) -> Option<Arc<dyn Filter>> {
        self.bound.fetch_add(1, Ordering::Relaxed);
        let open = peer.address.unwrap().ip() == address(self.from, 1).ip();
        Some(Arc::new(Bound { open }))
    }
}

impl Filter for Bound {
    fn request(&self, head: &mut RequestHead<'_>) -> Verdict {
        let verdict = match self.open {
            true => Verdict::Continue,
            false => Verdict::Reply(Reply {
                http: StatusCode::FORBIDDEN,
                grpc: Code::PermissionDenied,
                message: "not you".into(),
                cause: Cause::Filter,
            }),
        };
        match head.path {
            "/wait" => Verdict::Wait(Box::pin(async {
                tokio::time::sleep(SECOND).await;
                verdict
            })),
            _ => verdict,
        }
    }
}

pub(super) fn listener(gate: Option<&Gate>) -> ServerListener {
    let route = Route {
        name: "all".into(),
        matcher: RouteMatch {
            path: PathMatcher::Prefix {
                prefix: "/".to_owned(),
                ignore_case: false,
            },
            headers: Vec::new(),
            query: Vec::new(),
            fraction: None,
        },
        action: RouteAction::NonForwarding,
        overrides: Default::default(),
        headers: Default::default(),
    };
    let filters = gate.map(|gate| HttpFilter {
        name: "gate".into(),
        config: FilterConfig(Arc::new(gate.clone())),
    });
    ServerListener {
        name: "server".into(),
        address: local(),
        chains: vec![FilterChain {
            name: "all".into(),
            matcher: ChainMatch::default(),
            tls: None,
            http: HttpManager {
                routes: RouteSource::Inline(Arc::new(RouteConfig {
                    name: "routes".into(),
                    virtual_hosts: vec![VirtualHost {
                        name: "host".into(),
                        domains: vec![Domain::Exact("server.test".to_owned())],
                        routes: vec![route.into()],
                        overrides: Default::default(),
                        headers: Default::default(),
                    }],
                    headers: Default::default(),
                    most_specific_wins: false,
                    ignore_port: false,
                })),
                filters: filters.into_iter().collect(),
                max_stream_duration: None,
                stream_idle_timeout: None,
                upgrades: Vec::new(),
                strip_port: Default::default(),
            },
        }],
        default_chain: None,
    }
}

pub(super) fn gate(from: u8) -> Gate {
    Gate {
        from,
        bound: Arc::default(),
    }
}

fn gone(kind: SourceErrorKind) -> Event {
    Event::Gone(SourceError {
        kind,
        text: "told so".into(),
    })
}

async fn mesh() -> (Mesh, Arc<Told>) {
    mesh_with(|builder| builder).await
}

pub(super) async fn mesh_with(
    change: impl FnOnce(MeshBuilder) -> MeshBuilder,
) -> (Mesh, Arc<Told>) {
    let told = Arc::new(Told::default());
    let bootstrap = bootstrap().server_listener_template("server/%s");
    let builder = Mesh::builder()
        .bootstrap(bootstrap.build().unwrap())
        .source(Arc::clone(&told) as _);
    (change(builder).build().await.unwrap(), told)
}

async fn mode(running: &Running, wanted: impl Fn(&ServingMode) -> bool) {
    let mut states = running.states.clone();
    let wanted = |states: &Vec<_>| {
        let last: Option<&crate::ServingState> = states.last();
        last.is_some_and(|last| wanted(&last.mode))
    };
    states.wait_for(wanted).await.unwrap();
}

pub(super) async fn started(server: impl FnOnce(Server) -> Server) -> (Running, Arc<Told>) {
    let (mesh, told) = mesh().await;
    let server = server(Server::new(&mesh));
    let running = Running::start(&mesh, server, |_| say("served"));
    while !told.is_watched() {
        tokio::task::yield_now().await;
    }
    (running, told)
}

pub(super) async fn status(client: &mut H2, path: &str) -> StatusCode {
    client.send_request(get(path)).await.unwrap().status()
}

#[tokio::test(start_paused = true)]
async fn connections_wait_for_the_first_listener_and_follow_each_change_of_policy() {
    let (running, told) = started(|server| server).await;
    mode(&running, |mode| *mode == ServingMode::Starting).await;
    let io = running.connect();
    let first = gate(2);
    told.listener(&first);
    let mut client = h2(io).await.0;
    assert_eq!(status(&mut client, "/").await, StatusCode::OK);
    assert_eq!(status(&mut client, "/wait").await, StatusCode::OK);
    // The connection's part is decided once, and not again for a listener that is the same.
    told.listener(&first);
    assert_eq!(status(&mut client, "/").await, StatusCode::OK);
    assert_eq!(first.bound.load(Ordering::Relaxed), 1);

    // Another policy applies to the next request of the same connection.
    let second = gate(9);
    told.listener(&second);
    while status(&mut client, "/").await != StatusCode::FORBIDDEN {}
    let response = client.send_request(get("/wait")).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(text(response).await, "not you");
    assert_eq!(second.bound.load(Ordering::Relaxed), 1);
    let connections = running.mesh.connections().list();
    assert_eq!(connections.len(), 1);
    assert_eq!(connections[0].state, ConnectionState::Open);
    let states = running.states.borrow();
    let modes: Vec<_> = states.iter().map(|state| &state.mode).collect();
    assert_eq!(modes, [&ServingMode::Starting, &ServingMode::Serving]);
}

#[tokio::test(start_paused = true)]
async fn a_host_without_routes_is_not_served() {
    let (running, told) = started(|server| server).await;
    told.listener(&gate(2));
    let mut client = running.h2().await;
    let mut request = get("/");
    *request.uri_mut() = "http://other.test/".parse().unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    // What the configuration is called stays here.
    assert_eq!(text(response).await, "no route takes the request");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_listener_drains_its_connections_and_closes_others_without_a_byte() {
    let (running, told) = started(|server| server).await;
    told.listener(&gate(2));
    let (mut client, end) = h2(running.connect()).await;
    assert_eq!(status(&mut client, "/").await, StatusCode::OK);
    let call = client.send_request(get("/wait"));
    told.say(gone(SourceErrorKind::DoesNotExist));
    mode(
        &running,
        |mode| matches!(mode, ServingMode::NotServing(error) if &*error.text == "told so"),
    )
    .await;
    let connections = running.mesh.connections().list();
    assert!(matches!(
        connections[0].state,
        ConnectionState::Draining(Ending::ListenerChanged)
    ));

    let mut refused = running.connect();
    let _ = refused.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let mut got = Vec::new();
    refused.read_to_end(&mut got).await.unwrap();
    assert!(got.is_empty(), "{got:?}");

    let _ = call.await;
    let _ = end.await.unwrap();
    told.listener(&gate(2));
    mode(&running, |mode| *mode == ServingMode::Serving).await;
    let mut client = running.h2().await;
    assert_eq!(status(&mut client, "/").await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn what_code_says_is_in_force_only_while_no_listener_has_come() {
    let use_plaintext = |server: Server| server.on_missing(OnMissing::Use(ServerTls::Plaintext));
    let (running, told) = started(use_plaintext).await;
    // Silence, for as long as a resource may take.
    let mut client = running.h2().await;
    assert_eq!(status(&mut client, "/").await, StatusCode::OK);
    told.listener(&gate(9));
    while status(&mut client, "/").await != StatusCode::FORBIDDEN {}
    // Once there was one, its deletion is an order.
    told.say(gone(SourceErrorKind::DoesNotExist));
    mode(&running, |mode| matches!(mode, ServingMode::NotServing(_))).await;

    let (running, told) = started(use_plaintext).await;
    told.say(gone(SourceErrorKind::Invalid));
    mode(&running, |mode| matches!(mode, ServingMode::NotServing(_))).await;
    let mut refused = running.connect();
    let mut got = Vec::new();
    refused.read_to_end(&mut got).await.unwrap();
    tokio::time::sleep(100 * SECOND).await;
    assert!(matches!(
        running.states.borrow().last().unwrap().mode,
        ServingMode::NotServing(_)
    ));
}
