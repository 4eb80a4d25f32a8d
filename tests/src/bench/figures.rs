use serde::Serialize;

/// Median, and half the distance between the quartiles as a share of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The spread around it.
    pub spread: f64,
}

impl Spread {
    /// Of these values; not a number if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let at = (values.len().saturating_sub(1) as f64 * share).round() as usize;
            values.get(at).copied().unwrap_or(f64::NAN)
        };
        let median = at(0.5);
        Self {
            median,
            spread: (at(0.75) - at(0.25)) / 2.0 / median.max(f64::MIN_POSITIVE),
        }
    }
}
