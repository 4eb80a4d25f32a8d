use super::*;
use crate::{
    Code,
    identity::{Known, default_crypto_provider},
    testing::{CertificateAuthority, Issued, Leaf, WorkloadApi},
};

const ID: &str = "spiffe://shop/greeter";

/// A source of an API that has pushed [`ID`].
struct Fixture {
    api: WorkloadApi,
    root: CertificateAuthority,
    identity: Watched<Identity>,
    trust: Watched<Trust>,
}

impl Fixture {
    async fn start() -> Self {
        let root = CertificateAuthority::new("shop");
        let api = WorkloadApi::start();
        let issued = root.issue(Leaf::spiffe(ID));
        api.push(&issued, &root, &[]);
        let source = source(&api);
        let mut fixture = Self {
            identity: source.identity("any"),
            trust: source.trust("any"),
            api,
            root,
        };
        fixture.presents(&issued).await;
        fixture.trusts(&["shop"]).await;
        fixture
    }

    async fn presents(&mut self, issued: &Issued) -> Known<Identity> {
        let chain = issued.chain().der();
        until(&mut self.identity, |known| {
            let identity = known.value.as_ref();
            identity.is_some_and(|identity| *identity.leaf.chain == chain)
        })
        .await
    }

    async fn trusts(&mut self, domains: &[&str]) {
        until(&mut self.trust, |known| {
            let Some(Trust::Bundles(bundles)) = known.value.as_deref() else {
                return false;
            };
            bundles
                .keys()
                .map(|name| &**name)
                .eq(domains.iter().copied())
        })
        .await;
    }

    /// Until both are in trouble of this kind.
    async fn in_trouble(&mut self, cause: &str) {
        let told = |trouble: &Option<Arc<str>>| {
            trouble.as_deref().is_some_and(|text| text.contains(cause))
        };
        let identity = until(&mut self.identity, |known| told(&known.trouble)).await;
        let trust = until(&mut self.trust, |known| told(&known.trouble)).await;
        // What there was stays in force.
        assert!(identity.value.is_some() && trust.value.is_some());
        assert!(trust.trouble.is_some_and(|text| text.contains("api.sock")));
    }
}

fn source(api: &WorkloadApi) -> SpiffeSource {
    let crypto = default_crypto_provider().expect("a feature is on");
    SpiffeSource::new(&api.config(), crypto)
}

async fn until<T: std::fmt::Debug>(
    watched: &mut Watched<T>,
    done: impl Fn(&Known<T>) -> bool,
) -> Known<T> {
    let wait = async {
        loop {
            let known = watched.seen();
            if done(&known) {
                return known;
            }
            watched.changed().await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), wait).await {
        Ok(known) => known,
        Err(_) => panic!("not reached: {:?}", watched.known()),
    }
}

#[tokio::test]
async fn rotations_and_federated_bundles_are_published() {
    let mut fixture = Fixture::start().await;
    let rotated = fixture.api.rotate();
    fixture.presents(&rotated).await;

    let bank = CertificateAuthority::new("bank");
    let (api, root) = (&fixture.api, &fixture.root);
    api.push(&rotated, root, &[("bank", &bank)]);
    fixture.trusts(&["bank", "shop"]).await;
    fixture.api.push(&rotated, &fixture.root, &[]);
    fixture.trusts(&["shop"]).await;
}

#[tokio::test]
async fn the_newest_of_many_messages_is_published_last() {
    let mut fixture = Fixture::start().await;
    for _ in 0..20 {
        fixture.api.rotate();
        tokio::task::yield_now().await;
    }
    let last = fixture.api.rotate();
    fixture.presents(&last).await;
}

#[tokio::test]
async fn what_cannot_be_used_leaves_what_there_is() {
    let mut fixture = Fixture::start().await;
    let before = fixture
        .identity
        .known()
        .value
        .expect("one")
        .leaf
        .serial
        .clone();
    // A SPIFFE identity of a workload has a path.
    let bad = fixture.root.issue(Leaf::spiffe("spiffe://shop"));
    fixture.api.push(&bad, &fixture.root, &[]);
    fixture.in_trouble("path").await;
    let identity = fixture.identity.known().value.expect("the one before");
    assert_eq!(identity.leaf.serial, before);

    // The stream goes on.
    let good = fixture.root.issue(Leaf::spiffe(ID));
    fixture.api.push(&good, &fixture.root, &[]);
    assert_eq!(fixture.presents(&good).await.trouble, None);
    assert_eq!(fixture.trust.known().trouble, None);
}

#[tokio::test(start_paused = true)]
async fn connections_that_were_cut_are_made_again() {
    let mut fixture = Fixture::start().await;
    fixture.api.drop_connections();
    fixture.api.streams(0).await;
    let rotated = fixture.api.rotate();
    fixture.presents(&rotated).await;
    fixture.api.streams(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_goes_and_comes_back_is_used_again() {
    let mut fixture = Fixture::start().await;
    fixture.api.stop().await;
    fixture.in_trouble("No such file").await;
    fixture.api.restart();
    let rotated = fixture.api.rotate();
    assert_eq!(fixture.presents(&rotated).await.trouble, None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_asked_again() {
    let mut fixture = Fixture::start().await;
    fixture.api.refuse(Some(Code::Unavailable));
    fixture.in_trouble("told to refuse").await;
    fixture.api.refuse(None);
    let rotated = fixture.api.rotate();
    assert_eq!(fixture.presents(&rotated).await.trouble, None);
    fixture.trusts(&["shop"]).await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_told() {
    let api = WorkloadApi::start();
    let source = source(&api);
    let mut identity = source.identity("any");
    let known = until(&mut identity, |known| known.trouble.is_some()).await;
    assert!(known.value.is_none());
    assert!(
        known
            .trouble
            .expect("told")
            .contains("sent nothing within 10s")
    );
}

#[tokio::test]
async fn all_who_watch_share_a_stream_which_ends_with_them() {
    let api = WorkloadApi::start();
    let source = source(&api);
    let (identity, trust) = (source.identity("a"), source.trust("b"));
    api.streams(1).await;
    drop(identity);
    // A source alone watches nothing.
    drop(trust);
    api.streams(0).await;
    let again = source.identity("a");
    api.streams(1).await;
    drop((again, source));
    api.streams(0).await;
}
