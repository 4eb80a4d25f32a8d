use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{DownstreamTls, HttpManager};

/// What happens to the connections that a server accepts: the server side of a listener
/// (gRFC A36).
#[derive(Debug, Clone, PartialEq)]
pub struct ServerListener {
    /// The resource's name.
    pub name: Arc<str>,
    /// The address it is for, as configured.
    pub address: SocketAddr,
    /// Which connections are treated how; at most one matches best.
    pub chains: Vec<FilterChain>,
    /// The treatment of connections that no chain matches; `None`: they are closed.
    pub default_chain: Option<FilterChain>,
}

/// The treatment of some connections.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterChain {
    /// Its name; may be empty.
    pub name: Arc<str>,
    /// Which connections; all of them in a default chain.
    pub matcher: ChainMatch,
    /// TLS; `None`: plaintext.
    pub tls: Option<Arc<DownstreamTls>>,
    /// Their requests.
    pub http: HttpManager,
}

/// Which connections a filter chain takes. A chain that can never match is left out when it is
/// decoded. The most specific of several wins, part by part in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainMatch {
    /// Prefixes of the address that was reached; empty: any.
    pub destinations: Vec<Cidr>,
    /// Where the peer is.
    pub source_type: SourceType,
    /// Prefixes of the peer's address; empty: any.
    pub sources: Vec<Cidr>,
    /// The peer's ports; empty: any.
    pub source_ports: Vec<u16>,
}

/// Where a peer is, seen from a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceType {
    /// Anywhere.
    #[default]
    Any,
    /// On the same host: the server's own address, or loopback.
    SameIpOrLoopback,
    /// On another host.
    External,
}

/// A range of addresses. The bits after the prefix are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

// === impl Cidr ===

impl Cidr {
    /// The addresses that have the first `prefix` bits of `address`; longer than the address is as
    /// long as the address.
    ///
    /// A range of IPv4 addresses that are mapped into IPv6 is one of IPv4: so are the addresses of
    /// those that connect.
    pub fn new(address: IpAddr, prefix: u32) -> Self {
        let (address, prefix) = match address.to_canonical() {
            v4 if v4 != address && prefix >= 96 => (v4, prefix - 96),
            _ => (address, prefix),
        };
        match address {
            IpAddr::V4(v4) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                Self {
                    address: IpAddr::V4((u32::from(v4) & mask).into()),
                    prefix: prefix as u8,
                }
            }
            IpAddr::V6(v6) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                Self {
                    address: IpAddr::V6((u128::from(v6) & mask).into()),
                    prefix: prefix as u8,
                }
            }
        }
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits are fixed.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `address` is in it. An IPv4 address that comes mapped into IPv6 is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && Self::new(address, u32::from(self.prefix)).address == self.address
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
