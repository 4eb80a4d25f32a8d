//! A mesh whose configuration is a directory of files, without a control plane.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use mesh_core::{
    Mesh,
    bootstrap::Bootstrap,
    control::{files::Files, xds::ResourceStatus},
};
use mesh_tests::{
    eventually,
    load::{Load, call, spread, until_from, until_success},
    running::{Running, hello, port},
    secured::echo_server,
};
use mesh_tonic::ServingMode;
use tonic::Code;

use crate::{SERVICE, assert_text, assert_unavailable, backends};

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "{name: router, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";

/// A directory that is removed with this.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-of-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// With a service whose endpoint is `address`.
    fn of_service(name: &str, address: SocketAddr) -> Self {
        let directory = Self::new(name);
        write_service(&directory.0, address);
        directory
    }

    /// As `git` and most editors do: beside it, then in its place.
    fn put(&self, name: &str, text: &str) {
        let beside = self.0.join(format!(".{name}.tmp"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.0.join(name)).unwrap();
    }

    async fn mesh(&self) -> Mesh {
        Mesh::from_files(&self.0).await.expect("it can be read")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write_service(directory: &Path, address: SocketAddr) {
    fs::write(directory.join("listener.yaml"), listener(SERVICE)).unwrap();
    fs::write(directory.join("cluster.yml"), cluster()).unwrap();
    fs::write(directory.join("endpoints.json"), endpoints(address)).unwrap();
}

fn listener(name: &str) -> String {
    format!(
        r#""@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: {name}
api_listener:
  api_listener:
    "@type": {MANAGER}
    http_filters: [{ROUTER}]
    route_config:
      virtual_hosts:
      - domains: ["*"]
        routes:
        - match: {{prefix: ""}}
          route: {{cluster: greeter}}
"#
    )
}

fn cluster() -> &'static str {
    r#""@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: greeter
type: EDS
eds_cluster_config: {eds_config: {ads: {}}}
"#
}

fn endpoints(address: SocketAddr) -> String {
    let address = serde_json::json!({"address": address.ip(), "portValue": address.port()});
    let endpoint = serde_json::json!({"endpoint": {"address": {"socketAddress": address}}});
    let locality = serde_json::json!({
        "locality": {"zone": "a"}, "loadBalancingWeight": 1, "lbEndpoints": [endpoint]
    });
    let assignment = serde_json::json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "clusterName": "greeter", "endpoints": [locality]
    });
    serde_json::to_string_pretty(&assignment).unwrap()
}

fn errors(files: &Files) -> Vec<String> {
    let status = files.status();
    let errors = status.iter().flat_map(|file| &file.errors);
    errors.map(ToString::to_string).collect()
}

/// Waits until there is something wrong with a file.
async fn error(mesh: &Mesh) -> String {
    let files = mesh.files().expect("it is of files");
    eventually(|| errors(files).pop(), || format!("{:?}", files.status())).await
}

#[cfg(unix)]
#[tokio::test]
async fn no_call_fails_while_kubernetes_swaps_a_volume() {
    use std::os::unix::fs::symlink;

    let directory = Directory::new("swaps");
    let [old, new] = backends(["old", "new"]).await;
    // What kubelet does with each version of a ConfigMap.
    let swap = |version: &str, address| {
        let place = directory.0.join(version);
        fs::create_dir(&place).unwrap();
        write_service(&place, address);
        symlink(version, directory.0.join("..data_tmp")).unwrap();
        let before = fs::read_link(directory.0.join("..data"));
        fs::rename(directory.0.join("..data_tmp"), directory.0.join("..data")).unwrap();
        if let Ok(before) = before {
            fs::remove_dir_all(directory.0.join(before)).unwrap();
        }
    };
    swap("..2026_01", old.address());
    for name in ["listener.yaml", "cluster.yml", "endpoints.json"] {
        symlink(format!("..data/{name}"), directory.0.join(name)).unwrap();
    }
    let mesh = directory.mesh().await;
    let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
    assert_eq!(until_success(&channel).await, "old");
    let load = Load::start(&channel, 2);
    for (version, backend) in [
        ("..2026_02", &new),
        ("..2026_03", &old),
        ("..2026_04", &new),
    ] {
        swap(version, backend.address());
        load.take().assert_no_failure();
        let name = backend.name();
        load.until(name, |seen| seen.from(name) > 20).await;
    }
    load.stop().await.assert_no_failure();
    assert_eq!(errors(mesh.files().unwrap()), [""; 0]);
}

/// A file that is written in place, by a hand that stops in the middle.
#[tokio::test]
async fn half_a_file_changes_nothing() {
    let [old, new] = backends(["old", "new"]).await;
    let directory = Directory::of_service("half", old.address());
    let mesh = directory.mesh().await;
    let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
    assert_eq!(until_success(&channel).await, "old");
    let load = Load::start(&channel, 2);

    let text = endpoints(new.address());
    let (first, second) = text.split_at(text.len() / 2);
    let mut file = fs::File::create(directory.0.join("endpoints.json")).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    let told = error(&mesh).await;
    assert_text(&told, &["endpoints.json:"]);
    load.more(20).await;
    let seen = load.take();
    seen.assert_no_failure();
    assert_eq!(seen.from("new"), 0);
    let dump = mesh.config_dump().await;
    let refused = dump
        .resources
        .iter()
        .filter(|found| found.status == ResourceStatus::Nacked && found.accepted.is_some());
    assert_eq!(refused.count(), 1, "{dump:#?}");

    file.write_all(second.as_bytes()).unwrap();
    drop(file);
    load.until("the new endpoint", |seen| seen.from("new") > 20)
        .await;
    load.stop().await.assert_no_failure();
    assert_eq!(errors(mesh.files().unwrap()), [""; 0]);
}

/// What is not of a file that is read: what editors leave, what is hidden, what is below.
#[tokio::test]
async fn what_lies_beside_the_files_is_not_read() {
    let [old, new] = backends(["old", "new"]).await;
    let directory = Directory::of_service("beside", old.address());
    let other = endpoints(new.address());
    for name in [
        ".endpoints.json.swp",
        "endpoints.json~",
        "endpoints.json.bak",
        "4913",
    ] {
        fs::write(directory.0.join(name), &other).unwrap();
    }
    fs::create_dir(directory.0.join("below")).unwrap();
    fs::write(directory.0.join("below/endpoints.json"), &other).unwrap();
    let mesh = directory.mesh().await;
    let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
    until_success(&channel).await;
    assert_eq!(spread(&channel, 20).await["old"], 20);
    let files = mesh.files().unwrap().status();
    let names: Vec<_> = files.iter().map(|file| &*file.file).collect();
    assert_eq!(names, ["cluster.yml", "endpoints.json", "listener.yaml"]);
}

/// gRFC A88: whoever uses it keeps it; whoever comes later is told what is missing.
#[tokio::test]
async fn a_file_that_is_removed_stays_in_force_for_those_who_use_it() {
    let [backend] = backends(["a"]).await;
    let directory = Directory::of_service("removed", backend.address());
    let mesh = directory.mesh().await;
    let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
    until_success(&channel).await;
    fs::remove_file(directory.0.join("listener.yaml")).unwrap();
    let trouble = || mesh.targets()[0].trouble.as_ref().map(ToString::to_string);
    let trouble = eventually(trouble, || format!("{:?}", mesh.targets())).await;
    assert_text(&trouble, &["does not exist: in no file", "resources in "]);
    assert_eq!(call(&channel).await.unwrap(), "a");
    drop((channel, mesh));

    let mesh = directory.mesh().await;
    let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
    assert_unavailable(call(&channel).await, &["does not exist: in no file"]);
    directory.put("listener.yaml", &listener(SERVICE));
    until_success(&channel).await;
}

/// One part in the directory, the other from code, which changes it.
#[tokio::test]
async fn resources_of_files_and_of_code_go_together() {
    let [old, new] = backends(["old", "new"]).await;
    let directory = Directory::of_service("code", old.address());
    fs::remove_file(directory.0.join("endpoints.json")).unwrap();
    let mesh = Mesh::builder()
        .files(&directory.0)
        .resources("endpoints", endpoints(old.address()))
        .build()
        .await
        .unwrap();
    let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
    assert_eq!(until_success(&channel).await, "old");
    let files = mesh.files().unwrap();
    files.set("endpoints", &endpoints(new.address())).unwrap();
    until_from(&channel, &["new"]).await;

    // What cannot be used is refused at once, and changes nothing.
    let bad = endpoints(old.address()).replace("portValue", "portvalue");
    let refused = files.set("endpoints", &bad).unwrap_err();
    assert_text(
        &refused[0].to_string(),
        &[
            "endpoints:",
            "endpoints[0].lbEndpoints[0].endpoint.address.socketAddress.portvalue",
        ],
    );
    assert_eq!(spread(&channel, 20).await["new"], 20);
    let refused = Mesh::builder().resources("endpoints", bad).build().await;
    let refused = refused.expect_err("nothing to begin with");
    assert_text(
        &refused.to_string(),
        &["given in code: endpoints:", "portvalue"],
    );
}

/// A server's listener, too: who may call it follows the file.
#[tokio::test]
async fn a_server_accepts_under_its_file() {
    let directory = Directory::new("server");
    let listening = port().await;
    let address = listening.local_addr().unwrap();
    let server_listener = |path: &str| {
        let (ip, port) = (address.ip(), address.port());
        format!(
            r#""@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: server/{address}
address: {{socket_address: {{address: {ip}, port_value: {port}}}}}
filter_chains:
- filters:
  - name: manager
    typed_config:
      "@type": {MANAGER}
      http_filters:
      - name: rbac
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
          rules:
            action: DENY
            policies: {{"no": {{permissions: [{{url_path: {{path: {{prefix: {path}}}}}}}], principals: [{{any: true}}]}}}}
      - {ROUTER}
      route_config:
        virtual_hosts:
        - {{domains: ["*"], routes: [{{match: {{prefix: ""}}, non_forwarding_action: {{}}}}]}}
"#
        )
    };
    directory.put("server.yaml", &server_listener("/private"));
    let bootstrap = Bootstrap::builder()
        .without_servers()
        .server_listener_template("server/%s")
        .build()
        .unwrap();
    let builder = Mesh::builder().bootstrap(bootstrap).files(&directory.0);
    let mesh = builder.build().await.unwrap();
    let mut running = Running::start(echo_server(&mesh), listening).await;
    running.until(|mode| *mode == ServingMode::Serving).await;
    let mut client = running.client().await;
    client.unary(hello()).await.expect("it is allowed");

    let mut changes = mesh.files().unwrap().changes();
    directory.put("server.yaml", &server_listener("/"));
    changes.changed().await.unwrap();
    // In force once the server has followed.
    let denied = loop {
        if let Err(denied) = client.unary(hello()).await {
            break denied;
        }
    };
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");

    // A mistake opens nothing.
    directory.put(
        "server.yaml",
        &server_listener("/private").replace("DENY", "DENI"),
    );
    assert_text(&error(&mesh).await, &["server.yaml:", "rules.action"]);
    let denied = client.unary(hello()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
}
