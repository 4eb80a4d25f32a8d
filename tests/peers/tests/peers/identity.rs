//! mTLS with certificates in files: the same scenarios for every pair of a client and a server.

use std::time::{Duration, SystemTime};

use mesh_core::testing::{CertificateAuthority, Issued, Leaf, SanMatch};
use mesh_peers::{Answer, Client, Files, PATIENCE, Side};
use tokio::time::Instant;

use crate::world::{World, call, failed_with, identity, known_as, pairs, served_by};

const CLIENT: &str = "client";
const SERVER: &str = "server";

/// A certificate that was valid once.
fn expired(ca: &CertificateAuthority, node: &str) -> Issued {
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    ca.issue(Leaf::spiffe(identity(node)).valid(now - 2 * hour..now - hour))
}

/// Both know each other; the server's name is checked on connections there are.
async fn names_are_checked(client: Side, server: Side) {
    let world = World::start().await;
    let _files = [world.node(CLIENT), world.node(SERVER)];
    let server = world.server(server, SERVER).await;
    let mut client = world.client(client, CLIENT).await;
    let address = server.address();
    world.mutual_tls(SERVER, address);
    let ready = call().wait_for_ready();
    client.until(&ready, "served", served_by(SERVER)).await;
    assert!(known_as(CLIENT)(&[client.once(&ready).await]));

    let service = || world.control_plane.service("greeter");
    let another = world.expects(&identity("another"));
    service().tls(another).apply();
    let refused = failed_with("UNAVAILABLE");
    client.until(&call(), "another server", &refused).await;
    service().tls(world.expects(&identity(SERVER))).apply();
    client
        .until(&ready, "served again", served_by(SERVER))
        .await;

    // A server that takes all comers learns nothing of one without a certificate.
    let server = || world.control_plane.server(address);
    service().tls(world.nameless()).apply();
    client.until(&call(), "no certificate", &refused).await;
    server().tls(world.asks()).apply();
    client.until(&ready, "served", served_by(SERVER)).await;
    let reply = client.once(&ready).await.unwrap();
    assert_eq!(reply.peer, [""; 0]);

    // Neither side falls back to plaintext for the other.
    service().tls(None).apply();
    client.until(&call(), "plaintext", &refused).await;
    server().plaintext().apply();
    client
        .until(&ready, "both in plaintext", served_by(SERVER))
        .await;
    service().tls(world.expects(&identity(SERVER))).apply();
    client.until(&call(), "TLS", &refused).await;
}

/// Calls over new connections, until one ends so. What a connection was made with stays: whoever
/// read its files first may have made one with the other's old certificate.
async fn reconnect_until(
    world: &World,
    client: &mut Client,
    server: &str,
    what: &str,
    holds: impl Fn(&[Answer]) -> bool,
) {
    let mut last = Vec::new();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // An expectation more, which no server meets: another TLS, and so another connection.
        let more = format!("{}/{what}/{}", identity("more"), start.elapsed().as_nanos());
        let tls = world.expects(&identity(server)).san(SanMatch::uri(more));
        let service = world.control_plane.service("greeter");
        service.tls(tls).apply().acked().await;
        last = client.call(&call()).await;
        if holds(&last) {
            return;
        }
    }
    panic!("never {what}; at last {last:?}");
}

/// Certificates, and then the root, are replaced in their files while both run.
async fn files_rotate(kind: Side, server: Side) {
    let world = &World::start().await;
    let [own, other] = [world.node(CLIENT), world.node(SERVER)];
    let server = world.server(server, SERVER).await;
    let client = &mut world.client(kind, CLIENT).await;
    let address = server.address();
    world.mutual_tls(SERVER, address);
    let ready = call().wait_for_ready();
    client.until(&ready, "served", known_as(CLIENT)).await;

    let next = CertificateAuthority::new("next");
    let issue = |ca: &CertificateAuthority, node: &str| ca.issue(Leaf::spiffe(identity(node)));
    // Both are trusted before anybody is issued a certificate by the new one.
    own.rotate(&issue(&world.ca, "client-1"), &[&world.ca, &next]);
    other.rotate(&issue(&world.ca, "server-1"), &[&world.ca, &next]);
    let renamed = known_as("client-1");
    reconnect_until(world, client, "server-1", "both roots", renamed).await;

    // New names show that new certificates are in use, on both sides.
    own.rotate(&issue(&next, "client-2"), &[&world.ca, &next]);
    other.rotate(&issue(&next, "server-2"), &[&world.ca, &next]);
    let renamed = known_as("client-2");
    reconnect_until(world, client, "server-2", "new certificates", renamed).await;

    // The old root goes, and with it what it vouched for.
    own.rotate(&issue(&next, "client-3"), &[&next]);
    other.rotate(&issue(&next, "server-3"), &[&next]);
    let renamed = known_as("client-3");
    reconnect_until(world, client, "server-3", "the new root", renamed).await;
    // Whoever has a certificate of its own knows the server, and is not known to it.
    let roots = [&world.ca, &next];
    let _late = world.node_with("late", &issue(&world.ca, "late"), &roots);
    let mut late = world.client(kind, "late").await;
    let refused = failed_with("UNAVAILABLE");
    late.until(&call(), "the old root", refused).await;
    let known = known_as("client-3");
    client.until(&ready, "still served", known).await;
}

/// A certificate and the roots that its owner trusts.
type Kit<'a> = (Issued, &'a CertificateAuthority);

/// Why a client and a server do not come together, what they have, and whether they do.
fn pairs<'a>(
    ca: &'a CertificateAuthority,
    other: &'a CertificateAuthority,
) -> Vec<(&'static str, Kit<'a>, Kit<'a>, bool)> {
    let good = |ca: &CertificateAuthority, node| ca.issue(Leaf::spiffe(identity(node)));
    let client = || (good(ca, CLIENT), ca);
    let server = || (good(ca, SERVER), ca);
    vec![
        ("all is well", client(), server(), true),
        (
            "the server has expired",
            client(),
            (expired(ca, SERVER), ca),
            false,
        ),
        (
            "the client has expired",
            (expired(ca, CLIENT), ca),
            server(),
            false,
        ),
        (
            "the server is another issuer's",
            client(),
            (good(other, SERVER), ca),
            false,
        ),
        (
            "the client is another issuer's",
            (good(other, CLIENT), ca),
            server(),
            false,
        ),
        (
            "the server has another name",
            client(),
            (good(ca, "another"), ca),
            false,
        ),
    ]
}

/// One pair of fresh nodes for each case.
struct Case {
    world: World,
    what: &'static str,
    meet: bool,
    _files: [Files; 2],
}

async fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let [ca, other] = ["first", "other"].map(CertificateAuthority::new);
    for (what, client, server, meet) in pairs(&ca, &other) {
        let world = World::start().await;
        let _files = [
            world.node_with(CLIENT, &client.0, &[client.1]),
            world.node_with(SERVER, &server.0, &[server.1]),
        ];
        cases.push(Case {
            world,
            what,
            meet,
            _files,
        });
    }
    cases
}

/// Only those meet who should.
async fn refusals(client: Side, server: Side) {
    for case in cases().await {
        let server = case.world.server(server, SERVER).await;
        let mut client = case.world.client(client, CLIENT).await;
        case.world.mutual_tls(SERVER, server.address());
        if case.meet {
            let ready = call().wait_for_ready();
            client.until(&ready, case.what, served_by(SERVER)).await;
            continue;
        }
        let refused = failed_with("UNAVAILABLE");
        client.until(&call(), case.what, refused).await;
        for answer in client.call(&call().times(3)).await {
            assert_eq!(answer.unwrap_err().code, "UNAVAILABLE", "{}", case.what);
        }
    }
}

pairs!(names_are_checked);
pairs!(files_rotate);
pairs!(refusals);
