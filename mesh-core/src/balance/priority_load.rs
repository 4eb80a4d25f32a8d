//! How the load of a cluster is shared among its priorities under HTTP semantics: Envoy's rules
//! ("Priority levels", "Panic threshold", "Degraded endpoints" of its documentation), to the
//! percent as its load balancers compute it.

/// What is known of the endpoints of one priority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// How many there are, of whatever health, but for those that drain.
    pub(super) total: u32,
    /// How many are healthy.
    pub(super) healthy: u32,
    /// How many are degraded.
    pub(super) degraded: u32,
}

/// What decides beside health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// In percent: how much of the load that a priority gets when it is whole the healthy part of
    /// it can take.
    overprovisioning: u32,
    /// In percent of the endpoints of a priority.
    panic_threshold: u32,
}

/// What one priority gets, in percent of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// For its healthy endpoints.
    pub(super) healthy: u32,
    /// For its degraded endpoints.
    pub(super) degraded: u32,
    /// What it gets is for all its endpoints: too few are available.
    pub(super) panic: bool,
}

/// The shares of priorities, highest first. They add up to 100, unless there are no priorities.
pub(super) fn priority_load(levels: &[Level], rules: Rules) -> Vec<Share> {
    let mut shares = vec![Share::default(); levels.len()];
    let healthy: Vec<_> = levels
        .iter()
        .map(|level| level.availability(level.healthy, rules))
        .collect();
    let degraded: Vec<_> = levels
        .iter()
        .map(|level| level.availability(level.degraded, rules))
        .collect();
    let sum: u32 = healthy.iter().chain(&degraded).sum();
    let available = sum.min(100);
    let normalised = |part: u32| (part * 100).checked_div(available).unwrap_or(0);
    // As far as the healthy reach, in order; what they cannot take, the degraded do.
    let mut rest = 100;
    for (share, &part) in shares.iter_mut().zip(&healthy) {
        share.healthy = rest.min(normalised(part));
        rest -= share.healthy;
    }
    for (share, &part) in shares.iter_mut().zip(&degraded) {
        share.degraded = rest.min(normalised(part));
        rest -= share.degraded;
    }
    // What rounding left goes to the first that has any.
    if let Some(first) = healthy.iter().position(|&part| part != 0) {
        shares[first].healthy += rest;
    } else if let Some(first) = degraded.iter().position(|&part| part != 0) {
        shares[first].degraded += rest;
    }
    if available < 100 && rules.panic_threshold != 0 {
        for (share, level) in shares.iter_mut().zip(levels) {
            share.panic = level.is_below(rules.panic_threshold);
        }
        if shares.iter().all(|share| share.panic) {
            share_by_size(levels, &mut shares);
            return shares;
        }
    }
    // Nobody is available, and there is no panic: to the first, where a pick finds none.
    if available == 0
        && let Some(first) = shares.first_mut()
    {
        first.healthy = 100;
    }
    shares
}

/// When all priorities are in panic, health says nothing: each gets what its size says.
fn share_by_size(levels: &[Level], shares: &mut [Share]) {
    let total: u64 = levels.iter().map(|level| u64::from(level.total)).sum();
    let mut rest = 100;
    for (share, level) in shares.iter_mut().zip(levels) {
        let part = u64::from(level.total) * 100 / total.max(1);
        // At most 100.
        share.healthy = u32::try_from(part).unwrap_or(0);
        share.degraded = 0;
        rest -= share.healthy;
    }
    let first = levels.iter().position(|level| level.total != 0);
    if let Some(first) = shares.get_mut(first.unwrap_or(0)) {
        first.healthy += rest;
    }
}

// === impl Level ===

impl Level {
    /// How much of the whole load `count` of its endpoints can take, in percent.
    fn availability(self, count: u32, rules: Rules) -> u32 {
        if self.total == 0 {
            return 0;
        }
        let part = u64::from(rules.overprovisioning) * u64::from(count) / u64::from(self.total);
        u32::try_from(part.min(100)).unwrap_or(100)
    }

    /// Whether fewer than `threshold` percent of its endpoints are available.
    fn is_below(self, threshold: u32) -> bool {
        let available = u64::from(self.healthy) + u64::from(self.degraded);
        self.total == 0 || available * 100 < u64::from(threshold) * u64::from(self.total)
    }
}

// === impl Rules ===

impl Rules {
    /// Of an overprovisioning factor and a panic threshold, both in percent. As in Envoy, the
    /// threshold is rounded to the nearest integer.
    pub(super) fn new(overprovisioning: u32, panic_threshold: f64) -> Self {
        Self {
            overprovisioning,
            panic_threshold: panic_threshold.round().clamp(0.0, 100.0) as u32,
        }
    }

    /// Whether a priority may be in panic at all.
    pub(super) fn may_panic(self) -> bool {
        self.panic_threshold != 0
    }
}

// === impl Share ===

impl Share {
    /// What it gets together.
    pub(super) fn sum(self) -> u32 {
        self.healthy + self.degraded
    }
}

#[cfg(test)]
mod tests;
