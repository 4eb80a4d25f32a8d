//! What an aggregate cluster leads to (gRFC A37).

use std::{collections::HashSet, sync::Arc};

use super::slots::Missing;
use crate::{
    config::{Cluster, Discovery},
    control::{SourceError, SourceErrorKind},
};

/// Levels of clusters that aggregates may have, their own included.
const MAX_DEPTH: usize = 16;

/// The leaves of an aggregate cluster.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// In the order of preference. One that is reached twice has its first place; a cluster that
    /// leads back to itself adds nothing.
    pub(super) leaves: Vec<Arc<str>>,
    /// Why the first cluster that cannot be had, and is left out, is missing.
    pub(super) note: Option<SourceError>,
}

/// Finds the leaves of `root`. `cluster` finds clusters.
///
/// # Errors
/// If a cluster is not known yet, or the aggregates are too deep.
pub(super) fn leaves<'a>(
    root: &Arc<str>,
    cluster: impl Fn(&Arc<str>) -> Result<&'a Arc<Cluster>, Missing>,
) -> Result<Tree, Missing> {
    let mut tree = Tree::default();
    let mut seen = HashSet::new();
    // The next one is the last.
    let mut next = vec![(Arc::clone(root), 0)];
    let mut pending = None;
    while let Some((name, depth)) = next.pop() {
        if !seen.insert(Arc::clone(&name)) {
            continue;
        }
        if depth >= MAX_DEPTH {
            return Err(Missing::Failed(SourceError {
                kind: SourceErrorKind::Invalid,
                text: format!(
                    "aggregate cluster {root:?} has more than {MAX_DEPTH} levels of clusters"
                )
                .into(),
            }));
        }
        match cluster(&name) {
            Ok(cluster) => match &cluster.discovery {
                Discovery::Aggregate(names) => {
                    let names = names.iter().rev();
                    next.extend(names.map(|name| (Arc::clone(name), depth + 1)));
                }
                _ => tree.leaves.push(name),
            },
            Err(Missing::Failed(error)) => {
                tree.note.get_or_insert(error);
            }
            Err(Missing::Pending(why)) => pending = pending.or(Some(why)),
        }
    }
    match pending {
        Some(why) => Err(Missing::Pending(why)),
        None => Ok(tree),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        balance::RoundRobin,
        config::{Breakers, Connections, LbPolicy, PolicyConfig},
    };

    type Clusters = HashMap<Arc<str>, Arc<Cluster>>;

    fn clusters(of: &[(&str, &[&str])]) -> Clusters {
        let entry = |&(name, leads): &(&str, &[&str])| {
            let names = leads.iter().map(|&name| name.into()).collect();
            let discovery = match leads {
                [] => Discovery::Eds(name.into()),
                _ => Discovery::Aggregate(names),
            };
            let cluster = Cluster {
                name: name.into(),
                discovery,
                lb: LbPolicy::Localities(PolicyConfig(Arc::new(RoundRobin))),
                breakers: Breakers::default(),
                connections: Connections::default(),
                tls: None,
                report_load: None,
                service: None,
                panic_threshold: 50.0,
            };
            (name.into(), Arc::new(cluster))
        };
        of.iter().map(entry).collect()
    }

    fn found(clusters: &Clusters, root: &str) -> Result<Vec<String>, String> {
        let tree = leaves(&root.into(), |name| {
            clusters.get(name).ok_or_else(|| {
                Missing::Failed(SourceError {
                    kind: SourceErrorKind::DoesNotExist,
                    text: format!("no {name}").into(),
                })
            })
        });
        match tree {
            Ok(tree) => {
                let leaves = tree.leaves.iter().map(|leaf| leaf.to_string());
                Ok(leaves
                    .chain(tree.note.map(|note| note.to_string()))
                    .collect())
            }
            Err(Missing::Failed(error)) => Err(error.to_string()),
            Err(Missing::Pending(_)) => Err("pending".into()),
        }
    }

    #[test]
    fn leaves_are_in_order_and_the_first_place_counts() {
        let clusters = clusters(&[
            ("top", &["left", "a", "b", "right", "left"]),
            ("left", &["b"]),
            ("right", &["b", "c", "lost"]),
            ("a", &[]),
            ("b", &[]),
            ("c", &[]),
        ]);
        let all = found(&clusters, "top").unwrap();
        assert_eq!(all, ["b", "a", "c", "no lost"]);
    }

    #[test]
    fn a_circle_adds_nothing() {
        let clusters = clusters(&[("top", &["top", "b"]), ("b", &["top", "c"]), ("c", &[])]);
        assert_eq!(found(&clusters, "top").unwrap(), ["c"]);
        let clusters = self::clusters(&[("top", &["b"]), ("b", &["top"])]);
        assert_eq!(found(&clusters, "top").unwrap(), [""; 0]);
    }

    #[test]
    fn sixteen_levels_and_no_more() {
        let chain = |levels: usize| -> Clusters {
            let names: Vec<_> = (1..=levels).map(|level| level.to_string()).collect();
            let mut all = Clusters::new();
            for (at, name) in names.iter().enumerate() {
                let leads: Vec<&str> = names.get(at + 1).map(String::as_str).into_iter().collect();
                all.extend(clusters(&[(name, &leads)]));
            }
            all
        };
        assert_eq!(found(&chain(16), "1").unwrap(), ["16"]);
        assert_eq!(
            found(&chain(17), "1").unwrap_err(),
            "aggregate cluster \"1\" has more than 16 levels of clusters"
        );
    }
}
