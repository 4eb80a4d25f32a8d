//! Good inputs, cut, changed and mixed; and inputs that are much of one thing.

use std::{collections::BTreeSet, time::Duration};

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestCaseError, TestRunner},
};
use tokio::time::Instant;

use super::*;

/// Inputs tried at each entry point.
const CASES: u32 = 200;

/// For an input of the length of a seed, or of a hundred kilobytes: what takes longer does not end,
/// or takes the square of its length.
const LIMIT: Duration = Duration::from_secs(20);

/// What happens to an input. Where it happens is a share of its length.
#[derive(Debug, Clone)]
enum Mutation {
    Truncate(Index),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    /// A part is there once more, so many times.
    Repeat(Index, Index, usize),
    /// A part of another seed comes in between.
    Splice(Index, Index, Index, Index),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        // Every place, the end included.
        let at = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
        let part = |a: &Index, b: &Index, bytes: &[u8]| {
            let (a, b) = (at(a, bytes), at(b, bytes));
            a.min(b)..a.max(b)
        };
        match self {
            Mutation::Truncate(index) => bytes.truncate(at(index, bytes)),
            Mutation::Flip(index, mask) => {
                let at = at(index, bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= mask;
                }
            }
            Mutation::Insert(index, new) => {
                let at = at(index, bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Mutation::Remove(a, b) => {
                let part = part(a, b, bytes);
                bytes.drain(part);
            }
            Mutation::Repeat(a, b, times) => {
                let part = part(a, b, bytes);
                let end = part.end;
                let new = bytes[part].repeat(*times);
                bytes.splice(end..end, new);
            }
            Mutation::Splice(seed, a, b, to) => {
                let other = &seeds[seed.index(seeds.len())];
                let new = other[part(a, b, other)].to_vec();
                let to = at(to, bytes);
                bytes.splice(to..to, new);
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    prop_oneof![
        index().prop_map(Mutation::Truncate),
        (index(), 1u8..).prop_map(|(at, mask)| Mutation::Flip(at, mask)),
        (index(), proptest::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, new)| Mutation::Insert(at, new)),
        (index(), index()).prop_map(|(a, b)| Mutation::Remove(a, b)),
        (index(), index(), 1usize..9).prop_map(|(a, b, times)| Mutation::Repeat(a, b, times)),
        (index(), index(), index(), index())
            .prop_map(|(seed, a, b, to)| Mutation::Splice(seed, a, b, to)),
    ]
}

/// Reads `bytes`; says if that took too long.
fn read_in_time(entry: &EntryPoint, bytes: &[u8]) -> Result<(), TestCaseError> {
    let start = Instant::now();
    (entry.read)(bytes);
    let took = start.elapsed();
    let length = bytes.len();
    prop_assert!(took < LIMIT, "{}: {length} bytes took {took:?}", entry.name);
    Ok(())
}

#[test]
fn names_are_unique_and_seeds_are_good() {
    let names: BTreeSet<_> = ALL.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), ALL.len());
    for entry in ALL {
        let seeds = seeds(entry.name);
        assert!(!seeds.is_empty(), "{}", entry.name);
        for seed in &seeds {
            read(entry.name, seed);
        }
    }
    // Else they would lead nowhere.
    for kind in seeds::KINDS {
        let seeds = seeds::resources(kind);
        assert!(seeds.len() > 1, "{kind}");
        for seed in seeds {
            accepted(kind, seed);
        }
    }
    for seed in seeds::secrets() {
        accepted(Kind::Secret, seed);
    }
    Bootstrap::from_json(seeds::BOOTSTRAP).expect("a good bootstrap");
}

fn accepted(kind: Kind, value: Vec<u8>) {
    let raw = Any {
        type_url: type_url(kind).to_owned(),
        value,
    };
    decoder().decode(kind, &raw).expect("a good resource");
}

#[test]
fn mutated_seeds_are_read_to_an_end() {
    for entry in ALL {
        let seeds = (entry.seeds)();
        let config = Config {
            failure_persistence: None,
            ..Config::with_cases(CASES)
        };
        let input = (any::<Index>(), proptest::collection::vec(mutation(), 1..6));
        let result = TestRunner::new(config).run(&input, |(seed, mutations)| {
            let mut bytes = seeds[seed.index(seeds.len())].clone();
            for mutation in &mutations {
                mutation.apply(&mut bytes, &seeds);
            }
            read_in_time(entry, &bytes)
        });
        if let Err(error) = result {
            panic!("{}: {error}", entry.name);
        }
    }
}

/// What goes deep, and what goes on.
#[test]
fn much_of_one_thing_is_read_in_time() {
    const LENGTH: usize = 100_000;
    let wire: &[&[u8]] = &[
        // Empty fields, long numbers, groups, fields within fields.
        b"\x0a\x00",
        b"\x12\x00",
        b"\x1a\x00",
        b"\x22\x02\x0a\x00",
        b"\x08\xff\xff\xff\xff\x0f",
        b"\x0b",
        b"\xff",
        b"\x00",
        b"\x0a\x7f",
        b"\x30\x82\xff\xff",
    ];
    let text: &[&[u8]] = &[
        b"[",
        b"{\"a\":",
        b"{a: ",
        b"- ",
        b"? ",
        b"a: &a [*a, ",
        b"a: b\n",
        b"- a\n",
        b"---\n",
        b"\"\\u00e9",
        b"'",
        b"#\n",
        b"|\n ",
        b"!t ",
        b" ",
        b"-----BEGIN CERTIFICATE-----\n",
    ];
    for entry in ALL {
        for pattern in wire.iter().chain(text) {
            let bytes = pattern.repeat(LENGTH / pattern.len());
            read_in_time(entry, &bytes).unwrap();
            // Behind something good.
            for seed in (entry.seeds)().into_iter().take(2) {
                read_in_time(entry, &[seed, bytes.clone()].concat()).unwrap();
            }
        }
    }
}
