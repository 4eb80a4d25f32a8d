use std::{collections::BTreeMap, net::IpAddr};

use proptest::prelude::*;

use super::{super::fixtures::ends, *};

fn cidr(text: &str) -> Cidr {
    let (address, prefix) = text.split_once('/').unwrap();
    Cidr::new(address.parse().unwrap(), prefix.parse().unwrap())
}

fn cidrs(list: &[&str]) -> Vec<Cidr> {
    list.iter().map(|text| cidr(text)).collect()
}

fn to(list: &[&str]) -> ChainMatch {
    ChainMatch {
        destinations: cidrs(list),
        ..Default::default()
    }
}

fn from(source_type: SourceType, list: &[&str], ports: &[u16]) -> ChainMatch {
    ChainMatch {
        source_type,
        sources: cidrs(list),
        source_ports: ports.to_vec(),
        ..Default::default()
    }
}

fn check(chains: &[ChainMatch], cases: &[(&str, &str, Option<usize>)]) {
    for (peer, local, expected) in cases {
        let found = select(chains.iter(), ends(peer, local));
        assert_eq!(found, *expected, "{peer} to {local}");
    }
}

#[test]
fn the_longest_destination_wins() {
    let chains = [
        to(&[]),
        to(&["0.0.0.0/0"]),
        to(&["10.0.0.0/8", "192.168.0.0/16"]),
        to(&["192.168.0.7/32", "::1/128"]),
    ];
    check(
        &chains,
        &[
            ("1.1.1.1:1", "10.1.1.1:80", Some(2)),
            ("1.1.1.1:1", "192.168.0.7:80", Some(3)),
            ("1.1.1.1:1", "192.168.0.8:80", Some(2)),
            ("1.1.1.1:1", "11.1.1.1:80", Some(1)),
            ("[fd00::1]:1", "[::1]:80", Some(3)),
            // A prefix of no bits is of one family; none is of both.
            ("[fd00::1]:1", "[::2]:80", Some(0)),
            // IPv4 that comes mapped into IPv6.
            ("[::ffff:1.1.1.1]:1", "[::ffff:10.1.1.1]:80", Some(2)),
        ],
    );
}

#[test]
fn source_types() {
    use SourceType::{Any, External, SameIpOrLoopback};
    let of = |kind| from(kind, &[], &[]);
    let near = ("10.0.0.1:7", "10.0.0.1:80");
    let mapped = ("[::ffff:10.0.0.1]:7", "10.0.0.1:80");
    let loopback = ("127.0.0.2:7", "10.0.0.1:80");
    let loopback_v6 = ("[::1]:7", "[fd00::1]:80");
    let far = ("10.0.0.2:7", "10.0.0.1:80");
    let chains = [of(Any), of(SameIpOrLoopback), of(External)];
    for (peer, local) in [near, mapped, loopback, loopback_v6] {
        check(&chains, &[(peer, local, Some(1))]);
        check(&[of(External)], &[(peer, local, None)]);
        check(&[of(Any)], &[(peer, local, Some(0))]);
    }
    check(&chains, &[(far.0, far.1, Some(2))]);
    check(&[of(SameIpOrLoopback)], &[(far.0, far.1, None)]);
}

#[test]
fn sources_and_their_ports() {
    let any = SourceType::Any;
    let chains = [
        from(any, &[], &[]),
        from(any, &["10.0.0.0/8"], &[]),
        from(any, &["10.0.0.0/8"], &[7, 8]),
        from(any, &["10.1.0.0/16"], &[9]),
    ];
    check(
        &chains,
        &[
            ("11.0.0.1:7", "10.0.0.1:80", Some(0)),
            ("10.0.0.2:6", "10.0.0.1:80", Some(1)),
            ("10.0.0.2:8", "10.0.0.1:80", Some(2)),
            ("10.1.0.2:9", "10.0.0.1:80", Some(3)),
            // The longest prefix has won, and its ports do not fit: nothing else is tried.
            ("10.1.0.2:7", "10.0.0.1:80", None),
        ],
    );
}

#[test]
fn an_earlier_part_decides() {
    let here = ChainMatch {
        sources: cidrs(&["1.0.0.0/8"]),
        ..to(&["10.0.0.1/32"])
    };
    let chains = [here, to(&["10.0.0.0/8"])];
    check(
        &chains,
        &[
            ("1.1.1.1:1", "10.0.0.1:80", Some(0)),
            ("2.1.1.1:1", "10.0.0.1:80", None),
            ("2.1.1.1:1", "10.0.0.2:80", Some(1)),
        ],
    );
    assert_eq!(select([].iter(), ends("1.1.1.1:1", "1.1.1.1:2")), None);
}

/// One level of the tree that gRPC and Envoy build of all combinations: the best key that fits
/// leads on, and there is no way back.
fn best<K: Ord + Copy, V>(level: &BTreeMap<K, V>, rank: impl Fn(K) -> Option<i32>) -> Option<&V> {
    let fitting = level
        .iter()
        .filter_map(|(key, below)| Some((rank(*key)?, below)));
    fitting
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, below)| below)
}

type Ports = BTreeMap<Option<u16>, usize>;
type Sources = BTreeMap<Option<Cidr>, Ports>;
type Types = BTreeMap<SourceType, Sources>;
type Destinations = BTreeMap<Option<Cidr>, Types>;

/// All combinations; `None` if two chains have the same.
fn tree(chains: &[ChainMatch]) -> Option<Destinations> {
    fn parts<T: Copy>(list: &[T]) -> Vec<Option<T>> {
        let some: Vec<_> = list.iter().copied().map(Some).collect();
        if some.is_empty() { vec![None] } else { some }
    }
    let mut tree = Destinations::new();
    for (number, chain) in chains.iter().enumerate() {
        for destination in parts(&chain.destinations) {
            for source in parts(&chain.sources) {
                for port in parts(&chain.source_ports) {
                    let types = tree.entry(destination).or_default();
                    let sources = types.entry(chain.source_type).or_default();
                    let ports = sources.entry(source).or_default();
                    let other = ports.insert(port, number);
                    if other.is_some_and(|other| other != number) {
                        return None;
                    }
                }
            }
        }
    }
    Some(tree)
}

fn reference(tree: &Destinations, ends: Ends) -> Option<usize> {
    let inside = |prefix: Option<Cidr>, address: IpAddr| match prefix {
        None => Some(-1),
        Some(prefix) => prefix.contains(address).then(|| i32::from(prefix.prefix())),
    };
    let (peer, local) = (ends.peer.ip(), ends.local.ip());
    let near = peer == local || peer.is_loopback();
    let types = best(tree, |prefix| inside(prefix, local))?;
    let sources = best(types, |kind| match kind {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => near.then_some(1),
        SourceType::External => (!near).then_some(1),
    })?;
    let ports = best(sources, |prefix| inside(prefix, peer))?;
    best(ports, |port| match port {
        None => Some(0),
        Some(port) => (port == ends.peer.port()).then_some(1),
    })
    .copied()
}

fn address() -> impl Strategy<Value = IpAddr> {
    const FEW: &[&str] = &[
        "127.0.0.1",
        "10.0.0.1",
        "10.0.0.2",
        "10.1.0.1",
        "::1",
        "fd00::1",
    ];
    prop::sample::select(FEW).prop_map(|text| text.parse().unwrap())
}

fn matches() -> impl Strategy<Value = Vec<ChainMatch>> {
    let cidrs = |most| {
        let prefix = prop::sample::select(&[0u32, 7, 8, 16, 31, 32, 128][..]);
        prop::collection::vec(
            (address(), prefix).prop_map(|(at, len)| Cidr::new(at, len)),
            0..most,
        )
    };
    let types = prop::sample::select(
        &[
            SourceType::Any,
            SourceType::SameIpOrLoopback,
            SourceType::External,
        ][..],
    );
    let ports = prop::collection::vec(1u16..4, 0..2);
    let one = (cidrs(3), types, cidrs(3), ports).prop_map(
        |(destinations, source_type, sources, source_ports)| ChainMatch {
            destinations,
            source_type,
            sources,
            source_ports,
        },
    );
    prop::collection::vec(one, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn as_the_tree_of_all_combinations(
        mut chains in matches(),
        peer in address(),
        local in address(),
        port in 1u16..4,
    ) {
        // Those that clash with earlier ones would have been refused.
        let mut tree = tree(&[]).unwrap();
        let mut kept: Vec<ChainMatch> = Vec::new();
        for chain in chains.drain(..) {
            kept.push(chain);
            match super::tests::tree(&kept) {
                Some(next) => tree = next,
                None => drop(kept.pop()),
            }
        }
        let ends = Ends { peer: (peer, port).into(), local: (local, 80).into() };
        prop_assert_eq!(select(kept.iter(), ends), reference(&tree, ends));
    }
}
