//! The calls that the mesh makes for itself, over TLS.

use std::net::Ipv4Addr;

use mesh_core::{
    Mesh,
    bootstrap::{Bootstrap, ServerConfig},
    testing::{CertificateAuthority, ControlPlane, Leaf},
};
use mesh_hyper::Client;
use mesh_tests::{Directory, fixture::within, tls_front::TlsFront};
use rustls::{
    ProtocolVersion,
    version::{TLS12, TLS13},
};

const SERVICE: &str = "catalog.shop:8080";

/// Options::tls13_only covers them.
#[tokio::test]
async fn a_control_plane_of_an_older_tls_is_called_unless_the_option_forbids_it() {
    let control_plane = ControlPlane::start().await;
    control_plane.service(SERVICE).version("").apply();
    let authority = CertificateAuthority::new("root");
    let server = authority.issue(Leaf::unnamed().ip(Ipv4Addr::LOCALHOST));
    let client = authority.issue(Leaf::spiffe("spiffe://mesh.test/client"));
    let directory = Directory::new();
    let roots = directory.write("roots.pem", authority.root_pem());
    let chain = directory.write("chain.pem", client.chain_pem());
    let key = directory.write("key.pem", client.key_pem());
    let address = control_plane.address().expect("it has a port");
    let front = TlsFront::start(address, &server, &authority.roots()).await;
    let call = async |tls13_only| {
        let server = ServerConfig::tls(front.address().to_string());
        let server = server
            .ca_certificate_file(&roots)
            .identity_files(&chain, &key);
        let bootstrap = Bootstrap::builder().server(server).node_id("own");
        let mesh = Mesh::builder()
            .bootstrap(bootstrap.build().expect("it is valid"))
            .options(|options| options.tls13_only = tls13_only)
            .build()
            .await
            .expect("a given bootstrap is all that a mesh needs");
        let client = Client::new(&mesh);
        let get = client.get(format!("http://{SERVICE}/")).send();
        within(get).await.expect_err("there is no endpoint")
    };
    let versions = || {
        let handshakes = front.handshakes().into_iter();
        handshakes.map(|(version, _)| version).collect::<Vec<_>>()
    };
    front.speak(&[&TLS12], &server, &authority.roots());
    let error = call(false).await;
    assert!(
        error.is_no_endpoint(),
        "its configuration has come: {error}"
    );
    let error = call(true).await;
    assert!(error.to_string().contains("Options::tls13_only"), "{error}");
    assert_eq!(versions(), [ProtocolVersion::TLSv1_2]);
    front.speak(&[&TLS13], &server, &authority.roots());
    let error = call(true).await;
    assert!(error.is_no_endpoint(), "{error}");
    assert_eq!(versions()[1..], [ProtocolVersion::TLSv1_3]);
}
