//! What a request's authority names.

use std::{fmt, sync::Arc};

use http::uri::{Authority, Scheme};
use mesh_core::{
    Code, Mesh,
    control::{OutsideHost, PASSTHROUGH_CLUSTER},
    telemetry::Cause,
};

use super::{Outside, invalid};
use crate::{call::Caller, error::Error, plane::Origin};

/// A host and a port, as the mesh writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPort {
    /// In lower case, without a final dot; an address of version 6 has no brackets.
    pub(super) host: String,
    /// The scheme's default if the authority has none.
    pub(super) port: u16,
}

/// A target that a client is about to have.
#[derive(Debug)]
pub(super) struct Named {
    origin: Origin,
    listener: Arc<str>,
    scheme: Scheme,
    /// As written.
    authority: Authority,
}

// === impl HostPort ===

impl HostPort {
    /// # Errors
    /// If the authority is not a host with or without a port.
    pub(super) fn parse(https: bool, authority: &Authority) -> Result<Self, Error> {
        let refused = |why: &str| invalid(format!("the URI's authority \"{authority}\" {why}"));
        let text = authority.as_str();
        if text.contains('@') {
            return Err(refused(
                "has user information before an `@`, which is not sent; remove it, and send \
                 credentials in a header",
            ));
        }
        let (host, port) = match text.rfind(':') {
            // The colons of an address of version 6 are within brackets.
            Some(colon) if !text[colon..].contains(']') => (&text[..colon], &text[colon + 1..]),
            _ => (text, ""),
        };
        let port = match (port, https) {
            ("", true) => 443,
            ("", false) => 80,
            (port, _) => port
                .parse()
                .ok()
                .filter(|&port| port > 0)
                .ok_or_else(|| refused("has a port that is none: it must be 1 to 65535"))?,
        };
        let host = match host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(address) => address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| refused("has brackets around what is no IPv6 address"))?
                .to_string(),
            None => host_name(host).ok_or_else(|| {
                refused(
                    "is no host name: letters, digits, hyphens, underscores and dots between \
                     labels are what it may have",
                )
            })?,
        };
        Ok(Self { host, port })
    }
}

/// As resource names have it.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// `name` in lower case and without its final dot, if it can be a host's: labels that are not
/// empty, of letters, digits, hyphens and underscores.
pub(super) fn host_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let plain = |label: &str| {
        let mut bytes = label.bytes();
        !label.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.split('.')
        .all(plain)
        .then(|| name.to_ascii_lowercase())
}

// === impl Named ===

impl Named {
    /// What `authority` names for a client to which `outside` says what becomes of hosts that are
    /// not of the mesh.
    ///
    /// # Errors
    /// If it is not a host with or without a port, or the bootstrap has no control plane for it.
    pub(super) fn new(
        mesh: &Mesh,
        outside: &Outside,
        scheme: Scheme,
        authority: &Authority,
    ) -> Result<Self, Error> {
        let tls = scheme == Scheme::HTTPS;
        let name = HostPort::parse(tls, authority)?;
        let host = || OutsideHost {
            tls,
            name: name.host.as_str().into(),
            port: name.port,
        };
        let (origin, listener) = match outside {
            Outside::Passthrough(hosts) if hosts.lists(&name.host) => {
                (Origin::Outside(host()), PASSTHROUGH_CLUSTER.into())
            }
            Outside::Passthrough(hosts) if hosts.has_all() => {
                (Origin::MeshOrOutside(host()), listener(mesh, &name)?)
            }
            Outside::Passthrough(_) | Outside::Deny => (Origin::Mesh, listener(mesh, &name)?),
        };
        Ok(Self {
            origin,
            listener,
            scheme,
            authority: authority.clone(),
        })
    }

    /// Starts to follow it.
    pub(super) fn open(self, mesh: &Mesh) -> Caller {
        let Self {
            origin,
            listener,
            scheme,
            authority,
        } = self;
        Caller::http_from(mesh, origin, &listener, scheme, authority)
    }
}

/// The resource that `name` stands for.
fn listener(mesh: &Mesh, name: &HostPort) -> Result<Arc<str>, Error> {
    // With the scheme: a host that is called `xds` would be taken for one.
    match mesh.bootstrap().listener_name(&format!("xds:///{name}")) {
        Ok(name) => Ok(name.resource),
        Err(error) => {
            let text = error.to_string();
            Err(Error::new(Code::Unavailable, Cause::NoConfig, text).caused_by(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(https: bool, authority: &str) -> String {
        let authority = authority.parse().unwrap();
        HostPort::parse(https, &authority).unwrap().to_string()
    }

    #[test]
    fn names_are_of_one_form() {
        for (https, authority, expected) in [
            (false, "catalog.shop", "catalog.shop:80"),
            (true, "catalog.shop", "catalog.shop:443"),
            (false, "catalog.shop:", "catalog.shop:80"),
            (false, "catalog.shop:8080", "catalog.shop:8080"),
            (true, "Catalog.SHOP.:8080", "catalog.shop:8080"),
            (false, "my_host-1", "my_host-1:80"),
            (false, "10.0.0.7", "10.0.0.7:80"),
            (false, "[2001:DB8:0::1]", "[2001:db8::1]:80"),
            (true, "[::1]:8443", "[::1]:8443"),
            (false, "xds", "xds:80"),
        ] {
            assert_eq!(parsed(https, authority), expected, "{authority}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for (authority, words) in [
            ("user:secret@catalog.shop", "user information"),
            ("catalog.shop:0", "1 to 65535"),
            ("catalog.shop:65536", "1 to 65535"),
            ("catalog.shop:80x", "1 to 65535"),
            (".", "no host name"),
            (":8080", "no host name"),
            ("a..b", "no host name"),
            ("a%2fb", "no host name"),
            ("*.shop", "no host name"),
            ("[::1%25eth0]", "no IPv6 address"),
            ("[v1.x]", "no IPv6 address"),
        ] {
            // What is no authority at all does not get here.
            let Ok(authority) = authority.parse() else {
                continue;
            };
            let error = HostPort::parse(false, &authority).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(words), "{text}");
            assert_eq!(error.code(), Code::InvalidArgument);
        }
    }
}
