use std::{collections::BTreeSet, fmt, net::SocketAddr, sync::Arc, time::Duration};

use envoy_types::pb::google::protobuf::Any;
use parking_lot::Mutex;
use prost::{Message, Name};
use tonic::Status;

use super::{
    Nack, Push, Raw, Request, ServerListener, Service,
    memory::InMemory,
    port::Port,
    providers,
    push::{is_acked, take_nack, waiting_for},
    render::{SERVER_LISTENER_TEMPLATE, pack, type_url},
    server::ServerState,
    service::{Draft, ServiceState},
    shared::{Shared, State},
    store::{Changed, Scope, Store},
};
use crate::{
    Code, Mesh,
    bootstrap::{Bootstrap, CertificatePlugin, ServerConfig, ServerConfigBuilder, ServerFeatures},
    config::Kind,
    runtime::SideCall,
};

/// A control plane in this process: an ADS server that any xDS client can use, under
/// either variant of the protocol: state of the world and incremental (delta). See the [module](super) for an introduction.
///
/// A cheap handle: dropping the last clone ends the server, its connections and its tasks.
#[derive(Clone)]
pub struct ControlPlane {
    server: Arc<Running>,
    scope: Scope,
}

/// What is sent in place of a resource. See [`ControlPlane::corrupt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corruption {
    /// The resource twice.
    Duplicated,
    /// The resource without its last byte.
    Truncated,
    /// The resource under the type URL of another kind.
    WrongType,
}

/// Lives as long as there is a handle.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    port: Mutex<Port>,
}

impl ControlPlane {
    /// Starts on a loopback port that the system chooses.
    ///
    /// # Panics
    /// If loopback has no port to give.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared::new());
        match Port::open(&shared).await {
            Ok((address, port)) => Self::new(shared, Some(address), port),
            Err(error) => panic!("cannot listen on loopback: {error}"),
        }
    }

    /// Starts without a network: [`mesh`](Self::mesh) reaches it, and what is given its
    /// [`side_call`](Self::side_call). For tests with paused time, which sockets do not follow.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(Shared::new()), None, Port::Absent)
    }

    fn new(shared: Arc<Shared>, address: Option<SocketAddr>, port: Port) -> Self {
        let server = Running {
            shared,
            address,
            port: Mutex::new(port),
        };
        Self {
            server: Arc::new(server),
            scope: None,
        }
    }

    /// Where it listens, also while it is [stopped](Self::stop); `None` in memory.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.address
    }

    /// Streams to this control plane without a network, whichever server they are asked for.
    pub fn side_call(&self) -> Arc<dyn SideCall> {
        Arc::new(InMemory(Arc::clone(self.shared())))
    }

    /// What a node of this id needs to know: where this control plane is, how a server's listener
    /// is called, and its [certificate providers](Self::certificate_provider).
    pub fn bootstrap(&self, node_id: &str) -> Bootstrap {
        let mut builder = Bootstrap::builder()
            .server(self.xds_server())
            .node_id(node_id)
            .server_listener_template(SERVER_LISTENER_TEMPLATE);
        for (instance, config) in self.shared().state().providers.of(node_id) {
            builder = builder.certificate_provider(instance, config);
        }
        builder
            .build()
            .expect("what certificate_provider took is a valid bootstrap")
    }

    /// Whether bootstraps that are made from here on ask for the incremental protocol, with the
    /// feature `delta`. By default they do if the environment variable `MESH_TESTING_ADS` is
    /// `delta`, and do not if it is `sotw` or not set: that runs a whole suite under either.
    /// A client that opens a stream of the other variant is served all the same.
    pub fn set_delta(&self, delta: bool) {
        self.shared().change(|state| state.delta = delta);
    }

    /// The features that this server has in bootstraps, to begin with where a test makes its own.
    pub fn features(&self) -> ServerFeatures {
        ServerFeatures {
            delta: self.shared().state().delta,
            ..ServerFeatures::default()
        }
    }

    /// This control plane as an entry of a bootstrap's `xds_servers`, for those that name several:
    /// control planes to fall back to (gRFC A71), or those of an authority (gRFC A47).
    ///
    /// ```
    /// # use mesh_core::{bootstrap::{AuthorityConfig, Bootstrap}, testing::ControlPlane};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (primary, backup) = (ControlPlane::start().await, ControlPlane::start().await);
    /// let partner = ControlPlane::start().await;
    /// let bootstrap = Bootstrap::builder()
    ///     .server(primary.xds_server())
    ///     .server(backup.xds_server())
    ///     .authority("partner.example", AuthorityConfig::builder().server(partner.xds_server()))
    ///     .node_id("test-client")
    ///     .build()?;
    /// let mesh = mesh_core::Mesh::builder().bootstrap(bootstrap).build().await?;
    /// # Ok(()) }
    /// ```
    pub fn xds_server(&self) -> ServerConfigBuilder {
        ServerConfig::insecure(self.uri()).features(self.features())
    }

    /// Adds a certificate provider, or replaces the one of this name, in the bootstraps that are
    /// made from here on: all of them, or through a [view](Self::view) those of its node.
    ///
    /// # Panics
    /// If it could not be in a bootstrap: it names no file, or an interval of zero.
    #[track_caller]
    pub fn certificate_provider(
        &self,
        instance: impl Into<String>,
        config: impl Into<CertificatePlugin>,
    ) {
        let (instance, config) = (instance.into(), config.into());
        let checked = Bootstrap::builder()
            .server(self.xds_server())
            .certificate_provider(&instance, config.clone())
            .build();
        if let Err(error) = checked {
            panic!("{error}");
        }
        let providers = |state: &mut State| state.providers.put(&self.scope, instance, config);
        self.shared().change(providers);
    }

    /// A mesh of this node id that gets its configuration from here.
    pub async fn mesh(&self, node_id: &str) -> Mesh {
        let mut builder = Mesh::builder().bootstrap(self.bootstrap(node_id));
        if self.address().is_none() {
            builder = builder.side_calls(self.side_call());
        }
        builder
            .build()
            .await
            .expect("a given bootstrap is all that building a mesh can lack")
    }

    /// The same for any gRPC client: the content of `GRPC_XDS_BOOTSTRAP_CONFIG`.
    pub fn bootstrap_json(&self, node_id: &str) -> String {
        let providers = self.shared().state().providers.of(node_id);
        let mut features = vec!["xds_v3"];
        features.extend(self.features().delta.then_some("delta"));
        serde_json::json!({
            "xds_servers": [{
                "server_uri": self.uri(),
                "channel_creds": [{ "type": "insecure" }],
                "server_features": features,
            }],
            "node": { "id": node_id },
            "certificate_providers": providers::json(&providers),
            "server_listener_resource_name_template": SERVER_LISTENER_TEMPLATE,
        })
        .to_string()
    }

    /// This control plane as one node sees it: what is applied through the new handle is layered
    /// over what all see, and its waits look at that node's streams only. A service is edited
    /// from what all see at that moment, and the node's own from then on.
    pub fn view(&self, node_id: impl Into<String>) -> Self {
        Self {
            server: Arc::clone(&self.server),
            scope: Some(node_id.into().into()),
        }
    }

    /// Describes a service, or edits the one of this name.
    pub fn service(&self, name: impl Into<String>) -> Service {
        Service::new(self.clone(), name.into())
    }

    /// Describes what the server that listens at this address does with its connections and
    /// requests, or edits it.
    pub fn server(&self, address: SocketAddr) -> ServerListener {
        ServerListener::new(self.clone(), address)
    }

    /// Puts a resource as it is, under the name that it carries (in field 1, as all xDS
    /// resources). One that a service made is replaced until the service is applied again.
    ///
    /// # Panics
    /// If it carries no name.
    #[track_caller]
    pub fn set<M: Message + Name>(&self, resource: &M) -> Push {
        let any = pack(resource);
        let name = match Named::decode(&any.value[..]) {
            Ok(Named { name }) if !name.is_empty() => name,
            _ => panic!("a {} without a name: use `set_any`", M::full_name()),
        };
        let url = any.type_url.clone();
        self.change(|store, scope| store.put(scope, &url, name, any))
    }

    /// Puts anything under a name, as a resource of a kind.
    pub fn set_any(&self, kind: Kind, name: impl Into<String>, any: Any) -> Push {
        let name = name.into();
        self.change(|store, scope| store.put(scope, type_url(kind), name, any))
    }

    /// Removes a resource; in a [view](Self::view), hides it.
    pub fn remove(&self, kind: Kind, name: &str) -> Push {
        self.change(|store, scope| store.remove(scope, type_url(kind), name))
    }

    /// Sends something broken in place of a resource, until its content changes or it is
    /// [repaired](Self::repair).
    ///
    /// # Panics
    /// If there is no such resource.
    pub fn corrupt(&self, kind: Kind, name: &str, corruption: Corruption) -> Push {
        self.corrupt_or_repair(kind, name, Some(corruption))
    }

    /// Sends a resource as it should be again.
    ///
    /// # Panics
    /// If there is no such resource.
    pub fn repair(&self, kind: Kind, name: &str) -> Push {
        self.corrupt_or_repair(kind, name, None)
    }

    /// Sends nothing until [`release`](Self::release): neither what is applied meanwhile nor
    /// answers to new subscriptions. What is applied in between goes out in one go.
    pub fn hold(&self) {
        self.shared().change(|state| state.held = true);
    }

    /// Sends what was held back.
    pub fn release(&self) {
        self.shared().change(|state| state.held = false);
    }

    /// Ends all open streams with UNAVAILABLE; their connections stay. Streams in raw mode are the
    /// test's own affair.
    pub fn drop_streams(&self) {
        self.end_streams(Code::Unavailable, "the control plane dropped the stream");
    }

    /// Ends all open streams with this status; their connections stay.
    pub fn end_streams(&self, code: Code, message: &str) {
        self.shared().change(|state| {
            for stream in state.streams.values_mut() {
                let code = tonic::Code::from_i32(code as i32);
                stream.end = Some(Status::new(code, message));
            }
        });
    }

    /// Cuts all connections without a word.
    pub fn drop_connections(&self) {
        self.shared().cut.send_replace(());
    }

    /// Stops listening and cuts all connections: further ones are refused. The port stays
    /// reserved. All is closed when this returns.
    ///
    /// # Panics
    /// If the port cannot be kept.
    pub async fn stop(&self) {
        let shared = self.shared();
        shared.change(|state| state.stopped = true);
        if let Some(address) = self.address() {
            let port = self.server.change_port();
            match port.reserve(address).await {
                Ok(port) => *self.server.port.lock() = port,
                Err(error) => panic!("cannot keep {address}: {error}"),
            }
        }
        self.drop_connections();
        self.until("all connections are closed", |c| c.connections() == 0)
            .await;
    }

    /// Listens again after [`stop`](Self::stop), on the same port and with the same resources.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn restart(&self) {
        if self.address().is_some() {
            let port = self.server.change_port();
            match port.reopen(self.shared()) {
                Ok(port) => *self.server.port.lock() = port,
                Err(error) => panic!("cannot listen on {:?} again: {error}", self.address()),
            }
        }
        self.shared().change(|state| state.stopped = false);
    }

    /// Hands all streams that open from here on to the test, which answers by hand.
    pub fn raw(&self) -> Raw {
        Raw::new(self.shared(), self.shared().patience())
    }

    /// Waits until the current version of a kind is accepted and in force, as
    /// [`Push::acked`](super::Push::acked) says: with at least one client, and with all that are
    /// subscribed to it. Returns the version.
    ///
    /// # Panics
    /// If a client rejects it, or not all accept it within the [patience](Self::set_patience).
    /// Says what was seen.
    pub async fn acked(&self, kind: Kind) -> u64 {
        let url = type_url(kind);
        let text = waiting_for("ACK", kind);
        self.shared()
            .wait(&text, |state| {
                let node = self.scope.as_deref().unwrap_or_default();
                let version = state.store.version(node, url);
                is_acked(state, &self.scope, url, version).then_some(version)
            })
            .await
    }

    /// Waits for the oldest rejection of a kind that was not handed out yet.
    ///
    /// # Panics
    /// If there is none within the [patience](Self::set_patience). Says what was seen.
    pub async fn nacked(&self, kind: Kind) -> Nack {
        let text = waiting_for("NACK", kind);
        self.shared()
            .wait(&text, |state| {
                take_nack(state, &self.scope, |nack| nack.kind == Some(kind))
            })
            .await
    }

    /// Waits until `condition` holds. It is looked at whenever a client connects, disconnects,
    /// opens or closes a stream, sends a request or is sent a response.
    ///
    /// # Panics
    /// If it does not hold within the [patience](Self::set_patience). Says what was seen.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        self.shared()
            .wait_unlocked(what, || condition(self).then_some(()))
            .await;
    }

    /// How long all waits, also those of raw streams that open later, go on before they panic:
    /// 10 s by default.
    pub fn set_patience(&self, patience: Duration) {
        self.shared().change(|state| state.patience = patience);
    }

    /// Bytes of all responses so far, to whichever client, without those of raw mode.
    pub fn bytes_sent(&self) -> u64 {
        self.shared().bytes_sent()
    }

    /// Streams that were opened so far, those in raw mode included.
    pub fn streams_opened(&self) -> u64 {
        self.shared().state().last_stream
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.shared().connections()
    }

    /// Open streams, without those in raw mode.
    pub fn streams(&self) -> usize {
        let state = self.shared().state();
        let streams = state.streams.values();
        streams.filter(|stream| self.sees(&stream.node)).count()
    }

    /// The names of this kind to which streams are subscribed now.
    pub fn subscriptions(&self, kind: Kind) -> BTreeSet<String> {
        let state = self.shared().state();
        state
            .streams
            .values()
            .filter(|stream| self.sees(&stream.node))
            .filter_map(|stream| stream.codec.progress(type_url(kind)))
            .flat_map(|subscription| subscription.names)
            .cloned()
            .collect()
    }

    /// The requests so far, oldest first. The oldest are forgotten where there are more than
    /// 10,000 of them, or of 200,000 names.
    pub fn requests(&self) -> Vec<Request> {
        let state = self.shared().state();
        let requests = state.log.requests.iter();
        requests
            .filter(|request| self.sees(&request.node_id))
            .cloned()
            .collect()
    }

    /// Forgets all requests and rejections so far.
    pub fn clear_log(&self) {
        self.shared().change(|state| state.log = Default::default());
    }

    pub(super) fn edit_service(&self, name: &str, edit: impl FnOnce(&mut Draft)) -> Push {
        self.change(|store, scope| {
            let name = name.to_owned();
            let mut draft = Draft::new(&name, store.described(scope, &name));
            edit(&mut draft);
            store.publish(scope, &name, draft.finish())
        })
    }

    pub(super) fn remove_service(&self, name: &str) -> Push {
        self.change(|store, scope| store.retract::<ServiceState>(scope, &name.to_owned()))
    }

    pub(super) fn edit_server(
        &self,
        address: SocketAddr,
        edit: impl FnOnce(&mut ServerState),
    ) -> Push {
        self.change(|store, scope| {
            let mut state: ServerState = store.described(scope, &address);
            edit(&mut state);
            store.publish(scope, &address, state)
        })
    }

    pub(super) fn remove_server(&self, address: SocketAddr) -> Push {
        self.change(|store, scope| store.retract::<ServerState>(scope, &address))
    }

    /// What a node would be sent.
    #[cfg(test)]
    pub(super) fn peek(
        &self,
        node: &str,
        url: &str,
        names: super::store::Names<'_>,
    ) -> Vec<Arc<Any>> {
        self.shared().state().store.served(node, url, names)
    }

    fn corrupt_or_repair(&self, kind: Kind, name: &str, how: Option<Corruption>) -> Push {
        self.change(
            |store, scope| match store.corrupt(scope, type_url(kind), name, how) {
                Some(changed) => changed,
                None => panic!("there is no {kind} {name:?}"),
            },
        )
    }

    fn change(&self, change: impl FnOnce(&mut Store, &Scope) -> Changed) -> Push {
        let changed = self
            .shared()
            .change(|state| change(&mut state.store, &self.scope));
        Push {
            shared: Arc::clone(self.shared()),
            scope: self.scope.clone(),
            changed,
        }
    }

    fn sees(&self, node: &str) -> bool {
        self.scope.as_deref().is_none_or(|scope| scope == node)
    }

    fn uri(&self) -> String {
        self.address().map_or_else(
            || "unix:/in-memory-control-plane".to_owned(),
            |a| a.to_string(),
        )
    }

    /// The node whose [view](Self::view) this is.
    pub(super) fn node(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.server.shared
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane")
            .field("address", &self.server.address)
            .field("view", &self.scope)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Takes the port to change its state; nobody else can meanwhile.
    fn change_port(&self) -> Port {
        std::mem::replace(&mut self.port.lock(), Port::Absent)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.port.get_mut().close();
        self.shared.change(|state| {
            state.stopped = true;
            state.raw = None;
        });
        self.shared.cut.send_replace(());
    }
}

/// What all xDS resources have in common: their name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Named {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}
