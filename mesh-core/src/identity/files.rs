use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use notify::RecommendedWatcher;
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use tokio::{
    sync::Notify,
    task::{AbortHandle, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    CertificateSource, Identity, MaterialError, Publisher, Roots, Trust, Watched, bundle::BundleMap,
};
use crate::{bootstrap::FileWatcherConfig, file_watch};

/// Bytes a file may have.
const MAX_FILE: u64 = 16 << 20;
/// How long files must be left alone before they are read: several of them change together.
const SETTLE: Duration = Duration::from_millis(50);
/// How often that is waited for.
const SETTLE_TIMES: usize = 20;
/// Time until files that could not be used are read again, if the interval is not shorter.
const RETRY: Duration = Duration::from_secs(10);

/// Certificates from files: the provider `file_watcher` of the bootstrap (gRFC A29, A87).
///
/// Files are read on the interval and when they change, which is seen also where whole directories
/// are swapped by a symbolic link, as Kubernetes does. A certificate and its key are delivered once
/// they match. What cannot be read or used leaves what there is in force. The name of a certificate
/// is ignored: there is one.
pub struct FileSource {
    config: FileWatcherConfig,
    crypto: Arc<CryptoProvider>,
    running: Mutex<Weak<Running>>,
}

/// The reading of the files, until nobody watches any more.
#[derive(Debug)]
struct Running {
    published: Arc<Published>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Published {
    identity: Publisher<Identity>,
    trust: Publisher<Trust>,
}

/// What the task knows.
struct Reader {
    config: Arc<FileWatcherConfig>,
    crypto: Arc<CryptoProvider>,
    published: Arc<Published>,
    /// The file of the trust in force.
    trusted: Option<Arc<[u8]>>,
    changes: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    /// It was told that the files cannot be watched.
    told: bool,
}

/// What was read.
struct Contents {
    identity: Option<Result<Identity, MaterialError>>,
    trust: Option<Result<Vec<u8>, MaterialError>>,
}

// === impl FileSource ===

impl FileSource {
    /// The files of `config`, read first when something of them is asked for.
    pub fn new(config: FileWatcherConfig, crypto: Arc<CryptoProvider>) -> Self {
        Self {
            config,
            crypto,
            running: Mutex::default(),
        }
    }

    fn running(&self) -> Arc<Running> {
        let mut running = self.running.lock();
        if let Some(running) = running.upgrade() {
            return running;
        }
        let published = Arc::<Published>::default();
        let reader = Reader {
            config: Arc::new(self.config.clone()),
            crypto: Arc::clone(&self.crypto),
            published: Arc::clone(&published),
            trusted: None,
            changes: Arc::default(),
            watcher: None,
            told: false,
        };
        let started = Arc::new(Running {
            published,
            task: tokio::spawn(reader.run()).abort_handle(),
        });
        *running = Arc::downgrade(&started);
        started
    }
}

impl CertificateSource for FileSource {
    fn identity(&self, _name: &str) -> Watched<Identity> {
        if self.config.identity_files.is_none() {
            return Watched::missing(
                "the file_watcher names no certificate_file and private_key_file",
            );
        }
        let running = self.running();
        running.published.identity.watch(Arc::clone(&running))
    }

    fn trust(&self, _name: &str) -> Watched<Trust> {
        if trust_file(&self.config).is_none() {
            return Watched::missing(
                "the file_watcher names no ca_certificate_file or spiffe_trust_bundle_map_file",
            );
        }
        let running = self.running();
        running.published.trust.watch(Arc::clone(&running))
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileSource").field(&self.config).finish()
    }
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Reader ===

impl Reader {
    async fn run(mut self) {
        loop {
            // Before reading: no change between the two is missed.
            self.watch().await;
            let config = Arc::clone(&self.config);
            let crypto = Arc::clone(&self.crypto);
            let read = spawn_blocking(move || Contents::read(&config, &crypto)).await;
            let good = match read {
                Ok(contents) => self.publish(contents),
                Err(_) => false,
            };
            let interval = self.config.refresh_interval;
            let pause = if good { interval } else { interval.min(RETRY) };
            if timeout(pause, self.changes.notified()).await.is_ok() {
                self.settle().await;
            }
        }
    }

    /// Waits until the files are left alone, but not forever.
    async fn settle(&self) {
        for _ in 0..SETTLE_TIMES {
            if timeout(SETTLE, self.changes.notified()).await.is_err() {
                return;
            }
        }
        sleep(SETTLE).await;
    }

    /// Watches the files for changes, if that is not done yet. Where it cannot be done the interval
    /// must do.
    async fn watch(&mut self) {
        if self.watcher.is_some() {
            return;
        }
        let (config, changes) = (Arc::clone(&self.config), Arc::clone(&self.changes));
        match spawn_blocking(move || watcher(&config, changes)).await {
            Ok(Ok(watcher)) => self.watcher = Some(watcher),
            Ok(Err(error)) if !self.told => {
                self.told = true;
                tracing::warn!(
                    %error, interval = ?self.config.refresh_interval,
                    "cannot watch the files of certificates; they are read on the interval alone"
                );
            }
            _ => {}
        }
    }

    /// Delivers what is new; whether all was good.
    fn publish(&mut self, contents: Contents) -> bool {
        let mut good = true;
        // The trust comes first: a certificate is checked against it.
        match contents.trust {
            Some(Ok(bytes)) => good &= self.publish_trust(bytes),
            Some(Err(error)) => {
                good = false;
                self.published.trust.trouble(error.0);
            }
            None => {}
        }
        match contents.identity {
            Some(Ok(identity)) => {
                // A key that matches the same certificate is the same key.
                let known = self.published.identity.known();
                let is_new = known.trouble.is_some()
                    || known
                        .value
                        .is_none_or(|known| known.leaf.chain != identity.leaf.chain);
                if is_new {
                    self.published.identity.publish(Arc::new(identity));
                }
            }
            Some(Err(error)) => {
                good = false;
                self.published.identity.trouble(error.0);
            }
            None => {}
        }
        good
    }

    fn publish_trust(&mut self, bytes: Vec<u8>) -> bool {
        let known = self.published.trust.known();
        if known.trouble.is_none() && self.trusted.as_deref() == Some(&*bytes) {
            return true;
        }
        let path = trust_file(&self.config).map(|file| file.to_owned());
        let parsed = if self.config.spiffe_trust_bundle_map_file.is_some() {
            BundleMap::parse(&bytes).map(|map| {
                let trouble = map.trouble();
                (
                    Trust::Bundles(keep_old(map, known.value.as_deref())),
                    trouble,
                )
            })
        } else {
            Roots::from_pem(&bytes).map(|roots| (Trust::Roots(roots), None))
        };
        let trouble = match parsed {
            Ok((trust, trouble)) => {
                self.trusted = Some(bytes.into());
                self.published.trust.publish(Arc::new(trust));
                trouble
            }
            Err(error) => Some(error.to_string()),
        };
        let Some(trouble) = trouble else { return true };
        let path = path.unwrap_or_default();
        let trouble = format!("{}: {trouble}", path.display());
        self.published.trust.trouble(trouble);
        false
    }
}

/// The bundles of `map`; for those of its bad ones that were good before, the old ones.
fn keep_old(map: BundleMap, old: Option<&Trust>) -> BTreeMap<Arc<str>, Roots> {
    let mut bundles = map.bundles;
    if let Some(Trust::Bundles(old)) = old {
        for domain in map.bad.keys() {
            if let Some(roots) = old.get(domain) {
                bundles.insert(Arc::clone(domain), roots.clone());
            }
        }
    }
    bundles
}

/// The file that says whom to trust. The bundle map takes the place of the roots (gRFC A87).
fn trust_file(config: &FileWatcherConfig) -> Option<&Path> {
    let bundles = config.spiffe_trust_bundle_map_file.as_deref();
    bundles.or(config.ca_certificate_file.as_deref())
}

/// Tells `changes` of what happens to the files, or to the links that lead to them.
fn watcher(config: &FileWatcherConfig, changes: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let identity = config.identity_files.iter().flat_map(|(c, k)| [c, k]);
    let files = identity.map(PathBuf::as_path).chain(trust_file(config));
    let mut names = BTreeSet::<OsString>::new();
    let mut directories = BTreeSet::<PathBuf>::new();
    for file in files {
        names.extend(file.file_name().map(ToOwned::to_owned));
        directories.insert(file_watch::parent(file).to_owned());
    }
    let concerns = move |path: &Path| {
        let Some(name) = path.file_name() else {
            return true;
        };
        // Kubernetes swaps the link `..data`.
        names.contains(name) || name.to_string_lossy().starts_with("..")
    };
    file_watch::watch(&directories, concerns, changes)
}

// === impl Contents ===

impl Contents {
    fn read(config: &FileWatcherConfig, crypto: &CryptoProvider) -> Self {
        Self {
            identity: config
                .identity_files
                .as_ref()
                .map(|(chain, key)| pair(chain, key, crypto)),
            trust: trust_file(config).map(read),
        }
    }
}

fn pair(chain: &Path, key: &Path, crypto: &CryptoProvider) -> Result<Identity, MaterialError> {
    Identity::from_pem(&read(chain)?, &read(key)?, crypto).map_err(|error| {
        let (chain, key) = (chain.display(), key.display());
        MaterialError::new(format!("{chain} and {key}: {error}"))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, MaterialError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_FILE + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let shown = path.display();
    match read() {
        Ok(bytes) if bytes.len() as u64 > MAX_FILE => Err(MaterialError::new(format!(
            "{shown} has more than {MAX_FILE} bytes"
        ))),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(MaterialError::new(format!("cannot read {shown}: {error}"))),
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
