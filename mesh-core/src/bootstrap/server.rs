use std::path::PathBuf;

use super::{BootstrapError, Origin, ServerAddress, error::Fault, json::member};

/// One control plane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Where it is, as written: `host:port`, `dns:///host:port`, `ipv4:1.2.3.4:5`, `unix:///path`.
    pub uri: String,
    /// How the connection is secured.
    pub channel_creds: ChannelCreds,
    /// Credentials sent with each stream.
    pub call_creds: Vec<CallCreds>,
    /// What the server does and may do.
    pub features: ServerFeatures,
    address: ServerAddress,
}

impl ServerConfig {
    /// The control plane at `uri` (see [`ServerAddress`]), reached without TLS.
    pub fn insecure(uri: impl Into<String>) -> ServerConfigBuilder {
        ServerConfigBuilder::new(uri.into(), ChannelCreds::Insecure)
    }

    /// The control plane at `uri` (see [`ServerAddress`]), reached by TLS, with the operating
    /// system's roots unless told otherwise.
    pub fn tls(uri: impl Into<String>) -> ServerConfigBuilder {
        let creds = ChannelCreds::Tls {
            ca_certificate_file: None,
            identity_files: None,
        };
        ServerConfigBuilder::new(uri.into(), creds)
    }

    /// Where it is.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }
}

/// How a connection to a control plane is secured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelCreds {
    /// Not at all.
    Insecure,
    /// By TLS. Files are read for every connection, so `refresh_interval` (gRFC A65) is checked and
    /// has no further effect.
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
    /// `authorization: Bearer` with the file's content, read for every stream (gRFC A97). Only over
    /// TLS or a Unix domain socket.
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
    /// `delta`: the server speaks the incremental variant of ADS (`DeltaAggregatedResources`), and
    /// the client uses it. Each resource then has a version of its own, and a stream that is
    /// opened anew brings what changed since, in place of everything. Without it, the client
    /// speaks state of the world (`StreamAggregatedResources`). Not for istiod with
    /// `GENERATOR=grpc`, which serves this variant incompletely. Source: the xDS transport
    /// protocol, "Incremental xDS"; the name is ours.
    pub delta: bool,
}

impl ServerFeatures {
    /// Turns on the feature called `name`; false if there is none.
    pub(super) fn enable(&mut self, name: &str) -> bool {
        let feature = match name {
            "ignore_resource_deletion" => &mut self.ignore_resource_deletion,
            "fail_on_data_errors" => &mut self.fail_on_data_errors,
            "resource_timer_is_transient_error" => &mut self.resource_timer_is_transient_error,
            "trusted_xds_server" => &mut self.trusted_xds_server,
            "delta" => &mut self.delta,
            // Of no effect since only version 3 of the protocol is left.
            "xds_v3" => return true,
            _ => return false,
        };
        *feature = true;
        true
    }
}

/// Builds a [`ServerConfig`]; [`ServerConfig::insecure`] and [`ServerConfig::tls`] begin one.
#[derive(Debug, Clone)]
#[must_use]
pub struct ServerConfigBuilder {
    uri: String,
    channel_creds: ChannelCreds,
    ca_certificate_file: Option<PathBuf>,
    identity_files: Option<(PathBuf, PathBuf)>,
    call_creds: Vec<CallCreds>,
    features: ServerFeatures,
}

impl ServerConfigBuilder {
    pub(super) fn new(uri: String, channel_creds: ChannelCreds) -> Self {
        Self {
            uri,
            channel_creds,
            ca_certificate_file: None,
            identity_files: None,
            call_creds: Vec::new(),
            features: ServerFeatures::default(),
        }
    }

    /// Trusts the PEM certificates in this file and no others. Needs TLS.
    pub fn ca_certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_certificate_file = Some(path.into());
        self
    }

    /// Presents the PEM certificate chain and private key in these files. Needs TLS.
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        private_key: impl Into<PathBuf>,
    ) -> Self {
        self.identity_files = Some((certificate.into(), private_key.into()));
        self
    }

    /// Adds credentials that are sent with each stream.
    pub fn call_creds(mut self, creds: CallCreds) -> Self {
        self.call_creds.push(creds);
        self
    }

    /// Sets what the server does and may do. Default: none of it.
    pub fn features(mut self, features: ServerFeatures) -> Self {
        self.features = features;
        self
    }

    /// The finished configuration.
    ///
    /// # Errors
    /// If the URI is not one of [`ServerAddress`], a file's path is empty, a connection without TLS
    /// has TLS files, or it would carry a token over a network.
    pub fn build(self) -> Result<ServerConfig, BootstrapError> {
        self.build_at("")
            .map_err(|fault| BootstrapError::new(Origin::Builder, fault))
    }

    /// Builds what stands at `path`.
    pub(super) fn build_at(self, path: &str) -> Result<ServerConfig, Fault> {
        let fault = |name, problem: &str| Fault::new(member(path, name), problem);

        let address = ServerAddress::parse(&self.uri).map_err(|problem| {
            fault("server_uri", &problem).with_value(&self.uri.as_str().into())
        })?;
        let mut channel_creds = self.channel_creds;
        match &mut channel_creds {
            ChannelCreds::Tls {
                ca_certificate_file,
                identity_files,
            } => {
                *ca_certificate_file = self.ca_certificate_file.or(ca_certificate_file.take());
                *identity_files = self.identity_files.or(identity_files.take());
                let identity = identity_files.iter().flat_map(|(cert, key)| [cert, key]);
                if ca_certificate_file
                    .iter()
                    .chain(identity)
                    .any(|file| file.as_os_str().is_empty())
                {
                    return Err(fault("channel_creds", "the path of a file is empty"));
                }
            }
            ChannelCreds::Insecure => {
                if self.ca_certificate_file.is_some() || self.identity_files.is_some() {
                    let problem = "`insecure` uses no certificate files; use ServerConfig::tls";
                    return Err(fault("channel_creds", problem));
                }
                if !self.call_creds.is_empty() && !matches!(address, ServerAddress::Unix(_)) {
                    let problem = "would be sent in clear text; use `tls` in channel_creds, or \
                                   remove them";
                    return Err(fault("call_creds", problem));
                }
            }
        }
        for (index, CallCreds::JwtTokenFile(file)) in self.call_creds.iter().enumerate() {
            if file.as_os_str().is_empty() {
                let path = format!("{}[{index}]", member(path, "call_creds"));
                return Err(Fault::new(path, "the path of a file is empty"));
            }
        }
        Ok(ServerConfig {
            uri: self.uri,
            channel_creds,
            call_creds: self.call_creds,
            features: self.features,
            address,
        })
    }
}

/// Takes up a finished configuration, to go on with or to use as it is.
impl From<ServerConfig> for ServerConfigBuilder {
    fn from(server: ServerConfig) -> Self {
        Self {
            call_creds: server.call_creds,
            features: server.features,
            ..Self::new(server.uri, server.channel_creds)
        }
    }
}
