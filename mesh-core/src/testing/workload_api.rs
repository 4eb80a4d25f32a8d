//! A SPIFFE Workload API on a Unix domain socket.

mod server;

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::{net::UnixListener, sync::watch, task::JoinHandle, time::timeout};

use super::{CertificateAuthority, Issued, Leaf};
use crate::{Code, bootstrap::SpiffeWorkloadApiConfig, identity::PeerCertificate};

/// A SPIFFE Workload API that streams what a test [pushes](Self::push), on a Unix domain socket in
/// a directory of its own.
///
/// ```
/// use mesh_core::{
///     identity::{CertificateSource, SpiffeSource, default_crypto_provider},
///     testing::{CertificateAuthority, Leaf, WorkloadApi},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (shop, bank) = (CertificateAuthority::new("shop"), CertificateAuthority::new("bank"));
/// let api = WorkloadApi::start();
/// api.push(&shop.issue(Leaf::spiffe("spiffe://shop/greeter")), &shop, &[("bank", &bank)]);
///
/// // A bootstrap takes it too: `.certificate_provider("default", api.config())`.
/// let crypto = default_crypto_provider().expect("a feature is on");
/// let source = SpiffeSource::new(&api.config(), crypto);
/// let mut identity = source.identity("default");
/// while identity.known().value.is_none() {
///     identity.changed().await;
/// }
/// let first = identity.seen().value.expect("an identity");
/// assert_eq!(first.leaf().spiffe_id(), Some("spiffe://shop/greeter"));
///
/// // The same identity with a new key.
/// api.rotate();
/// identity.changed().await;
/// let second = identity.known().value.expect("an identity");
/// assert_ne!(first.leaf().serial, second.leaf().serial);
///
/// // Nobody watches: nobody asks.
/// drop(identity);
/// api.streams(0).await;
/// # }
/// ```
///
/// Requests without the header `workload.spiffe.io: true` are refused with `INVALID_ARGUMENT`
/// (SPIFFE Workload Endpoint section 3). Dropping it ends it and removes the directory.
pub struct WorkloadApi {
    directory: PathBuf,
    shared: Arc<Shared>,
    /// `None`: it is stopped.
    server: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    answer: watch::Sender<Answer>,
    /// News: connections are to be cut.
    cut: watch::Sender<()>,
    /// How many streams are open.
    streams: watch::Sender<usize>,
}

/// What streams say.
#[derive(Debug, Default)]
struct Answer {
    /// `None`: nothing yet.
    message: Option<Bytes>,
    refusal: Option<Code>,
    pushed: Option<Pushed>,
}

/// What it takes to issue the same once more.
#[derive(Debug, Clone)]
struct Pushed {
    spiffe_id: String,
    root: CertificateAuthority,
    federated: Vec<(String, CertificateAuthority)>,
}

/// `X509SVIDResponse` of the Workload API.
#[derive(Clone, PartialEq, Message)]
struct SvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<Svid>,
    #[prost(map = "string, bytes", tag = "3")]
    federated_bundles: HashMap<String, Vec<u8>>,
}

/// `X509SVID` of the same.
#[derive(Clone, PartialEq, Message)]
struct Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

/// How long a wait may last before it panics.
const PATIENCE: Duration = Duration::from_secs(10);

// === impl WorkloadApi ===

impl WorkloadApi {
    /// One with nothing to say yet. To be called in a tokio runtime.
    ///
    /// # Panics
    /// If there can be no socket in the directory for temporary files.
    pub fn start() -> Self {
        let name = format!("mesh-spiffe-{}-{}", std::process::id(), fastrand::u64(..));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a new directory");
        let api = Self {
            directory,
            shared: Arc::default(),
            server: Mutex::default(),
        };
        api.restart();
        api
    }

    /// What a bootstrap says to use it.
    pub fn config(&self) -> SpiffeWorkloadApiConfig {
        SpiffeWorkloadApiConfig::new(format!("unix://{}", self.socket().display()))
    }

    /// Sends this to all who ask, now and later: a certificate with its key, the root of its trust
    /// domain, and the roots of federated trust domains, such as `bank`.
    ///
    /// # Panics
    /// If the certificate has no SPIFFE identity.
    pub fn push(
        &self,
        issued: &Issued,
        root: &CertificateAuthority,
        federated: &[(&str, &CertificateAuthority)],
    ) {
        let leaf = PeerCertificate::parse(&issued.chain().der()).expect("a certificate");
        let spiffe_id = leaf.spiffe_id().expect("a SPIFFE identity").to_owned();
        let federated = federated.iter();
        let pushed = Pushed {
            spiffe_id,
            root: root.clone(),
            federated: federated
                .map(|&(domain, root)| (domain.to_owned(), root.clone()))
                .collect(),
        };
        self.send(pushed, issued);
    }

    /// Sends what was pushed last once more, with a certificate that is issued anew by its root,
    /// for a new key, and returns that.
    ///
    /// # Panics
    /// If nothing was pushed.
    pub fn rotate(&self) -> Issued {
        let pushed = self.shared.answer.borrow().pushed.clone();
        let pushed = pushed.expect("something was pushed");
        let issued = pushed.root.issue(Leaf::spiffe(&pushed.spiffe_id));
        self.send(pushed, &issued);
        issued
    }

    /// Ends all streams with this code, now and later, such as [`Code::Unavailable`]; `None`:
    /// answers again, which is how it begins.
    pub fn refuse(&self, code: Option<Code>) {
        self.shared
            .answer
            .send_modify(|answer| answer.refusal = code);
    }

    /// Cuts the connections there are. New ones are accepted.
    pub fn drop_connections(&self) {
        self.shared.cut.send_replace(());
    }

    /// Cuts the connections and takes the socket away. All is closed when this returns.
    pub async fn stop(&self) {
        let server = self.server.lock().take();
        if let Some(server) = server {
            server.abort();
            let _ = server.await;
        }
        let _ = std::fs::remove_file(self.socket());
    }

    /// Listens again at the same place, after a [`stop`](Self::stop).
    ///
    /// # Panics
    /// If there can be no socket.
    pub fn restart(&self) {
        let mut server = self.server.lock();
        if server.is_none() {
            let listener = UnixListener::bind(self.socket()).expect("a new socket");
            *server = Some(server::serve(listener, &self.shared));
        }
    }

    /// Waits until so many streams are open.
    ///
    /// # Panics
    /// If that takes longer than 10 s.
    pub async fn streams(&self, count: usize) {
        let mut open = self.shared.streams.subscribe();
        let reached = timeout(PATIENCE, open.wait_for(|open| *open == count));
        assert!(
            reached.await.is_ok(),
            "{} streams are open, not {count}",
            *self.shared.streams.borrow()
        );
    }

    fn send(&self, pushed: Pushed, issued: &Issued) {
        let message = pushed.message(issued);
        self.shared.answer.send_modify(|answer| {
            answer.message = Some(message);
            answer.pushed = Some(pushed);
        });
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("api.sock")
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        if let Some(server) = self.server.get_mut() {
            server.abort();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl fmt::Debug for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadApi")
            .field("socket", &self.socket())
            .finish_non_exhaustive()
    }
}

// === impl Pushed ===

impl Pushed {
    fn message(&self, issued: &Issued) -> Bytes {
        let root = |root: &CertificateAuthority| root.root_der().to_vec();
        let federated = self.federated.iter();
        let response = SvidResponse {
            svids: vec![Svid {
                spiffe_id: self.spiffe_id.clone(),
                x509_svid: issued
                    .chain()
                    .der()
                    .iter()
                    .flat_map(|der| der.to_vec())
                    .collect(),
                x509_svid_key: issued.key_der().secret_der().to_vec(),
                bundle: root(&self.root),
            }],
            federated_bundles: federated
                .map(|(domain, authority)| (format!("spiffe://{domain}"), root(authority)))
                .collect(),
        };
        response.encode_to_vec().into()
    }
}
