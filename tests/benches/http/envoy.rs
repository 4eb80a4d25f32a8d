//! Envoys as sidecars, with what our mesh has from its control plane.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use mesh_tests::{
    bench::{BoxError, Folder, Process},
    loaded::HEADERS,
};
use serde_json::{Value, json};
use tokio::{
    runtime,
    time::{sleep, timeout},
};

use crate::{
    app::PATH,
    scene::{CLIENT_ID, SERVER_ID, Scene},
};

/// The variable that says where Envoy is.
pub(crate) const PROGRAM: &str = "MESH_PEERS_ENVOY";
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked whether it is there.
const LOOK: Duration = Duration::from_millis(20);

/// An Envoy with one listener. Ends when dropped.
pub(crate) struct Envoy {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    _folder: Folder,
}

impl Envoy {
    /// Takes plaintext from the client, routes it, and sends it on over mTLS.
    pub(crate) fn beside_client(
        program: &OsStr,
        scene: &Scene,
        server: SocketAddr,
        http2: bool,
    ) -> Result<Self, BoxError> {
        let filters = json!([{
            "name": "envoy.filters.http.fault",
            "typed_config": {
                "@type": extension("filters.http.fault.v3.HTTPFault"),
                "abort": { "http_status": 503, "percentage": { "numerator": 0 } },
            },
        }]);
        let [tenant, version, shard] = HEADERS;
        let route = json!({
            "match": { "path": PATH, "headers": [
                { "name": tenant.0, "string_match": { "exact": tenant.1 } },
                { "name": version.0, "string_match": { "prefix": "v7" } },
                { "name": shard.0, "present_match": true },
            ] },
            "route": {
                "weighted_clusters": { "clusters": [
                    { "name": "v1", "weight": 90 },
                    { "name": "v2", "weight": 10 },
                ] },
                "timeout": "15s",
                "retry_policy": { "retry_on": "5xx,reset,connect-failure", "num_retries": 2 },
            },
        });
        let tls = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": extension("transport_sockets.tls.v3.UpstreamTlsContext"),
                "common_tls_context": tls_context(scene.client.1.path(), SERVER_ID, http2),
            },
        });
        let clusters = ["v1", "v2"].map(|name| cluster(name, server, http2, Some(&tls)));
        Self::start(
            program,
            "client",
            listener(filters, route, None),
            json!(clusters),
        )
    }

    /// Takes mTLS, applies the access rules, and sends plaintext to the server.
    pub(crate) fn beside_server(
        program: &OsStr,
        scene: &Scene,
        server: SocketAddr,
        http2: bool,
    ) -> Result<Self, BoxError> {
        let policy = |path: &str, identity: &str| {
            json!({
                "permissions": [{ "url_path": { "path": { "exact": path } } }],
                "principals": [{ "authenticated": { "principal_name": { "exact": identity } } }],
            })
        };
        let mut policies = serde_json::Map::new();
        for number in 0..9 {
            let identity = format!("spiffe://bench/other-{number}");
            let policy = policy(&format!("/others/{number}"), &identity);
            policies.insert(format!("other-{number}"), policy);
        }
        policies.insert("client".to_owned(), policy(PATH, CLIENT_ID));
        let filters = json!([{
            "name": "envoy.filters.http.rbac",
            "typed_config": {
                "@type": extension("filters.http.rbac.v3.RBAC"),
                "rules": { "action": "ALLOW", "policies": policies },
            },
        }]);
        let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "app" } });
        let tls = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": extension("transport_sockets.tls.v3.DownstreamTlsContext"),
                "require_client_certificate": true,
                "common_tls_context": tls_context(scene.server.1.path(), CLIENT_ID, http2),
            },
        });
        let clusters = json!([cluster("app", server, http2, None)]);
        Self::start(
            program,
            "server",
            listener(filters, route, Some(tls)),
            clusters,
        )
    }

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
