//! Routes of the same bytes mean the same to Envoy and to our client.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use tokio::time::Instant;

use crate::{
    aspect::Aspect,
    backend::Backends,
    compare::{Found, ask_ours, ask_theirs, differences},
    differences::DIFFERENCES,
    generate::{self, Asked},
    mutate::mutate,
    random::Random,
    shrink::shrink,
    theirs::Theirs,
};

/// What all is generated from if nobody says.
pub(crate) const DEFAULT_SEED: u64 = 1;
/// Requests for each configuration.
pub(crate) const REQUESTS: usize = 50;
/// Pairs that differ of which the smallest form is told.
const SHRUNK: usize = 25;
/// Configurations of one Envoy.
pub(crate) const BATCH: usize = 50;

/// What an environment variable says.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    match env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")),
        Err(_) => default,
    }
}

/// A test case, to be read and to be repeated.
async fn tell(routes: &RouteConfiguration, found: &Found) {
    println!("--- a pair that differs");
    println!("{}", Theirs::written(routes).await);
    println!("{:?}", found.asked);
    println!("Envoy: {:?}", found.theirs);
    println!("ours:  {:?}", found.ours);
}

/// The configuration of this number, and requests for it.
pub(crate) fn case(seed: u64, number: u64) -> (RouteConfiguration, Vec<Asked>) {
    let mut random = Random::new(seed, number);
    let mut routes = generate::configuration(&mut random);
    routes.name = format!("{seed}-{number}");
    let requests = generate::requests(&mut random, &routes, REQUESTS);
    (routes, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mean_the_same() {
    let seed = number("MESH_ORACLE_SEED", DEFAULT_SEED);
    let all = number("MESH_ORACLE_CONFIGURATIONS", 400);
    let begin = Instant::now();
    let backends = Backends::start(generate::CLUSTERS).await;
    let mut aspects = BTreeMap::<Aspect, u64>::new();
    let (mut found, mut shrunk) = (0, 0);
    let numbers: Vec<u64> = (0..all).collect();
    for numbers in numbers.chunks(BATCH) {
        let cases = numbers.iter().map(|&number| case(seed, number));
        let (batch, requests): (Vec<_>, Vec<_>) = cases.unzip();
        for aspect in batch.iter().flat_map(Aspect::of) {
            *aspects.entry(aspect).or_default() += 1;
        }
        let theirs = ask_theirs(&backends, &batch, &requests).await;
        let ours = ask_ours(&backends, &batch, &requests).await;
        let mut seen = BTreeSet::new();
        for difference in differences(&batch, &requests, &theirs, &ours) {
            found += 1;
            // One of each configuration.
            if seen.insert(difference.number) && shrunk < SHRUNK {
                shrunk += 1;
                let routes = batch[difference.number].clone();
                let (routes, difference) = shrink(&backends, routes, difference).await;
                tell(&routes, &difference).await;
            }
        }
    }
    println!("seed {seed}: {all} configurations, {:?}", begin.elapsed());
    for aspect in Aspect::ALL {
        let aimed = aspects.get(&aspect).copied().unwrap_or(0);
        println!("{aspect:?}: {aimed}");
        assert!(
            5 * aimed >= all,
            "fewer than 20 per cent are aimed at {aspect:?}"
        );
    }
    assert_eq!(found, 0, "pairs that differ");
}

/// Were one kind of matcher of ours broken, 2,000 pairs of the default seed would tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_found() {
    const PAIRS: usize = 2_000;
    let backends = Backends::start(generate::CLUSTERS).await;
    let cases = (0..PAIRS / REQUESTS).map(|number| case(DEFAULT_SEED, number as u64));
    let (batch, requests): (Vec<_>, Vec<_>) = cases.unzip();
    let theirs = ask_theirs(&backends, &batch, &requests).await;
    for aspect in Aspect::ALL {
        let mut broken = batch.clone();
        for routes in &mut broken {
            mutate(routes, aspect);
        }
        let ours = ask_ours(&backends, &broken, &requests).await;
        let found = differences(&batch, &requests, &theirs, &ours);
        println!("{aspect:?} broken: {} of {PAIRS} pairs differ", found.len());
        assert!(!found.is_empty(), "{aspect:?} was broken, and no pair told");
    }
}

/// Each difference is one, and nothing else is behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_meant_to_differ_does() {
    let backends = Backends::start(generate::CLUSTERS).await;
    let examples = DIFFERENCES.iter().map(|difference| (difference.example)());
    let (batch, requests): (Vec<_>, Vec<_>) = examples
        .map(|(routes, asked)| (routes, vec![asked]))
        .unzip();
    let theirs = ask_theirs(&backends, &batch, &requests).await;
    let ours = ask_ours(&backends, &batch, &requests).await;
    for (number, difference) in DIFFERENCES.iter().enumerate() {
        let (name, reason) = (difference.name, difference.reason);
        let (mut theirs, mut ours) = (theirs[number][0].clone(), ours[number][0].clone());
        assert_ne!(theirs, ours, "no longer needed: {name}: {reason}");
        (difference.overlook)(&batch[number], &requests[number][0], &mut theirs, &mut ours);
        assert_eq!(theirs, ours, "{name}: {reason}");
    }
}
