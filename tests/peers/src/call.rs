use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Calls that a client is to make.
#[derive(Debug, Clone, Serialize)]
#[must_use = "a client makes it"]
pub struct Call {
    pub(crate) target: String,
    pub(crate) security: Security,
    pub(crate) method: String,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) count: u32,
    pub(crate) timeout: f64,
    pub(crate) wait: bool,
}

/// What a C-core peer uses for a connection. A client of ours always does what the control plane
/// says.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Plaintext, whatever the control plane says.
    Insecure,
    /// What the control plane says; plaintext if it says nothing.
    Xds,
    /// mTLS with these files.
    #[serde(untagged)]
    Files {
        /// The chain to present.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// The certificates to trust.
        roots: PathBuf,
    },
}

/// What a server answers with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What it calls itself.
    pub server: String,
    /// The method's path.
    pub method: String,
    /// The request.
    pub body: String,
    /// The names in the client's certificate.
    pub peer: Vec<String>,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// The status code's name, such as `UNAVAILABLE`.
    pub code: String,
    /// The status message.
    pub message: String,
}

/// How a call ended.
pub type Answer = Result<Reply, Failure>;

// === impl Call ===

impl Call {
    /// One call to `target` under the control plane's rules, which may take 10 s.
    pub fn to(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            security: Security::Xds,
            method: "/peers.Echo/Call".to_owned(),
            metadata: Vec::new(),
            body: "hello".to_owned(),
            count: 1,
            timeout: 10.0,
            wait: false,
        }
    }

    /// Of a method, such as `/peers.Echo/Call`: the default.
    pub fn method(mut self, path: impl Into<String>) -> Self {
        self.method = path.into();
        self
    }

    /// With this metadata.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// By a C-core client that uses this.
    pub fn security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// This often.
    pub fn times(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// Each may take so many seconds.
    pub fn within(mut self, seconds: f64) -> Self {
        self.timeout = seconds;
        self
    }

    /// Each waits until there is a connection.
    pub fn wait_for_ready(mut self) -> Self {
        self.wait = true;
        self
    }
}
