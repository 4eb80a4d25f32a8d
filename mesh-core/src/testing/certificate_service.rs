//! A certificate authority that signs over gRPC.

mod server;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, header};
use parking_lot::Mutex;
use prost::Message;
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    pem::parse_x509_pem,
    prelude::FromDer,
};

use super::{CertificateAuthority, Leaf};
use crate::{
    Code,
    bootstrap::{IstioCaConfig, ServerConfig},
    control::istio_ca::{CLUSTER_ID, CertificateRequest, CertificateResponse},
    identity::now,
    runtime::{RpcStatus, SideCall},
};

/// A certificate authority that signs over gRPC as Istio's does (`IstioCertificateService`), on a
/// loopback port and in memory.
///
/// ```
/// use std::sync::Arc;
///
/// use mesh_core::{
///     control::istio_ca::IstioCa,
///     identity::{CertificateSource, default_crypto_provider},
///     testing::CertificateService,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service = CertificateService::start().await;
/// let config = service.config().spiffe_id("spiffe://shop/greeter");
///
/// let crypto = default_crypto_provider().expect("a feature is on");
/// let source = IstioCa::source(&config, service.side_calls(), crypto);
/// let mut identity = source.identity("default");
/// while identity.known().value.is_none() {
///     identity.changed().await;
/// }
/// let identity = identity.known().value.unwrap();
/// assert_eq!(identity.leaf().spiffe_id(), Some("spiffe://shop/greeter"));
/// assert_eq!(service.requests().len(), 1);
/// # }
/// ```
///
/// Dropping it ends the service.
pub struct CertificateService {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: AbortHandle,
}

/// A request that the service has received.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignRequest {
    /// What the header `authorization` says.
    pub authorization: Option<String>,
    /// What the header `clusterid` says.
    pub cluster_id: Option<String>,
    /// For how long the certificate is to be valid.
    pub validity: Duration,
    /// The URI names that the signing request asks for.
    pub uris: Vec<String>,
    /// The public key: a `SubjectPublicKeyInfo` in DER.
    pub public_key: Vec<u8>,
}

/// What an unlucky certificate authority does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SigningFault {
    /// Ends each call with this code.
    Refuse(Code),
    /// Takes a call and never answers.
    Hang,
    /// Signs certificates that have expired.
    Expired,
    /// Signs certificates that are valid from tomorrow.
    NotYetValid,
    /// Signs another key than the one it was sent.
    OtherKey,
    /// Names a root that has signed nothing.
    OtherRoot,
    /// Leaves out the root.
    NoRoot,
    /// Sends text in place of certificates.
    Garbage,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    seen: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    root: CertificateAuthority,
    issuer: CertificateAuthority,
    /// Roots that are still to be trusted besides `root`.
    older: Vec<CertificateAuthority>,
    /// A root that is trusted already and signs later, and what signs in its name.
    next: Option<(CertificateAuthority, CertificateAuthority)>,
    generation: u32,
    lifetime: Option<Duration>,
    delay: Duration,
    identity: String,
    fault: Option<SigningFault>,
    requests: Vec<SignRequest>,
}

/// How much earlier than now a certificate is valid, for the sake of clocks that go wrong: as
/// Istio's, unless that were most of its life.
const BACKDATED: Duration = Duration::from_secs(120);

// === impl CertificateService ===

impl CertificateService {
    /// A service with a new root.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            seen: watch::Sender::new(()),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a loopback port");
        let address = listener.local_addr().expect("it is bound");
        let server = server::serve(listener, &shared);
        Self {
            shared,
            address,
            server,
        }
    }

    /// What a bootstrap says to use it: without TLS, and so without a token.
    pub fn config(&self) -> IstioCaConfig {
        let server = ServerConfig::insecure(self.address.to_string());
        IstioCaConfig::new(server.build().expect("an address and port"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls that reach it without a network, whatever server they are for. They carry the tokens
    /// of that server's call credentials.
    pub fn side_calls(&self) -> Arc<dyn SideCall> {
        Arc::new(server::InMemory(Arc::clone(&self.shared)))
    }

    /// The root that it uses.
    pub fn root(&self) -> CertificateAuthority {
        self.shared.state.lock().root.clone()
    }

    /// Names one more root from now on, which will sign after the next
    /// [`rotate_root`](Self::rotate_root): the first step of a rotation that nobody notices.
    pub fn announce_root(&self) {
        let mut state = self.shared.state.lock();
        state.generation += 1;
        state.next = Some(root(state.generation));
    }

    /// Forgets the roots that sign no more: the last step.
    pub fn forget_older_roots(&self) {
        self.shared.state.lock().older.clear();
    }

    /// Signs by a new root from now on, the one [announced](Self::announce_root) if there is one,
    /// and names older roots besides it, if they are to be kept.
    pub fn rotate_root(&self, keep_older: bool) {
        let mut state = self.shared.state.lock();
        let (root, issuer) = match state.next.take() {
            Some(next) => next,
            None => {
                state.generation += 1;
                root(state.generation)
            }
        };
        let old = std::mem::replace(&mut state.root, root);
        state.issuer = issuer;
        if keep_older {
            state.older.push(old);
        } else {
            state.older.clear();
        }
    }

    /// Signs certificates that are valid for this long; `None`: for as long as is asked for, which
    /// is how it begins.
    pub fn set_lifetime(&self, lifetime: Option<Duration>) {
        self.shared.state.lock().lifetime = lifetime;
    }

    /// Takes this long to answer. It begins with no delay.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.state.lock().delay = delay;
    }

    /// Signs for this identity where a request names none. It begins with
    /// `spiffe://cluster.local/ns/default/sa/default`.
    pub fn set_identity(&self, spiffe_id: impl Into<String>) {
        self.shared.state.lock().identity = spiffe_id.into();
    }

    /// Does something wrong from now on; `None`: nothing, which is how it begins.
    pub fn set_fault(&self, fault: Option<SigningFault>) {
        self.shared.state.lock().fault = fault;
    }

    /// What it has been asked for, the first request first.
    pub fn requests(&self) -> Vec<SignRequest> {
        self.shared.state.lock().requests.clone()
    }

    /// Waits until it has been asked `count` times since it was started.
    pub async fn requested(&self, count: usize) {
        let mut seen = self.shared.seen.subscribe();
        while self.shared.state.lock().requests.len() < count {
            // The sender is here.
            let _ = seen.changed().await;
        }
    }
}

impl Drop for CertificateService {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl fmt::Debug for CertificateService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateService")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// Answers one call.
    async fn answer(&self, headers: &HeaderMap, message: Bytes) -> Result<Bytes, RpcStatus> {
        let request = SignRequest::parse(headers, message).map_err(|problem| RpcStatus {
            code: Code::InvalidArgument,
            message: problem,
        })?;
        let delay = {
            let mut state = self.state.lock();
            state.requests.push(request.clone());
            state.delay
        };
        self.seen.send_replace(());
        tokio::time::sleep(delay).await;
        let fault = self.state.lock().fault;
        match fault {
            Some(SigningFault::Refuse(code)) => Err(RpcStatus {
                code,
                message: "told to refuse".into(),
            }),
            Some(SigningFault::Hang) => std::future::pending().await,
            _ => Ok(self.state.lock().sign(&request).encode_to_vec().into()),
        }
    }
}

// === impl State ===

impl State {
    fn new() -> Self {
        let (root, issuer) = root(0);
        Self {
            root,
            issuer,
            older: Vec::new(),
            next: None,
            generation: 0,
            lifetime: None,
            delay: Duration::ZERO,
            identity: "spiffe://cluster.local/ns/default/sa/default".into(),
            fault: None,
            requests: Vec::new(),
        }
    }

    fn sign(&self, request: &SignRequest) -> CertificateResponse {
        let lifetime = self.lifetime.unwrap_or(request.validity);
        let day = Duration::from_secs(24 * 3600);
        let now = now();
        let valid = match self.fault {
            Some(SigningFault::Expired) => now - 2 * day..now - day,
            Some(SigningFault::NotYetValid) => now + day..now + day + lifetime,
            _ => now - BACKDATED.min(lifetime / 10)..now + lifetime,
        };
        let id = request.uris.first().unwrap_or(&self.identity);
        let leaf = Leaf::spiffe(id).valid(valid);
        let chain = match self.fault {
            Some(SigningFault::OtherKey) => self.issuer.issue(leaf).chain().clone(),
            _ => self.issuer.issue_for(leaf, &request.public_key),
        };
        let roots = match self.fault {
            Some(SigningFault::OtherRoot) => CertificateAuthority::new("another").root_pem(),
            _ => std::iter::once(&self.root)
                .chain(&self.older)
                .chain(self.next.iter().map(|(root, _)| root))
                .map(CertificateAuthority::root_pem)
                .collect(),
        };
        let mut cert_chain = chain.pems();
        match self.fault {
            Some(SigningFault::NoRoot) => cert_chain.truncate(1),
            Some(SigningFault::Garbage) => cert_chain = vec!["leaf".into(), "root".into()],
            _ => cert_chain.push(roots),
        }
        CertificateResponse { cert_chain }
    }
}

/// A root, and what signs in its name.
fn root(generation: u32) -> (CertificateAuthority, CertificateAuthority) {
    let root = CertificateAuthority::new(format!("root {generation}"));
    let issuer = root.intermediate(format!("issuer {generation}"));
    (root, issuer)
}

// === impl SignRequest ===

impl SignRequest {
    fn parse(headers: &HeaderMap, message: Bytes) -> Result<Self, String> {
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let wire = CertificateRequest::decode(message).map_err(|error| error.to_string())?;
        let (_, pem) = parse_x509_pem(wire.csr.as_bytes()).map_err(|error| error.to_string())?;
        let (_, csr) = X509CertificationRequest::from_der(&pem.contents)
            .map_err(|error| format!("csr: {error}"))?;
        let names = csr.requested_extensions().into_iter().flatten();
        let names = names.filter_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
        let uris = names.flatten().filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        Ok(Self {
            authorization: text(header::AUTHORIZATION.as_str()),
            cluster_id: text(CLUSTER_ID),
            validity: u64::try_from(wire.validity_duration)
                .map(Duration::from_secs)
                .map_err(|_| "validity_duration: negative")?,
            uris: uris.collect(),
            public_key: csr.certification_request_info.subject_pki.raw.to_vec(),
        })
    }
}
