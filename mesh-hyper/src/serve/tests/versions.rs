//! Clients that speak nothing newer than TLS 1.2, as Envoy's by default.

use std::sync::Arc;

use mesh_core::{
    Mesh,
    config::{San, SanKind, StringMatch, StringMatcher},
    identity::{Identity, InCode, Peer, Trust},
    resolve::Ends,
    testing::CertificateAuthority,
};
use rustls::{
    AlertDescription, HandshakeKind, ProtocolVersion, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio::io::duplex;

use super::{
    harness::*,
    trust::{SERVER, client_speaking, dial},
};
use crate::{
    Server, ServerTls,
    serve::{handshake::HandshakeError, security::Security},
};

const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
const CLIENT: &str = "spiffe://mesh.test/client";

async fn mesh(authority: &CertificateAuthority, tls13_only: bool) -> Mesh {
    let certificates = InCode::new();
    certificates.present(authority.identity(SERVER));
    certificates.trust_in(Trust::Roots(authority.roots()));
    Mesh::builder()
        .bootstrap(bootstrap().build().unwrap())
        .certificates("given", Arc::new(certificates))
        .options(|options| options.tls13_only = tls13_only)
        .build()
        .await
        .unwrap()
}

/// For clients of this name only. Says who the peer is, and the version of TLS.
fn start(mesh: &Mesh, name: &str) -> Running {
    let san = San {
        kind: SanKind::Uri,
        matcher: StringMatcher::new(StringMatch::Exact(name.to_owned()), false),
    };
    let server = Server::new(mesh).tls(ServerTls::mtls_for("given", vec![san]));
    Running::start(mesh, server, |request| {
        let peer = request.extensions().get::<Arc<Peer>>().unwrap();
        let version = peer.tls.as_ref().and_then(|tls| tls.version);
        say(format!("{:?} {version:?}", peer.id()))
    })
}

/// What the server sees of a client, and how its handshake went.
async fn served(
    running: &Running,
    versions: &[&'static SupportedProtocolVersion],
    authority: &CertificateAuthority,
) -> String {
    let identity = Some(authority.identity(CLIENT));
    let client = client_speaking(versions, authority, identity, b"h2");
    let io = dial(running, &client).await.unwrap();
    let (mut sender, _) = h2(io).await;
    text(sender.send_request(get("/")).await.unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_client_of_tls_1_2_is_served_and_is_known_by_its_certificate() {
    let authority = CertificateAuthority::new("root");
    let mesh = mesh(&authority, false).await;
    let running = start(&mesh, CLIENT);
    assert_eq!(
        served(&running, ONLY_12, &authority).await,
        format!("Some({CLIENT:?}) {:?}", Some(ProtocolVersion::TLSv1_2))
    );
    assert_eq!(
        served(&running, &[&TLS12, &TLS13], &authority).await,
        format!("Some({CLIENT:?}) {:?}", Some(ProtocolVersion::TLSv1_3))
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_of_tls_1_2_is_refused_without_a_certificate_of_our_root_and_a_name_we_want() {
    let authority = CertificateAuthority::new("root");
    let mesh = mesh(&authority, false).await;
    let running = start(&mesh, CLIENT);
    let other = CertificateAuthority::new("other");
    let refused: [(&str, Option<Identity>); 3] = [
        ("anonymous", None),
        ("of another root", Some(other.identity(CLIENT))),
        (
            "of another name",
            Some(authority.identity("spiffe://mesh.test/other")),
        ),
    ];
    for (who, identity) in refused {
        let client = client_speaking(ONLY_12, &authority, identity, b"h2");
        // In TLS 1.2 the client is not done before the server is.
        let error = dial(&running, &client).await.expect_err(who);
        let tls = error.get_ref().and_then(|error| error.downcast_ref());
        assert!(
            matches!(tls, Some(rustls::Error::AlertReceived(_))),
            "{who}: {error:?}"
        );
    }
    running.connections(0).await;
}

#[tokio::test(start_paused = true)]
async fn sessions_of_tls_1_2_are_not_resumed() {
    let authority = CertificateAuthority::new("root");
    let mesh = mesh(&authority, false).await;
    let running = start(&mesh, CLIENT);
    let identity = Some(authority.identity(CLIENT));
    let client = client_speaking(ONLY_12, &authority, identity, b"h2");
    for _ in 0..3 {
        let io = dial(&running, &client).await.unwrap();
        let kind = io.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Full));
        let (mut sender, _) = h2(io).await;
        assert!(sender.send_request(get("/")).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn where_only_tls_1_3_is_spoken_a_client_of_1_2_is_refused() {
    let authority = CertificateAuthority::new("root");
    let mesh = mesh(&authority, true).await;
    let running = start(&mesh, CLIENT);
    let identity = Some(authority.identity(CLIENT));
    let client = client_speaking(ONLY_12, &authority, identity, b"h2");
    let error = dial(&running, &client).await.unwrap_err();
    let tls = error.get_ref().and_then(|error| error.downcast_ref());
    assert_eq!(
        tls,
        Some(&rustls::Error::AlertReceived(
            AlertDescription::ProtocolVersion
        ))
    );
    assert_eq!(
        served(&running, &[&TLS12, &TLS13], &authority).await,
        format!("Some({CLIENT:?}) {:?}", Some(ProtocolVersion::TLSv1_3))
    );
}

#[tokio::test(start_paused = true)]
async fn the_cause_of_such_a_refusal_is_said() {
    let authority = CertificateAuthority::new("root");
    let mesh = mesh(&authority, true).await;
    let setting = ServerTls::tls("given").setting().unwrap();
    let context = mesh.identities().downstream(&setting, &[b"h2"]);
    let security = Security::Tls(setting, context);
    let client = client_speaking(ONLY_12, &authority, None, b"h2");
    let (ours, theirs) = duplex(64 << 10);
    let name = "server.test".try_into().unwrap();
    let ends = Ends {
        peer: address(2, 1),
        local: local(),
    };
    let (_, shaken) = tokio::join!(client.connect(name, ours), security.handshake(theirs, ends));
    let Err(error @ HandshakeError::Tls(_)) = shaken else {
        panic!("it is refused by TLS");
    };
    let error = error.to_string();
    for part in [
        "the TLS handshake failed",
        "no version of TLS in common",
        "1.3",
        "Options::tls13_only",
    ] {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}
