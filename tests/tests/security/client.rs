//! The reference's list "Security client" (grpc-go). Where a case is elsewhere: Update_BadToGood's
//! first half and SecurityConfigNotFoundInBootstrap in `trust.rs` (unknown providers).

use std::{path::PathBuf, time::Duration};

use mesh_core::{
    bootstrap::FileWatcherConfig,
    config::{Kind, SanKind},
    testing::{
        CertificateAuthority, ControlPlane, Endpoint, Issued, Leaf, ListenerTls, SanMatch, Tls,
    },
};
use mesh_tests::{
    backend::Backend,
    eventually, every_way,
    fixture::{SERVICE, within},
    load::{call, until_failure_with, until_success},
    running::{Running, port},
    secured::{SERVER, Secured, client_tls, reconnect, server_tls},
    way::Way,
};

fn trust() -> Tls {
    Tls::trust("default").present("default")
}

/// NoSecurityConfig and NoCertificateProvidersInBootstrap_Success: plaintext.
async fn without_tls_and_without_providers(way: Way) {
    let control_plane = ControlPlane::start().await;
    let backend = Backend::start("one").await;
    way.of(control_plane.service(SERVICE))
        .endpoint(backend.address())
        .apply();
    let mesh = control_plane.mesh("client").await;
    let channel = way.caller(&mesh, SERVICE);
    call(&channel).await.unwrap();
}

/// SecurityConfigNotFoundInBootstrap and NoCertificateProvidersInBootstrap_Failure, then
/// Update_BadToGood.
async fn a_provider_that_the_bootstrap_does_not_have(way: Way) {
    let control_plane = ControlPlane::start().await;
    let backend = Backend::start("one").await;
    let service = way
        .of(control_plane.service(SERVICE))
        .endpoint(backend.address());
    let push = service.tls(client_tls()).apply();
    let mesh = control_plane.mesh("client").await;
    let channel = way.caller(&mesh, SERVICE);
    let status = call(&channel).await.unwrap_err();
    assert!(status.message().contains("\"default\""), "{status:?}");
    let nack = push.nacked().await;
    assert_eq!(nack.kind, Some(Kind::Cluster));
    assert_eq!(
        backend.counts().accepted,
        0,
        "nothing was sent in plaintext"
    );
    control_plane.service(SERVICE).tls(None).apply();
    until_success(&channel).await;
}

/// CertproviderStoreError: files that are not there. Calls say which.
async fn a_provider_that_has_nothing(way: Way) {
    let control_plane = ControlPlane::start().await;
    let files = Files::new(&format!("nothing-{way:?}"));
    control_plane.certificate_provider("default", files.config());
    let backend = Backend::start("one").await;
    let service = way
        .of(control_plane.service(SERVICE))
        .endpoint(backend.address());
    service.tls(client_tls()).apply();
    let mesh = control_plane.mesh("client").await;
    let channel = way.caller(&mesh, SERVICE);
    until_failure_with(&channel, &["cannot be had", "nothing"]).await;
    assert_eq!(backend.counts().calls, 0);
}

/// GoodSecurityConfig, GoodToBad (what cannot be used leaves the last good one), GoodToFallback (TLS
/// that is taken away is plaintext, since the configuration says so).
async fn good_to_bad_to_fallback(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let before = secured.connections()[0].id;
    let nack = secured
        .service()
        .tls(Tls::trust("nobody"))
        .apply()
        .nacked()
        .await;
    assert_eq!(nack.kind, Some(Kind::Cluster));
    secured.call().await.unwrap();
    assert_eq!(secured.connections()[0].id, before);

    secured.service().tls(None).apply().acked().await;
    until_failure_with(&secured.channel, &["failed"]).await;
    secured.disconnected().await;
    secured.listener().plaintext().apply().acked().await;
    until_success(&secured.channel).await;
    assert!(secured.connections()[0].peer.tls.is_none());
}

/// SystemRootCerts: the roots of this machine vouch for no server of a test.
async fn system_roots_do_not_vouch_for_our_server(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let system = Tls::trust_system().present("default");
    secured.service().tls(system).apply().acked().await;
    until_failure_with(&secured.channel, &["TLS"]).await;
    secured.disconnected().await;
    secured.service().tls(client_tls()).apply().acked().await;
    until_success(&secured.channel).await;
}

/// SystemRootCerts: `SSL_CERT_FILE` is the whole process's, so the client is another: this test,
/// started again. Of gRPC alone.
#[tokio::test]
async fn system_roots_of_the_environment() {
    const NAME: &str = "client::system_roots_of_the_environment";
    if std::env::var_os("SSL_CERT_FILE")
        .is_some_and(|file| file.to_string_lossy().contains("system-roots"))
    {
        let mesh = mesh_core::Mesh::from_env().await.unwrap();
        let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
        call(&channel).await.unwrap();
        return;
    }
    let secured = Secured::start().await;
    let anonymous = ListenerTls::present("default");
    secured.listener().tls(anonymous).apply().acked().await;
    let server = SanMatch::uri(SERVER);
    let service = secured.service().tls(Tls::trust_system().san(server));
    service.apply();
    let files = Files::new("system-roots");
    let roots = files.0.join("roots.pem");
    std::fs::write(&roots, secured.ca.root_pem()).unwrap();
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact"])
        .env("SSL_CERT_FILE", &roots)
        .env(
            "GRPC_XDS_BOOTSTRAP_CONFIG",
            secured.control_plane.bootstrap_json("child"),
        )
        .kill_on_drop(true)
        .output();
    let output = within(child).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

/// ValidAndInvalidSecurityConfiguration: two services, each for itself.
async fn one_good_and_one_bad_service(way: Way) {
    let secured = Secured::over(way).await;
    let other = "other.test:8080";
    let wrong = trust().san(SanMatch::uri("spiffe://shop/nobody"));
    let service = way.of(secured.control_plane.service(other));
    let service = service.endpoint(secured.address());
    service.tls(wrong).apply();
    let bad = way.caller(&secured.client.mesh, other);
    for _ in 0..5 {
        secured.call().await.unwrap();
        let status = call(&bad).await.unwrap_err();
        assert!(status.message().contains("wrong SAN"), "{status:?}");
    }
    let service = secured.control_plane.service(other).tls(client_tls());
    service.apply().acked().await;
    until_success(&bad).await;
}

/// SNISANValidation and AutoHostSNI (gRFC A101).
async fn the_server_name_is_sent_and_checked(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let sent = || {
        let connections = secured.connections();
        let tls = connections.last().and_then(|one| one.peer.tls.clone());
        tls.and_then(|tls| tls.server_name)
            .map(|name| name.to_string())
    };
    assert_eq!(sent(), None);
    let named = Leaf::spiffe(SERVER).dns("echo.shop");
    secured
        .server
        .present(secured.ca.issue(named).identity())
        .await;

    // Sent as it is said, and as the endpoint is called, which wins.
    let address = secured.address();
    let endpoint = || Endpoint::new(address).hostname("echo.shop");
    let apply = async |tls: Tls| {
        let service = secured.service().clear_endpoints().endpoint(endpoint());
        service.tls(tls).apply().acked().await;
    };
    apply(trust().sni("other.shop")).await;
    until_success(&secured.channel).await;
    let is = |name: &'static str| move |sent: Option<String>| sent.as_deref() == Some(name);
    let until_sent = async |name: &'static str| {
        let is = is(name);
        let arrived = || is(sent()).then_some(());
        eventually(arrived, || format!("{name} is sent: {:?}", sent())).await;
    };
    until_sent("other.shop").await;
    apply(trust().sni("other.shop").auto_host_sni()).await;
    until_success(&secured.channel).await;
    until_sent("echo.shop").await;

    // Checked against the certificate's names.
    apply(trust().auto_host_sni().auto_sni_san_validation()).await;
    until_success(&secured.channel).await;
    apply(trust().sni("other.shop").auto_sni_san_validation()).await;
    until_failure_with(&secured.channel, &["wrong SAN", "other.shop", "echo.shop"]).await;
    // Without a name that is sent, the matchers count.
    let matched = trust().san(SanMatch::exact(SanKind::Dns, "echo.shop"));
    apply(matched.auto_sni_san_validation()).await;
    until_success(&secured.channel).await;
}

/// FileWatcherCerts(SPIFFE) of the list "Server", and ValidAndInvalidSecurityConfiguration(SPIFFE):
/// both ends have files, and trust each domain's own roots (gRFC A87).
async fn files_and_trust_bundles(way: Way) {
    let control_plane = ControlPlane::start().await;
    let [shop, web] = ["shop", "web"].map(CertificateAuthority::new);
    let bundles = bundle_map(&[("shop", &shop), ("web", &web)]);
    let id = "spiffe://web/sa/client";
    let client = Files::new(&format!("bundle-client-{way:?}"));
    client.write(&web.issue(Leaf::spiffe(id)), &bundles);
    let server = Files::new(&format!("bundle-server-{way:?}"));
    server.write(&shop.issue(Leaf::spiffe(SERVER)), &bundles);
    for (node, files) in [("client", &client), ("server", &server)] {
        let view = control_plane.view(node);
        view.certificate_provider("default", files.bundle_config());
    }
    let listener = port().await;
    let address = listener.local_addr().unwrap();
    control_plane.server(address).tls(server_tls()).apply();
    let mesh = control_plane.mesh("server").await;
    let _running = Running::echo(way, &mesh, listener).await;
    let service = way.of(control_plane.service(SERVICE)).endpoint(address);
    service.tls(client_tls()).apply();
    let client_mesh = control_plane.mesh("client").await;
    let channel = way.caller(&client_mesh, SERVICE);
    call(&channel).await.unwrap();
    assert_eq!(mesh.connections().list()[0].peer.id(), Some(id));

    // An authority vouches for its own domain alone. Our own check finds that out, and what was
    // good is presented still.
    server.write(&web.issue(Leaf::spiffe(SERVER)), &bundles);
    let refused = || mesh.certificates().pop()?.trouble;
    let trouble = eventually(refused, || format!("{:?}", mesh.certificates())).await;
    assert!(trouble.contains("our own check"), "{trouble}");
    reconnect(&mesh, way, &channel).await;
    call(&channel).await.unwrap();

    // Who has nothing else is refused by the others.
    let forged = Files::new(&format!("bundle-forged-{way:?}"));
    forged.write(
        &web.issue(Leaf::spiffe("spiffe://shop/sa/forged")),
        &bundles,
    );
    let view = control_plane.view("forged");
    view.certificate_provider("default", forged.bundle_config());
    let forged_mesh = control_plane.mesh("forged").await;
    let channel = way.caller(&forged_mesh, SERVICE);
    until_failure_with(&channel, &["UnknownCA"]).await;
}

/// A directory for the files of one node; removed at the end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, issued: &Issued, bundles: &str) {
        for (name, content) in [
            ("key.pem", issued.key_pem()),
            ("cert.pem", issued.chain_pem()),
            ("bundles.json", bundles.to_owned()),
        ] {
            // At once, as whoever rotates files does.
            let new = self.0.join("new");
            std::fs::write(&new, content).unwrap();
            std::fs::rename(&new, self.0.join(name)).unwrap();
        }
    }

    fn config(&self) -> FileWatcherConfig {
        let path = |name: &str| self.0.join(name);
        FileWatcherConfig::new()
            .identity_files(path("cert.pem"), path("key.pem"))
            .ca_certificate_file(path("nothing.pem"))
            .refresh_interval(Duration::from_millis(100))
    }

    fn bundle_config(&self) -> FileWatcherConfig {
        self.config()
            .spiffe_trust_bundle_map_file(self.0.join("bundles.json"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A SPIFFE trust bundle map (SPIFFE Trust Domain and Bundle section 4).
fn bundle_map(domains: &[(&str, &CertificateAuthority)]) -> String {
    let bundle = |(domain, ca): &(&str, &CertificateAuthority)| {
        let pem = ca.root_pem();
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let key = serde_json::json!({ "kty": "EC", "use": "x509-svid", "x5c": [base64] });
        ((*domain).to_owned(), serde_json::json!({ "keys": [key] }))
    };
    let domains: serde_json::Map<_, _> = domains.iter().map(bundle).collect();
    serde_json::json!({ "trust_domains": domains }).to_string()
}

every_way!(
    without_tls_and_without_providers,
    a_provider_that_the_bootstrap_does_not_have,
    a_provider_that_has_nothing,
    good_to_bad_to_fallback,
    system_roots_do_not_vouch_for_our_server,
    one_good_and_one_bad_service,
    the_server_name_is_sent_and_checked,
    files_and_trust_bundles,
);
