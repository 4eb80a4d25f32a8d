use std::{net::IpAddr, sync::Arc};

use super::name::host_name;

/// What becomes of requests for hosts that are not of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outside {
    /// They fail, once the control plane has said that it does not know the host, or has said
    /// nothing for [`Options::resource_timeout`](mesh_core::Options::resource_timeout). The
    /// default.
    #[default]
    Deny,
    /// Those for these hosts go straight out.
    ///
    /// `https` is TLS that trusts what the operating system trusts, to a certificate for the host,
    /// without one of ours, over HTTP/2 or HTTP/1.1 as agreed on (ALPN). `http` is HTTP/1.1 without
    /// TLS. Nothing is tried again by a policy; timeouts are Envoy's defaults unless the call says
    /// otherwise; calls are recorded under the cluster `PassthroughCluster`.
    Passthrough(PassthroughHosts),
}

/// Hosts outside of the mesh that may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassthroughHosts {
    all: bool,
    listed: Arc<[Pattern]>,
}

/// A pattern of hosts is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{pattern:?} is no pattern of hosts: write a name or an address such as `api.example.com`, or \
     `*.example.com` for all names that end so; without a scheme, a port or a path"
)]
pub struct InvalidHost {
    pattern: String,
}

/// In the form that names of targets have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// With the dot.
    Suffix(String),
}

// === impl Outside ===

impl Outside {
    /// Hosts that the mesh does not have may be called, all of them.
    pub fn all() -> Self {
        Self::Passthrough(PassthroughHosts::all())
    }

    /// These hosts may be called, and no others that the mesh does not have: see
    /// [`PassthroughHosts::listed`].
    ///
    /// # Errors
    /// If one is no pattern.
    pub fn listed<P: AsRef<str>>(
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, InvalidHost> {
        PassthroughHosts::listed(patterns).map(Self::Passthrough)
    }
}

// === impl PassthroughHosts ===

impl PassthroughHosts {
    /// All that the mesh does not have.
    ///
    /// The control plane is asked for every host first. A call waits until it has said that there
    /// is no such listener, or has said nothing for
    /// [`Options::resource_timeout`](mesh_core::Options::resource_timeout), and then goes out. If
    /// the control plane cannot be reached, or what it sends cannot be accepted, the call fails: a
    /// call of the mesh would lose its protection. A listener that comes later takes over.
    pub fn all() -> Self {
        Self {
            all: true,
            listed: [].into(),
        }
    }

    /// Those that match a pattern: a name or an address such as `api.example.com` or `192.0.2.7`,
    /// or `*.example.com`, which is all names that end in `.example.com`. Any port will do.
    ///
    /// The control plane is not asked for them, even if the mesh has them. It is for all others.
    ///
    /// # Errors
    /// If one is no pattern.
    pub fn listed<P: AsRef<str>>(
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, InvalidHost> {
        let listed = patterns.into_iter().map(|pattern| {
            let pattern = pattern.as_ref();
            Pattern::parse(pattern).ok_or_else(|| InvalidHost {
                pattern: pattern.to_owned(),
            })
        });
        Ok(Self {
            all: false,
            listed: listed.collect::<Result<_, _>>()?,
        })
    }

    /// All that the mesh does not have, besides those that are listed.
    #[must_use]
    pub fn and_all(self) -> Self {
        Self { all: true, ..self }
    }

    /// Whether `host` is listed.
    pub(super) fn lists(&self, host: &str) -> bool {
        self.listed.iter().any(|pattern| pattern.matches(host))
    }

    pub(super) fn has_all(&self) -> bool {
        self.all
    }
}

// === impl Pattern ===

impl Pattern {
    fn parse(pattern: &str) -> Option<Self> {
        if let Ok(address) = pattern.parse::<IpAddr>() {
            return Some(Self::Exact(address.to_string()));
        }
        match pattern.strip_prefix("*.") {
            Some(name) => host_name(name).map(|name| Self::Suffix(format!(".{name}"))),
            None => host_name(pattern).map(Self::Exact),
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            // No address ends like a name, unless it is written so.
            Self::Suffix(end) => {
                host.len() > end.len() && host.ends_with(end) && host.parse::<IpAddr>().is_err()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_labels() {
        let hosts = PassthroughHosts::listed(["API.example.com.", "*.Example.org", "2001:DB8::7"]);
        let hosts = hosts.unwrap();
        for host in [
            "api.example.com",
            "a.example.org",
            "a.b.example.org",
            "2001:db8::7",
        ] {
            assert!(hosts.lists(host), "{host}");
        }
        for host in [
            "example.com",
            "www.api.example.com",
            "example.org",
            "badexample.org",
            "2001:db8::8",
        ] {
            assert!(!hosts.lists(host), "{host}");
        }
        assert!(!hosts.has_all());
        assert!(hosts.and_all().has_all());
    }

    #[test]
    fn a_suffix_of_digits_matches_no_address() {
        let hosts = PassthroughHosts::listed(["*.0.2.7"]).unwrap();
        assert!(!hosts.lists("192.0.2.7"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in [
            "",
            "*",
            "*.",
            "a*.example.com",
            "https://example.com",
            "example.com:443",
            "example.com/path",
            "[::1]",
        ] {
            let error = PassthroughHosts::listed([pattern]).unwrap_err();
            assert!(error.to_string().contains("`*.example.com`"), "{error}");
        }
    }
}
