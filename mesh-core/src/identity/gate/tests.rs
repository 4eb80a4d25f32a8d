use super::*;
use crate::{
    identity::{CertificateSource, InCode, default_crypto_provider},
    testing::{CertificateAuthority, Leaf},
};

const HOUR: Duration = Duration::from_secs(3600);

fn gate(source: &InCode) -> Arc<Gate> {
    let crypto = default_crypto_provider().expect("tests have cryptography");
    let (identity, trust) = (source.identity(""), source.trust(""));
    Arc::new(Gate::new(
        "default".into(),
        "".into(),
        identity,
        Some(trust),
        crypto,
    ))
}

/// Lets the gate's task look.
async fn look() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

fn serial(gate: &Gate) -> Option<Arc<str>> {
    gate.status().leaf.map(|leaf| leaf.serial)
}

#[tokio::test(start_paused = true)]
async fn a_certificate_ages_in_stages() {
    let ca = CertificateAuthority::new("root");
    let source = InCode::new();
    let now = clock::now();
    source.present(
        ca.issue(Leaf::spiffe("spiffe://shop/a").valid(now..now + 100 * HOUR))
            .identity(),
    );
    let gate = gate(&source);
    look().await;
    for (hours, stage) in [
        (49, LifeStage::Fresh),
        (2, LifeStage::Half),
        (30, LifeStage::Late),
        (15, LifeStage::Last),
        (5, LifeStage::Expired),
    ] {
        tokio::time::sleep(hours * HOUR).await;
        let status = gate.status();
        assert_eq!(status.stage, stage, "{status:?}");
    }
    let status = gate.status();
    assert!(status.used > 1.0 && status.leaf.is_some());
    assert!(status.trouble.expect("it expired").contains("expired on"));
    let now = clock::now();
    let fresh = Leaf::spiffe("spiffe://shop/a").valid(now..now + HOUR);
    source.present(ca.issue(fresh).identity());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = gate.status();
    assert_eq!((status.stage, status.trouble), (LifeStage::Fresh, None));
    assert!(status.used < 0.1);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_leaves_the_good_one() {
    let ca = CertificateAuthority::new("root");
    let source = InCode::new();
    source.trust_in(Trust::Roots(ca.roots()));
    let good = ca.identity("spiffe://shop/a");
    let kept = Some(Arc::clone(&good.leaf.serial));
    source.present(good);
    let gate = gate(&source);
    look().await;
    assert_eq!(serial(&gate), kept);

    let now = clock::now();
    let early = Leaf::spiffe("spiffe://shop/a").valid(now + HOUR..now + 9 * HOUR);
    let late = Leaf::spiffe("spiffe://shop/a").valid(now - 2 * HOUR..now - HOUR);
    let foreign = CertificateAuthority::new("other");
    let bad = [
        (ca.issue(late), "expired already"),
        (foreign.issue(Leaf::spiffe("spiffe://shop/a")), "unknown CA"),
        (ca.issue(early), "not valid yet"),
    ];
    for (bad, why) in bad {
        source.present(bad.identity());
        look().await;
        assert_eq!(serial(&gate), kept);
        let trouble = gate.status().trouble.expect("it is refused");
        assert!(trouble.contains(why), "{trouble}");
    }
    // The last of them becomes valid.
    tokio::time::sleep(HOUR + Duration::from_secs(1)).await;
    assert_ne!(serial(&gate), kept);
    assert_eq!(gate.status().trouble, None);
}

#[tokio::test(start_paused = true)]
async fn a_new_root_lets_its_certificates_pass() {
    let [old, new] = ["old", "new"].map(CertificateAuthority::new);
    let source = InCode::new();
    source.trust_in(Trust::Roots(old.roots()));
    source.present(old.identity("spiffe://shop/a"));
    let gate = gate(&source);
    look().await;
    let before = serial(&gate);
    source.present(new.identity("spiffe://shop/a"));
    look().await;
    assert_eq!(serial(&gate), before);
    let both = [&old, &new].map(|ca| ca.root_der().clone());
    let both = crate::identity::Roots::from_der(both).expect("both are roots");
    source.trust_in(Trust::Roots(both));
    look().await;
    assert_ne!(serial(&gate), before);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_trusts_other_authorities_than_its_own_is_taken() {
    let [own, peers] = ["own", "peers"].map(CertificateAuthority::new);
    let source = InCode::new();
    source.trust_in(Trust::Roots(peers.roots()));
    let gate = gate(&source);
    for _ in 0..2 {
        let identity = own.identity("spiffe://shop/a");
        let expected = Some(Arc::clone(&identity.leaf.serial));
        source.present(identity);
        look().await;
        assert_eq!(serial(&gate), expected);
    }
}
