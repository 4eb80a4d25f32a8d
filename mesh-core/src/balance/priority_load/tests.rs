use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules::new(140, 50.0)
}

/// Priorities of 100 endpoints, so many of them healthy.
fn of_healthy(healthy: &[u32]) -> Vec<Level> {
    let level = |&healthy| Level {
        total: 100,
        healthy,
        degraded: 0,
    };
    healthy.iter().map(level).collect()
}

fn loads(healthy: &[u32]) -> Vec<u32> {
    let shares = priority_load(&of_healthy(healthy), rules());
    shares.into_iter().map(Share::sum).collect()
}

fn panics(levels: &[Level]) -> Vec<bool> {
    let shares = priority_load(levels, rules());
    shares.into_iter().map(|share| share.panic).collect()
}

/// The tables of Envoy's page "Priority levels".
#[test]
fn load_spills_to_lower_priorities() {
    for (healthy, load) in [
        ([100, 100], [100, 0]),
        ([72, 100], [100, 0]),
        ([71, 100], [99, 1]),
        ([50, 100], [70, 30]),
        ([25, 100], [35, 65]),
        ([0, 100], [0, 100]),
        ([72, 72], [100, 0]),
        ([71, 71], [99, 1]),
        ([50, 50], [70, 30]),
        ([25, 25], [50, 50]),
    ] {
        assert_eq!(loads(&healthy), load, "{healthy:?}");
    }
    for (healthy, load) in [
        ([100, 100, 100], [100, 0, 0]),
        ([72, 72, 100], [100, 0, 0]),
        ([71, 71, 100], [99, 1, 0]),
        ([50, 50, 100], [70, 30, 0]),
        ([25, 100, 100], [35, 65, 0]),
        ([25, 25, 100], [35, 35, 30]),
    ] {
        assert_eq!(loads(&healthy), load, "{healthy:?}");
    }
}

/// Its last row is 36 / 36 / 28 there; the code rounds down and gives the rest to the first. All
/// three are in panic, and as large: without a panic it would be this.
#[test]
fn what_rounding_leaves_goes_to_the_first_available() {
    let calm = Rules::new(140, 0.0);
    let shares = priority_load(&of_healthy(&[25, 25, 20]), calm);
    let loads: Vec<_> = shares.into_iter().map(Share::sum).collect();
    assert_eq!(loads, [37, 35, 28]);
}

/// The example of normalised total health: 20 and 30 become 40 and 60.
#[test]
fn health_is_normalised_when_it_is_less_than_whole() {
    let shares = priority_load(&of_healthy(&[20, 30]), Rules::new(100, 0.0));
    assert_eq!(shares.iter().map(|s| s.sum()).collect::<Vec<_>>(), [40, 60]);
}

/// The tables of "Panic threshold". Two rows of its second table show the health of P=1 in place of
/// the traffic that the rules, and the first table, give: here are the rules.
#[test]
fn panic_is_for_when_lower_priorities_do_not_help() {
    for healthy in [72, 71, 50, 25, 0] {
        assert_eq!(panics(&of_healthy(&[healthy, 100])), [false, false]);
    }
    for (healthy, load, panic) in [
        ([72, 72], [100, 0], [false, false]),
        ([71, 71], [99, 1], [false, false]),
        ([50, 60], [70, 30], [false, false]),
        ([25, 100], [35, 65], [false, false]),
        ([25, 25], [50, 50], [true, true]),
        // There: 7 and 93; see above.
        ([5, 65], [8, 92], [true, false]),
    ] {
        assert_eq!(loads(&healthy), load, "{healthy:?}");
        assert_eq!(panics(&of_healthy(&healthy)), panic, "{healthy:?}");
    }
}

/// The table of "Degraded endpoints", with and without lower priorities.
#[test]
fn the_degraded_take_what_the_healthy_cannot() {
    for (healthy, degraded, load) in [
        (100, 0, (100, 0)),
        (71, 0, (100, 0)),
        (71, 29, (99, 1)),
        (25, 65, (35, 65)),
        (5, 0, (100, 0)),
        (0, 80, (0, 100)),
    ] {
        let level = Level {
            total: 100,
            healthy,
            degraded,
        };
        let share = priority_load(&[level], rules())[0];
        assert_eq!((share.healthy, share.degraded), load, "{level:?}");
    }
    // All healthy ones of lower priorities come before the degraded of a higher one.
    let mixed = Level {
        total: 10,
        healthy: 5,
        degraded: 5,
    };
    let shares = priority_load(&[mixed, of_healthy(&[10])[0]], rules());
    assert_eq!((shares[0].healthy, shares[0].degraded), (70, 16));
    assert_eq!((shares[1].healthy, shares[1].degraded), (14, 0));
    // The example in the comments of Envoy's code.
    let levels = [(10, 20), (20, 10), (10, 0)].map(|(healthy, degraded)| Level {
        total: 100,
        healthy,
        degraded,
    });
    let shares = priority_load(&levels, Rules::new(100, 0.0));
    let healthy: Vec<_> = shares.iter().map(|share| share.healthy).collect();
    let degraded: Vec<_> = shares.iter().map(|share| share.degraded).collect();
    assert_eq!((healthy, degraded), (vec![16, 28, 14], vec![28, 14, 0]));
}

#[test]
fn in_total_panic_size_decides() {
    let sizes = |sizes: [u32; 3]| {
        let levels = sizes.map(|total| Level {
            total,
            ..Level::default()
        });
        let shares = priority_load(&levels, rules());
        assert!(shares.iter().all(|share| share.panic));
        shares.into_iter().map(Share::sum).collect::<Vec<_>>()
    };
    assert_eq!(sizes([1, 1, 2]), [25, 25, 50]);
    assert_eq!(sizes([1, 1, 1]), [34, 33, 33]);
    assert_eq!(sizes([0, 1, 2]), [0, 34, 66]);
    assert_eq!(sizes([0, 0, 0]), [100, 0, 0]);
}

#[test]
fn without_panic_the_first_priority_gets_what_nobody_can_take() {
    let shares = priority_load(&of_healthy(&[0, 0]), Rules::new(140, 0.0));
    assert_eq!(
        shares[0],
        Share {
            healthy: 100,
            degraded: 0,
            panic: false
        }
    );
    assert_eq!(shares[1], Share::default());
}

#[test]
fn the_threshold_is_an_integer_from_0_to_100() {
    for (threshold, may_panic) in [(0.4, false), (0.5, true), (-3.0, false), (f64::NAN, false)] {
        assert_eq!(Rules::new(140, threshold).may_panic(), may_panic);
    }
    assert_eq!(Rules::new(140, 1e9), Rules::new(140, 100.0));
}

fn level() -> impl Strategy<Value = Level> {
    (0..200_u32).prop_flat_map(|total| {
        (0..=total).prop_flat_map(move |healthy| {
            (0..=total - healthy).prop_map(move |degraded| Level {
                total,
                healthy,
                degraded,
            })
        })
    })
}

proptest! {
    #[test]
    fn shares_add_up_to_the_whole(
        levels in prop::collection::vec(level(), 1..8),
        factor in prop_oneof![1..300_u32, Just(u32::MAX)],
        threshold in 0.0..120.0_f64,
    ) {
        let rules = Rules::new(factor, threshold);
        let shares = priority_load(&levels, rules);
        prop_assert_eq!(shares.iter().map(|share| share.sum()).sum::<u32>(), 100);
        prop_assert_eq!(shares.len(), levels.len());
        for (share, level) in shares.iter().zip(&levels) {
            prop_assert!(!share.panic || rules.may_panic());
            if !share.panic && shares.iter().any(|other| other.sum() != 0 && !other.panic) {
                // Of those who can take calls, unless nobody can.
                let nobody = levels.iter().all(|level| {
                    level.availability(level.healthy, rules) == 0
                        && level.availability(level.degraded, rules) == 0
                });
                prop_assert!(share.healthy == 0 || level.healthy != 0 || nobody);
                prop_assert!(share.degraded == 0 || level.degraded != 0);
            }
        }
    }

    /// Without panic, whose rule is another, a priority that gets better relieves those below it.
    #[test]
    fn lower_priorities_are_relieved_by_health(
        mut levels in prop::collection::vec((1..200_u32).prop_flat_map(|total| {
            (0..=total).prop_map(move |healthy| Level { total, healthy, degraded: 0 })
        }), 1..8),
        factor in 1..300_u32,
        index in any::<prop::sample::Index>(),
    ) {
        let rules = Rules::new(factor, 0.0);
        let index = index.index(levels.len());
        let below = |shares: Vec<Share>| shares[index + 1..].iter().map(|s| s.sum()).sum::<u32>();
        let before = below(priority_load(&levels, rules));
        levels[index].healthy = (levels[index].healthy + 1).min(levels[index].total);
        prop_assert!(below(priority_load(&levels, rules)) <= before);
    }
}
