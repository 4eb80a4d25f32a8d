//! Who this process is and where its control plane is.

use std::{collections::BTreeMap, path::PathBuf};

/// All that is known before a control plane is asked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Bootstrap {
    /// Control planes in order of preference; never empty.
    pub servers: Vec<ServerConfig>,
    /// Who this process is.
    pub node: Node,
    /// Certificate providers by instance name.
    pub certificate_providers: BTreeMap<String, CertificateProviderConfig>,
    /// How a client target becomes a listener's name; `%s` is the target. Default `%s`.
    pub client_listener_template: String,
    /// How a server's address becomes a listener's name; `%s` is `IP:port`.
    pub server_listener_template: Option<String>,
    /// Authorities of `xdstp:` names.
    pub authorities: BTreeMap<String, AuthorityConfig>,
}

/// One control plane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Where it is: `host:port`, `dns:///host:port`, `ipv4:1.2.3.4:5`, `unix:///path`.
    pub uri: String,
    /// How the connection is secured.
    pub channel_creds: ChannelCreds,
    /// Credentials sent with each stream.
    pub call_creds: Vec<CallCreds>,
    /// What the server does and may do.
    pub features: ServerFeatures,
}

/// How a connection to a control plane is secured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelCreds {
    /// Not at all.
    Insecure,
    /// By TLS. Files are read for every connection (gRFC A65).
    Tls {
        /// Whom to trust; `None`: the operating system's roots.
        ca_certificate_file: Option<PathBuf>,
        /// Certificate chain and private key to present.
        identity_files: Option<(PathBuf, PathBuf)>,
    },
}

/// Credentials sent with each stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallCreds {
    /// `authorization: Bearer` with the file's content, read for every stream (gRFC A97).
    JwtTokenFile(PathBuf),
}

/// `server_features` that are understood; others are ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ServerFeatures {
    /// `ignore_resource_deletion` (gRFC A53): what we do by default (gRFC A88).
    pub ignore_resource_deletion: bool,
    /// `fail_on_data_errors` (gRFC A88).
    pub fail_on_data_errors: bool,
    /// `resource_timer_is_transient_error` (gRFC A57, A88).
    pub resource_timer_is_transient_error: bool,
    /// `trusted_xds_server` (gRFC A81).
    pub trusted_xds_server: bool,
    /// `delta`: the incremental protocol.
    pub delta: bool,
}

/// Who this process is.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// Its id.
    pub id: String,
    /// The cluster it belongs to.
    pub cluster: String,
    /// Where it is.
    pub locality: crate::config::LocalityId,
    /// Whatever the control plane wants to know; sent verbatim.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// A certificate provider.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CertificateProviderConfig {
    /// The plugin, such as `file_watcher`.
    pub plugin_name: String,
    /// The plugin's own configuration.
    pub config: serde_json::Value,
}

/// An authority of `xdstp:` names (gRFC A47).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AuthorityConfig {
    /// How a client target of this authority becomes a listener's name.
    pub client_listener_template: String,
    /// Its own control planes; empty: the top-level ones.
    pub servers: Vec<ServerConfig>,
    /// gRFC A95.
    pub fallback_on_reachability_only: bool,
}
