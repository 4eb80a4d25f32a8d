//! Trust, names and TLS modes that change reach known endpoints and listeners.

use mesh_core::{
    connections::{ConnectionState, Ending},
    identity::Trust,
    testing::{CertificateAuthority, ListenerTls, SanMatch, Tls},
};
use mesh_tests::{
    every_way,
    fixture::SERVICE,
    load::{Load, until_failure_with, until_success},
    secured::{CLIENT, SERVER, Secured, client_tls, server_tls},
    way::{Chat, Way},
};

async fn a_trust_anchor_that_the_server_drops_closes_live_connections(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let before = secured.connections()[0].id;
    let other = CertificateAuthority::new("other");
    // One that is added closes nothing.
    secured.server.trust_in(&[&secured.ca, &other]);
    secured.call().await.unwrap();
    assert_eq!(secured.connections()[0].id, before);

    secured.server.trust_in(&[&other]);
    secured.disconnected().await;
    // New ones are refused, and the client says by whom and why.
    until_failure_with(&secured.channel, &["UnknownCA"]).await;
    assert!(secured.connections().is_empty());

    secured.server.trust_in(&[&secured.ca]);
    until_success(&secured.channel).await;
}

async fn a_trust_anchor_that_the_client_drops_closes_live_connections(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let other = CertificateAuthority::new("other");
    secured
        .client
        .certificates
        .trust_in(Trust::Roots(other.roots()));
    secured.disconnected().await;
    until_failure_with(&secured.channel, &["TLS", "unknown CA"]).await;
    secured.client.trust_in(&[&secured.ca]);
    until_success(&secured.channel).await;
}

/// TLS on one side alone carries no call; on both it does. What waits for it does not fail: of
/// HTTP/2, whose connections begin with a word of the server. Of HTTP/1.1 the request is the first.
async fn tls_that_both_sides_turn_on_drains_plaintext_and_fails_no_call(way: Way) {
    let mut secured = Secured::in_plaintext_over(way).await;
    secured.channel = way.patient(&secured.client.mesh, SERVICE);
    secured.call().await.unwrap();
    let plaintext = secured.connections()[0].id;
    let load = Load::start(&secured.channel, 4);
    load.more(20).await;
    secured.listener().tls(server_tls()).apply().acked().await;
    secured.service().tls(client_tls()).apply().acked().await;
    mesh_tests::eventually(
        || {
            secured
                .connections()
                .iter()
                .all(|one| one.id != plaintext)
                .then_some(())
        },
        || "the plaintext connection is gone".to_owned(),
    )
    .await;
    load.more(50).await;
    load.stop().await.assert_no_failure();
    let connections = secured.connections();
    assert!(!connections.is_empty());
    for connection in connections {
        assert_eq!(connection.peer.id(), Some(CLIENT));
    }
}

async fn a_connection_in_plaintext_is_told_why_it_ends(way: Way) {
    let secured = Secured::in_plaintext_over(way).await;
    let mut chat = Chat::open(&secured.channel).await.unwrap();
    chat.say().await.unwrap();
    secured.listener().tls(server_tls()).apply().acked().await;
    let draining = || {
        let connections = secured.connections();
        let state = connections.first().map(|one| one.state);
        (state == Some(ConnectionState::Draining(Ending::ListenerChanged))).then_some(())
    };
    mesh_tests::eventually(draining, || format!("{:?}", secured.connections())).await;
    // What is under way is finished.
    chat.say().await.unwrap();
    chat.finish().await.unwrap();
    secured.disconnected().await;
    // Plaintext stops.
    let why: &[&str] = match way {
        Way::Grpc | Way::Http2 => &["no HTTP/2 came of it"],
        // Whatever an alert is to whom it is no answer.
        Way::Http1 => &[],
    };
    until_failure_with(&secured.channel, why).await;
    secured.service().tls(client_tls()).apply().acked().await;
    until_success(&secured.channel).await;
}

async fn tls_that_the_cluster_turns_on_reaches_a_server_that_asks_for_it(way: Way) {
    let secured = Secured::in_plaintext_over(way).await;
    secured.call().await.unwrap();
    secured.service().tls(client_tls()).apply().acked().await;
    // The server speaks plaintext still: no call falls back to it.
    until_failure_with(&secured.channel, &["TLS"]).await;
    secured.disconnected().await;
    secured.listener().tls(server_tls()).apply().acked().await;
    until_success(&secured.channel).await;
    assert_eq!(secured.connections()[0].peer.id(), Some(CLIENT));
}

async fn names_that_are_wanted_reach_known_endpoints(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let of = |san| Tls::trust("default").present("default").san(san);
    let other = of(SanMatch::uri("spiffe://shop/ns/backend/sa/other"));
    secured.service().tls(other).apply().acked().await;
    until_failure_with(&secured.channel, &["wrong SAN", SERVER, "sa/other"]).await;
    secured.disconnected().await;
    secured.service().tls(client_tls()).apply().acked().await;
    until_success(&secured.channel).await;
}

async fn unknown_providers_are_refused_on_both_sides_and_what_there_is_stays(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let before = secured.connections()[0].id;
    let nobody = ListenerTls::present("nobody").require_client("default");
    let nack = secured.listener().tls(nobody).apply().nacked().await;
    assert_eq!(nack.node, "server");
    assert!(nack.message.contains("nobody"), "{}", nack.message);
    let nobody = ListenerTls::present("default").require_client("nobody");
    let nack = secured.listener().tls(nobody).apply().nacked().await;
    assert!(nack.message.contains("nobody"), "{}", nack.message);
    let nack = secured
        .service()
        .tls(Tls::trust("nobody"))
        .apply()
        .nacked()
        .await;
    assert_eq!(nack.node, "client");
    assert!(nack.message.contains("nobody"), "{}", nack.message);
    for _ in 0..10 {
        secured.call().await.unwrap();
    }
    assert_eq!(secured.connections()[0].id, before);
}

every_way!(grpc and http2: tls_that_both_sides_turn_on_drains_plaintext_and_fails_no_call);
every_way!(
    a_connection_in_plaintext_is_told_why_it_ends,
    a_trust_anchor_that_the_server_drops_closes_live_connections,
    a_trust_anchor_that_the_client_drops_closes_live_connections,
    tls_that_the_cluster_turns_on_reaches_a_server_that_asks_for_it,
    names_that_are_wanted_reach_known_endpoints,
    unknown_providers_are_refused_on_both_sides_and_what_there_is_stays,
);
