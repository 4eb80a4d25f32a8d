use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{ServerConfig, error::Fault, json::member};

/// A certificate provider (gRFC A29).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CertificateProviderConfig {
    /// The plugin's name, such as `file_watcher`.
    pub plugin_name: String,
    /// The plugin's configuration.
    pub config: CertificatePlugin,
}

/// The configuration of a certificate provider's plugin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CertificatePlugin {
    /// `file_watcher`.
    FileWatcher(FileWatcherConfig),
    /// `istio_ca`.
    IstioCa(IstioCaConfig),
    /// `spiffe_workload_api`.
    SpiffeWorkloadApi(SpiffeWorkloadApiConfig),
    /// A plugin that is not known. A resource that refers to the instance is refused.
    Unsupported,
}

/// Certificates from files that are read again and again (gRFC A29, A87).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FileWatcherConfig {
    /// Certificate chain and private key to present, PEM.
    pub identity_files: Option<(PathBuf, PathBuf)>,
    /// Trusted roots, PEM.
    pub ca_certificate_file: Option<PathBuf>,
    /// Trusted roots by SPIFFE trust domain, in place of `ca_certificate_file` (gRFC A87).
    pub spiffe_trust_bundle_map_file: Option<PathBuf>,
    /// Time between two readings; more than zero, default 10 minutes.
    pub refresh_interval: Duration,
}

/// Certificates signed by a certificate authority that speaks
/// `istio.v1.auth.IstioCertificateService`, such as istiod. The private key is made in memory and
/// never written.
///
/// ```
/// use std::time::Duration;
///
/// use mesh_core::bootstrap::{Bootstrap, CallCreds, IstioCaConfig, ServerConfig};
///
/// let istiod = ServerConfig::tls("istiod.istio-system.svc:15012")
///     .ca_certificate_file("/var/run/secrets/istio/root-cert.pem")
///     .call_creds(CallCreds::JwtTokenFile("/var/run/secrets/tokens/istio-token".into()));
/// let bootstrap = Bootstrap::builder()
///     .server(istiod.clone())
///     .certificate_provider(
///         "default",
///         IstioCaConfig::new(istiod.build()?)
///             .cluster_id("Kubernetes")
///             .validity(Duration::from_secs(3600)),
///     )
///     .build()?;
/// assert_eq!(bootstrap.provider_instances().collect::<Vec<_>>(), ["default"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct IstioCaConfig {
    /// The certificate authority, how it is reached, and the token that says who asks. Files are
    /// read for each call.
    pub server: ServerConfig,
    /// The cluster in which the token is valid, sent as `clusterid`; `None`: the authority's own.
    pub cluster_id: Option<String>,
    /// How long a certificate is asked to be valid; whole seconds, default 24 hours. The authority
    /// may give less.
    pub validity: Duration,
    /// The identity to ask for, such as `spiffe://cluster.local/ns/shop/sa/greeter`. `None`: the
    /// authority knows it by the token. Istio's looks at the token alone.
    pub spiffe_id: Option<String>,
    /// Trusted roots, PEM, in place of those that come with each certificate. Read for each.
    pub ca_certificate_file: Option<PathBuf>,
}

/// Certificates and trust from a SPIFFE Workload API, such as that of SPIRE's agent. Needs the
/// feature `spiffe`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SpiffeWorkloadApiConfig {
    /// Where it listens: `unix:///path/to/socket` or `tcp://ip:port` (SPIFFE Workload Endpoint
    /// section 4).
    pub socket: String,
}

// === impl CertificateProviderConfig ===

impl CertificateProviderConfig {
    /// Whether its plugin is known, so that resources may refer to it.
    pub fn is_supported(&self) -> bool {
        !matches!(self.config, CertificatePlugin::Unsupported)
    }
}

// === impl CertificatePlugin ===

impl CertificatePlugin {
    /// What is wrong with the provider at `path`, if anything.
    pub(super) fn check(&self, path: &str) -> Result<(), Fault> {
        let config = member(path, "config");
        match self {
            CertificatePlugin::FileWatcher(watcher) => watcher.check(&config),
            CertificatePlugin::IstioCa(ca) => ca.check(&config),
            CertificatePlugin::SpiffeWorkloadApi(api) => {
                if cfg!(not(feature = "spiffe")) {
                    let problem = "needs the feature `spiffe` of mesh-core, which this program is \
                                   built without; turn it on, or remove the provider";
                    let name = SpiffeWorkloadApiConfig::PLUGIN;
                    let fault = Fault::new(member(path, "plugin_name"), problem);
                    return Err(fault.with_value(&name.into()));
                }
                api.check(&config)
            }
            CertificatePlugin::Unsupported => Ok(()),
        }
    }

    /// The name of the plugin; `None` if it is not known.
    pub(super) fn name(&self) -> Option<&'static str> {
        match self {
            CertificatePlugin::FileWatcher(_) => Some(FileWatcherConfig::PLUGIN),
            CertificatePlugin::IstioCa(_) => Some(IstioCaConfig::PLUGIN),
            CertificatePlugin::SpiffeWorkloadApi(_) => Some(SpiffeWorkloadApiConfig::PLUGIN),
            CertificatePlugin::Unsupported => None,
        }
    }
}

impl From<FileWatcherConfig> for CertificatePlugin {
    fn from(config: FileWatcherConfig) -> Self {
        CertificatePlugin::FileWatcher(config)
    }
}

impl From<IstioCaConfig> for CertificatePlugin {
    fn from(config: IstioCaConfig) -> Self {
        CertificatePlugin::IstioCa(config)
    }
}

impl From<SpiffeWorkloadApiConfig> for CertificatePlugin {
    fn from(config: SpiffeWorkloadApiConfig) -> Self {
        CertificatePlugin::SpiffeWorkloadApi(config)
    }
}

// === impl FileWatcherConfig ===

impl FileWatcherConfig {
    /// The name of the plugin.
    pub const PLUGIN: &'static str = "file_watcher";
    /// The default of [`refresh_interval`](Self::refresh_interval).
    pub const DEFAULT_REFRESH: Duration = Duration::from_secs(600);

    /// Names no file yet; at least an identity or roots must follow.
    pub fn new() -> Self {
        Self {
            identity_files: None,
            ca_certificate_file: None,
            spiffe_trust_bundle_map_file: None,
            refresh_interval: Self::DEFAULT_REFRESH,
        }
    }

    /// Presents the certificate chain and private key in these files.
    #[must_use]
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        private_key: impl Into<PathBuf>,
    ) -> Self {
        self.identity_files = Some((certificate.into(), private_key.into()));
        self
    }

    /// Trusts the certificates in this file.
    #[must_use]
    pub fn ca_certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_certificate_file = Some(path.into());
        self
    }

    /// Trusts the bundles in this file, in place of any `ca_certificate_file`.
    #[must_use]
    pub fn spiffe_trust_bundle_map_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.spiffe_trust_bundle_map_file = Some(path.into());
        self
    }

    /// Sets the time between two readings.
    #[must_use]
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = interval;
        self
    }

    /// What is wrong with the configuration at `path`, if anything.
    pub(super) fn check(&self, path: &str) -> Result<(), Fault> {
        let identity = self.identity_files.iter().flat_map(|(c, k)| [c, k]);
        let mut files = identity
            .chain(&self.ca_certificate_file)
            .chain(&self.spiffe_trust_bundle_map_file)
            .peekable();
        if files.peek().is_none() {
            let problem = "names no file; set certificate_file and private_key_file, \
                           ca_certificate_file, spiffe_trust_bundle_map_file, or several of them";
            return Err(Fault::new(path, problem));
        }
        if files.any(|file| file.as_os_str().is_empty()) {
            return Err(Fault::new(path, "the path of a file is empty"));
        }
        if self.refresh_interval.is_zero() {
            let path = member(path, "refresh_interval");
            return Err(Fault::new(path, "must be more than zero"));
        }
        Ok(())
    }
}

impl Default for FileWatcherConfig {
    fn default() -> Self {
        Self::new()
    }
}

// === impl IstioCaConfig ===

impl IstioCaConfig {
    /// The name of the plugin.
    pub const PLUGIN: &'static str = "istio_ca";
    /// The default of [`validity`](Self::validity).
    pub const DEFAULT_VALIDITY: Duration = Duration::from_secs(24 * 3600);

    /// Asks this certificate authority.
    pub fn new(server: ServerConfig) -> Self {
        Self {
            server,
            cluster_id: None,
            validity: Self::DEFAULT_VALIDITY,
            spiffe_id: None,
            ca_certificate_file: None,
        }
    }

    /// Says in which cluster the token is valid.
    #[must_use]
    pub fn cluster_id(mut self, id: impl Into<String>) -> Self {
        self.cluster_id = Some(id.into());
        self
    }

    /// Sets how long a certificate is asked to be valid.
    #[must_use]
    pub fn validity(mut self, validity: Duration) -> Self {
        self.validity = validity;
        self
    }

    /// Asks for this identity.
    #[must_use]
    pub fn spiffe_id(mut self, id: impl Into<String>) -> Self {
        self.spiffe_id = Some(id.into());
        self
    }

    /// Trusts the certificates in this file, in place of what the authority says.
    #[must_use]
    pub fn ca_certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_certificate_file = Some(path.into());
        self
    }

    /// What is wrong with the configuration at `path`, if anything.
    fn check(&self, path: &str) -> Result<(), Fault> {
        let fault = |name, problem: &str| Fault::new(member(path, name), problem);
        if let Some(id) = &self.cluster_id
            && (id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let problem = "must be visible ASCII: it is sent as a header; remove it to do without";
            return Err(fault("cluster_id", problem).with_value(&id.as_str().into()));
        }
        if self.validity.as_secs() == 0 || self.validity.subsec_nanos() > 0 {
            let problem = "must be whole seconds, at least one";
            let value = format!("{:?}", self.validity);
            return Err(fault("validity", problem).with_value(&value.into()));
        }
        if let Some(id) = &self.spiffe_id
            && !is_spiffe_id(id)
        {
            let problem = "must be `spiffe://trust-domain/path`";
            return Err(fault("spiffe_id", problem).with_value(&id.as_str().into()));
        }
        if let Some(file) = &self.ca_certificate_file
            && file.as_os_str().is_empty()
        {
            return Err(fault("ca_certificate_file", "the path of a file is empty"));
        }
        Ok(())
    }
}

// === impl SpiffeWorkloadApiConfig ===

impl SpiffeWorkloadApiConfig {
    /// The name of the plugin.
    pub const PLUGIN: &'static str = "spiffe_workload_api";
    /// The environment variable that names the socket where the configuration does not.
    pub const SOCKET_VARIABLE: &'static str = "SPIFFE_ENDPOINT_SOCKET";

    /// The Workload API at `socket`, such as `unix:///run/spire/agent/public/api.sock`.
    pub fn new(socket: impl Into<String>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// What is wrong with the configuration at `path`, if anything.
    fn check(&self, path: &str) -> Result<(), Fault> {
        let unix = self.socket.strip_prefix("unix:").is_some_and(|path| {
            let path = path.strip_prefix("//").unwrap_or(path);
            path.starts_with('/') && path.len() > 1
        });
        let tcp = self.socket.strip_prefix("tcp://");
        if unix || tcp.is_some_and(|address| address.parse::<SocketAddr>().is_ok()) {
            return Ok(());
        }
        let problem = "must be `unix:///path/to/socket` or `tcp://ip:port`";
        Err(Fault::new(member(path, "socket"), problem).with_value(&self.socket.as_str().into()))
    }
}

/// The syntax of SPIFFE-ID section 2, as far as it keeps mistakes out.
fn is_spiffe_id(id: &str) -> bool {
    let Some((domain, path)) = id
        .strip_prefix("spiffe://")
        .map(|rest| match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        })
    else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let lower = |byte: u8| plain(byte) && !byte.is_ascii_uppercase();
    let segment = |segment: &str| {
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
    };
    !domain.is_empty()
        && domain.bytes().all(lower)
        && path.split('/').skip(1).all(segment)
        && id.len() <= 2048
}
