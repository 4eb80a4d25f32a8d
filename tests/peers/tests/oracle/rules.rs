//! Access rules of the same bytes let the same requests pass, through Envoy's filter and ours.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::{
    config::{
        rbac::v3::{
            Permission, Policy, Principal, Rbac as Rules, permission::Rule, principal::Identifier,
        },
        route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
    },
    extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute},
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use tokio::time::Instant;

use crate::{
    generate::{self, Asked},
    guards::{Asking, Guard, ask_ours, ask_theirs},
    random::Random,
    routes::{BATCH, DEFAULT_SEED, REQUESTS, number},
};

/// A pair that differs.
#[derive(Debug, Clone)]
struct Found {
    guard: Guard,
    asked: Asked,
    theirs: u16,
    ours: u16,
}

fn case(seed: u64, number: u64) -> Asking {
    let mut random = Random::new(!seed, number);
    let filters: Vec<_> = (0..1 + random.below(2))
        .map(|_| generate::filter(&mut random))
        .collect();
    let own = random.chance(30).then(|| RbacPerRoute {
        rbac: random.chance(80).then(|| generate::filter(&mut random)),
    });
    let mut all = filters.clone();
    all.extend(own.as_ref().and_then(|own| own.rbac.clone()));
    let requests = (0..REQUESTS).map(|_| generate::guarded_request(&mut random, &all));
    let requests = requests.collect();
    (Guard { filters, own }, requests)
}

/// What is meant to differ: our server reads a repeated header, and `:path` with and without the
/// query, in every way there is, and lets pass what passes in all of them. So it may refuse what
/// Envoy, which knows one reading, lets pass, and never the other way round.
fn is_meant(asked: &Asked, theirs: u16, ours: u16) -> bool {
    let mut names: Vec<_> = asked.headers.iter().map(|(name, _)| name).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    (theirs, ours) == (200, 403) && (names.len() < all || asked.path.contains('?'))
}

/// Where both differ, and what of that is meant to.
async fn differences(batch: &[Asking]) -> (Vec<Found>, usize) {
    let (theirs, ours) = (ask_theirs(batch).await, ask_ours(batch).await);
    told(batch, &theirs, &ours)
}

fn told(batch: &[Asking], theirs: &[Vec<u16>], ours: &[Vec<u16>]) -> (Vec<Found>, usize) {
    let (mut found, mut meant) = (Vec::new(), 0);
    for (number, (guard, requests)) in batch.iter().enumerate() {
        for (at, asked) in requests.iter().enumerate() {
            let (theirs, ours) = (theirs[number][at], ours[number][at]);
            match theirs == ours {
                true => {}
                false if is_meant(asked, theirs, ours) => meant += 1,
                false => found.push(Found {
                    guard: guard.clone(),
                    asked: asked.clone(),
                    theirs,
                    ours,
                }),
            }
        }
    }
    (found, meant)
}

/// The same pair without all that it differs without, too.
async fn shrink(mut found: Found) -> Found {
    loop {
        let mut batch = Vec::new();
        let mut put = |guard: Guard, asked: &Asked| batch.push((guard, vec![asked.clone()]));
        for guard in smaller(&found.guard) {
            put(guard, &found.asked);
        }
        for at in 0..found.asked.headers.len() {
            let mut asked = found.asked.clone();
            asked.headers.remove(at);
            put(found.guard.clone(), &asked);
        }
        match differences(&batch).await.0.into_iter().next() {
            Some(smaller) => found = smaller,
            None => return found,
        }
    }
}

fn smaller(guard: &Guard) -> Vec<Guard> {
    let mut all = Vec::new();
    let mut put = |change: &dyn Fn(&mut Guard)| {
        let mut changed = guard.clone();
        change(&mut changed);
        if changed != *guard {
            all.push(changed);
        }
    };
    put(&|guard| guard.own = None);
    for at in 0..guard.filters.len() {
        // The names of those after it stay what they are for no one but the first.
        put(&|guard| guard.filters[at] = Rbac::default());
        let Some(rules) = &guard.filters[at].rules else {
            continue;
        };
        for (name, policy) in &rules.policies {
            let of = |guard: &mut Guard| {
                let rules = guard.filters[at].rules.take().unwrap_or_default();
                guard.filters[at].rules.insert(rules).policies.remove(name)
            };
            put(&|guard| drop(of(guard)));
            let mut with = |policy: Policy| {
                put(&|guard| {
                    drop(of(guard));
                    if let Some(rules) = &mut guard.filters[at].rules {
                        rules.policies.insert(name.clone(), policy.clone());
                    }
                });
            };
            for (number, permission) in policy.permissions.iter().enumerate() {
                for less in less_of(permission) {
                    let mut policy = policy.clone();
                    policy.permissions[number] = less;
                    with(policy);
                }
                if policy.permissions.len() > 1 {
                    let mut policy = policy.clone();
                    policy.permissions.remove(number);
                    with(policy);
                }
            }
            for (number, principal) in policy.principals.iter().enumerate() {
                for less in less_of_id(principal) {
                    let mut policy = policy.clone();
                    policy.principals[number] = less;
                    with(policy);
                }
                if policy.principals.len() > 1 {
                    let mut policy = policy.clone();
                    policy.principals.remove(number);
                    with(policy);
                }
            }
        }
    }
    all
}

/// What a rule is made of, in its place.
fn less_of(permission: &Permission) -> Vec<Permission> {
    match &permission.rule {
        Some(Rule::Any(_)) => Vec::new(),
        Some(Rule::AndRules(set) | Rule::OrRules(set)) => set.rules.clone(),
        Some(Rule::NotRule(rule)) => vec![(**rule).clone()],
        _ => vec![Permission {
            rule: Some(Rule::Any(true)),
        }],
    }
}

fn less_of_id(principal: &Principal) -> Vec<Principal> {
    match &principal.identifier {
        Some(Identifier::Any(_)) => Vec::new(),
        Some(Identifier::AndIds(set) | Identifier::OrIds(set)) => set.ids.clone(),
        Some(Identifier::NotId(id)) => vec![(**id).clone()],
        _ => vec![Principal {
            identifier: Some(Identifier::Any(true)),
        }],
    }
}

/// The kinds of rules of a configuration, by the names of their fields.
fn kinds(guard: &Guard) -> Vec<&'static str> {
    let own = guard.own.iter().filter_map(|own| own.rbac.as_ref());
    let text = format!("{:?}", guard.filters.iter().chain(own).collect::<Vec<_>>());
    KINDS
        .iter()
        .copied()
        .filter(|kind| text.contains(kind))
        .collect()
}

/// As the messages are written out.
const KINDS: &[&str] = &[
    "Some(Header(",
    "Some(UrlPath(",
    "Some(DestinationIp(",
    "Some(DestinationPortRange(",
    "Some(RequestedServerName(",
    "Some(AndRules(",
    "Some(OrRules(",
    "Some(NotRule(",
    "Some(SourceIp(",
    "Some(DirectRemoteIp(",
    "Some(RemoteIp(",
    "Some(Authenticated(",
    "Some(AndIds(",
    "Some(OrIds(",
    "Some(NotId(",
];

/// Breaks this kind of rule, wherever it is: what it says is turned around.
fn mutate(guard: &mut Guard, kind: &str) {
    let own = guard.own.iter_mut().filter_map(|own| own.rbac.as_mut());
    let rules = guard.filters.iter_mut().chain(own);
    let rules = rules.filter_map(|filter| filter.rules.as_mut());
    for policy in rules.flat_map(|rules| rules.policies.values_mut()) {
        for permission in &mut policy.permissions {
            mutate_permission(permission, kind);
        }
        for principal in &mut policy.principals {
            mutate_principal(principal, kind);
        }
    }
}

fn mutate_permission(permission: &mut Permission, kind: &str) {
    let hit = format!("{:?}", permission.rule).starts_with(kind);
    match &mut permission.rule {
        Some(Rule::AndRules(set) | Rule::OrRules(set)) => {
            for rule in &mut set.rules {
                mutate_permission(rule, kind);
            }
        }
        Some(Rule::NotRule(rule)) => mutate_permission(rule, kind),
        _ => {}
    }
    if hit {
        permission.rule = match permission.rule.take() {
            Some(Rule::AndRules(set)) => Some(Rule::OrRules(set)),
            Some(Rule::OrRules(set)) => Some(Rule::AndRules(set)),
            Some(Rule::NotRule(rule)) => rule.rule,
            rule => Some(Rule::NotRule(Box::new(Permission { rule }))),
        };
    }
}

fn mutate_principal(principal: &mut Principal, kind: &str) {
    let hit = format!("{:?}", principal.identifier).starts_with(kind);
    match &mut principal.identifier {
        Some(Identifier::AndIds(set) | Identifier::OrIds(set)) => {
            for id in &mut set.ids {
                mutate_principal(id, kind);
            }
        }
        Some(Identifier::NotId(id)) => mutate_principal(id, kind),
        _ => {}
    }
    if hit {
        principal.identifier = match principal.identifier.take() {
            Some(Identifier::AndIds(set)) => Some(Identifier::OrIds(set)),
            Some(Identifier::OrIds(set)) => Some(Identifier::AndIds(set)),
            Some(Identifier::NotId(id)) => id.identifier,
            identifier => Some(Identifier::NotId(Box::new(Principal { identifier }))),
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn let_the_same_pass() {
    const SHRUNK: usize = 10;
    let seed = number("MESH_ORACLE_SEED", DEFAULT_SEED);
    let all = number("MESH_ORACLE_CONFIGURATIONS", 400);
    let begin = Instant::now();
    let (mut aimed, mut meant, mut differ) = (BTreeMap::<&str, u64>::new(), 0, 0);
    let numbers: Vec<u64> = (0..all).collect();
    for numbers in numbers.chunks(BATCH) {
        let batch: Vec<_> = numbers.iter().map(|&number| case(seed, number)).collect();
        for kind in batch.iter().flat_map(|(guard, _)| kinds(guard)) {
            *aimed.entry(kind).or_default() += 1;
        }
        let (found, so_meant) = differences(&batch).await;
        meant += so_meant;
        for found in found {
            differ += 1;
            if differ <= SHRUNK {
                let Found {
                    guard,
                    asked,
                    theirs,
                    ours,
                } = shrink(found).await;
                println!("--- a pair that differs: {theirs} by Envoy, {ours} by ours");
                println!("{asked:?}\n{guard:#?}");
            }
        }
    }
    println!(
        "rules, seed {seed}: {all} configurations, {:?}",
        begin.elapsed()
    );
    println!("{aimed:?}; {meant} pairs are meant to differ");
    for kind in KINDS {
        let aimed = aimed.get(kind).copied().unwrap_or(0);
        assert!(5 * aimed >= all, "fewer than 20 per cent have {kind}");
    }
    assert_eq!(differ, 0, "pairs that differ");
    assert!(meant > 0, "nothing is meant to differ any more");
}

/// Were one kind of rule of ours broken, 2,000 pairs of the default seed would tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_found() {
    const PAIRS: usize = 2_000;
    let numbers = 0..(PAIRS / REQUESTS) as u64;
    let batch: Vec<_> = numbers.map(|number| case(DEFAULT_SEED, number)).collect();
    let theirs = ask_theirs(&batch).await;
    for kind in KINDS {
        let mut broken = batch.clone();
        for (guard, _) in &mut broken {
            mutate(guard, kind);
        }
        let (found, _) = told(&batch, &theirs, &ask_ours(&broken).await);
        println!("{kind} broken: {} of {PAIRS} pairs differ", found.len());
        assert!(!found.is_empty(), "{kind} was broken, and no pair told");
    }
}

/// What ours reads in every way, it still refuses where Envoy does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_meant_to_differ_does() {
    let matcher = HeaderMatcher {
        name: "x-role".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::Exact("admin".to_owned())),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    };
    let policy = Policy {
        permissions: vec![Permission {
            rule: Some(Rule::Header(matcher)),
        }],
        principals: vec![Principal {
            identifier: Some(Identifier::Any(true)),
        }],
        ..Policy::default()
    };
    let filter = Rbac {
        rules: Some(Rules {
            policies: [("admins".to_owned(), policy)].into(),
            ..Rules::default()
        }),
        ..Rbac::default()
    };
    let guard = Guard {
        filters: vec![filter],
        own: None,
    };
    let asked = Asked {
        method: "GET".to_owned(),
        authority: "a.test".to_owned(),
        path: "/".to_owned(),
        headers: ["guest", "admin"]
            .map(|role| ("x-role".to_owned(), role.to_owned()))
            .into(),
    };
    let batch = [(guard, vec![asked.clone()])];
    let (theirs, ours) = (ask_theirs(&batch).await[0][0], ask_ours(&batch).await[0][0]);
    assert_eq!((theirs, ours), (200, 403));
    assert!(is_meant(&asked, theirs, ours));
}
