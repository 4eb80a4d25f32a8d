use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::{
    config::{
        CaSource, CertificateProvider, IdentitySource, San, SanKind, StringMatch, StringMatcher,
    },
    identity::{CertificateSource, InCode, Trust, default_crypto_provider},
    testing::{CertificateAuthority, Leaf},
};

const HOUR: Duration = Duration::from_secs(3600);

/// A client's certificates and a server's.
struct Pair {
    client: Arc<InCode>,
    server: Arc<InCode>,
    identities: Identities,
}

fn provider(instance: &str) -> CertificateProvider {
    CertificateProvider {
        instance: instance.into(),
        certificate: "".into(),
    }
}

fn upstream() -> UpstreamTls {
    UpstreamTls {
        roots: CaSource::Provider(provider("client")),
        identity: Some(IdentitySource::Provider(provider("client"))),
        sans: Vec::new(),
        sni: None,
        auto_host_sni: false,
        auto_sni_san_validation: false,
    }
}

fn downstream() -> DownstreamTls {
    DownstreamTls {
        identity: IdentitySource::Provider(provider("server")),
        roots: Some(CaSource::Provider(provider("server"))),
        require_client_certificate: true,
        sans: Vec::new(),
    }
}

fn exact(kind: SanKind, name: &str) -> Vec<San> {
    vec![San {
        kind,
        matcher: StringMatcher::new(StringMatch::Exact(name.to_owned()), false),
    }]
}

impl Pair {
    fn new() -> Self {
        let [client, server] = [(); 2].map(|()| Arc::new(InCode::new()));
        let given: BTreeMap<Arc<str>, Arc<dyn CertificateSource>> = BTreeMap::from([
            ("client".into(), Arc::clone(&client) as _),
            ("server".into(), Arc::clone(&server) as _),
        ]);
        let identities = Identities::new(default_crypto_provider(), given);
        Self {
            client,
            server,
            identities,
        }
    }

    /// Both of one authority.
    fn of(ca: &CertificateAuthority) -> Self {
        let pair = Self::new();
        for (side, name) in [(&pair.client, "client"), (&pair.server, "server")] {
            side.trust_in(Trust::Roots(ca.roots()));
            side.present(ca.identity(format!("spiffe://shop/{name}")));
        }
        pair
    }

    /// What comes of a handshake: the server name that was sent, or why there is none.
    async fn shake(
        &self,
        up: &UpstreamTls,
        hostname: Option<&str>,
        down: &DownstreamTls,
    ) -> Result<Option<String>, String> {
        let h2: &[&[u8]] = &[b"h2"];
        let up = self
            .identities
            .upstream(&Arc::new(up.clone()), hostname, h2);
        let down = self.identities.downstream(&Arc::new(down.clone()), h2);
        let client = up.handshake().await.map_err(|error| error.to_string())?;
        let server = down.handshake().await.map_err(|error| error.to_string())?;
        let client = ClientConnection::new(client.config, client.server_name);
        let mut client = client.expect("a usable configuration");
        let mut server = ServerConnection::new(server).expect("a usable configuration");
        run(&mut client, &mut server)?;
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
        Ok(server.server_name().map(str::to_owned))
    }
}

fn run(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), String> {
    let said =
        |side: &str, error: &rustls::Error| format!("{side}: {}", super::super::explain(error));
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("memory takes all");
        server.read_tls(&mut &*wire).expect("memory gives all");
        server
            .process_new_packets()
            .map_err(|error| said("server", &error))?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory takes all");
        }
        let mut wire = &*wire;
        while !wire.is_empty() {
            client.read_tls(&mut wire).expect("memory gives all");
            client
                .process_new_packets()
                .map_err(|error| said("client", &error))?;
        }
    }
    Ok(())
}

fn refused<T>(result: Result<T, String>, why: &[&str]) {
    let Err(error) = result else {
        panic!("must be refused: {why:?}");
    };
    for part in why {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[tokio::test]
async fn both_sides_verify_the_other() {
    let ca = CertificateAuthority::new("root");
    let pair = Pair::of(&ca);
    assert_eq!(pair.shake(&upstream(), None, &downstream()).await, Ok(None));

    let mut up = upstream();
    up.sans = exact(SanKind::Uri, "spiffe://shop/other");
    refused(
        pair.shake(&up, None, &downstream()).await,
        &[
            "client",
            "wrong SAN",
            "spiffe://shop/server",
            "spiffe://shop/other",
        ],
    );
    let mut down = downstream();
    down.sans = exact(SanKind::Uri, "spiffe://shop/other");
    refused(
        pair.shake(&upstream(), None, &down).await,
        &["server", "wrong SAN", "spiffe://shop/client"],
    );

    // A chain of two.
    pair.server
        .present(ca.intermediate("issuing").identity("spiffe://shop/server"));
    assert_eq!(pair.shake(&upstream(), None, &downstream()).await, Ok(None));

    let stranger = Pair::of(&CertificateAuthority::new("root"));
    stranger.client.trust_in(Trust::Roots(ca.roots()));
    refused(
        stranger.shake(&upstream(), None, &downstream()).await,
        &["client", "unknown CA"],
    );
    stranger.server.trust_in(Trust::Roots(ca.roots()));
    stranger
        .client
        .trust_in(Trust::Roots(CertificateAuthority::new("third").roots()));
    refused(
        stranger.shake(&upstream(), None, &downstream()).await,
        &["client", "unknown CA"],
    );
}

#[tokio::test]
async fn a_client_without_a_certificate_is_taken_where_none_is_required() {
    let pair = Pair::of(&CertificateAuthority::new("root"));
    let mut up = upstream();
    up.identity = None;
    let mut down = downstream();
    refused(
        pair.shake(&up, None, &down).await,
        &["server", "presented no certificate"],
    );
    down.require_client_certificate = false;
    assert_eq!(pair.shake(&up, None, &down).await, Ok(None));
    down.sans = exact(SanKind::Uri, "spiffe://shop/other");
    refused(pair.shake(&upstream(), None, &down).await, &["wrong SAN"]);
    down.roots = None;
    assert_eq!(pair.shake(&upstream(), None, &down).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn dates_are_checked_by_the_clock_of_tokio() {
    let ca = CertificateAuthority::new("root");
    let pair = Pair::of(&ca);
    let now = SystemTime::now();
    let server = Leaf::spiffe("spiffe://shop/server").valid(now - HOUR..now + 3 * HOUR);
    pair.server.present(ca.issue(server).identity());
    let h2: &[&[u8]] = &[b"h2"];
    let context = pair.identities.upstream(&Arc::new(upstream()), None, h2);
    let _server = pair.identities.downstream(&Arc::new(downstream()), h2);
    assert_eq!(pair.shake(&upstream(), None, &downstream()).await, Ok(None));
    tokio::time::advance(4 * HOUR).await;
    refused(
        pair.shake(&upstream(), None, &downstream()).await,
        &["client", "expired on"],
    );
    let peer = ca
        .issue(Leaf::unnamed().valid(now - HOUR..now + HOUR))
        .identity();
    context.recheck(&peer.leaf).expect("its dates aside");
}

#[tokio::test]
async fn trust_by_trust_domain() {
    let [shop, bank] = ["shop", "bank"].map(CertificateAuthority::new);
    let pair = Pair::of(&shop);
    let trust = |domains: &[(&str, &CertificateAuthority)]| {
        let bundles = domains
            .iter()
            .map(|&(domain, ca)| (domain.into(), ca.roots()));
        Trust::Bundles(bundles.collect())
    };
    pair.client
        .trust_in(trust(&[("shop", &shop), ("bank", &bank)]));
    pair.server.trust_in(trust(&[("shop", &shop)]));
    assert_eq!(pair.shake(&upstream(), None, &downstream()).await, Ok(None));

    // Each domain by its own roots.
    pair.client
        .trust_in(trust(&[("shop", &bank), ("bank", &shop)]));
    refused(
        pair.shake(&upstream(), None, &downstream()).await,
        &["unknown CA"],
    );
    pair.client.trust_in(trust(&[("bank", &bank)]));
    refused(
        pair.shake(&upstream(), None, &downstream()).await,
        &[
            "unknown trust domain \"shop\"",
            "spiffe://shop/server",
            "bank",
        ],
    );

    pair.client.trust_in(trust(&[("shop", &shop)]));
    for (leaf, why) in [
        (Leaf::dns_name("a.shop"), "0 URI names"),
        (
            Leaf::spiffe("spiffe://shop/a").uri("spiffe://shop/b"),
            "2 URI names",
        ),
        (Leaf::unnamed().uri("https://shop/a"), "no SPIFFE identity"),
        (Leaf::unnamed().uri("spiffe:///a"), "no SPIFFE identity"),
    ] {
        let other = Pair::of(&shop);
        other.server.present(shop.issue(leaf).identity());
        other.client.trust_in(trust(&[("shop", &shop)]));
        refused(other.shake(&upstream(), None, &downstream()).await, &[why]);
    }
}

#[tokio::test]
async fn the_server_name_sent_and_checked() {
    let ca = CertificateAuthority::new("root");
    let pair = Pair::of(&ca);
    pair.server
        .present(ca.issue(Leaf::dns_name("*.shop")).identity());
    let down = downstream();
    let mut up = upstream();
    up.sni = Some("b.shop".into());
    let host = Some("a.shop:8080");
    assert_eq!(
        pair.shake(&up, host, &down).await,
        Ok(Some("b.shop".into()))
    );
    up.auto_host_sni = true;
    assert_eq!(
        pair.shake(&up, host, &down).await,
        Ok(Some("a.shop".into()))
    );
    // None, and none that can be sent: the fixed one.
    for host in [
        None,
        Some(""),
        Some("10.0.0.1:80"),
        Some("[2001:db8::1]:80"),
        Some("::1"),
    ] {
        assert_eq!(
            pair.shake(&up, host, &down).await,
            Ok(Some("b.shop".into()))
        );
    }

    up.sans = exact(SanKind::Uri, "spiffe://nobody");
    refused(pair.shake(&up, host, &down).await, &["spiffe://nobody"]);
    up.auto_sni_san_validation = true;
    assert_eq!(
        pair.shake(&up, host, &down).await,
        Ok(Some("a.shop".into()))
    );
    refused(
        pair.shake(&up, Some("a.bank"), &down).await,
        &["wrong SAN", "*.shop", "a.bank", "server name that was sent"],
    );
    // Nothing is sent: the matchers it is.
    up.sni = None;
    refused(pair.shake(&up, None, &down).await, &["spiffe://nobody"]);
}

#[tokio::test]
async fn settings_are_built_again_only_when_something_changes() {
    let ca = CertificateAuthority::new("root");
    let pair = Pair::of(&ca);
    let h2: &[&[u8]] = &[b"h2"];
    let settings = Arc::new(upstream());
    let context = pair.identities.upstream(&settings, None, h2);
    let equal = pair
        .identities
        .upstream(&Arc::new(upstream()), Some("ignored"), h2);
    assert!(
        Arc::ptr_eq(&context, &equal),
        "equal settings share a context"
    );
    let other = pair.identities.upstream(&settings, None, &[b"http/1.1"]);
    assert!(!Arc::ptr_eq(&context, &other));

    let config = || async { context.handshake().await.expect("all is there").config };
    let first = config().await;
    assert!(Arc::ptr_eq(&first, &config().await));
    let changed = context.trust_changed();
    pair.client.trust_in(Trust::Roots(ca.roots()));
    changed.await;
    let second = config().await;
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &config().await));
}

#[tokio::test]
async fn recheck_goes_by_the_trust_of_now() {
    let [old, new] = ["old", "new"].map(CertificateAuthority::new);
    let pair = Pair::of(&old);
    let up = pair.identities.upstream(&Arc::new(upstream()), None, &[]);
    let down = pair.identities.downstream(&Arc::new(downstream()), &[]);
    let server = old.identity("spiffe://shop/server").leaf;
    let client = old
        .issue(Leaf::spiffe("spiffe://shop/client").client_only())
        .identity()
        .leaf;
    up.recheck(&server).expect("of a trusted root");
    down.recheck(&client).expect("of a trusted root");
    up.recheck(&client).expect_err("not for servers");
    pair.client.trust_in(Trust::Roots(new.roots()));
    pair.server.trust_in(Trust::Roots(new.roots()));
    for error in [up.recheck(&server), down.recheck(&client)] {
        let error = error.expect_err("the root is trusted no more");
        assert!(error.to_string().contains("unknown CA"), "{error}");
    }
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let pair = Pair::of(&CertificateAuthority::new("root"));
    let handshake = |tls: UpstreamTls| async {
        let context = pair.identities.upstream(&Arc::new(tls), None, &[]);
        context
            .handshake()
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let mut tls = upstream();
    tls.roots = CaSource::Provider(provider("nobody"));
    refused(
        handshake(tls).await,
        &["whom to trust", "\"nobody\"", "certificate_providers"],
    );
    let mut tls = upstream();
    tls.identity = Some(IdentitySource::Secret("s".into()));
    refused(
        handshake(tls).await,
        &["the certificate to present", "secrets"],
    );
    let mut tls = upstream();
    tls.sni = Some("not a name".into());
    refused(handshake(tls).await, &["not a name", "SNI"]);
    let none = Identities::new(None, BTreeMap::new()).upstream(&Arc::new(upstream()), None, &[]);
    refused(
        none.handshake()
            .await
            .map(drop)
            .map_err(|error| error.to_string()),
        &["aws-lc-rs", "crypto_provider"],
    );
}

#[tokio::test]
async fn a_handshake_waits_for_what_has_not_arrived() {
    let ca = CertificateAuthority::new("root");
    let pair = Pair::new();
    let context = pair.identities.upstream(&Arc::new(upstream()), None, &[]);
    let waiting = context.handshake();
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    pair.client.trust_in(Trust::Roots(ca.roots()));
    assert!((&mut waiting).now_or_never().is_none());
    pair.client.present(ca.identity("spiffe://shop/client"));
    waiting.await.expect("all is there");
}
