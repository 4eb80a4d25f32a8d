//! Renewal against a certificate authority in memory, on a clock that jumps.

use std::path::PathBuf;

use tokio::time::sleep;

use super::*;
use crate::{
    Code,
    bootstrap::{CallCreds, IstioCaConfig, ServerConfig},
    control::istio_ca::IstioCa,
    identity::{Known, default_crypto_provider},
    testing::{CertificateAuthority, CertificateService, SigningFault},
};

const HOUR: Duration = Duration::from_secs(3600);

fn source(service: &CertificateService, config: &IstioCaConfig) -> CsrSource {
    let crypto = default_crypto_provider().expect("a feature is on");
    IstioCa::source(config, service.side_calls(), crypto)
}

async fn start() -> (CertificateService, CsrSource) {
    let service = CertificateService::start().await;
    let config = service.config().validity(HOUR);
    let source = source(&service, &config);
    (service, source)
}

async fn until<T>(watched: &mut Watched<T>, mut done: impl FnMut(&Known<T>) -> bool) -> Known<T> {
    loop {
        let known = watched.known();
        if done(&known) {
            return known;
        }
        watched.changed().await;
    }
}

async fn first<T>(watched: &mut Watched<T>) -> Arc<T> {
    let known = until(watched, |known| known.value.is_some()).await;
    assert_eq!(known.trouble, None);
    known.value.expect("just seen")
}

/// The value after `old`.
async fn next<T>(watched: &mut Watched<T>, old: &Arc<T>) -> Arc<T> {
    let is_new = |known: &Known<T>| !Arc::ptr_eq(known.value.as_ref().expect("kept"), old);
    until(watched, is_new).await.value.expect("just seen")
}

async fn trouble<T>(watched: &mut Watched<T>) -> Arc<str> {
    let known = until(watched, |known| known.trouble.is_some()).await;
    known.trouble.expect("just seen")
}

/// The time until `service` has been asked `count` times.
async fn until_requested(service: &CertificateService, count: usize) -> Duration {
    let start = Instant::now();
    service.requested(count).await;
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn renews_at_half_of_its_life_with_a_new_key() {
    let (service, source) = start().await;
    assert!(service.requests().is_empty(), "nobody watches yet");
    let mut watched = source.identity("default");
    let mut identity = first(&mut watched).await;
    for turn in 1..5 {
        let asked = until_requested(&service, turn + 1).await;
        // The certificate's end is on a whole second.
        let earliest = (HOUR - Duration::from_secs(1)).mul_f64(0.49);
        assert!(
            (earliest..=HOUR.mul_f64(0.51)).contains(&asked),
            "{asked:?}"
        );
        let new = next(&mut watched, &identity).await;
        assert!(new.leaf.not_after > identity.leaf.not_after);
        identity = new;
    }
    let mut keys: Vec<_> = service
        .requests()
        .into_iter()
        .map(|r| r.public_key)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_does_not_renew_in_step() {
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let (service, source) = start().await;
        let _watched = source.identity("");
        service.requested(1).await;
        pauses.push(until_requested(&service, 2).await);
    }
    let spread = *pauses.iter().max().unwrap() - *pauses.iter().min().unwrap();
    assert!(spread > Duration::from_secs(2), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_life_of_five_seconds() {
    let (service, source) = start().await;
    service.set_lifetime(Some(Duration::from_secs(5)));
    let mut watched = source.identity("");
    let mut identity = first(&mut watched).await;
    let start = Instant::now();
    for _ in 0..20 {
        let new = next(&mut watched, &identity).await;
        assert!(clock::now() < identity.leaf.not_after, "never without one");
        identity = new;
    }
    let elapsed = start.elapsed().as_secs();
    assert!((35..52).contains(&elapsed), "{elapsed}");
}

#[tokio::test(start_paused = true)]
async fn a_valid_certificate_is_kept_while_renewal_fails() {
    let (service, source) = start().await;
    let mut watched = source.identity("");
    let mut trust = source.trust("");
    let identity = first(&mut watched).await;
    let roots = first(&mut trust).await;
    let end = Instant::now() + HOUR;

    service.set_fault(Some(SigningFault::Refuse(Code::Unavailable)));
    service.requested(2).await;
    let text = trouble(&mut watched).await;
    assert!(text.contains("not renewed, and expires in 1"), "{text}");
    assert!(text.contains(&service.address().to_string()), "{text}");
    assert!(text.contains("UNAVAILABLE: told to refuse"), "{text}");
    assert_eq!(trouble(&mut trust).await, text);

    // Pauses grow from a second to two minutes and a half, and get short before the end.
    let mut pauses = Vec::new();
    let mut count = 2;
    while Instant::now() < end - Duration::from_secs(1) {
        count += 1;
        pauses.push(until_requested(&service, count).await.as_secs_f64());
        assert!(Arc::ptr_eq(&watched.known().value.unwrap(), &identity));
    }
    assert!((0.8..=1.2).contains(&pauses[0]), "{pauses:?}");
    assert!((1.6..=2.4).contains(&pauses[1]), "{pauses:?}");
    let longest = pauses.iter().copied().fold(0.0, f64::max);
    assert!((100.0..=150.0).contains(&longest), "{pauses:?}");
    assert!((20..50).contains(&pauses.len()), "{pauses:?}");

    let expired = |known: &Known<_>| {
        let text = known.trouble.as_ref().expect("it still fails");
        text.contains("the certificate has expired")
    };
    until(&mut watched, expired).await;
    // Whoever presents it is refused; that is for its user to see.
    assert!(watched.known().value.is_some());

    service.set_fault(None);
    let new = next(&mut watched, &identity).await;
    assert!(new.leaf.not_after > identity.leaf.not_after);
    assert_eq!(watched.known().trouble, None);
    // The same roots: nothing has changed for who watches them, but that the trouble is over.
    let known = until(&mut trust, |known| known.trouble.is_none()).await;
    assert!(Arc::ptr_eq(&known.value.unwrap(), &roots));
    let asked = service.requests().len();
    let pause = until_requested(&service, asked + 1).await;
    assert!(
        pause > HOUR.mul_f64(0.48),
        "back to the schedule: {pause:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn answers_that_cannot_be_used_are_never_published() {
    for (fault, words) in [
        (
            SigningFault::Refuse(Code::Unauthenticated),
            "UNAUTHENTICATED",
        ),
        (SigningFault::Hang, "no answer within 20s"),
        (SigningFault::Expired, "has expired"),
        (SigningFault::NotYetValid, "not valid before another"),
        (SigningFault::OtherKey, "do not match"),
        (SigningFault::OtherRoot, "does not lead to the root"),
        (
            SigningFault::NoRoot,
            "cert_chain: needs a certificate and, last, its root",
        ),
        (
            SigningFault::Garbage,
            "cert_chain[0]: no certificate in PEM",
        ),
    ] {
        let (service, source) = start().await;
        service.set_fault(Some(fault));
        let (mut identity, trust) = (source.identity(""), source.trust(""));
        let text = trouble(&mut identity).await;
        assert!(text.contains("no certificate yet"), "{text}");
        assert!(text.contains(words), "{fault:?}: {text}");
        assert!(identity.known().value.is_none());
        assert!(trust.known().value.is_none());

        service.set_fault(None);
        first(&mut identity).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_hangs_does_not_use_up_the_life() {
    let (service, source) = start().await;
    service.set_lifetime(Some(Duration::from_secs(10)));
    let mut watched = source.identity("");
    let identity = first(&mut watched).await;
    service.set_fault(Some(SigningFault::Hang));
    service.requested(2).await;
    service.set_fault(None);
    next(&mut watched, &identity).await;
    assert!(clock::now() < identity.leaf.not_after);
}

#[tokio::test(start_paused = true)]
async fn ends_with_its_last_watcher_and_goes_on_with_the_next() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let settled = async |count| {
        while tasks() > count {
            tokio::task::yield_now().await;
        }
    };
    let (service, source) = start().await;
    let idle = tasks();
    let mut identity = source.identity("");
    let trust = source.trust("");
    let value = first(&mut identity).await;
    settled(idle + 1).await;
    let another = identity.clone();
    drop((identity, trust));
    assert_eq!(tasks(), idle + 1, "one task, and one who watches");
    drop(another);
    settled(idle).await;
    sleep(HOUR / 4).await;
    assert_eq!(service.requests().len(), 1);

    // The certificate is still good, and is renewed when it would have been.
    let mut identity = source.identity("");
    assert!(Arc::ptr_eq(&identity.known().value.unwrap(), &value));
    let pause = until_requested(&service, 2).await;
    assert!((HOUR / 5..HOUR / 3).contains(&pause), "{pause:?}");
    let value = next(&mut identity, &value).await;

    // The source itself may go: who watches keeps the work alive.
    drop(source);
    let value = next(&mut identity, &value).await;
    drop(identity);
    settled(idle).await;
    drop(value);
}

#[tokio::test(start_paused = true)]
async fn a_new_root_reaches_who_watches() {
    let (service, source) = start().await;
    let mut watched = source.trust("");
    let old = first(&mut watched).await;
    let count = |trust: &Trust| match trust {
        Trust::Roots(roots) => roots.0.len(),
        Trust::Bundles(_) => unreachable!("an authority names roots"),
    };
    service.rotate_root(true);
    let both = next(&mut watched, &old).await;
    service.rotate_root(false);
    let new = next(&mut watched, &both).await;
    assert_eq!((count(&old), count(&both), count(&new)), (1, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn says_who_asks_and_for_what() {
    let service = CertificateService::start().await;
    let directory = Directory::new();
    let token = directory.write("token", "one\n");
    let server = ServerConfig::tls("ca.test:443").call_creds(CallCreds::JwtTokenFile(token));
    let config = IstioCaConfig::new(server.build().unwrap())
        .cluster_id("east")
        .spiffe_id("spiffe://shop/greeter")
        .validity(HOUR);
    let source = source(&service, &config);
    let mut watched = source.identity("");
    let identity = first(&mut watched).await;
    assert_eq!(identity.leaf.spiffe_id(), Some("spiffe://shop/greeter"));
    assert_eq!(identity.leaf.chain.len(), 2, "with its intermediate");

    // A platform replaces the token; the next call has the new one.
    directory.write("token", "two\n");
    next(&mut watched, &identity).await;
    let requests = service.requests();
    let tokens: Vec<_> = requests
        .iter()
        .map(|r| r.authorization.as_deref())
        .collect();
    assert_eq!(tokens, [Some("Bearer one"), Some("Bearer two")]);
    assert_eq!(requests[0].cluster_id.as_deref(), Some("east"));
    assert_eq!(requests[0].validity, HOUR);
    assert_eq!(requests[0].uris, ["spiffe://shop/greeter"]);

    std::fs::remove_file(directory.0.join("token")).unwrap();
    let text = trouble(&mut watched).await;
    assert!(
        text.contains("ca.test:443") && text.contains("token file"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_of_roots_overrides_the_authority() {
    let service = CertificateService::start().await;
    let directory = Directory::new();
    let other = CertificateAuthority::new("another").root_pem();
    let roots = directory.write("roots", &other);
    let config = service.config().validity(HOUR).ca_certificate_file(&roots);
    let source = source(&service, &config);
    let mut watched = source.identity("");
    let text = trouble(&mut watched).await;
    assert!(text.contains("does not lead to the root"), "{text}");
    directory.write("roots", "");
    let is_about_file = |known: &Known<_>| {
        let text = known.trouble.as_ref().expect("it still fails");
        text.contains(&*roots.to_string_lossy())
    };
    until(&mut watched, is_about_file).await;
    directory.write("roots", &(other + &service.root().root_pem()));
    first(&mut watched).await;
}

#[test]
fn a_request_in_pem() {
    let options = CsrOptions {
        uri: Some("spiffe://a/b".into()),
        ..CsrOptions::default()
    };
    let (request, _key) = SigningRequest::new(&options).unwrap();
    let pem = request.pem().unwrap();
    assert!(
        pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----"),
        "{pem}"
    );
    assert!(!pem.contains("PRIVATE"));
    assert_eq!(request.validity(), Duration::from_secs(86_400));
    let bad = CsrOptions {
        uri: Some("spiffe://ä".into()),
        ..CsrOptions::default()
    };
    let error = SigningRequest::new(&bad).unwrap_err();
    assert!(error.to_string().contains("signing request"), "{error}");
}

/// A directory of files that goes when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("mesh-core-{}-{}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
