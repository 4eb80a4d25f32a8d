use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("root {}", fastrand::u64(..)));
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str) -> (String, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("issued");
        (certificate.pem(), key)
    }

    /// Accepts TLS as `name`, with client certificates of the same authority if asked to.
    fn acceptor(&self, name: &str, mutual: bool, alpn: &[u8]) -> tokio_rustls::TlsAcceptor {
        self.acceptor_of(rustls::DEFAULT_VERSIONS, name, mutual, alpn)
    }

    fn acceptor_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        name: &str,
        mutual: bool,
        alpn: &[u8],
    ) -> tokio_rustls::TlsAcceptor {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("versions that it has");
        let builder = if mutual {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.0.der().clone()).expect("a root");
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let (pem, key) = self.issue(name);
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(|it| it.expect("PEM"));
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
        let mut config = builder
            .with_single_cert(chain.collect(), key)
            .expect("a match");
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config).into()
    }
}

#[tokio::test]
async fn tls_verifies_the_server_and_reads_files_for_each_connection() {
    let mut network = Network::new();
    let directory = Directory::new();
    let (old, new) = (Authority::new(), Authority::new());
    let ca = directory.write("ca.pem", &old.pem());
    let tls = ChannelCreds::Tls {
        ca_certificate_file: Some(ca.clone()),
        identity_files: None,
    };
    let call = |network: &Network| {
        let mut call = network.call("10.0.0.1:443");
        call.channel_creds = tls.clone();
        call
    };
    let io = async |network: &mut Network| network.accept().await;

    let served = async |network: &mut Network, acceptor: tokio_rustls::TlsAcceptor| {
        let opened = tokio::spawn(call(network).open());
        let tls = acceptor.accept(io(network).await).await.expect("trusted");
        let served = Served::on(tls).await;
        assert_eq!(served.request.uri().scheme_str(), Some("https"));
        let mut messages = opened.await.expect("no panic").expect("opened");
        let mut served = served;
        let mut body = served.start();
        body.send_data(framed(b"secret"), false).expect("open");
        assert_eq!(
            messages.recv.recv().await,
            Some(Ok(Bytes::from_static(b"secret")))
        );
    };
    let refused = async |network: &mut Network, acceptor: tokio_rustls::TlsAcceptor| {
        let opened = tokio::spawn(call(network).open());
        let _ = acceptor.accept(io(network).await).await;
        opened.await.expect("no panic").expect_err("refused")
    };
    served(&mut network, old.acceptor("10.0.0.1", false, b"h2")).await;
    let error = refused(&mut network, new.acceptor("10.0.0.1", false, b"h2")).await;
    assert_eq!(
        error,
        format!(
            "TLS with 10.0.0.1 failed: invalid peer certificate: UnknownIssuer (trusting {})",
            ca.display()
        )
    );
    // The root is rotated: so is whom the next connection trusts.
    directory.write("ca.pem", &new.pem());
    served(&mut network, new.acceptor("10.0.0.1", false, b"h2")).await;
    let error = refused(&mut network, old.acceptor("10.0.0.1", false, b"h2")).await;
    assert!(error.contains("UnknownIssuer"), "{error}");

    let error = refused(&mut network, new.acceptor("10.0.0.2", false, b"h2")).await;
    assert!(error.contains("not valid for name"), "{error}");
    let error = refused(&mut network, new.acceptor("10.0.0.1", false, b"")).await;
    assert!(
        error.contains("does not offer HTTP/2") || error.contains("NoApplicationProtocol"),
        "{error}"
    );

    directory.write("ca.pem", "nothing");
    let error = call(&network).open().await.expect_err("no root");
    assert!(error.contains("holds no certificate in PEM"), "{error}");
}

#[tokio::test]
async fn tls_of_an_older_version_is_spoken_unless_the_option_forbids_it() {
    let mut network = Network::new();
    let directory = Directory::new();
    let authority = Authority::new();
    let ca = directory.write("ca.pem", &authority.pem());
    let old = authority.acceptor_of(&[&rustls::version::TLS12], "10.0.0.1", false, b"h2");
    let call = |network: &Network, tls13_only| {
        let mut call = network.call("10.0.0.1:443");
        call.channel_creds = ChannelCreds::Tls {
            ca_certificate_file: Some(ca.clone()),
            identity_files: None,
        };
        call.tls13_only = tls13_only;
        tokio::spawn(call.open())
    };
    for (tls13_only, acceptor, version) in [
        (false, old.clone(), rustls::ProtocolVersion::TLSv1_2),
        (
            true,
            authority.acceptor("10.0.0.1", false, b"h2"),
            rustls::ProtocolVersion::TLSv1_3,
        ),
    ] {
        let opened = call(&network, tls13_only);
        let tls = acceptor.accept(network.accept().await).await;
        let tls = tls.expect("a version in common");
        assert_eq!(tls.get_ref().1.protocol_version(), Some(version));
        let _served = Served::on(tls).await;
        opened.await.expect("no panic").expect("opened");
    }
    let opened = call(&network, true);
    let accepted = old.accept(network.accept().await).await;
    assert!(accepted.is_err(), "no version in common");
    let error = opened.await.expect("no panic").expect_err("refused");
    assert!(error.contains("ProtocolVersion"), "{error}");
    assert!(error.contains("Options::tls13_only"), "{error}");
}

#[tokio::test]
async fn tls_presents_the_identity() {
    let mut network = Network::new();
    let directory = Directory::new();
    let authority = Authority::new();
    let (certificate, key) = authority.issue("client");
    let ca = directory.write("ca.pem", &authority.pem());
    let chain = directory.write("chain.pem", &certificate);
    let private = directory.write("key.pem", &key.serialize_pem());
    let token = directory.write("token", "t0k3n");
    let mut call = network.call("10.0.0.1:443");
    call.channel_creds = ChannelCreds::Tls {
        ca_certificate_file: Some(ca),
        identity_files: Some((chain, private)),
    };
    call.call_creds.push(CallCreds::JwtTokenFile(token));
    let opened = tokio::spawn(call.open());
    let acceptor = authority.acceptor("10.0.0.1", true, b"h2");
    let tls = acceptor
        .accept(network.accept().await)
        .await
        .expect("a client certificate");
    assert_eq!(tls.get_ref().1.peer_certificates().map(<[_]>::len), Some(1));
    let served = Served::on(tls).await;
    assert_eq!(served.request.headers()["authorization"], "Bearer t0k3n");
    opened.await.expect("no panic").expect("opened");
}

#[tokio::test]
async fn tls_uses_the_cryptography_it_was_given() {
    let mut network = Network::new();
    let mut call = network.call("10.0.0.1:443");
    call.channel_creds = ChannelCreds::Tls {
        ca_certificate_file: None,
        identity_files: None,
    };
    // Neither given nor by a feature.
    call.crypto = None;
    let opened = tokio::spawn(call.open());
    let _io = network.accept().await;
    let error = opened.await.expect("no panic").expect_err("no TLS");
    assert!(error.contains("MeshBuilder::crypto_provider"), "{error}");
}
