//! Who this process is and where its control plane is.
//!
//! A [`Bootstrap`] is read from the JSON that every proxyless gRPC client reads, or built in code:
//!
//! ```
//! use mesh_core::bootstrap::{Bootstrap, ServerConfig};
//!
//! let bootstrap = Bootstrap::builder()
//!     .server(ServerConfig::tls("xds.example.com:443").ca_certificate_file("/etc/mesh/ca.pem"))
//!     .server(ServerConfig::insecure("unix:///run/xds.sock"))
//!     .node_id("frontend-7")
//!     .build()?;
//! assert_eq!(bootstrap.listener_name("xds:///greeter:8080")?.resource.as_ref(), "greeter:8080");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Fields of the JSON
//!
//! | field | meaning | source |
//! |---|---|---|
//! | `xds_servers[]` | control planes in order of preference; at least one | gRFC A27, A71 |
//! | `.server_uri` | see [`ServerAddress`] | A27 |
//! | `.channel_creds[]` | the first of a supported type (`insecure`, `tls`) is used, all supported ones are checked | A27, A65 |
//! | `.call_creds[]` | all of a supported type (`jwt_token_file`) are used, others skipped | A97 |
//! | `.server_features[]` | see [`ServerFeatures`]; what is not known is ignored | A30, A53, A57, A81, A88 |
//! | `node` | `id`, `cluster`, `locality`, `metadata`; sent verbatim | A27 |
//! | `certificate_providers` | by instance name; one of another plugin than those below is not usable | A29, A87 |
//! | `server_listener_resource_name_template` | names the listener of a server | A36 |
//! | `client_default_listener_resource_name_template` | names the listener of a client target, default `%s` | A47 |
//! | `authorities` | templates and servers of `xds://authority/name` | A47, A95 |
//!
//! # Certificate providers
//!
//! | `plugin_name` | `config` |
//! |---|---|
//! | `file_watcher` | as in gRFC A29 and A87, see [`FileWatcherConfig`] |
//! | `istio_ca` | see [`IstioCaConfig`]: `ca_server` (as an entry of `xds_servers`: `server_uri`, `channel_creds`, `call_creds`), `cluster_id`, `validity` (default `"86400s"`), `spiffe_id`, `ca_certificate_file` |
//! | `spiffe_workload_api` | see [`SpiffeWorkloadApiConfig`]: `socket`, default: what `SPIFFE_ENDPOINT_SOCKET` says when the bootstrap is read; needs the feature `spiffe` |
//!
//! A workload in an Istio mesh without an agent:
//!
//! ```json
//! "certificate_providers": {"default": {"plugin_name": "istio_ca", "config": {
//!   "ca_server": {
//!     "server_uri": "istiod.istio-system.svc:15012",
//!     "channel_creds": [{"type": "tls", "config": {
//!       "ca_certificate_file": "/var/run/secrets/istio/root-cert.pem"}}],
//!     "call_creds": [{"type": "jwt_token_file", "config": {
//!       "jwt_token_file": "/var/run/secrets/tokens/istio-token"}}]},
//!   "cluster_id": "Kubernetes"}}}
//! ```
//!
//! # Limits
//!
//! Not supported: the `google_default` channel credentials, `spiffe_trust_bundle_map_file` in `tls`
//! credentials (refused, because without it other roots would be trusted), and
//! `allowed_grpc_services` (gRFC A102). A field that is not known is ignored, and `tracing` says so
//! at the debug level. `null` is the same as no value. Files named in the bootstrap are not opened
//! when it is read.

mod address;
mod authority;
mod builder;
mod error;
mod json;
mod node;
mod parse;
mod percent;
mod provider;
mod server;
mod source;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use address::ServerAddress;
pub use authority::{AuthorityConfig, AuthorityConfigBuilder};
pub use builder::BootstrapBuilder;
pub use error::{BootstrapError, Origin};
pub use node::Node;
pub use provider::{
    CertificatePlugin, CertificateProviderConfig, FileWatcherConfig, IstioCaConfig,
    SpiffeWorkloadApiConfig,
};
pub use server::{CallCreds, ChannelCreds, ServerConfig, ServerConfigBuilder, ServerFeatures};
pub(crate) use target::xdstp_authority;
pub use target::{ListenerName, TargetError};

/// All that is known before a control plane is asked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Bootstrap {
    /// Control planes in order of preference; empty only in a mesh that was given another source
    /// and no bootstrap.
    pub servers: Vec<ServerConfig>,
    /// Who this process is.
    pub node: Node,
    /// Certificate providers by instance name. Those that can be used:
    /// [`provider_instances`](Self::provider_instances).
    pub certificate_providers: BTreeMap<String, CertificateProviderConfig>,
    /// How a client target becomes a listener's name; `%s` is the target. Default `%s`.
    pub client_listener_template: String,
    /// How a server's address becomes a listener's name; `%s` is `IP:port`.
    pub server_listener_template: Option<String>,
    /// Authorities of `xdstp:` names.
    pub authorities: BTreeMap<String, AuthorityConfig>,
}

impl Bootstrap {
    /// Builds a bootstrap in code.
    pub fn builder() -> BootstrapBuilder {
        BootstrapBuilder::default()
    }

    /// That of a mesh whose configuration comes from elsewhere.
    pub(crate) fn without_servers() -> Self {
        Self {
            servers: Vec::new(),
            node: Node::default(),
            certificate_providers: BTreeMap::new(),
            client_listener_template: "%s".to_owned(),
            server_listener_template: None,
            authorities: BTreeMap::new(),
        }
    }

    /// Names of the certificate provider instances that resources may refer to: those of a
    /// supported plugin.
    pub fn provider_instances(&self) -> impl Iterator<Item = &str> {
        self.certificate_providers
            .iter()
            .filter(|(_, provider)| provider.is_supported())
            .map(|(instance, _)| instance.as_str())
    }
}
