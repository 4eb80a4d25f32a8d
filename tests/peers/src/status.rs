use std::{collections::BTreeMap, net::SocketAddr};

use mesh_core::Mesh;
use mesh_tonic::Csds;
use serde::Deserialize;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;

/// What a client has of a resource, as its client status discovery service tells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Told {
    /// The name of its `ClientResourceStatus`, such as `ACKED`.
    pub state: String,
    /// The version in force.
    pub version: String,
    /// Whether it is said when that came.
    pub updated: bool,
    /// A hash of the contents in force.
    pub contents: Option<String>,
    /// The version that was refused last.
    pub refused: Option<String>,
    /// Why: each client says it in words of its own.
    pub details: Option<String>,
}

/// All that a client has, by type and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its node.
    pub node: String,
    /// What was told of each resource.
    pub resources: BTreeMap<(String, String), Told>,
}

/// Serves the status of a mesh of ours. Ends when dropped.
#[derive(Debug)]
pub struct StatusServer {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

#[derive(Deserialize)]
pub(crate) struct Line {
    fetched: Vec<Config>,
    streamed: Vec<Config>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Config {
    node: String,
    resources: Vec<Resource>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Resource {
    r#type: String,
    name: String,
    #[serde(flatten)]
    told: Told,
}

// === impl Status ===

impl Status {
    /// All scopes together: C-core's client has one for each target, ours one for all.
    ///
    /// # Panics
    /// If there is none, or the two methods of the service tell two stories.
    pub(crate) fn of(line: Line) -> Self {
        assert_eq!(line.fetched, line.streamed);
        let node = line.fetched.first().expect("a scope").node.clone();
        let configs = line.fetched.into_iter();
        Self {
            node,
            resources: configs
                .flat_map(|config| config.resources)
                .map(|resource| ((resource.r#type, resource.name), resource.told))
                .collect(),
        }
    }
}

// === impl StatusServer ===

impl StatusServer {
    /// Starts on a port of the system's choice.
    pub async fn start(mesh: &Mesh) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback has a port");
        let address = listener.local_addr().expect("a listener has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tonic::transport::Server::builder()
            .add_service(Csds::new(mesh))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = stopped.await;
            });
        tokio::spawn(serving);
        Self {
            address,
            _stop: stop,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
