//! What a few nanoseconds are spent on.

use std::hint::black_box;

use tokio::time::Instant;

/// Nanoseconds per call of `work`, which is told the number of the call: the median of `rounds`
/// rounds of `calls` calls, after one that does not count.
///
/// # Panics
/// If there are no rounds.
pub fn nanoseconds<T>(rounds: usize, calls: usize, mut work: impl FnMut(usize) -> T) -> f64 {
    let mut round = || {
        let start = Instant::now();
        for call in 0..calls {
            black_box(work(black_box(call)));
        }
        start.elapsed().as_nanos() as f64 / calls as f64
    };
    round();
    let mut measured: Vec<f64> = (0..rounds).map(|_| round()).collect();
    measured.sort_by(f64::total_cmp);
    measured[measured.len() / 2]
}
