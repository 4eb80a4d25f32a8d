//! mTLS to endpoints: who is there is verified at each handshake, and whatever changes in that
//! reaches endpoints that are known already.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
            },
            core::v3::{
                AggregatedConfigSource, ConfigSource, TransportSocket,
                config_source::ConfigSourceSpecifier, transport_socket::ConfigType,
            },
        },
        extensions::transport_sockets::tls::v3::{
            CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
            SubjectAltNameMatcher, UpstreamTlsContext, common_tls_context::ValidationContextType,
            subject_alt_name_matcher::SanType,
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::Any,
};
use mesh_core::{
    Mesh,
    identity::{InCode, Trust},
    testing::{CertificateAuthority, ControlPlane, Leaf, cluster_name},
};
use mesh_tests::{
    backend::Backend,
    every_way,
    fixture::{Fixture, SERVICE, within},
    tls_front::TlsFront,
    way::{Call, Caller, Way},
};
use prost::{Message, Name};
use rustls::{HandshakeKind, ProtocolVersion, SupportedProtocolVersion, version::TLS12};

const CLIENT: &str = "spiffe://shop/client";
const SERVER: &str = "spiffe://shop/server";
const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
const HOUR: Duration = Duration::from_secs(3600);

/// A service behind TLS, and a client with certificates from code.
struct Secured {
    fixture: Fixture,
    /// Kept: what nobody uses is not watched.
    caller: Caller,
    certificates: Arc<InCode>,
    backend: Backend,
    front: TlsFront,
    ca: CertificateAuthority,
}

impl Secured {
    async fn over(way: Way) -> Self {
        let secured = Self::in_plaintext(way, false).await;
        let cluster = secured.cluster("default", SERVER);
        secured.fixture.control_plane.set(&cluster);
        secured
    }

    /// Without TLS, until the cluster has it.
    async fn in_plaintext(way: Way, tls13_only: bool) -> Self {
        let ca = CertificateAuthority::new("root");
        let backend = Backend::start("a").await;
        let server = ca.issue(Leaf::spiffe(SERVER));
        let front = TlsFront::start(backend.address(), &server, &ca.roots()).await;
        let certificates = Arc::new(InCode::new());
        certificates.trust_in(Trust::Roots(ca.roots()));
        certificates.present(ca.identity(CLIENT));
        let control_plane = ControlPlane::start().await;
        let mesh = Mesh::builder()
            .bootstrap(control_plane.bootstrap("test"))
            .certificates("default", Arc::clone(&certificates) as _)
            .options(|options| options.tls13_only = tls13_only)
            .build()
            .await
            .unwrap();
        let fixture = Fixture {
            control_plane,
            mesh,
            way,
        };
        let service = fixture.service().version("v1");
        service.endpoint(front.address()).apply();
        Self {
            caller: fixture.caller(),
            fixture,
            certificates,
            backend,
            front,
            ca,
        }
    }

    fn cluster(&self, instance: &str, server: &str) -> Cluster {
        self.fixture.way.cluster(cluster(instance, server))
    }

    async fn call(&self) -> Result<(), String> {
        let called = within(self.caller.call()).await;
        called
            .map(drop)
            .map_err(|status| status.message().to_owned())
    }

    async fn refused(&self, causes: &[&str]) {
        let error = self.call().await.expect_err("the server is refused");
        for cause in causes {
            assert!(error.contains(cause), "{error:?} lacks {cause:?}");
        }
        assert_eq!(self.backend.calls(), 0);
    }
}

/// The service's cluster over TLS, by this certificate provider instance and with this server.
fn cluster(instance: &str, server: &str) -> Cluster {
    let provider = CertificateProviderPluginInstance {
        instance_name: instance.to_owned(),
        ..CertificateProviderPluginInstance::default()
    };
    let san = SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(server.to_owned())),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    };
    let tls = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_provider_instance: Some(provider.clone()),
            validation_context_type: Some(ValidationContextType::ValidationContext(
                CertificateValidationContext {
                    ca_certificate_provider_instance: Some(provider),
                    match_typed_subject_alt_names: vec![san],
                    ..CertificateValidationContext::default()
                },
            )),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    Cluster {
        name: cluster_name(SERVICE, "v1"),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ConfigSource {
                config_source_specifier: Some(ConfigSourceSpecifier::Ads(
                    AggregatedConfigSource {},
                )),
                ..ConfigSource::default()
            }),
            service_name: String::new(),
        }),
        transport_socket: Some(TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(ConfigType::TypedConfig(Any {
                type_url: UpstreamTlsContext::type_url(),
                value: tls.encode_to_vec(),
            })),
        }),
        ..Cluster::default()
    }
}

async fn mutual_tls(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let [status] = &*secured.fixture.mesh.certificates() else {
        panic!("one certificate is in use");
    };
    let leaf = status.leaf.as_ref().expect("it is known");
    assert_eq!(leaf.spiffe_id(), Some(CLIENT));
    assert_eq!(secured.front.peers(), [leaf.serial.to_string()]);
}

async fn a_server_that_is_not_to_be_trusted_is_refused_with_the_cause(way: Way) {
    let secured = Secured::over(way).await;
    let roots = secured.ca.roots();
    let other = secured.ca.issue(Leaf::spiffe("spiffe://shop/other"));
    secured.front.rotate(&other, &roots);
    secured
        .refused(&["TLS", "wrong SAN", "spiffe://shop/other", SERVER])
        .await;

    let now = SystemTime::now();
    let secured = Secured::over(way).await;
    let expired = Leaf::spiffe(SERVER).valid(now - 2 * HOUR..now - HOUR);
    let roots = secured.ca.roots();
    secured.front.rotate(&secured.ca.issue(expired), &roots);
    secured.refused(&["TLS", "expired on"]).await;

    let secured = Secured::over(way).await;
    let foreign = CertificateAuthority::new("foreign").issue(Leaf::spiffe(SERVER));
    let roots = secured.ca.roots();
    secured.front.rotate(&foreign, &roots);
    secured.refused(&["TLS", "unknown CA"]).await;
}

async fn a_server_of_tls_1_2_is_verified_as_any_other_and_no_session_is_resumed(way: Way) {
    let secured = Secured::over(way).await;
    let (ca, front) = (&secured.ca, &secured.front);
    front.speak(ONLY_12, &ca.issue(Leaf::spiffe(SERVER)), &ca.roots());
    secured.call().await.unwrap();
    secured.backend.go_away();
    secured.front.closed().await;
    secured.call().await.unwrap();
    // It has verified our certificate each time, and kept the session for later.
    assert_eq!(front.peers().len(), 2);
    let full = (ProtocolVersion::TLSv1_2, HandshakeKind::Full);
    assert_eq!(front.handshakes(), [full; 2]);

    let secured = Secured::over(way).await;
    let other = secured.ca.issue(Leaf::spiffe("spiffe://shop/other"));
    secured.front.speak(ONLY_12, &other, &secured.ca.roots());
    secured
        .refused(&["TLS", "wrong SAN", "spiffe://shop/other", SERVER])
        .await;
    let foreign = CertificateAuthority::new("foreign").issue(Leaf::spiffe(SERVER));
    let secured = Secured::over(way).await;
    secured.front.speak(ONLY_12, &foreign, &secured.ca.roots());
    secured.refused(&["TLS", "unknown CA"]).await;
}

async fn where_only_tls_1_3_is_spoken_a_server_of_1_2_is_refused(way: Way) {
    let secured = Secured::in_plaintext(way, true).await;
    let cluster = secured.cluster("default", SERVER);
    secured.fixture.control_plane.set(&cluster);
    let (ca, front) = (&secured.ca, &secured.front);
    front.speak(ONLY_12, &ca.issue(Leaf::spiffe(SERVER)), &ca.roots());
    secured
        .refused(&["TLS", "no version of TLS in common", "Options::tls13_only"])
        .await;

    let secured = Secured::in_plaintext(way, true).await;
    let cluster = secured.cluster("default", SERVER);
    secured.fixture.control_plane.set(&cluster);
    secured.call().await.unwrap();
    let full = (ProtocolVersion::TLSv1_3, HandshakeKind::Full);
    assert_eq!(secured.front.handshakes(), [full]);
}

async fn rotation_reaches_reconnects(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let next = secured.ca.identity(CLIENT);
    let serial = next.leaf().serial.to_string();
    secured.certificates.present(next);
    let mesh = &secured.fixture.mesh;
    mesh_tests::eventually(
        || {
            let status = mesh.certificates().pop()?;
            (*status.leaf?.serial == *serial).then_some(())
        },
        || "the new certificate is in use".to_owned(),
    )
    .await;
    secured.call().await.unwrap();
    assert_eq!(
        secured.front.peers().len(),
        1,
        "a connection that is up stays"
    );
    secured.backend.go_away();
    secured.front.closed().await;
    secured.call().await.unwrap();
    assert_eq!(secured.front.peers().last(), Some(&serial));
}

async fn a_root_that_is_trusted_no_more_ends_its_connections(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    // Another leaf of the same root changes nothing.
    secured
        .certificates
        .trust_in(Trust::Roots(secured.ca.roots()));
    secured.call().await.unwrap();
    assert_eq!(secured.front.peers().len(), 1);

    let next = CertificateAuthority::new("next");
    secured.certificates.trust_in(Trust::Roots(next.roots()));
    secured
        .backend
        .until("the connection is closed", |seen| seen.open == 0)
        .await;
    let error = secured.call().await.expect_err("the root is not trusted");
    assert!(error.contains("unknown CA"), "{error}");
}

async fn tls_that_is_turned_on_reaches_known_endpoints_and_plaintext_stops(way: Way) {
    let secured = Secured::in_plaintext(way, false).await;
    secured.call().await.unwrap();
    assert!(secured.front.peers().is_empty());
    let push = secured
        .fixture
        .control_plane
        .set(&secured.cluster("default", SERVER));
    push.acked().await;
    secured.call().await.unwrap();
    assert_eq!(secured.front.peers().len(), 1);
    // The one in plaintext is gone.
    secured
        .backend
        .until("one connection is left", |seen| seen.open == 1)
        .await;
}

async fn a_tighter_san_reaches_known_endpoints(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let tighter = secured.cluster("default", "spiffe://shop/other");
    secured.fixture.control_plane.set(&tighter).acked().await;
    let error = secured.call().await.expect_err("another server is wanted");
    for part in ["wrong SAN", SERVER, "spiffe://shop/other"] {
        assert!(error.contains(part), "{error}");
    }
    secured
        .backend
        .until("the old connection is gone", |seen| seen.open == 0)
        .await;
}

async fn an_unknown_provider_is_rejected_and_what_there_is_stays(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let unknown = secured.cluster("nobody", SERVER);
    let nack = secured.fixture.control_plane.set(&unknown).nacked().await;
    assert!(nack.message.contains("nobody"), "{}", nack.message);
    secured.call().await.unwrap();
    assert_eq!(secured.front.peers().len(), 1);
}

every_way!(
    mutual_tls,
    a_server_that_is_not_to_be_trusted_is_refused_with_the_cause,
    a_server_of_tls_1_2_is_verified_as_any_other_and_no_session_is_resumed,
    where_only_tls_1_3_is_spoken_a_server_of_1_2_is_refused,
    rotation_reaches_reconnects,
    a_root_that_is_trusted_no_more_ends_its_connections,
    tls_that_is_turned_on_reaches_known_endpoints_and_plaintext_stops,
    a_tighter_san_reaches_known_endpoints,
    an_unknown_provider_is_rejected_and_what_there_is_stays,
);
