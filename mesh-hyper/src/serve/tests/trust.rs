use std::{fmt, net::SocketAddr, sync::Arc};

use mesh_core::{
    Mesh,
    config::{San, SanKind, StringMatch, StringMatcher},
    connections::{ConnectionState, Ending},
    identity::{CertificateSource, Identity, InCode, Peer, Publisher, Trust, Watched},
    testing::CertificateAuthority,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion, pki_types::ServerName,
    sign::SingleCertAndKey,
};
use tokio::io::DuplexStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{harness::*, policy::mesh_with};
use crate::{Server, ServerTls};

/// Delivers what a test says.
pub(super) struct Given {
    identity: Publisher<Identity>,
    trust: Publisher<Trust>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

impl CertificateSource for Given {
    fn identity(&self, _: &str) -> Watched<Identity> {
        self.identity.watch(Arc::new(()))
    }

    fn trust(&self, _: &str) -> Watched<Trust> {
        self.trust.watch(Arc::new(()))
    }
}

pub(super) const SERVER: &str = "spiffe://mesh.test/server";

pub(super) async fn mesh(authority: &CertificateAuthority) -> (Mesh, Arc<Given>) {
    let given = Arc::new(Given {
        identity: Publisher::new(),
        trust: Publisher::new(),
    });
    given.identity.publish(Arc::new(authority.identity(SERVER)));
    trust(&given, &[authority]);
    let mesh = Mesh::builder()
        .bootstrap(bootstrap().build().unwrap())
        .certificates("given", Arc::clone(&given) as _)
        .build()
        .await
        .unwrap();
    (mesh, given)
}

pub(super) fn trust(given: &Given, authorities: &[&CertificateAuthority]) {
    let roots = authorities.iter().map(|one| one.root_der().clone());
    let roots = mesh_core::identity::Roots::from_der(roots).unwrap();
    given.trust.publish(Arc::new(Trust::Roots(roots)));
}

pub(super) fn client(
    server: &CertificateAuthority,
    identity: Option<Identity>,
    alpn: &[u8],
) -> TlsConnector {
    client_speaking(rustls::DEFAULT_VERSIONS, server, identity, alpn)
}

/// A client with these versions of TLS. It would resume sessions.
pub(super) fn client_speaking(
    versions: &[&'static SupportedProtocolVersion],
    server: &CertificateAuthority,
    identity: Option<Identity>,
    alpn: &[u8],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(server.root_der().clone()).unwrap();
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(crypto)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(roots)));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
            Arc::clone(identity.certified()),
        ))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsConnector::from(Arc::new(config))
}

pub(super) async fn dial(
    running: &Running,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<DuplexStream>> {
    let name = ServerName::try_from("server.test").unwrap();
    connector.connect(name, running.connect()).await
}

fn who(peer: &Peer) -> String {
    let tls = peer.tls.as_ref().expect("encrypted");
    let alpn = tls.alpn.as_deref().map(String::from_utf8_lossy);
    format!(
        "{:?} {:?} {:?}",
        peer.id(),
        alpn,
        tls.server_name.as_deref()
    )
}

pub(super) fn start(mesh: &Mesh, tls: ServerTls) -> Running {
    let server = Server::new(mesh).tls(tls);
    Running::start(mesh, server, |request| {
        say(who(request.extensions().get::<Arc<Peer>>().unwrap()))
    })
}

#[tokio::test(start_paused = true)]
async fn tls_needs_no_client_certificate_and_mutual_tls_does() {
    let authority = CertificateAuthority::new("root");
    let (mesh, _) = mesh(&authority).await;
    let running = start(&mesh, ServerTls::tls("given"));
    let anonymous = client(&authority, None, b"h2");
    let (mut sender, _) = h2(dial(&running, &anonymous).await.unwrap()).await;
    let response = sender.send_request(get("/")).await.unwrap();
    assert_eq!(
        text(response).await,
        r#"None Some("h2") Some("server.test")"#
    );

    let running = start(&mesh, ServerTls::mtls("given"));
    let known = client(
        &authority,
        Some(authority.identity("spiffe://mesh.test/a")),
        b"h2",
    );
    let (mut sender, _) = h2(dial(&running, &known).await.unwrap()).await;
    let response = sender.send_request(get("/")).await.unwrap();
    let seen = text(response).await;
    assert_eq!(
        seen,
        r#"Some("spiffe://mesh.test/a") Some("h2") Some("server.test")"#
    );

    let other = CertificateAuthority::new("other");
    let stranger = client(
        &authority,
        Some(other.identity("spiffe://mesh.test/a")),
        b"h2",
    );
    for refused in [&anonymous, &stranger] {
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        if let Ok(io) = dial(&running, refused).await {
            let (mut sender, _) = h2(io).await;
            assert!(sender.send_request(get("/")).await.is_err());
        }
    }
    let plain: SocketAddr = address(3, 1);
    let plain = running.connect_from(plain);
    let (mut sender, _) = h2(plain).await;
    assert!(sender.send_request(get("/")).await.is_err());
    assert_eq!(
        mesh.connections()
            .of(mesh.connections().list()[0].server)
            .len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn optional_mutual_tls_serves_the_anonymous_and_refuses_what_does_not_verify() {
    let authority = CertificateAuthority::new("root");
    let (mesh, _) = mesh(&authority).await;
    let running = start(&mesh, ServerTls::mtls_optional("given"));
    let id = "spiffe://mesh.test/a";
    let known = client(&authority, Some(authority.identity(id)), b"h2");
    let anonymous = client(&authority, None, b"h2");
    for (client, name) in [
        (&known, "Some(\"spiffe://mesh.test/a\")"),
        (&anonymous, "None"),
    ] {
        let (mut sender, _) = h2(dial(&running, client).await.unwrap()).await;
        let seen = text(sender.send_request(get("/")).await.unwrap()).await;
        assert!(seen.starts_with(name), "{seen}");
    }
    let other = CertificateAuthority::new("other");
    let stranger = client(&authority, Some(other.identity(id)), b"h2");
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    if let Ok(io) = dial(&running, &stranger).await {
        let (mut sender, _) = h2(io).await;
        assert!(sender.send_request(get("/")).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_trust_anchor_closes_the_connections_that_need_it() {
    let (one, two) = (
        CertificateAuthority::new("one"),
        CertificateAuthority::new("two"),
    );
    let (mesh, given) = mesh(&one).await;
    trust(&given, &[&one, &two]);
    let running = start(&mesh, ServerTls::mtls("given"));
    let stays = client(&one, Some(one.identity("spiffe://mesh.test/stays")), b"h2");
    let goes = client(&one, Some(two.identity("spiffe://mesh.test/goes")), b"h2");
    let (mut stays, stays_end) = h2(dial(&running, &stays).await.unwrap()).await;
    let (mut goes, goes_end) = h2(dial(&running, &goes).await.unwrap()).await;
    assert!(stays.send_request(get("/")).await.is_ok());
    assert!(goes.send_request(get("/")).await.is_ok());

    // More trust, and then less: one of them is of no use any more.
    let three = CertificateAuthority::new("three");
    trust(&given, &[&one, &two, &three]);
    assert!(goes.send_request(get("/")).await.is_ok());
    trust(&given, &[&one]);
    let _ = goes_end.await.unwrap();
    running.connections(1).await;
    assert!(stays.send_request(get("/")).await.is_ok());
    assert!(!stays_end.is_finished());
    let left = mesh.connections().list();
    assert_eq!(left[0].peer.id(), Some("spiffe://mesh.test/stays"));
    assert_eq!(left[0].state, ConnectionState::Open);
    assert_ne!(left[0].state, ConnectionState::Closing(Ending::Untrusted));
}

#[tokio::test(start_paused = true)]
async fn looking_at_many_certificates_keeps_nobody_else_waiting() {
    let (one, two) = (
        CertificateAuthority::new("one"),
        CertificateAuthority::new("two"),
    );
    let (mesh, given) = mesh(&one).await;
    trust(&given, &[&one, &two]);
    let running = start(&mesh, ServerTls::mtls("given"));
    let goes = client(&one, Some(two.identity("spiffe://mesh.test/goes")), b"h2");
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (mut client, _) = h2(dial(&running, &goes).await.unwrap()).await;
        assert!(client.send_request(get("/")).await.is_ok());
        clients.push(client);
    }
    let all = mesh.connections().list();
    let all = mesh.connections().of(all[0].server);
    trust(&given, &[&one]);
    // Others run between the first and the second.
    while all[0].ending().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(all[1].ending(), None);
    running.connections(0).await;
    assert_eq!(all[1].ending(), Some(Ending::Untrusted));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_may_not_connect_any_more_closes_its_connections_and_others_drain() {
    let authority = CertificateAuthority::new("one");
    let certificates = InCode::new();
    certificates.present(authority.identity(SERVER));
    certificates.trust_in(Trust::Roots(authority.roots()));
    let (mesh, told) =
        mesh_with(|mesh| mesh.certificates("given", Arc::new(certificates) as _)).await;
    let running = Running::start(&mesh, Server::new(&mesh), |_| say("served"));
    let names = |names: &[&str]| {
        let sans = names.iter().map(|name| San {
            kind: SanKind::Uri,
            matcher: StringMatcher::new(StringMatch::Exact((*name).to_owned()), false),
        });
        ServerTls::mtls_for("given", sans.collect())
    };
    let [stays, goes] = ["spiffe://mesh.test/stays", "spiffe://mesh.test/goes"];
    while !told.is_watched() {
        tokio::task::yield_now().await;
    }
    told.encrypted(names(&[stays, goes]));
    let [of_stays, of_goes] =
        [stays, goes].map(|id| client(&authority, Some(authority.identity(id)), b"h2"));
    let (mut stays, stays_end) = h2(dial(&running, &of_stays).await.unwrap()).await;
    let (mut goes, goes_end) = h2(dial(&running, &of_goes).await.unwrap()).await;
    assert!(stays.send_request(get("/")).await.is_ok());
    assert!(goes.send_request(get("/")).await.is_ok());
    let all = mesh.connections().list();
    let all = mesh.connections().of(all[0].server);

    told.encrypted(names(&["spiffe://mesh.test/stays"]));
    let _ = stays_end.await.unwrap();
    let _ = goes_end.await.unwrap();
    let endings = all.iter().map(|one| (one.peer().id(), one.ending()));
    let endings: Vec<_> = endings.collect();
    assert_eq!(
        endings,
        [
            (
                Some("spiffe://mesh.test/stays"),
                Some(Ending::ListenerChanged)
            ),
            (Some("spiffe://mesh.test/goes"), Some(Ending::Untrusted)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_presented_to_the_next_handshake() {
    let authority = CertificateAuthority::new("root");
    let (mesh, given) = mesh(&authority).await;
    let running = start(&mesh, ServerTls::tls("given"));
    let connector = client(&authority, None, b"http/1.1");
    let leaf =
        |io: &TlsStream<DuplexStream>| io.get_ref().1.peer_certificates().unwrap()[0].clone();
    let first = leaf(&dial(&running, &connector).await.unwrap());
    assert_eq!(leaf(&dial(&running, &connector).await.unwrap()), first);

    given.identity.publish(Arc::new(authority.identity(SERVER)));
    let mut second = leaf(&dial(&running, &connector).await.unwrap());
    while second == first {
        tokio::task::yield_now().await;
        second = leaf(&dial(&running, &connector).await.unwrap());
    }
}

/// Verifies a chain, whatever name it is for.
#[derive(Debug)]
struct AnyName(RootCertStore);

impl rustls::client::danger::ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &rustls::pki_types::CertificateDer<'_>,
        intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms.all;
        let certificate = rustls::server::ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.0,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
