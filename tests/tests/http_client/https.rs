//! Hosts outside of the mesh over TLS, which the operating system's roots vouch for.

use http::Version;
use mesh_core::testing::{CertificateAuthority, ControlPlane, Leaf};
use mesh_hyper::{Client, client::Outside};
use mesh_tests::{bench::Folder, fixture::within};

use super::HttpServer;

const NAME: &str = "https::outside_hosts_are_trusted_by_the_roots_of_the_environment";
/// Where the other process finds the ports of the servers.
const PORTS: &str = "MESH_TESTS_HTTPS_PORTS";

/// `SSL_CERT_FILE` is the whole process's, so the client is another: this test, started again.
#[tokio::test]
async fn outside_hosts_are_trusted_by_the_roots_of_the_environment() {
    if let Ok(ports) = std::env::var(PORTS) {
        return client(&ports).await;
    }
    let (known, unknown) = (
        CertificateAuthority::new("known"),
        CertificateAuthority::new("unknown"),
    );
    let ours = known.issue(Leaf::dns_name("localhost"));
    let theirs = known.issue(Leaf::dns_name("else.test"));
    let untrusted = unknown.issue(Leaf::dns_name("localhost"));
    let servers = [
        HttpServer::secured("both", &ours, &["h2", "http/1.1"]).await,
        HttpServer::secured("old", &ours, &["http/1.1"]).await,
        HttpServer::secured("silent", &ours, &[]).await,
        HttpServer::secured("misnamed", &theirs, &["h2"]).await,
        HttpServer::secured("untrusted", &untrusted, &["h2"]).await,
    ];
    let ports = servers.map(|server| (server.address().port().to_string(), server));
    let control_plane = ControlPlane::start().await;
    let folder = Folder::new("https-outside").unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, known.root_pem()).unwrap();
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact"])
        .env("SSL_CERT_FILE", &roots)
        .env_remove("SSL_CERT_DIR")
        .env(PORTS, ports.each_ref().map(|(port, _)| &**port).join(","))
        .env(
            "GRPC_XDS_BOOTSTRAP_CONFIG",
            control_plane.bootstrap_json("child"),
        )
        .kill_on_drop(true)
        .output();
    let output = within(child).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    assert_eq!(control_plane.connections(), 0);
}

async fn client(ports: &str) {
    let mesh = mesh_core::Mesh::from_env().await.unwrap();
    let client = Client::builder(&mesh)
        .outside(Outside::listed(["localhost"]).unwrap())
        .build();
    let get = |port: &str| within(client.get(format!("https://localhost:{port}/")).send());
    let ports: Vec<_> = ports.split(',').collect();
    let [both, old, silent, misnamed, untrusted] = ports[..] else {
        panic!("not five: {ports:?}");
    };
    for (port, version) in [
        (both, Version::HTTP_2),
        (old, Version::HTTP_11),
        // One that has nothing to say to ALPN speaks HTTP/1.1.
        (silent, Version::HTTP_11),
    ] {
        let response = get(port).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (200, version)
        );
    }
    for (port, why) in [(misnamed, "wrong SAN"), (untrusted, "unknown CA")] {
        let error = get(port).await.unwrap_err();
        assert_eq!(error.status().as_u16(), 503, "{error}");
        assert_eq!(error.response_flag(), Some("UF"), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}
