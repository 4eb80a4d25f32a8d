//! What a few nanoseconds are spent on.

use std::hint::black_box;

use tokio::time::Instant;

/// Calls in one round: few enough that most rounds are over before the machine does something
/// else.
const ROUND: usize = 20_000;

/// Nanoseconds per call of `work`, which is told the number of the call: those of the fastest of
/// `rounds` rounds, which was disturbed least. One more that comes before does not count.
pub fn nanoseconds<T>(rounds: usize, mut work: impl FnMut(usize) -> T) -> f64 {
    let mut round = |first: usize| {
        let start = Instant::now();
        for call in first..first + ROUND {
            black_box(work(black_box(call)));
        }
        start.elapsed().as_nanos() as f64 / ROUND as f64
    };
    round(0);
    (1..=rounds)
        .map(|number| round(number * ROUND))
        .fold(f64::INFINITY, f64::min)
}
