//! Envoy, with a configuration that does not change, or with one from a control plane.

pub mod config;

use std::{collections::HashMap, env, fs, net::SocketAddr, path::Path, process::Stdio};

use envoy_types::pb::envoy::config::{
    bootstrap::v3::{Admin, Bootstrap, bootstrap::StaticResources},
    cluster::v3::Cluster,
    listener::v3::Listener,
};
use mesh_core::testing::ControlPlane;
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{interval, timeout},
};
use tonic::transport::Endpoint;

use self::config::Variant;
use crate::{
    Answer, Call, LOOK, PATIENCE,
    http::{get, post},
    unary::unary,
    until,
};

/// An Envoy. Ends when dropped.
#[derive(Debug)]
pub struct Envoy {
    admin: SocketAddr,
    listeners: HashMap<String, SocketAddr>,
    process: Child,
    files: TempDir,
}

/// Its standard output, where the access log goes.
const OUTPUT: &str = "output";

impl Envoy {
    /// Starts with these listeners and clusters, on ports of the system's choice.
    ///
    /// # Panics
    /// If it does not, as with a configuration that is not valid.
    pub async fn start(listeners: Vec<Value>, clusters: Vec<Value>) -> Self {
        let mut envoy = Self::run(json!({
            "static_resources": { "listeners": listeners, "clusters": clusters },
        }))
        .await;
        envoy.listeners = envoy.listening().await;
        envoy
    }

    /// The same with listeners and clusters as messages: what is in them is not written anew.
    ///
    /// # Panics
    /// If it does not, as with a configuration that is not valid.
    pub async fn start_with(listeners: Vec<Listener>, clusters: Vec<Cluster>) -> Self {
        let bootstrap = Bootstrap {
            static_resources: Some(StaticResources {
                listeners,
                clusters,
                ..StaticResources::default()
            }),
            admin: Some(Admin {
                address: Some(config::address(([127, 0, 0, 1], 0).into())),
                ..Admin::default()
            }),
            ..Bootstrap::default()
        };
        // It tells what is in a file by its name.
        let mut envoy = Self::launch("config.pb", &bootstrap.encode_to_vec()).await;
        envoy.listeners = envoy.listening().await;
        envoy
    }

    /// Starts as this node of a control plane, which says all else, and is told of its loads.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn follow(control_plane: &ControlPlane, node: &str, variant: Variant) -> Self {
        let address = control_plane.address().expect("it listens");
        Self::run(config::dynamic(address, node, variant)).await
    }

    /// Starts with this bootstrap, and an admin interface.
    async fn run(mut bootstrap: Value) -> Self {
        bootstrap["admin"] = json!({ "address": config::socket(([127, 0, 0, 1], 0).into()) });
        Self::launch("config.json", bootstrap.to_string().as_bytes()).await
    }

    /// Starts with a bootstrap in a file of this name.
    async fn launch(name: &str, bootstrap: &[u8]) -> Self {
        let program = env::var_os("MESH_PEERS_ENVOY")
            .expect("MESH_PEERS_ENVOY is not set: start the suite with tests/peers/run");
        let files = TempDir::new().expect("a temporary directory can be made");
        let (config, address) = (files.path().join(name), files.path().join("admin"));
        fs::write(&config, bootstrap).expect("a temporary file can be written");
        let output = fs::File::create(files.path().join(OUTPUT));
        let output = output.expect("a temporary file can be written");
        let mut process = Command::new(program)
            .args(["--concurrency", "1", "--disable-hot-restart"])
            .args(["--log-level", "error"])
            // Soon in place of 10 s and 10 min.
            .args(["--file-flush-interval-msec", "10", "--drain-time-s", "1"])
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&address)
            .stdout(Stdio::from(output))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("Envoy does not start: {error}"));
        let ready = timeout(PATIENCE, ready(&address, &mut process)).await;
        let admin = ready.expect("Envoy does not become ready");
        Self {
            admin,
            listeners: HashMap::new(),
            process,
            files,
        }
    }

    /// Where it listens now, by the name of the listener.
    async fn listening(&self) -> HashMap<String, SocketAddr> {
        let mut listeners = HashMap::new();
        let status = self.admin("/listeners?format=json").await;
        let status: Value = serde_json::from_str(&status).expect("its admin answers in JSON");
        for listener in status["listener_statuses"].as_array().into_iter().flatten() {
            let name = listener["name"].as_str().expect("a listener has a name");
            let at = &listener["local_address"]["socket_address"];
            let port = at["port_value"].as_u64().expect("a listener has a port");
            let port = u16::try_from(port).expect("a port has 16 bits");
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            listeners.insert(name.to_owned(), address);
        }
        listeners
    }

    /// Makes gRPC calls through a listener that the control plane may change, each time over a new
    /// connection. `None`: there is no such listener.
    pub async fn call(&self, listener: &str, call: &Call) -> Option<Vec<Answer>> {
        let address = self.listening().await.remove(listener)?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.expect("an address is a URI").connect_lazy();
        Some(unary(channel, call).await)
    }

    /// Where the listener of this name listens that it was started with.
    ///
    /// # Panics
    /// If there is none.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.listeners[listener]
    }

    /// What its admin interface answers.
    pub async fn admin(&self, path: &str) -> String {
        get(self.admin, path).await
    }

    /// Has its admin interface do something.
    pub async fn order(&self, path: &str) {
        post(self.admin, path).await;
    }

    /// Waits until its access log has this line: path, status and response flags.
    ///
    /// # Panics
    /// If it never has.
    pub async fn logs(&self, line: &str) {
        let mut log = String::new();
        let output = self.files.path().join(OUTPUT);
        let wait = until("logged", async || {
            log = fs::read_to_string(&output).unwrap_or_default();
            log.lines().any(|logged| logged == line)
        });
        if timeout(PATIENCE / 2, wait).await.is_err() {
            panic!("no {line:?} in {log:?}");
        }
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it never does.
    pub async fn ended(&mut self) {
        let ended = timeout(PATIENCE, self.process.wait()).await;
        let _ = ended.expect("Envoy does not end");
    }

    /// Waits until a counter or a gauge is at least this.
    ///
    /// # Panics
    /// If it never is.
    pub async fn counts(&self, name: &str, least: u64) {
        let what = format!("{name} >= {least}");
        until(&what, async || self.stat(name).await >= least).await;
    }

    /// A counter or a gauge of its statistics.
    pub async fn stat(&self, name: &str) -> u64 {
        let stats = self.admin(&format!("/stats?filter=^{name}$")).await;
        let value = stats
            .trim()
            .rsplit_once(": ")
            .map(|(_, value)| value.parse());
        value
            .unwrap_or_else(|| panic!("no statistic {name:?}: {stats:?}"))
            .expect("a number")
    }
}

/// Waits until it serves; the address of its admin interface, which it writes to a file.
async fn ready(address: &Path, process: &mut Child) -> SocketAddr {
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        if let Ok(Some(status)) = process.try_wait() {
            panic!("Envoy ended: {status}");
        }
        let written = fs::read_to_string(address).ok();
        if let Some(admin) = written.and_then(|text| text.parse().ok())
            && get(admin, "/ready").await.starts_with("LIVE")
        {
            return admin;
        }
    }
}
