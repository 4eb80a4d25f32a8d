use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::json;

use crate::{Answer, Call, Failure, Reply, Security, Status, process::Process};

/// A client that is gRPC C-core.
#[derive(Debug)]
pub struct CoreClient(Process);

/// A server that is gRPC C-core, and answers calls of any method. Ends when dropped.
#[derive(Debug)]
pub struct CoreServer {
    address: SocketAddr,
    _process: Process,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Ok { ok: Reply },
    Failed(Failure),
}

#[derive(Deserialize)]
struct Started {
    address: SocketAddr,
}

// === impl CoreClient ===

impl CoreClient {
    /// Starts as the node that the bootstrap describes.
    pub fn start(bootstrap: &str) -> Self {
        Self(Process::start("client.py", &[], Some(bootstrap)))
    }

    /// Makes the calls one after another.
    pub async fn call(&mut self, call: &Call) -> Vec<Answer> {
        self.0.send(call).await;
        let lines: Vec<Line> = self.0.receive().await;
        let answers = lines.into_iter().map(|line| match line {
            Line::Ok { ok } => Ok(ok),
            Line::Failed(failure) => Err(failure),
        });
        answers.collect()
    }

    /// What the client status discovery service at this address tells, or this client's own.
    pub async fn status(&mut self, of: Option<SocketAddr>) -> Status {
        self.0.send(&json!({ "status": of })).await;
        Status::of(self.0.receive().await)
    }
}

// === impl CoreServer ===

impl CoreServer {
    /// Starts on a port of the system's choice. What it does there the control plane says, if
    /// `security` is [`Security::Xds`] and the bootstrap describes a node.
    pub async fn start(name: &str, security: &Security, bootstrap: Option<&str>) -> Self {
        let config = json!({ "name": name, "security": security }).to_string();
        let mut process = Process::start("server.py", &[config], bootstrap);
        let started: Started = process.receive().await;
        Self {
            address: started.address,
            _process: process,
        }
    }

    /// Where it listens, or will once it may.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
