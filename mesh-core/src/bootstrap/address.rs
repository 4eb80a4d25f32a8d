use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    path::PathBuf,
};

use super::percent;

/// Where a control plane listens, as its `server_uri` says in the syntax of gRPC names:
///
/// | form | meaning |
/// |---|---|
/// | `host:port`, `dns:host:port`, `dns:///host:port`, `passthrough:///host:port` | a name to resolve, or an IP address |
/// | `ipv4:1.2.3.4:5`, `ipv6:[::1]:5` | one IP address |
/// | `unix:path`, `unix:///absolute/path` | a Unix domain socket |
///
/// A port that is left out is 443. Not supported: a DNS server of one's own (`dns://server/host`),
/// several addresses (`ipv4:1.2.3.4,5.6.7.8`) and `unix-abstract:`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerAddress {
    /// A name to resolve.
    Host {
        /// The name.
        host: String,
        /// The port; not 0.
        port: u16,
    },
    /// An IP address; its port is not 0.
    Socket(SocketAddr),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

/// What an address may begin with.
const SCHEMES: [&str; 7] = [
    "dns",
    "ipv4",
    "ipv6",
    "passthrough",
    "unix",
    "unix-abstract",
    "xds",
];

impl ServerAddress {
    const DEFAULT_PORT: u16 = 443;

    /// The address that `uri` gives, or what to write instead.
    pub(super) fn parse(uri: &str) -> Result<Self, String> {
        let scheme = |name: &str| uri.strip_prefix(name)?.strip_prefix(':');
        if let Some(rest) = scheme("dns") {
            host_port(without_authority("dns", rest)?)
        } else if let Some(rest) = scheme("passthrough") {
            host_port(without_authority("passthrough", rest)?)
        } else if let Some(rest) = scheme("ipv4") {
            ipv4(without_authority("ipv4", rest)?)
        } else if let Some(rest) = scheme("ipv6") {
            ipv6(without_authority("ipv6", rest)?)
        } else if let Some(rest) = scheme("unix") {
            unix(rest)
        } else if scheme("unix-abstract").is_some() {
            Err("abstract sockets are not supported; use `unix:///path`".to_owned())
        } else if scheme("xds").is_some() {
            Err("a control plane cannot be found through itself; use `dns:///host:port`".to_owned())
        } else if let Some((scheme, rest)) = uri.split_once("://") {
            Err(format!(
                "scheme {scheme:?} is not supported; write `{}` for TCP, or `unix:///path`, and \
                 choose TLS in channel_creds",
                rest.trim_end_matches('/')
            ))
        } else {
            host_port(uri)
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A host that is called like a scheme would be taken for it.
            ServerAddress::Host { host, port } if SCHEMES.contains(&host.as_str()) => {
                write!(f, "dns:///{host}:{port}")
            }
            ServerAddress::Host { host, port } => write!(f, "{host}:{port}"),
            ServerAddress::Socket(address) => address.fmt(f),
            // `unix:` and a path of two slashes would be taken for `unix://` and an authority.
            ServerAddress::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"//") => {
                write!(f, "unix://{}", path.display())
            }
            ServerAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What follows `scheme:` or `scheme:///`.
fn without_authority<'a>(scheme: &str, rest: &'a str) -> Result<&'a str, String> {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => {
            return Err(format!(
                "nothing may stand between `//` and the next `/`; write `{scheme}:///...`"
            ));
        }
    };
    Ok(path.strip_prefix('/').unwrap_or(path))
}

fn host_port(text: &str) -> Result<ServerAddress, String> {
    if let Ok(address) = text.parse() {
        return socket(address);
    }
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip = match bracketed {
        Some(ip) => ip.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => text.parse(),
    };
    if let Ok(ip) = ip {
        return socket(SocketAddr::new(ip, ServerAddress::DEFAULT_PORT));
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (text, ServerAddress::DEFAULT_PORT),
        Some((host, port)) => (host, parse_port(port)?),
    };
    if host.contains([':', '[', ']']) {
        return Err("an IPv6 address with a port is written `[::1]:443`".to_owned());
    }
    if !is_host_name(host) {
        return Err(format!(
            "{host:?} is not a host name; write `host:port`, `1.2.3.4:443`, `[::1]:443` or \
             `unix:///path`"
        ));
    }
    Ok(ServerAddress::Host {
        host: host.to_owned(),
        port,
    })
}

fn ipv4(text: &str) -> Result<ServerAddress, String> {
    let address = text.parse().or_else(|_| {
        let ip = text.parse::<Ipv4Addr>()?;
        Ok::<_, std::net::AddrParseError>(SocketAddrV4::new(ip, ServerAddress::DEFAULT_PORT))
    });
    match address {
        Ok(address) => socket(SocketAddr::V4(address)),
        Err(_) => Err("must be one IPv4 address, such as `ipv4:10.0.0.1:443`".to_owned()),
    }
}

fn ipv6(text: &str) -> Result<ServerAddress, String> {
    let address = text.parse().or_else(|_| {
        let inner = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        let ip = inner.parse::<Ipv6Addr>()?;
        Ok::<_, std::net::AddrParseError>(SocketAddrV6::new(ip, ServerAddress::DEFAULT_PORT, 0, 0))
    });
    match address {
        Ok(address) => socket(SocketAddr::V6(address)),
        Err(_) => Err("must be one IPv6 address, such as `ipv6:[::1]:443`".to_owned()),
    }
}

fn socket(address: SocketAddr) -> Result<ServerAddress, String> {
    match address.port() {
        0 => Err("port 0 cannot be connected to; give the port the server listens on".to_owned()),
        _ => Ok(ServerAddress::Socket(address)),
    }
}

fn unix(rest: &str) -> Result<ServerAddress, String> {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(path) if path.starts_with('/') => path,
        Some(_) => {
            return Err(
                "`unix://` is followed by an absolute path, so by a third `/`; a relative path is \
                 written `unix:path`"
                    .to_owned(),
            );
        }
    };
    let path = percent::decode(path)
        .ok_or("has a `%` that starts no percent-encoding; write `%25` for it")?;
    if path.is_empty() || path.contains('\0') {
        return Err("must be the path of a socket, such as `unix:///run/xds.sock`".to_owned());
    }
    Ok(ServerAddress::Unix(PathBuf::from(path.as_ref())))
}

fn parse_port(text: &str) -> Result<u16, String> {
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|&port| port != 0)
        .ok_or_else(|| format!("port {text:?} is not a number from 1 to 65535"))
}

/// Letters, digits, `-` and `_` in labels, the last of which is not a number: that would be a
/// mistyped IPv4 address. Bounds of RFC 1035 section 2.3.4.
fn is_host_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(numeric)
}
