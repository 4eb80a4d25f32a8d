use crate::config::WeightedCluster;

/// A weighted choice among a route's clusters, made once per call: retries stay where the call
/// went (gRFC A31).
#[derive(Debug, Clone)]
pub struct ClusterChoice {
    /// Where each cluster's share ends; none for a single cluster.
    ends: Box<[u64]>,
}

impl ClusterChoice {
    /// Compiles the shares of `clusters`.
    pub fn compile(clusters: &[WeightedCluster]) -> Self {
        let mut total = 0;
        let ends: Box<[u64]> = clusters
            .iter()
            .map(|cluster| {
                total += u64::from(cluster.weight);
                total
            })
            .collect();
        let single = clusters.len() < 2 || total == 0;
        Self {
            ends: if single { Box::default() } else { ends },
        }
    }

    /// The number of the chosen cluster: one random draw, none if there is a single cluster.
    pub fn pick(&self) -> usize {
        self.pick_with(|total| fastrand::u64(0..total))
    }

    /// As [`pick`](Self::pick), where `draw(total)` gives a number below `total`, the sum of the
    /// weights.
    pub fn pick_with(&self, draw: impl FnOnce(u64) -> u64) -> usize {
        match self.ends.last() {
            None => 0,
            Some(&total) => {
                let drawn = draw(total);
                self.ends.partition_point(|&end| end <= drawn)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(weights: &[u32]) -> ClusterChoice {
        let clusters: Vec<_> = weights
            .iter()
            .map(|&weight| WeightedCluster {
                name: "c".into(),
                weight,
                overrides: Default::default(),
                headers: Default::default(),
                host_rewrite: None,
            })
            .collect();
        ClusterChoice::compile(&clusters)
    }

    #[test]
    fn a_single_cluster_needs_no_draw() {
        let only = choice(&[7]);
        assert_eq!(only.pick_with(|_| unreachable!("no draw")), 0);
    }

    #[test]
    fn shares_end_exactly_at_their_weight() {
        let three = choice(&[20, 1, 79]);
        for (drawn, cluster) in [(0, 0), (19, 0), (20, 1), (21, 2), (99, 2)] {
            let picked = three.pick_with(|total| {
                assert_eq!(total, 100);
                drawn
            });
            assert_eq!(picked, cluster, "{drawn}");
        }
        // The largest sum that a decoder lets through.
        let large = choice(&[u32::MAX - 1, 1]);
        assert_eq!(large.pick_with(|total| total - 1), 1);
        assert_eq!(large.pick_with(|total| total - 2), 0);
    }

    #[test]
    fn every_draw_gives_each_cluster_its_weight() {
        let weights = [3, 1, 10, 1, 5];
        let choice = choice(&weights);
        let mut picked = [0; 5];
        for drawn in 0..20 {
            picked[choice.pick_with(|_| drawn)] += 1;
        }
        assert_eq!(picked, weights);
    }

    #[test]
    fn random_picks_follow_the_weights() {
        let split = choice(&[20, 80]);
        let n = 20_000;
        let first = (0..n).filter(|_| split.pick() == 0).count();
        // Ten standard deviations (57) around the expectation.
        assert!((3430..=4570).contains(&first), "{first} of {n}");
    }
}
