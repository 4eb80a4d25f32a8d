use std::fs;

use super::*;
use crate::{
    identity::default_crypto_provider,
    testing::{CertificateAuthority, Issued, Leaf},
};

/// A directory of its own, removed when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-files-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("there is room for a directory");
        Self(path)
    }

    fn put(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), contents).expect("the file can be written");
    }

    fn put_pair(&self, issued: &Issued) {
        self.put("cert.pem", issued.chain_pem());
        self.put("key.pem", issued.key_pem());
    }

    /// With this interval; an hour is for ever.
    fn source(&self, interval: Duration) -> FileSource {
        let config = FileWatcherConfig::new()
            .identity_files(self.0.join("cert.pem"), self.0.join("key.pem"))
            .ca_certificate_file(self.0.join("ca.pem"))
            .refresh_interval(interval);
        let crypto = default_crypto_provider().expect("tests have cryptography");
        FileSource::new(config, crypto)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const HOUR: Duration = Duration::from_secs(3600);

async fn until<T>(
    watched: &mut Watched<T>,
    mut condition: impl FnMut(&crate::identity::Known<T>) -> bool,
) {
    let wait = async {
        while !condition(&watched.seen()) {
            watched.changed().await;
        }
    };
    let waited = timeout(Duration::from_secs(10), wait).await;
    assert!(
        waited.is_ok(),
        "waited in vain: {:?}",
        watched.known().trouble
    );
}

fn is(known: &crate::identity::Known<Identity>, issued: &Issued) -> bool {
    let chain = issued.chain().der();
    known.trouble.is_none()
        && known
            .value
            .as_ref()
            .is_some_and(|id| *id.leaf.chain == *chain)
}

fn leaf() -> Leaf {
    Leaf::spiffe("spiffe://shop/a")
}

#[tokio::test]
async fn changes_are_seen_and_torn_pairs_are_not_delivered() {
    let directory = Directory::new("pairs");
    let ca = CertificateAuthority::new("root");
    let [first, second] = [(); 2].map(|()| ca.issue(leaf()));
    directory.put_pair(&first);
    directory.put("ca.pem", ca.root_pem());
    let source = directory.source(HOUR);
    let (mut identity, mut trust) = (source.identity(""), source.trust("any name"));
    until(&mut identity, |known| is(known, &first)).await;
    until(&mut trust, |known| known.value.is_some()).await;

    directory.put("cert.pem", second.chain_pem());
    until(&mut identity, |known| known.trouble.is_some()).await;
    let known = identity.known();
    assert!(
        known
            .value
            .is_some_and(|identity| *identity.leaf.chain == *first.chain().der())
    );
    let trouble = known.trouble.expect("they do not match");
    assert!(trouble.contains("do not match"), "{trouble}");
    directory.put("key.pem", second.key_pem());
    until(&mut identity, |known| is(known, &second)).await;

    let more = CertificateAuthority::new("more").root_pem();
    directory.put("ca.pem", ca.root_pem() + &more);
    let two = |trust: &Trust| matches!(trust, Trust::Roots(roots) if roots.0.len() == 2);
    until(&mut trust, |known| known.value.as_deref().is_some_and(two)).await;
    directory.put("ca.pem", "no PEM");
    until(&mut trust, |known| known.trouble.is_some()).await;
    assert!(
        trust.known().value.as_deref().is_some_and(two),
        "the old ones stay"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_swapped_link_is_seen() {
    let directory = Directory::new("links");
    let ca = CertificateAuthority::new("root");
    let issued = [(); 2].map(|()| ca.issue(leaf()));
    for (version, issued) in ["..1", "..2"].iter().zip(&issued) {
        let versioned = directory.0.join(version);
        fs::create_dir_all(&versioned).expect("there is room");
        for (name, contents) in [
            ("cert.pem", issued.chain_pem()),
            ("key.pem", issued.key_pem()),
        ] {
            fs::write(versioned.join(name), contents).expect("there is room");
        }
        fs::write(versioned.join("ca.pem"), ca.root_pem()).expect("there is room");
    }
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, directory.0.join(name)).expect("links can be made");
    };
    link("..1", "..data");
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        link(&format!("..data/{name}"), name);
    }
    let source = directory.source(HOUR);
    let mut identity = source.identity("");
    until(&mut identity, |known| is(known, &issued[0])).await;
    // As Kubernetes does it.
    link("..2", "..data_tmp");
    fs::rename(directory.0.join("..data_tmp"), directory.0.join("..data")).expect("a rename");
    until(&mut identity, |known| is(known, &issued[1])).await;
}

#[tokio::test(start_paused = true)]
async fn files_are_read_on_the_interval() {
    let directory = Directory::new("interval");
    let ca = CertificateAuthority::new("root");
    let source = directory.source(HOUR);
    let mut identity = source.identity("");
    while identity.known().trouble.is_none() {
        identity.changed().await;
    }
    let trouble = identity.known().trouble.expect("there is no file");
    assert!(trouble.contains("cert.pem"), "{trouble}");
    let issued = ca.issue(leaf());
    directory.put_pair(&issued);
    while !is(&identity.seen(), &issued) {
        identity.changed().await;
    }
}

#[tokio::test]
async fn who_watches_shares_one_reading_and_it_ends_with_the_last() {
    let directory = Directory::new("shared");
    let source = directory.source(HOUR);
    let identity = source.identity("");
    let trust = source.trust("");
    let running = source.running.lock().upgrade().expect("somebody watches");
    let task = running.task.clone();
    drop(running);
    drop(identity);
    assert!(source.running.lock().upgrade().is_some());
    drop(trust);
    assert!(source.running.lock().upgrade().is_none());
    while !task.is_finished() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn errors_never_show_what_is_in_a_file() {
    let crypto = default_crypto_provider().expect("tests have cryptography");
    let ca = CertificateAuthority::new("root");
    let issued = ca.issue(leaf());
    let secret = "-----BEGIN PRIVATE KEY-----hunter2";
    for key in [
        secret,
        "hunter2",
        "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----",
    ] {
        let error = Identity::from_pem(issued.chain_pem().as_bytes(), key.as_bytes(), &crypto);
        let error = error.expect_err("no key").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
