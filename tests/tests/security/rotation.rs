//! Certificates and roots change under load, and no call fails.

use std::collections::BTreeSet;

use mesh_core::testing::CertificateAuthority;
use mesh_tests::{every_way, fixture::within, load::Load, secured::Secured, way::Way};

/// The serial numbers of the client's certificates on the server's connections.
fn serials(secured: &Secured) -> BTreeSet<String> {
    let connections = secured.connections();
    let serial = |peer: &mesh_core::identity::Peer| {
        let tls = peer.tls.as_ref().expect("it is encrypted");
        let certificate = tls.certificate.as_ref().expect("there is one");
        certificate.serial.to_string()
    };
    connections.iter().map(|one| serial(&one.peer)).collect()
}

/// Replaces all connections by such as have this certificate of the client. One whose handshake had
/// begun before there was that may come late, and is replaced as well.
async fn reconnect_with(secured: &Secured, serial: String) {
    let expected = [serial].into();
    within(async {
        secured.reconnect().await;
        while serials(secured) != expected {
            secured.reconnect().await;
        }
    })
    .await;
}

async fn many_rotations_under_load_fail_no_call(way: Way) {
    const ROTATIONS: usize = 200;

    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let load = Load::start(&secured.channel, 4);
    for rotation in 0..ROTATIONS {
        let serial = secured.client.rotate(&secured.ca).await;
        secured.server.rotate(&secured.ca).await;
        load.more(4).await;
        if rotation % 5 == 0 {
            reconnect_with(&secured, serial).await;
        }
    }
    load.more(100).await;
    let seen = load.stop().await;
    seen.assert_no_failure();
    assert_eq!(seen.from("ours"), seen.calls);
    let last = secured.connections().pop().expect("it is connected").id;
    assert!(last as usize > ROTATIONS / 5, "each time anew: {last}");
}

async fn the_root_rotates_in_three_steps_under_load_and_no_call_fails(way: Way) {
    let secured = Secured::over(way).await;
    secured.call().await.unwrap();
    let load = Load::start(&secured.channel, 4);
    let mut old = secured.ca.clone();
    for name in ["second", "third", "fourth"] {
        let new = CertificateAuthority::new(name);
        for side in [&secured.client, &secured.server] {
            side.trust_in(&[&old, &new]);
        }
        load.more(50).await;
        let serial = secured.client.rotate(&new).await;
        secured.server.rotate(&new).await;
        load.more(50).await;
        reconnect_with(&secured, serial.clone()).await;
        for side in [&secured.client, &secured.server] {
            side.trust_in(&[&new]);
        }
        load.more(50).await;
        assert_eq!(serials(&secured), [serial].into(), "nothing was closed");
        secured.reconnect().await;
        old = new;
    }
    load.stop().await.assert_no_failure();
}

every_way!(the_root_rotates_in_three_steps_under_load_and_no_call_fails);
every_way!(tokio::test(flavor = "multi_thread", worker_threads = 2);
    many_rotations_under_load_fail_no_call,
);
