use std::net::SocketAddr;

use mesh_core::{
    Mesh,
    bootstrap::{Bootstrap, ServerFeatures},
    testing::ControlPlane,
};
use serde_json::{Value, json};

use crate::{Answer, Call, CoreClient, CoreServer, OurClient, OurServer, PATIENCE, Security};

/// Whose a client or a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// gRPC C-core's.
    Core,
    /// Ours.
    Ours,
}

/// A client of either side, for scenarios that both must pass.
#[derive(Debug)]
pub enum Client {
    /// gRPC C-core's.
    Core(Box<CoreClient>),
    /// Ours.
    Ours(OurClient),
}

/// A server of either side that does what the control plane says.
#[derive(Debug)]
pub enum Server {
    /// gRPC C-core's.
    Core(Box<CoreServer>),
    /// Ours.
    Ours(OurServer),
}

// === impl Client ===

impl Client {
    /// Starts as this node of the control plane.
    pub async fn start(side: Side, control_plane: &ControlPlane, node: &str) -> Self {
        match side {
            Side::Core => {
                let client = CoreClient::start(&control_plane.bootstrap_json(node));
                Self::Core(Box::new(client))
            }
            Side::Ours => Self::Ours(OurClient::new(control_plane.mesh(node).await)),
        }
    }

    /// Starts as this node of the control plane, to which its bootstrap gives these features:
    /// `delta` counts with ours alone, C-core's speaks no other variant than state of the world.
    pub async fn with_features(
        side: Side,
        control_plane: &ControlPlane,
        node: &str,
        features: ServerFeatures,
    ) -> Self {
        let server = control_plane.xds_server().features(features);
        match side {
            Side::Core => {
                let bootstrap = control_plane.bootstrap_json(node);
                let mut bootstrap: Value = serde_json::from_str(&bootstrap).expect("it is JSON");
                let strict = features.fail_on_data_errors;
                let features = strict.then_some("fail_on_data_errors");
                let features: Vec<_> = ["xds_v3"].into_iter().chain(features).collect();
                bootstrap["xds_servers"][0]["server_features"] = json!(features);
                Self::Core(Box::new(CoreClient::start(&bootstrap.to_string())))
            }
            Side::Ours => {
                let bootstrap = Bootstrap::builder().server(server).node_id(node);
                let bootstrap = bootstrap.build().expect("a server is all it needs");
                let mesh = Mesh::builder().bootstrap(bootstrap).build().await;
                Self::Ours(OurClient::new(mesh.expect("a bootstrap is all it needs")))
            }
        }
    }

    /// Makes the calls one after another.
    pub async fn call(&mut self, call: &Call) -> Vec<Answer> {
        match self {
            Self::Core(client) => client.call(call).await,
            Self::Ours(client) => client.call(call).await,
        }
    }

    /// Makes one call.
    pub async fn once(&mut self, call: &Call) -> Answer {
        let mut answers = self.call(&call.clone().times(1)).await;
        answers.remove(0)
    }

    /// Makes the calls again and again until they are answered so.
    ///
    /// # Panics
    /// If they never are.
    pub async fn until(&mut self, call: &Call, what: &str, holds: impl Fn(&[Answer]) -> bool) {
        let mut last = Vec::new();
        let waits = async {
            loop {
                last = self.call(call).await;
                if holds(&last) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, waits).await.is_err() {
            panic!("never {what}; at last {last:?}");
        }
    }
}

// === impl Server ===

impl Server {
    /// Starts as this node of the control plane, on a port of the system's choice, and calls
    /// itself so.
    pub async fn start(side: Side, control_plane: &ControlPlane, node: &str) -> Self {
        match side {
            Side::Core => {
                let bootstrap = control_plane.bootstrap_json(node);
                let server = CoreServer::start(node, &Security::Xds, Some(&bootstrap)).await;
                Self::Core(Box::new(server))
            }
            Side::Ours => {
                let mesh = control_plane.mesh(node).await;
                Self::Ours(OurServer::start(node, &mesh).await)
            }
        }
    }

    /// Where it listens, or will once it may.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Core(server) => server.address(),
            Self::Ours(server) => server.address(),
        }
    }
}
