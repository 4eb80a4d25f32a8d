//! SDS over ADS: certificates and roots that the control plane delivers to both ends.

use std::time::Duration;

use envoy_types::pb::{
    envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
            Secret, SubjectAltNameMatcher, TlsCertificate, UpstreamTlsContext,
            common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
            secret,
            subject_alt_name_matcher::SanType,
        },
        service::status::v3::{
            ClientStatusRequest,
            client_status_discovery_service_client::ClientStatusDiscoveryServiceClient,
        },
    },
    google::protobuf::BoolValue,
};
use mesh_core::{
    Mesh,
    config::Kind,
    control::snapshot::SnapshotOptions,
    testing::{CertificateAuthority, ControlPlane, Issued, Leaf, ListenerTls, Tls},
};
use mesh_tests::{
    eventually, every_way,
    fixture::{SERVICE, within},
    load::{Load, call, until_failure_with, until_success},
    running::{Running, port},
    secured::{CLIENT, SERVER, reconnect},
    way::{Caller, Way},
    xds,
};
use mesh_tonic::Csds;
use prost::Message;

/// A server and a client that have no certificate but what the control plane gives them.
struct World {
    control_plane: ControlPlane,
    ca: CertificateAuthority,
    client: Mesh,
    server: Mesh,
    _running: Running,
    channel: Caller,
    way: Way,
}

impl World {
    async fn start(way: Way) -> Self {
        let control_plane = ControlPlane::start().await;
        let ca = CertificateAuthority::new("root");
        control_plane.set(&roots(&[&ca]));
        let client = mesh(&control_plane, "client").await;
        let server = mesh(&control_plane, "server").await;
        for (node, id) in [("client", CLIENT), ("server", SERVER)] {
            let issued = ca.issue(Leaf::spiffe(id));
            control_plane.view(node).set(&certificate(&issued));
        }
        let listener = port().await;
        let address = listener.local_addr().unwrap();
        let described = control_plane.server(address);
        described.tls(ListenerTls::given(downstream())).apply();
        let running = Running::echo(way, &server, listener).await;
        // The server asks before there is a client.
        let asked = |server: &ControlPlane| server.subscriptions(Kind::Secret).len() == 2;
        let view = control_plane.view("server");
        view.until("the server has asked for its secrets", asked)
            .await;
        let service = way.of(control_plane.service(SERVICE).version("v1"));
        service
            .endpoint(address)
            .tls(Tls::given(upstream()))
            .apply();
        Self {
            channel: way.caller(&client, SERVICE),
            way,
            control_plane,
            ca,
            client,
            server,
            _running: running,
        }
    }

    /// Replaces all connections to the server.
    async fn reconnect(&self) {
        reconnect(&self.server, self.way, &self.channel).await;
    }

    /// Replaces them by such as have this certificate of the client. One whose handshake had begun
    /// before there was that may come late, and is replaced as well.
    async fn reconnect_with(&self, serial: &str) {
        let presented = || {
            let connections = self.server.connections().list();
            !connections.is_empty()
                && connections.iter().all(|one| {
                    let tls = one.peer.tls.as_ref().expect("it is encrypted");
                    let certificate = tls.certificate.as_ref().expect("there is one");
                    *certificate.serial == *serial
                })
        };
        within(async {
            self.reconnect().await;
            while !presented() {
                self.reconnect().await;
            }
        })
        .await;
    }

    /// Gives a node a new certificate, and waits until it is in use: its serial number.
    async fn rotate(&self, node: &str) -> String {
        let (mesh, id) = match node {
            "client" => (&self.client, CLIENT),
            _ => (&self.server, SERVER),
        };
        let issued = self.ca.issue(Leaf::spiffe(id));
        let serial = issued.identity().leaf().serial.to_string();
        let push = self.control_plane.view(node).set(&certificate(&issued));
        push.acked().await;
        let in_use = || (self::serial(mesh)? == serial).then_some(());
        eventually(in_use, || format!("{:?}", mesh.certificates())).await;
        serial
    }
}

async fn mesh(control_plane: &ControlPlane, node: &str) -> Mesh {
    Mesh::builder()
        .bootstrap(control_plane.bootstrap(node))
        .options(|options| {
            options.connect_backoff_base = Duration::from_millis(10);
            options.connect_backoff_max = Duration::from_millis(50);
        })
        .build()
        .await
        .unwrap()
}

fn serial(mesh: &Mesh) -> Option<String> {
    let status = mesh.certificates().pop()?;
    Some(status.leaf?.serial.to_string())
}

fn inline(text: String) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(Specifier::InlineString(text)),
        ..DataSource::default()
    })
}

fn certificate(issued: &Issued) -> Secret {
    Secret {
        name: "default".to_owned(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(issued.chain_pem()),
            private_key: inline(issued.key_pem()),
            ..TlsCertificate::default()
        })),
    }
}

fn roots(authorities: &[&CertificateAuthority]) -> Secret {
    let pem = authorities.iter().map(|ca| ca.root_pem()).collect();
    Secret {
        name: "ROOTCA".to_owned(),
        r#type: Some(secret::Type::ValidationContext(
            CertificateValidationContext {
                trusted_ca: inline(pem),
                ..CertificateValidationContext::default()
            },
        )),
    }
}

/// As Istio writes it: names beside the secret that says whom to trust.
fn common(sans: Vec<SubjectAltNameMatcher>) -> CommonTlsContext {
    let secret = |name: &str| SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(xds::ads()),
    };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: sans,
            ..CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(secret("ROOTCA")),
        ..CombinedCertificateValidationContext::default()
    };
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret("default")],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..CommonTlsContext::default()
    }
}

fn upstream() -> UpstreamTlsContext {
    let server = SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(SERVER.to_owned())),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    };
    UpstreamTlsContext {
        common_tls_context: Some(common(vec![server])),
        ..UpstreamTlsContext::default()
    }
}

fn downstream() -> DownstreamTlsContext {
    DownstreamTlsContext {
        common_tls_context: Some(common(Vec::new())),
        require_client_certificate: Some(BoolValue { value: true }),
        ..DownstreamTlsContext::default()
    }
}

async fn both_ends_have_their_certificates_from_the_control_plane(way: Way) {
    let world = World::start(way).await;
    call(&world.channel).await.unwrap();
    let connections = world.server.connections().list();
    assert_eq!(connections[0].peer.id(), Some(CLIENT));
}

async fn secrets_rotate_under_load_and_no_call_fails(way: Way) {
    let world = World::start(way).await;
    call(&world.channel).await.unwrap();
    let load = Load::start(&world.channel, 4);
    for _ in 0..20 {
        let serial = world.rotate("client").await;
        world.rotate("server").await;
        world.reconnect_with(&serial).await;
        load.more(10).await;
    }
    load.stop().await.assert_no_failure();
}

async fn roots_that_are_taken_away_close_connections(way: Way) {
    let world = World::start(way).await;
    call(&world.channel).await.unwrap();
    let other = CertificateAuthority::new("other");
    world
        .control_plane
        .set(&roots(&[&world.ca, &other]))
        .acked()
        .await;
    call(&world.channel).await.unwrap();
    let server = world.control_plane.view("server");
    server.set(&roots(&[&other])).acked().await;
    let closed = || world.server.connections().is_empty().then_some(());
    eventually(closed, || {
        format!("{:?}", world.server.connections().list())
    })
    .await;
    until_failure_with(&world.channel, &["UnknownCA"]).await;
    server.set(&roots(&[&world.ca])).acked().await;
    until_success(&world.channel).await;
}

async fn secrets_that_are_deleted_or_refused_stay_in_force(way: Way) {
    let world = World::start(way).await;
    call(&world.channel).await.unwrap();
    let serials = [&world.client, &world.server].map(serial);
    for node in ["client", "server"] {
        world
            .control_plane
            .view(node)
            .remove(Kind::Secret, "default");
    }
    // Pushed after it: shows that the deletion was seen.
    let other = CertificateAuthority::new("other");
    world
        .control_plane
        .set(&roots(&[&world.ca, &other]))
        .acked()
        .await;
    for _ in 0..3 {
        world.reconnect().await;
        for _ in 0..5 {
            call(&world.channel).await.unwrap();
        }
    }
    assert_eq!([&world.client, &world.server].map(serial), serials);

    let mut bad = certificate(&world.ca.issue(Leaf::spiffe(CLIENT)));
    if let Some(secret::Type::TlsCertificate(certificate)) = &mut bad.r#type {
        certificate.private_key = inline("no key".to_owned());
    }
    let nack = world.control_plane.view("client").set(&bad).nacked().await;
    assert!(!nack.message.contains("no key"), "{}", nack.message);
    world.reconnect().await;
    for _ in 0..5 {
        call(&world.channel).await.unwrap();
    }
    assert_eq!(serial(&world.client), serials[0]);
    // And there is another after all.
    world.rotate("client").await;
    world.reconnect().await;
    call(&world.channel).await.unwrap();
}

/// What a new process begins with while the control plane is down has no secret in it.
#[tokio::test]
async fn secrets_are_not_saved() {
    let world = World::start(Way::Grpc).await;
    until_success(&world.channel).await;
    let name = format!("mesh-sds-{}-saved", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let issued = world.ca.issue(Leaf::spiffe(CLIENT));
    world
        .control_plane
        .view("client")
        .set(&certificate(&issued));
    let mesh = Mesh::builder()
        .bootstrap(world.control_plane.bootstrap("client"))
        .snapshot(SnapshotOptions::new(&directory))
        .build()
        .await
        .unwrap();
    let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
    until_success(&channel).await;
    let snapshot = mesh.snapshot().unwrap();
    snapshot.save().await.unwrap();
    let bytes = std::fs::read(snapshot.status().file).unwrap();
    let has = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(has(SERVICE) && has("UpstreamTlsContext"));
    assert!(!has("PRIVATE KEY"));
    let key = issued.key_pem();
    let line = key.lines().nth(1).expect("PEM has lines");
    assert!(line.len() > 32 && !has(line));
    std::fs::remove_dir_all(directory).unwrap();
}

/// The client status discovery service tells of secrets what is public.
#[tokio::test]
async fn tools_are_not_told_keys() {
    let world = World::start(Way::Grpc).await;
    call(&world.channel).await.unwrap();
    for mesh in [&world.client, &world.server] {
        let mut tool = ClientStatusDiscoveryServiceClient::new(Csds::new(mesh));
        let told = tool
            .fetch_client_status(ClientStatusRequest::default())
            .await
            .unwrap()
            .into_inner();
        let secrets = told.config[0].generic_xds_configs.iter();
        let mut secrets: Vec<_> = secrets
            .filter(|told| told.type_url.ends_with(".Secret"))
            .map(|told| (&*told.name, told.xds_config.as_ref().expect("it is known")))
            .collect();
        secrets.sort_by_key(|(name, _)| *name);
        let [(_, roots), (_, own)] = secrets[..] else {
            panic!("its own and the roots, not {secrets:?}");
        };
        let own = Secret::decode(&*own.value).unwrap();
        let Some(secret::Type::TlsCertificate(own)) = own.r#type else {
            panic!("a certificate, not {own:?}");
        };
        assert_eq!(own.private_key, inline("[redacted]".to_owned()));
        assert!(own.certificate_chain.is_some());
        assert!(Secret::decode(&*roots.value).unwrap().r#type.is_some());
        let all = told.encode_to_vec();
        let key = b"PRIVATE KEY";
        assert!(!all.windows(key.len()).any(|window| window == key));
    }
}

every_way!(
    both_ends_have_their_certificates_from_the_control_plane,
    secrets_rotate_under_load_and_no_call_fails,
    roots_that_are_taken_away_close_connections,
    secrets_that_are_deleted_or_refused_stay_in_force,
);
