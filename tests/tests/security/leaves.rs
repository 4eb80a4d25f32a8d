//! Each cluster that stands in for an aggregate one has the TLS of its own (gRFC A37, A29).

use mesh_core::testing::{SanMatch, Tls};
use mesh_tests::{
    backend::Backend,
    every_way,
    load::{call, until_from},
    secured::{SERVER, Secured, client_tls},
    way::Way,
};

const BOTH: &str = "both.shop:8080";

async fn each_leaf_has_the_tls_of_its_own(way: Way) {
    let secured = Secured::over(way).await;
    let plain = Backend::start("plain").await;
    let leaf = |name: &str| way.of(secured.control_plane.service(name));
    leaf("encrypted")
        .endpoint(secured.address())
        .tls(client_tls())
        .apply();
    leaf("plain").endpoint(plain.address()).apply();
    // The same server and the same port, by another name than it has.
    let stranger = SanMatch::uri("spiffe://shop/ns/backend/sa/stranger");
    let wrong = Tls::trust("default").present("default").san(stranger);
    leaf("wrong").endpoint(secured.address()).tls(wrong).apply();
    let of = async |leaves: &[&str]| {
        let push = leaf(BOTH).aggregate(leaves.to_vec()).apply();
        push.acked().await;
    };
    leaf(BOTH).aggregate(["encrypted", "plain"]).apply();
    let mesh = &secured.client.mesh;
    let channel = way.caller(mesh, BOTH);

    assert_eq!(call(&channel).await.expect("it is served"), "ours");
    for connection in secured.connections() {
        let tls = connection.peer.tls.as_ref().expect("it is encrypted");
        assert!(tls.certificate.is_some(), "and shows a certificate");
    }
    assert_eq!(plain.counts().accepted, 0, "it is not needed");

    // In plaintext, since that leaf says so, while the other one stays as it is.
    of(&["plain", "encrypted"]).await;
    until_from(&channel, &["plain"]).await;
    of(&["encrypted", "plain"]).await;
    until_from(&channel, &["ours"]).await;

    // One that cannot be trusted takes no call, and does not spoil the one beside it.
    of(&["wrong", "encrypted"]).await;
    until_from(&channel, &["ours"]).await;
    of(&["wrong", "plain"]).await;
    until_from(&channel, &["plain"]).await;
    let connections = secured.connections();
    assert!(connections.iter().all(|one| one.peer.tls.is_some()));

    // TLS that changes is that of its leaf: the name is right now.
    let right = Tls::trust("default").present("default");
    let right = right.san(SanMatch::uri(SERVER));
    leaf("wrong").tls(right).apply().acked().await;
    until_from(&channel, &["ours"]).await;
}

every_way!(each_leaf_has_the_tls_of_its_own);
