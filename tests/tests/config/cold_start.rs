//! A process that starts while its control plane is down, and what an earlier one has saved for it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use envoy_types::pb::envoy::{
    config::core::v3::{
        DataSource, TransportSocket, data_source::Specifier, transport_socket::ConfigType,
    },
    extensions::transport_sockets::tls::v3::{
        CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
        TlsCertificate, UpstreamTlsContext, common_tls_context::ValidationContextType,
    },
    service::status::v3::ClientStatusResponse,
};
use mesh_core::{
    Mesh,
    bootstrap::{Bootstrap, ServerConfig},
    config::Kind,
    control::{
        snapshot::{Snapshot, SnapshotErrorKind, SnapshotOptions, SnapshotStatus},
        xds::{ConfigDump, StatusRequest},
    },
    testing::{ControlPlane, Permission, Principal, Rbac, cluster_name},
};
use mesh_tests::{
    backend::Backend,
    eventually,
    load::{call, spread, until_from, until_success},
    running::{Running, hello, port},
    secured::echo_server,
    xds,
};
use mesh_tonic::{Channel, ServingMode};
use prost::Message;
use tokio::net::TcpListener;

use crate::{NODE, SERVICE, assert_text, assert_unavailable, backends};

/// A control plane, and a directory that outlives the processes that use it.
struct World {
    control_plane: ControlPlane,
    directory: PathBuf,
}

/// What is left of a process when it is gone: its mesh and its channel.
struct Process {
    mesh: Mesh,
    channel: Channel,
}

impl World {
    async fn new(name: &str) -> Self {
        let directory = format!("mesh-cold-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let _ = fs::remove_dir_all(&directory);
        Self {
            control_plane: ControlPlane::start().await,
            directory,
        }
    }

    fn options(&self) -> SnapshotOptions {
        SnapshotOptions::new(&self.directory)
    }

    /// Puts the service on `backend`.
    fn serve(&self, backend: &Backend) {
        let service = self.control_plane.service(SERVICE).version("v1");
        service.endpoint(backend.address()).apply();
    }

    async fn process(&self) -> Process {
        self.process_with(self.options()).await
    }

    async fn process_with(&self, options: SnapshotOptions) -> Process {
        Process::new(self.control_plane.bootstrap(NODE), options).await
    }

    /// A process has run and saved, and the control plane is down.
    async fn after_a_run(&self, options: SnapshotOptions) -> SnapshotStatus {
        let process = self.process_with(options).await;
        until_success(&process.channel).await;
        process.snapshot().save().await.expect("it can be saved");
        let status = process.snapshot().status();
        drop(process);
        self.control_plane.stop().await;
        status
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Process {
    async fn new(bootstrap: Bootstrap, options: SnapshotOptions) -> Self {
        let mesh = Mesh::builder()
            .bootstrap(bootstrap)
            .options(|all| {
                all.connect_backoff_base = Duration::from_millis(10);
                all.connect_backoff_max = Duration::from_millis(50);
                all.resource_timeout = Duration::from_millis(300);
            })
            .snapshot(options)
            .build()
            .await
            .expect("a bootstrap is enough");
        let channel = mesh_tonic::channel(&mesh, SERVICE).expect("a valid target");
        Self { mesh, channel }
    }

    fn snapshot(&self) -> &Arc<Snapshot> {
        self.mesh.snapshot().expect("one was asked for")
    }

    fn trouble(&self) -> Option<String> {
        let targets = self.mesh.targets();
        let trouble = targets.first().and_then(|target| target.trouble.clone());
        trouble.map(|error| error.to_string())
    }

    /// Asserts that nothing is served, since the file is refused for this reason, and that the
    /// control plane's word counts as without it.
    async fn assert_refused(self, world: &World, kind: SnapshotErrorKind) {
        let status = self.snapshot().status();
        let refused = status.refused.expect("it is refused");
        assert_eq!(refused.kind(), kind, "{refused}");
        assert_eq!((status.loaded, status.resources), (0, 0));
        assert_unavailable(call(&self.channel).await, &["control plane out of reach"]);
        world.control_plane.restart().await;
        until_success(&self.channel).await;
        // Or it would be saved when all of this process is gone, whenever that is.
        let _ = self.snapshot().save().await;
    }
}

fn stale(dump: &ConfigDump) -> usize {
    let accepted = dump
        .resources
        .iter()
        .filter_map(|found| found.accepted.as_ref());
    accepted.filter(|accepted| accepted.stale).count()
}

/// How many resources the client status discovery service tells as stale (gRFC A40).
fn stale_by_csds(mesh: &Mesh, dump: &ConfigDump) -> usize {
    let request = StatusRequest::decode(&[]).expect("an empty request asks for all");
    let answer = request.answer(&mesh.bootstrap().node, dump);
    let answer = ClientStatusResponse::decode(&*answer).expect("a response");
    let resources = answer
        .config
        .iter()
        .flat_map(|config| &config.generic_xds_configs);
    let errors = resources.filter_map(|resource| resource.error_state.as_ref());
    errors
        .filter(|error| error.details.starts_with("stale: "))
        .count()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn a_new_process_serves_while_the_control_plane_is_down_and_follows_it_once_it_is_back() {
    let world = World::new("serves").await;
    let [old, new] = backends(["old", "new"]).await;
    world.serve(&old);
    let process = world.process().await;
    assert_eq!(until_success(&process.channel).await, "old");
    let hash = process.mesh.config_dump().await.hash();
    process.snapshot().save().await.expect("it can be saved");
    drop(process);
    world.control_plane.stop().await;

    let process = world.process().await;
    let status = process.snapshot().status();
    assert_eq!((status.loaded, status.refused), (4, None));
    assert_eq!(spread(&process.channel, 20).await["old"], 20);
    process.mesh.ready().await.expect("the target is served");
    let dump = process.mesh.config_dump().await;
    assert_eq!(stale(&dump), 4);
    assert_eq!(stale_by_csds(&process.mesh, &dump), 4);
    assert_eq!(dump.hash(), hash, "the same bytes under the same versions");
    let told = || {
        process
            .trouble()
            .filter(|text| text.contains("out of reach"))
    };
    let trouble = eventually(told, || format!("{:?}", process.trouble())).await;
    assert_text(&trouble, &["in force is what an earlier process has saved"]);

    world.serve(&new);
    world.control_plane.restart().await;
    let load = mesh_tests::load::Load::start(&process.channel, 2);
    load.until("the new configuration", |seen| seen.from("new") > 20)
        .await;
    load.stop().await.assert_no_failure();
    let dump = process.mesh.config_dump().await;
    assert_eq!(stale(&dump), 0);
    assert_eq!(stale_by_csds(&process.mesh, &dump), 0);
    assert_ne!(dump.hash(), hash);
    assert_eq!(process.trouble(), None);
}

#[tokio::test]
async fn nothing_is_stale_where_the_control_plane_is_there() {
    let world = World::new("up").await;
    let [old, new] = backends(["old", "new"]).await;
    world.serve(&old);
    world.after_a_run(world.options()).await;
    world.control_plane.restart().await;
    world.serve(&new);
    let process = world.process().await;
    // The first calls may still go where the last process went.
    until_from(&process.channel, &["new"]).await;
    spread(&process.channel, 20).await;
    assert_eq!(stale(&process.mesh.config_dump().await), 0);
}

/// What is saved is what was accepted: not what was refused, not what was taken away.
#[tokio::test]
async fn the_last_accepted_value_is_saved() {
    let world = World::new("accepted").await;
    let [backend] = backends(["a"]).await;
    world.serve(&backend);
    let process = world.process().await;
    until_success(&process.channel).await;
    let cluster = cluster_name(SERVICE, "v1");
    let mut refused = xds::cluster(&cluster, &cluster);
    refused.eds_cluster_config = None;
    world.control_plane.set(&refused);
    world.control_plane.nacked(Kind::Cluster).await;
    process.snapshot().save().await.expect("it can be saved");
    drop(process);
    world.control_plane.stop().await;
    let process = world.process().await;
    assert_eq!(call(&process.channel).await.unwrap(), "a");
}

#[tokio::test]
async fn what_was_deleted_is_nothing_to_begin_with() {
    let world = World::new("deleted").await;
    let [backend] = backends(["a"]).await;
    world.serve(&backend);
    let process = world.process().await;
    until_success(&process.channel).await;
    process.snapshot().save().await.expect("it can be saved");
    world
        .control_plane
        .remove(Kind::Listener, SERVICE)
        .acked()
        .await;
    // It stays in force for this process (gRFC A88).
    assert_eq!(call(&process.channel).await.unwrap(), "a");
    process.snapshot().save().await.expect("it can be saved");
    drop(process);
    world.control_plane.stop().await;

    let process = world.process().await;
    assert_eq!(process.snapshot().status().loaded, 3);
    assert_unavailable(
        call(&process.channel).await,
        &["control plane out of reach"],
    );
}

/// A target that this process does not use is there for the next one.
#[tokio::test]
async fn what_is_not_asked_for_is_kept() {
    let world = World::new("kept").await;
    let [backend] = backends(["a"]).await;
    world.serve(&backend);
    let other = world.control_plane.service("other.shop:8080").version("v1");
    other.endpoint(backend.address()).apply();
    let process = world.process().await;
    until_success(&process.channel).await;
    let channel = mesh_tonic::channel(&process.mesh, "other.shop:8080").unwrap();
    until_success(&channel).await;
    process.snapshot().save().await.expect("it can be saved");
    drop((process, channel));

    world.after_a_run(world.options()).await;
    let process = world.process().await;
    let channel = mesh_tonic::channel(&process.mesh, "other.shop:8080").unwrap();
    assert_eq!(call(&channel).await.unwrap(), "a");
}

/// By itself, a second after the last change.
#[tokio::test]
async fn it_is_saved_without_being_asked_and_at_the_end() {
    let world = World::new("itself").await;
    let [backend] = backends(["a"]).await;
    world.serve(&backend);
    let process = world.process().await;
    until_success(&process.channel).await;
    let saved = || process.snapshot().status().saved;
    eventually(saved, || format!("{:?}", process.snapshot().status())).await;
    let file = process.snapshot().status().file;
    fs::remove_file(&file).unwrap();
    process.mesh.drain(Duration::from_secs(1)).await;
    assert!(file.exists(), "draining saves");
}

/// The control plane answers and does not know the service: what it once sent is in force until it
/// says otherwise (gRFC A88), or ends if the bootstrap says so.
#[tokio::test]
async fn a_control_plane_that_has_lost_it_takes_it_away_only_if_it_is_strict() {
    for strict in [false, true] {
        let world = World::new(&format!("lost-{strict}")).await;
        let [backend] = backends(["a"]).await;
        world.serve(&backend);
        let address = world.control_plane.address().expect("it listens");
        let mut features = world.control_plane.features();
        features.fail_on_data_errors = strict;
        let server = ServerConfig::insecure(address.to_string()).features(features);
        let bootstrap = Bootstrap::builder().server(server).node_id(NODE);
        let bootstrap = bootstrap.build().expect("an address is enough");
        let process = Process::new(bootstrap.clone(), world.options()).await;
        until_success(&process.channel).await;
        process.snapshot().save().await.expect("it can be saved");
        drop(process);

        world.control_plane.remove(Kind::Listener, SERVICE);
        world.control_plane.hold();
        let process = Process::new(bootstrap, world.options()).await;
        assert_eq!(call(&process.channel).await.unwrap(), "a");
        world.control_plane.release();
        let told = || {
            process
                .trouble()
                .filter(|text| text.contains("does not exist"))
        };
        let trouble = eventually(told, || format!("{:?}", process.trouble())).await;
        if strict {
            assert_unavailable(call(&process.channel).await, &["does not exist"]);
            process.snapshot().save().await.expect("it can be saved");
            assert_eq!(process.snapshot().status().resources, 3);
        } else {
            assert_text(&trouble, &["in force is what an earlier process has saved"]);
            assert_eq!(call(&process.channel).await.unwrap(), "a");
            process.snapshot().save().await.expect("it can be saved");
            // The next process has it, unless the control plane has said that it is gone: state of
            // the world can only be silent of what it never sent.
            let left = if mesh_tests::is_delta() { 3 } else { 4 };
            assert_eq!(process.snapshot().status().resources, left);
        }
    }
}

/// Servers, too: what is saved says who may call them.
#[tokio::test]
async fn a_new_server_accepts_under_what_was_saved() {
    let world = World::new("server").await;
    let first = port().await.into_std().unwrap();
    // The next process has the same port, which nobody else gets meanwhile.
    let second = TcpListener::from_std(first.try_clone().unwrap()).unwrap();
    let first = TcpListener::from_std(first).unwrap();
    let anybody = Rbac::deny().policy("paths", Permission::path("/private"), Principal::any());
    let address = second.local_addr().unwrap();
    world.control_plane.server(address).rbac(anybody).apply();
    let mesh = world.process().await.mesh;
    let running = Running::start(echo_server(&mesh), first).await;
    let snapshot = mesh.snapshot().expect("one was asked for");
    snapshot.save().await.expect("it can be saved");
    drop((running, mesh));
    world.control_plane.stop().await;

    let mesh = world.process().await.mesh;
    let mut running = Running::start(echo_server(&mesh), second).await;
    running.until(|mode| *mode == ServingMode::Serving).await;
    let mut client = running.client().await;
    client.unary(hello()).await.expect("it serves");
    assert!(stale(&mesh.config_dump().await) > 0);
}

/// gRFC A71: what is saved does not keep a second control plane from being asked.
#[tokio::test]
async fn a_backup_that_can_be_reached_goes_before_what_is_saved() {
    let world = World::new("backup").await;
    let [old, new] = backends(["old", "new"]).await;
    world.serve(&old);
    let backup = ControlPlane::start().await;
    let service = backup.service(SERVICE).version("v1");
    service.endpoint(new.address()).apply();
    let bootstrap = Bootstrap::builder()
        .node_id(NODE)
        .server(world.control_plane.xds_server())
        .server(backup.xds_server())
        .build()
        .expect("servers are enough");
    let process = Process::new(bootstrap.clone(), world.options()).await;
    assert_eq!(until_success(&process.channel).await, "old");
    assert_eq!(backup.connections(), 0);
    process.snapshot().save().await.expect("it can be saved");
    drop(process);
    world.control_plane.stop().await;

    backup.hold();
    let process = Process::new(bootstrap, world.options()).await;
    assert_eq!(call(&process.channel).await.unwrap(), "old");
    backup.release();
    until_from(&process.channel, &["new"]).await;
    // What the backup said is what counts from now on.
    process.snapshot().save().await.expect("it can be saved");
    backup.stop().await;
    world.control_plane.restart().await;
    until_from(&process.channel, &["old"]).await;
}

#[tokio::test]
async fn a_file_that_is_damaged_or_of_others_is_refused_and_changes_nothing() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, SnapshotErrorKind); 4] = [
        ("empty", Vec::clear, SnapshotErrorKind::Corrupt),
        (
            "truncated",
            |bytes| bytes.truncate(bytes.len() / 2),
            SnapshotErrorKind::Corrupt,
        ),
        (
            "flipped",
            |bytes| *bytes.last_mut().unwrap() ^= 1,
            SnapshotErrorKind::Corrupt,
        ),
        (
            "something else",
            |bytes| *bytes = b"resources: []".to_vec(),
            SnapshotErrorKind::Format,
        ),
    ];
    for (name, damage, kind) in damages {
        let world = World::new(name).await;
        let [backend] = backends(["a"]).await;
        world.serve(&backend);
        let file = world.after_a_run(world.options()).await.file;
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        let process = world.process().await;
        assert_eq!(fs::read(&file).unwrap(), bytes);
        process.assert_refused(&world, kind).await;
    }

    // Of another node, under our name.
    let world = World::new("foreign").await;
    let [backend] = backends(["a"]).await;
    world.serve(&backend);
    let other = Process::new(world.control_plane.bootstrap("another"), world.options()).await;
    until_success(&other.channel).await;
    other.snapshot().save().await.expect("it can be saved");
    let foreign = other.snapshot().status().file;
    let own = world.after_a_run(world.options()).await.file;
    fs::copy(foreign, own).unwrap();
    let process = world.process().await;
    process
        .assert_refused(&world, SnapshotErrorKind::Foreign)
        .await;
}

#[tokio::test]
async fn a_file_that_is_too_old_too_large_or_not_authentic_is_refused() {
    let world = World::new("bounds").await;
    let [backend] = backends(["a"]).await;
    world.serve(&backend);
    let ours = || world.options().key([1; 32]);
    let file = world.after_a_run(ours()).await.file;
    let bytes = fs::read(&file).unwrap();
    for (options, kind) in [
        (ours().max_bytes(64), SnapshotErrorKind::TooLarge),
        (ours().key([2; 32]), SnapshotErrorKind::Unauthentic),
        // Times are in whole seconds, and this one has begun.
        (ours().max_age(Duration::ZERO), SnapshotErrorKind::TooOld),
    ] {
        let process = world.process_with(options).await;
        process.assert_refused(&world, kind).await;
        world.control_plane.stop().await;
        fs::write(&file, &bytes).unwrap();
    }
    let process = world.process_with(ours()).await;
    assert_eq!(call(&process.channel).await.unwrap(), "a");
}

/// Nothing that is wrong with the disk is anything that calls hear of.
#[tokio::test]
async fn a_directory_that_cannot_be_used_is_told_of() {
    let world = World::new("unusable").await;
    let [backend] = backends(["a"]).await;
    world.serve(&backend);
    fs::write(&world.directory, "a file in place of a directory").unwrap();
    let process = world.process().await;
    let status = process.snapshot().status();
    let refused = status.refused.expect("it cannot be read");
    assert_eq!(refused.kind(), SnapshotErrorKind::Unreadable);
    assert_eq!(until_success(&process.channel).await, "a");
    let error = process.snapshot().save().await.unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::Unwritable);
    assert_text(&error.to_string(), &["what was saved before stays"]);
    assert_eq!(process.snapshot().status().failed, Some(error));
    spread(&process.channel, 10).await;
    fs::remove_file(&world.directory).unwrap();
    process
        .snapshot()
        .save()
        .await
        .expect("it can be written now");
    assert_eq!(process.snapshot().status().failed, None);
    // The file is in the way: what was saved is not.
    let file = process.snapshot().status().file;
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::write(file.join("x"), "").unwrap();
    process.snapshot().save().await.unwrap_err();
    assert_eq!(
        names(&world.directory).len(),
        1,
        "nothing half-written is left"
    );
    spread(&process.channel, 10).await;
    drop(process);
    let _ = fs::remove_dir_all(&file);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// A key in a TLS context, beside a certificate provider that is in force.
#[tokio::test]
async fn no_private_key_is_in_the_file() {
    const KEY: &str = "c2VjcmV0IGtleSBvZiBub2JvZHk";
    let world = World::new("key").await;
    let [backend] = backends(["a"]).await;
    world.serve(&backend);
    let inline = |text: String| {
        Some(DataSource {
            specifier: Some(Specifier::InlineString(text)),
            ..DataSource::default()
        })
    };
    let provider = CertificateProviderPluginInstance {
        instance_name: "provider".to_owned(),
        ..CertificateProviderPluginInstance::default()
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificates: vec![TlsCertificate {
                certificate_chain: inline("a certificate".to_owned()),
                private_key: inline(format!(
                    "-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n"
                )),
                pkcs12: Some(DataSource {
                    specifier: Some(Specifier::InlineBytes(KEY.as_bytes().to_vec())),
                    ..DataSource::default()
                }),
                ..TlsCertificate::default()
            }],
            tls_certificate_provider_instance: Some(provider.clone()),
            validation_context_type: Some(ValidationContextType::ValidationContext(
                CertificateValidationContext {
                    ca_certificate_provider_instance: Some(provider),
                    ..CertificateValidationContext::default()
                },
            )),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    let name = cluster_name(SERVICE, "v1");
    let mut cluster = xds::cluster(&name, &name);
    cluster.transport_socket = Some(TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(xds::pack(&context))),
    });
    let config = serde_json::json!({"certificate_file": "c", "private_key_file": "k", "ca_certificate_file": "r"});
    let provider = serde_json::json!({"plugin_name": "file_watcher", "config": config});
    let mut json: serde_json::Value =
        serde_json::from_str(&world.control_plane.bootstrap_json(NODE)).unwrap();
    json["certificate_providers"] = serde_json::json!({"provider": provider});
    let bootstrap = Bootstrap::from_json(&json.to_string()).unwrap();
    let push = world.control_plane.set(&cluster);
    let process = Process::new(bootstrap, world.options()).await;
    push.acked().await;
    process.snapshot().save().await.expect("it can be saved");
    let bytes = fs::read(process.snapshot().status().file).unwrap();
    assert!(contains(&bytes, &name) && contains(&bytes, "a certificate"));
    assert!(!contains(&bytes, KEY));
}
