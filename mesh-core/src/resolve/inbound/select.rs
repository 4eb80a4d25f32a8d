//! Which filter chain takes a connection (gRFC A36).

use super::Ends;
use crate::config::{ChainMatch, Cidr, SourceType};

/// The number of the chain that takes the connection between `ends`.
///
/// The chains are sieved four times: by the address that was reached, where the peer is, its
/// address, and its port. Each time only those that match best are kept, so a chain that matches
/// in every part loses to one that matches better in an earlier part and not at all in a later one
/// (as in Envoy and gRPC). Destination prefixes are always looked at, whatever the server is bound
/// to.
pub(super) fn select<'a>(
    chains: impl Iterator<Item = &'a ChainMatch> + Clone,
    ends: Ends,
) -> Option<usize> {
    let mut best = [0; PARTS.len()];
    for (part, rank) in PARTS.iter().enumerate() {
        best[part] = sieve(chains.clone(), &best[..part], ends)
            .filter_map(|(_, chain)| rank(chain, ends))
            .max()?;
    }
    sieve(chains, &best, ends).next().map(|(number, _)| number)
}

/// How well a part of a chain's match fits; `None`: not at all.
type Rank = fn(&ChainMatch, Ends) -> Option<u8>;

const PARTS: [Rank; 4] = [
    |chain, ends| prefix(&chain.destinations, ends.local.ip()),
    source_type,
    |chain, ends| prefix(&chain.sources, ends.peer.ip()),
    source_port,
];

/// The chains that fit exactly this well in their first parts.
fn sieve<'a>(
    chains: impl Iterator<Item = &'a ChainMatch>,
    best: &[u8],
    ends: Ends,
) -> impl Iterator<Item = (usize, &'a ChainMatch)> {
    chains.enumerate().filter(move |(_, chain)| {
        let fits = |(rank, best): (&Rank, &u8)| rank(chain, ends) == Some(*best);
        PARTS.iter().zip(best).all(fits)
    })
}

/// No prefix is less than one of no bits.
fn prefix(prefixes: &[Cidr], address: std::net::IpAddr) -> Option<u8> {
    if prefixes.is_empty() {
        return Some(0);
    }
    let fitting = prefixes.iter().filter(|prefix| prefix.contains(address));
    fitting.map(|prefix| prefix.prefix() + 1).max()
}

fn source_type(chain: &ChainMatch, ends: Ends) -> Option<u8> {
    let peer = ends.peer.ip().to_canonical();
    let same = peer == ends.local.ip().to_canonical() || peer.is_loopback();
    match (chain.source_type, same) {
        (SourceType::Any, _) => Some(0),
        (SourceType::SameIpOrLoopback, true) | (SourceType::External, false) => Some(1),
        (SourceType::SameIpOrLoopback, false) | (SourceType::External, true) => None,
    }
}

fn source_port(chain: &ChainMatch, ends: Ends) -> Option<u8> {
    if chain.source_ports.is_empty() {
        return Some(0);
    }
    chain.source_ports.contains(&ends.peer.port()).then_some(1)
}

#[cfg(test)]
mod tests;
