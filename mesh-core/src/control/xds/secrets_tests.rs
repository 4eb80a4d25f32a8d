//! Secrets of the fake control plane, over its whole protocol, to the certificates that they are.
//! They stand here, and not with [`SecretSource`], because they write wire messages.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret as WireSecret, TlsCertificate, secret::Type,
    },
};
use prost::Message;

use crate::{
    config::Kind,
    control::xds::{FilterRegistry, PolicyRegistry, XdsClient, XdsOptions, decode::Decoder},
    identity::{
        CertificateSource, Identity, Known, SecretSource, Trust, Watched, default_crypto_provider,
    },
    testing::{CertificateAuthority, ControlPlane, Corruption, Issued, Leaf},
};

struct World {
    control_plane: ControlPlane,
    client: Arc<XdsClient>,
    secrets: SecretSource,
    ca: CertificateAuthority,
}

impl World {
    fn new() -> Self {
        let control_plane = ControlPlane::in_memory();
        let decoder = Decoder::new(FilterRegistry::standard(), PolicyRegistry::standard(), []);
        let client = XdsClient::new(
            Arc::new(control_plane.bootstrap("node")),
            Arc::new(decoder),
            control_plane.side_call(),
            XdsOptions::default(),
        );
        let crypto = default_crypto_provider().expect("a feature is on");
        let secrets = SecretSource::new(Arc::clone(&client) as _, crypto);
        Self {
            control_plane,
            client,
            secrets,
            ca: CertificateAuthority::new("root"),
        }
    }

    fn issue(&self, id: &str) -> Issued {
        self.ca.issue(Leaf::spiffe(id))
    }

    fn put(&self, chain: &Issued, key: &Issued) {
        self.control_plane.set(&certificate(chain, key));
    }
}

fn inline(text: String) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(Specifier::InlineString(text)),
        ..Default::default()
    })
}

fn certificate(chain: &Issued, key: &Issued) -> WireSecret {
    WireSecret {
        name: "default".into(),
        r#type: Some(Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(chain.chain_pem()),
            private_key: inline(key.key_pem()),
            ..Default::default()
        })),
    }
}

async fn until<T>(watched: &mut Watched<T>, mut done: impl FnMut(&Known<T>) -> bool) -> Known<T> {
    let wait = async {
        loop {
            let known = watched.known();
            if done(&known) {
                return known;
            }
            watched.changed().await;
        }
    };
    let limit = Duration::from_secs(600);
    tokio::time::timeout(limit, wait).await.expect("in time")
}

fn has(known: &Known<Identity>, id: &str) -> bool {
    known.trouble.is_none()
        && known
            .value
            .as_ref()
            .is_some_and(|identity| identity.leaf.spiffe_id() == Some(id))
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_watched_while_it_is_used() {
    let world = World::new();
    let subscribed = || world.control_plane.subscriptions(Kind::Secret);
    let (a, b) = (world.issue("spiffe://a"), world.issue("spiffe://b"));
    world.put(&a, &a);
    let mut watched = world.secrets.identity("default");
    let again = world.secrets.identity("default");
    until(&mut watched, |known| has(known, "spiffe://a")).await;
    assert!(has(&again.known(), "spiffe://a"), "one watch for both");
    assert_eq!(subscribed(), ["default".to_owned()].into());

    world.put(&b, &b);
    until(&mut watched, |known| has(known, "spiffe://b")).await;

    drop((watched, again));
    world
        .control_plane
        .until("no secret to be asked for", |control_plane| {
            control_plane.subscriptions(Kind::Secret).is_empty()
        })
        .await;
    assert_eq!(world.secrets.identities_in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_secret_is_kept() {
    let world = World::new();
    let (a, b) = (world.issue("spiffe://a"), world.issue("spiffe://b"));
    world.put(&a, &a);
    let mut watched = world.secrets.identity("default");
    until(&mut watched, |known| has(known, "spiffe://a")).await;
    let kept = |known: &Known<Identity>, words: &str| {
        let identity = known.value.as_ref().expect("kept");
        assert_eq!(identity.leaf.spiffe_id(), Some("spiffe://a"));
        known
            .trouble
            .as_ref()
            .is_some_and(|text| text.contains(words))
    };

    // Refused: not readable, then not a pair.
    let push = world
        .control_plane
        .corrupt(Kind::Secret, "default", Corruption::Truncated);
    push.nacked().await;
    until(&mut watched, |known| kept(known, "rejected")).await;
    world.put(&b, &a);
    until(&mut watched, |known| kept(known, "do not match")).await;

    // Left out: secrets are not deleted by their absence.
    world.put(&a, &a);
    until(&mut watched, |known| has(known, "spiffe://a")).await;
    world.control_plane.remove(Kind::Secret, "default");
    world.put(&b, &b);
    until(&mut watched, |known| has(known, "spiffe://b")).await;
}

#[tokio::test(start_paused = true)]
async fn trust_and_what_is_no_trust() {
    let world = World::new();
    let a = world.issue("spiffe://a");
    world.put(&a, &a);
    world.control_plane.set(&WireSecret {
        name: "ROOTCA".into(),
        r#type: Some(Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(world.ca.root_pem()),
            ..Default::default()
        })),
    });
    let mut trust = world.secrets.trust("ROOTCA");
    let known = until(&mut trust, |known| known.value.is_some()).await;
    assert!(matches!(known.value.as_deref(), Some(Trust::Roots(roots)) if roots.0.len() == 1));

    let mut wrong = world.secrets.trust("default");
    let known = until(&mut wrong, |known| known.trouble.is_some()).await;
    assert!(known.value.is_none());
    assert!(known.trouble.unwrap().contains("holds a tls_certificate"));

    // There is none, after the time limit.
    let mut missing = world.secrets.identity("nobody");
    let known = until(&mut missing, |known| known.trouble.is_some()).await;
    assert!(known.trouble.unwrap().contains(r#"secret "nobody""#));
}

#[tokio::test(start_paused = true)]
async fn no_dump_shows_a_private_key() {
    let world = World::new();
    let a = world.issue("spiffe://a");
    world.put(&a, &a);
    let mut watched = world.secrets.identity("default");
    until(&mut watched, |known| has(known, "spiffe://a")).await;
    let key = a.key_pem();
    let shows_key = |raw: &[u8]| String::from_utf8_lossy(raw).contains(key.lines().nth(1).unwrap());
    assert!(
        shows_key(&certificate(&a, &a).encode_to_vec()),
        "or the test says nothing"
    );

    let dump = world.client.dump().await;
    let accepted = dump.resources[0].accepted.as_ref().expect("in force");
    assert!(!shows_key(&accepted.raw.value));
    let shown = WireSecret::decode(accepted.raw.value.as_slice()).unwrap();
    let Some(Type::TlsCertificate(shown)) = shown.r#type else {
        panic!("another secret");
    };
    assert_eq!(shown.certificate_chain, inline(a.chain_pem()));
    assert_eq!(shown.private_key, inline("[redacted]".into()));

    // Nor does what was refused: here, with a field that is not supported.
    let mut bad = certificate(&a, &a);
    if let Some(Type::TlsCertificate(wire)) = &mut bad.r#type {
        wire.pkcs12 = inline("x".into());
    }
    world.control_plane.set(&bad).nacked().await;
    until(&mut watched, |known| known.trouble.is_some()).await;
    let dump = world.client.dump().await;
    let failure = dump.resources[0].failure.as_ref().expect("refused");
    assert!(!shows_key(
        &failure.raw.as_ref().expect("what was refused").value
    ));
    assert!(!format!("{dump:?} {:?}", watched.known()).contains(key.lines().nth(1).unwrap()));
}
