use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use mesh_core::bootstrap::ServerConfig;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A name to resolve.
    Host { host: String, port: u16 },
    /// An IP address.
    Socket(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// gRPC's default for names without a port.
const DEFAULT_PORT: u16 = 443;

impl Target {
    /// Where `server` listens.
    pub(super) fn of(server: &ServerConfig) -> Result<Self, String> {
        Self::parse(&server.uri)
    }

    /// Parses a gRPC name: `host:port`, `dns:[///]host:port`, `ipv4:`, `ipv6:`, `unix:[//]path`.
    pub(super) fn parse(uri: &str) -> Result<Self, String> {
        let scheme = |name: &str| uri.strip_prefix(name)?.strip_prefix(':');
        if let Some(path) = scheme("unix") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err("`unix:` is followed by a path".to_owned());
            }
            return Ok(Target::Unix(path.into()));
        }
        let rest = ["dns", "ipv4", "ipv6", "passthrough"]
            .into_iter()
            .find_map(scheme)
            .map_or(uri, |rest| rest.strip_prefix("///").unwrap_or(rest));
        if rest.contains('/') {
            return Err(format!("{uri:?} is not `host:port` or `unix:///path`"));
        }
        if let Ok(address) = rest.parse() {
            return Ok(Target::Socket(address));
        }
        let bare = rest.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Target::Socket((ip, DEFAULT_PORT).into()));
        }
        let (host, port) = match rest.rsplit_once(':') {
            None => (rest, DEFAULT_PORT),
            Some((host, port)) => {
                let port = port
                    .parse()
                    .map_err(|_| format!("{uri:?} has no valid port"))?;
                (host, port)
            }
        };
        if host.is_empty() || host.contains(':') {
            return Err(format!("{uri:?} is not `host:port` or `unix:///path`"));
        }
        Ok(Target::Host {
            host: host.to_owned(),
            port,
        })
    }

    /// What a request calls it.
    pub(super) fn authority(&self) -> String {
        match self {
            Target::Host { .. } | Target::Socket(_) => self.to_string(),
            Target::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The name that its certificate is to have.
    pub(super) fn host(&self) -> String {
        match self {
            Target::Host { host, .. } => host.clone(),
            Target::Socket(address) => address.ip().to_string(),
            Target::Unix(_) => "localhost".to_owned(),
        }
    }
}
