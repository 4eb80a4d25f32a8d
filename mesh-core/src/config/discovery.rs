use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use super::{Address, Endpoints};

/// Where a cluster's endpoints come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// From an endpoints resource of this name.
    Eds(Arc<str>),
    /// From the cluster itself: type `STATIC`.
    Static(Arc<Endpoints>),
    /// From the cluster itself, where names stand for addresses: types `STRICT_DNS` and
    /// `LOGICAL_DNS`.
    Dns(Arc<Dns>),
    /// It has none: these clusters stand in for it, the first that can (gRFC A37, A75).
    Aggregate(Arc<[Arc<str>]>),
}

/// The endpoints of a cluster that are looked up by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// The endpoints; those at an [`Address::Name`] are looked up.
    pub endpoints: Endpoints,
    /// Whether all addresses of a name are one endpoint (`LOGICAL_DNS`), not one each
    /// (`STRICT_DNS`).
    pub is_logical: bool,
    /// How names are looked up.
    pub policy: LookupPolicy,
}

/// A name to be looked up, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lookup {
    /// The host name.
    pub name: Arc<str>,
    /// How.
    pub policy: LookupPolicy,
}

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupPolicy {
    /// `dns_refresh_rate`: the time from an answer to the next look-up; default 5 s (Envoy).
    pub refresh: Duration,
    /// `dns_failure_refresh_rate`: the first and the longest pause after a failure. `None`:
    /// [`refresh`](Self::refresh).
    pub failure: Option<(Duration, Duration)>,
    /// `respect_dns_ttl`: an answer's time to live, if the resolver tells it, takes the place of
    /// [`refresh`](Self::refresh).
    pub respect_ttl: bool,
    /// `dns_min_refresh_rate`: a time to live that is shorter counts as this; default zero.
    pub min_refresh: Duration,
    /// `dns_jitter`: up to so much is added to each pause; default zero.
    pub jitter: Duration,
    /// Which addresses count.
    pub family: DnsFamily,
}

/// Which addresses of a name count (`dns_lookup_family`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DnsFamily {
    /// All, in the resolver's order.
    #[default]
    All,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// IPv4, or IPv6 if there is none.
    PreferV4,
    /// IPv6, or IPv4 if there is none.
    PreferV6,
}

// === impl Discovery ===

/// Names the place, for errors.
impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Discovery::Eds(name) => write!(f, "EDS resource {name:?}"),
            Discovery::Static(_) => f.write_str("the load_assignment"),
            Discovery::Dns(dns) => {
                f.write_str("DNS")?;
                for (nth, name) in dns.names().enumerate().take(3) {
                    write!(f, "{} {name:?}", if nth == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Discovery::Aggregate(_) => f.write_str("the clusters"),
        }
    }
}

// === impl Dns ===

impl Dns {
    /// The names of its endpoints, repeated as they are.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let localities = self.endpoints.localities.iter();
        localities
            .flat_map(|locality| &locality.endpoints)
            .filter_map(|endpoint| match &endpoint.address {
                Address::Name(name, _) => Some(name),
                Address::Socket(_) | Address::Unix(_) => None,
            })
    }

    /// What is to be looked up for it.
    pub fn lookups(&self) -> impl Iterator<Item = Lookup> {
        self.names().map(|name| self.lookup(name))
    }

    /// How `name` is looked up.
    pub fn lookup(&self, name: &Arc<str>) -> Lookup {
        Lookup {
            name: Arc::clone(name),
            policy: self.policy.clone(),
        }
    }
}

// === impl LookupPolicy ===

impl Default for LookupPolicy {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(5),
            failure: None,
            respect_ttl: false,
            min_refresh: Duration::ZERO,
            jitter: Duration::ZERO,
            family: DnsFamily::All,
        }
    }
}

// === impl DnsFamily ===

impl DnsFamily {
    /// Those of `addresses` that count, in their order.
    pub fn select(self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let only = |is_wanted: fn(&IpAddr) -> bool| -> Vec<IpAddr> {
            addresses.iter().copied().filter(is_wanted).collect()
        };
        let or_all = |wanted: Vec<IpAddr>| match wanted.is_empty() {
            true => addresses.to_vec(),
            false => wanted,
        };
        match self {
            DnsFamily::All => addresses.to_vec(),
            DnsFamily::V4 => only(IpAddr::is_ipv4),
            DnsFamily::V6 => only(IpAddr::is_ipv6),
            DnsFamily::PreferV4 => or_all(only(IpAddr::is_ipv4)),
            DnsFamily::PreferV6 => or_all(only(IpAddr::is_ipv6)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        let both: Vec<IpAddr> = ["127.0.0.1", "::1", "127.0.0.2"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let (v4, v6) = (vec![both[0], both[2]], vec![both[1]]);
        assert_eq!(DnsFamily::All.select(&both), both);
        assert_eq!(DnsFamily::V4.select(&both), v4);
        assert_eq!(DnsFamily::V6.select(&both), v6);
        assert_eq!(DnsFamily::PreferV4.select(&both), v4);
        assert_eq!(DnsFamily::PreferV6.select(&both), v6);
        assert_eq!(DnsFamily::PreferV4.select(&v6), v6);
        assert_eq!(DnsFamily::PreferV6.select(&v4), v4);
        assert!(DnsFamily::V6.select(&v4).is_empty());
    }
}
