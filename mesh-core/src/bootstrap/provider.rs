use std::{path::PathBuf, time::Duration};

use super::{error::Fault, json::member};

/// A certificate provider (gRFC A29).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateProviderConfig {
    /// The plugin's name, such as `file_watcher`.
    pub plugin_name: String,
    /// The plugin's configuration.
    pub config: CertificatePlugin,
}

impl CertificateProviderConfig {
    /// Whether its plugin is known, so that resources may refer to it.
    pub fn is_supported(&self) -> bool {
        !matches!(self.config, CertificatePlugin::Unsupported)
    }
}

/// The configuration of a certificate provider's plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificatePlugin {
    /// `file_watcher`.
    FileWatcher(FileWatcherConfig),
    /// A plugin that is not known. A resource that refers to the instance is refused.
    Unsupported,
}

/// Certificates from files that are read again and again (gRFC A29, A87).
#[derive(Debug, Clone, PartialEq, Eq)]
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
