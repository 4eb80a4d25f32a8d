use std::{fs, path::PathBuf, time::Duration};

use mesh_core::{
    bootstrap::FileWatcherConfig,
    testing::{CertificateAuthority, Issued},
};
use tempfile::TempDir;

use crate::Security;

/// A certificate, its key and roots to trust, in files that can be replaced while they are
/// watched. Gone when dropped.
#[derive(Debug)]
pub struct Files(TempDir);

/// How soon the watchers see what is new. Seconds are the least that C-core knows.
const REFRESH: Duration = Duration::from_secs(1);

impl Files {
    /// In a directory of their own.
    pub fn new(issued: &Issued, roots: &[&CertificateAuthority]) -> Self {
        let files = Self(TempDir::new().expect("a temporary directory can be made"));
        files.rotate(issued, roots);
        files
    }

    /// Replaces them all. Each file is whole at all times; for a moment they are of two kinds.
    pub fn rotate(&self, issued: &Issued, roots: &[&CertificateAuthority]) {
        let roots: String = roots.iter().map(|ca| ca.root_pem()).collect();
        for (name, content) in [
            ("roots.pem", roots),
            ("key.pem", issued.key_pem()),
            ("cert.pem", issued.chain_pem()),
        ] {
            let beside = self.path("new");
            fs::write(&beside, content)
                .and_then(|()| fs::rename(&beside, self.path(name)))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    /// A provider of them, for a bootstrap.
    pub fn provider(&self) -> FileWatcherConfig {
        FileWatcherConfig::new()
            .identity_files(self.path("cert.pem"), self.path("key.pem"))
            .ca_certificate_file(self.path("roots.pem"))
            .refresh_interval(REFRESH)
    }

    /// For a C-core peer that knows of no control plane.
    pub fn security(&self) -> Security {
        Security::Files {
            certificate: self.path("cert.pem"),
            key: self.path("key.pem"),
            roots: self.path("roots.pem"),
        }
    }

    /// Where one of them is: `cert.pem`, `key.pem` or `roots.pem`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
