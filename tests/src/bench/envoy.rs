//! Envoys as sidecars, with what our mesh has from its control plane: the same route, retries, circuit
//! breaker, timeout and fault filter, and over mTLS the same access rules.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    runtime,
    time::{sleep, timeout},
};

use super::{BoxError, Folder, Process};
use crate::loaded::HEADERS;

/// The variable that says where Envoy is.
pub const PROGRAM: &str = "MESH_PEERS_ENVOY";
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked whether it is there.
const LOOK: Duration = Duration::from_millis(20);

/// How two Envoys are to be, one beside a client and one beside its server.
#[derive(Debug, Clone, Copy)]
pub struct Sidecars<'a> {
    /// Envoy.
    pub program: &'a OsStr,
    /// What clients ask for; `None`: any path.
    pub path: Option<&'a str>,
    /// HTTP/1.1 otherwise.
    pub http2: bool,
    /// The calls are of gRPC.
    pub grpc: bool,
    /// `None`: plaintext between them, and no access rules.
    pub mtls: Option<Mtls<'a>>,
}

/// Who they are.
#[derive(Debug, Clone, Copy)]
pub struct Mtls<'a> {
    /// Beside the client.
    pub client: Side<'a>,
    /// Beside the server.
    pub server: Side<'a>,
}

/// A sidecar's identity.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Has `chain.pem`, `key.pem` and `roots.pem`.
    pub files: &'a Path,
    /// Its SPIFFE ID.
    pub id: &'a str,
}

/// An Envoy with one listener. Ends when dropped.
#[derive(Debug)]
pub struct Envoy {
    /// It.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    _folder: Folder,
}

// === impl Sidecars ===

impl Sidecars<'_> {
    /// Takes plaintext from the client, routes it, and sends it on.
    ///
    /// # Errors
    /// If it does not start.
    pub fn beside_client(&self, server: SocketAddr) -> Result<Envoy, BoxError> {
        let mut abort = json!({ "percentage": { "numerator": 0 } });
        let (status, value) = match self.grpc {
            true => ("grpc_status", 14),
            false => ("http_status", 503),
        };
        abort[status] = value.into();
        let filters = json!([{
            "name": "envoy.filters.http.fault",
            "typed_config": {
                "@type": extension("filters.http.fault.v3.HTTPFault"),
                "abort": abort,
            },
        }]);
        let retry_on = match self.grpc {
            true => "unavailable",
            false => "5xx,reset,connect-failure",
        };
        let [tenant, version, shard] = HEADERS;
        let mut matcher = json!({ "headers": [
            { "name": tenant.0, "string_match": { "exact": tenant.1 } },
            { "name": version.0, "string_match": { "prefix": "v7" } },
            { "name": shard.0, "present_match": true },
        ] });
        match self.path {
            Some(path) => matcher["path"] = path.into(),
            None => matcher["prefix"] = "/".into(),
        }
        let route = json!({
            "match": matcher,
            "route": {
                "weighted_clusters": { "clusters": [
                    { "name": "v1", "weight": 90 },
                    { "name": "v2", "weight": 10 },
                ] },
                "timeout": "15s",
                "retry_policy": { "retry_on": retry_on, "num_retries": 2 },
            },
        });
        let tls = self.mtls.map(|Mtls { client, server }| {
            json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": extension("transport_sockets.tls.v3.UpstreamTlsContext"),
                    "common_tls_context": tls_context(client.files, server.id, self.http2),
                },
            })
        });
        let clusters = ["v1", "v2"].map(|name| cluster(name, server, self.http2, tls.as_ref()));
        let listener = listener(filters, route, None);
        Envoy::start(self.program, "client", listener, json!(clusters))
    }

    /// Takes what the other sends, applies the access rules, and sends plaintext to the server.
    ///
    /// # Errors
    /// If it does not start.
    pub fn beside_server(&self, server: SocketAddr) -> Result<Envoy, BoxError> {
        let policy = |path: Option<&str>, identity: &str| {
            let permission = match path {
                Some(path) => json!({ "url_path": { "path": { "exact": path } } }),
                None => json!({ "any": true }),
            };
            json!({
                "permissions": [permission],
                "principals": [{ "authenticated": { "principal_name": { "exact": identity } } }],
            })
        };
        let filters = self.mtls.map_or(json!([]), |mtls| {
            let mut policies = serde_json::Map::new();
            for number in 0..9 {
                let identity = format!("spiffe://bench/other-{number}");
                let policy = policy(Some(&format!("/others/{number}")), &identity);
                policies.insert(format!("other-{number}"), policy);
            }
            policies.insert("client".to_owned(), policy(self.path, mtls.client.id));
            json!([{
                "name": "envoy.filters.http.rbac",
                "typed_config": {
                    "@type": extension("filters.http.rbac.v3.RBAC"),
                    "rules": { "action": "ALLOW", "policies": policies },
                },
            }])
        });
        let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "app" } });
        let tls = self.mtls.map(|Mtls { client, server }| {
            json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": extension("transport_sockets.tls.v3.DownstreamTlsContext"),
                    "require_client_certificate": true,
                    "common_tls_context": tls_context(server.files, client.id, self.http2),
                },
            })
        });
        let clusters = json!([cluster("app", server, self.http2, None)]);
        Envoy::start(
            self.program,
            "server",
            listener(filters, route, tls),
            clusters,
        )
    }
}

// === impl Envoy ===

impl Envoy {
    fn start(
        program: &OsStr,
        side: &str,
        listener: Value,
        clusters: Value,
    ) -> Result<Self, BoxError> {
        static STARTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = STARTED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = Folder::new(&format!("envoy-{side}-{number}"))?;
        let (config, admin) = (
            folder.path().join("config.json"),
            folder.path().join("admin"),
        );
        let bootstrap = json!({
            "admin": { "address": socket(([127, 0, 0, 1], 0).into()) },
            "static_resources": { "listeners": [listener], "clusters": clusters },
        });
        std::fs::write(&config, bootstrap.to_string())?;
        let mut command = Command::new(program);
        command
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "error",
            ])
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin)
            .stderr(Stdio::inherit());
        let process = Process::of("Envoy", command)?;
        let address = async {
            loop {
                match serving(&admin) {
                    Some(address) => return address,
                    None => sleep(LOOK).await,
                }
            }
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let address = runtime
            .block_on(async { timeout(PATIENCE, address).await })
            .map_err(|_| "Envoy does not serve; see its output above")?;
        Ok(Self {
            process,
            address,
            _folder: folder,
        })
    }
}

/// Where it listens, once it does.
fn serving(admin: &Path) -> Option<SocketAddr> {
    let admin = std::fs::read_to_string(admin).ok()?.parse().ok()?;
    if !get(admin, "/ready")?.ends_with("LIVE\n") {
        return None;
    }
    let text = get(admin, "/listeners")?;
    // A line each: `name::address`.
    text.lines().last()?.rsplit_once("::")?.1.parse().ok()
}

/// What its admin interface answers.
fn get(admin: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(admin).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    // It may be in chunks; each thing asked for fits into one.
    let body = text.split_once("\r\n\r\n")?.1;
    let chunk = body.split_once("\r\n").map(|(_, rest)| rest);
    let body = chunk.map_or(body, |rest| {
        rest.split_once("\r\n").map_or(rest, |chunk| chunk.0)
    });
    Some(body.to_owned())
}

fn extension(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": {
        "address": address.ip().to_string(),
        "port_value": address.port(),
    } })
}

/// One that has these filters and this route.
fn listener(filters: Value, route: Value, tls: Option<Value>) -> Value {
    let mut filters = filters.as_array().cloned().unwrap_or_default();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": extension("filters.http.router.v3.Router") },
    }));
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": extension(
                "filters.network.http_connection_manager.v3.HttpConnectionManager",
            ),
            "stat_prefix": "bench",
            "normalize_path": true,
            "route_config": { "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [route],
            }] },
            "http_filters": filters,
        },
    }] });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({
        "name": "bench",
        "address": socket(([127, 0, 0, 1], 0).into()),
        "filter_chains": [chain],
    })
}

fn cluster(name: &str, endpoint: SocketAddr, http2: bool, tls: Option<&Value>) -> Value {
    let options = match http2 {
        true => json!({ "http2_protocol_options": {} }),
        false => json!({ "http_protocol_options": {} }),
    };
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "circuit_breakers": { "thresholds": [{ "max_requests": 1024 }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(endpoint) } }] }],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": extension("upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": options,
            },
        },
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls.clone();
    }
    cluster
}

/// With the files of one side, and the identity that the other must have.
fn tls_context(files: &Path, peer: &str, http2: bool) -> Value {
    let file = |name: &str| json!({ "filename": files.join(name) });
    json!({
        "alpn_protocols": [if http2 { "h2" } else { "http/1.1" }],
        "tls_params": { "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{
            "certificate_chain": file("chain.pem"),
            "private_key": file("key.pem"),
        }],
        "validation_context": {
            "trusted_ca": file("roots.pem"),
            "match_typed_subject_alt_names": [
                { "san_type": "URI", "matcher": { "exact": peer } },
            ],
        },
    })
}
