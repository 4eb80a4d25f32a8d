//! Asks both, and tells where they differ.

use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use tokio::task::JoinSet;

use crate::{
    backend::Backends, differences::overlook, generate::Asked, ours::Ours, outcome::Outcome,
    theirs::Theirs,
};

/// A request of which Envoy and ours make different things.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The number of the configuration in its batch.
    pub(crate) number: usize,
    pub(crate) asked: Asked,
    pub(crate) theirs: Outcome,
    pub(crate) ours: Outcome,
}

/// What Envoy makes of all requests of a batch.
pub(crate) async fn ask_theirs(
    backends: &Backends,
    batch: &[RouteConfiguration],
    requests: &[Vec<Asked>],
) -> Vec<Vec<Outcome>> {
    let envoy = Theirs::start(backends, batch).await;
    let mut asking = JoinSet::new();
    for (number, requests) in requests.iter().cloned().enumerate() {
        let mut connection = envoy.connection(number);
        asking.spawn(async move {
            let mut outcomes = Vec::with_capacity(requests.len());
            for asked in &requests {
                outcomes.push(connection.ask(asked).await);
            }
            (number, outcomes)
        });
    }
    in_order(asking).await
}

/// What ours makes of them.
pub(crate) async fn ask_ours(
    backends: &Backends,
    batch: &[RouteConfiguration],
    requests: &[Vec<Asked>],
) -> Vec<Vec<Outcome>> {
    let ours = Arc::new(Ours::start(backends, batch, requests).await);
    let mut asking = JoinSet::new();
    for (number, requests) in requests.iter().cloned().enumerate() {
        let ours = Arc::clone(&ours);
        asking.spawn(async move {
            let mut outcomes = Vec::with_capacity(requests.len());
            for asked in &requests {
                outcomes.push(ours.ask(number, asked).await);
            }
            (number, outcomes)
        });
    }
    in_order(asking).await
}

async fn in_order(mut asking: JoinSet<(usize, Vec<Outcome>)>) -> Vec<Vec<Outcome>> {
    let mut all = Vec::new();
    while let Some(done) = asking.join_next().await {
        all.push(done.expect("it asks to the end"));
    }
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, outcomes)| outcomes).collect()
}

/// Where they differ, and are not [meant](crate::differences) to.
pub(crate) fn differences(
    batch: &[RouteConfiguration],
    requests: &[Vec<Asked>],
    theirs: &[Vec<Outcome>],
    ours: &[Vec<Outcome>],
) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, requests) in requests.iter().enumerate() {
        for (at, asked) in requests.iter().enumerate() {
            let (theirs, ours) = (&theirs[number][at], &ours[number][at]);
            if theirs == ours {
                continue;
            }
            let (mut their, mut our) = (theirs.clone(), ours.clone());
            overlook(&batch[number], asked, &mut their, &mut our);
            if their != our {
                found.push(Found {
                    number,
                    asked: asked.clone(),
                    theirs: theirs.clone(),
                    ours: ours.clone(),
                });
            }
        }
    }
    found
}
