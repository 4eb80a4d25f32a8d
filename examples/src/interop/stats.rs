use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::{
    Code,
    metadata::{KeyAndValueRef, MetadataMap},
};

use super::{Method, Outcome, PerMethod};
use crate::testing::{
    LoadBalancerAccumulatedStatsResponse, LoadBalancerStatsResponse,
    load_balancer_accumulated_stats_response::MethodStats,
    load_balancer_stats_response::{MetadataEntry, MetadataType, RpcMetadata},
};

/// Headers that are part of gRPC and no metadata.
const PROTOCOL_HEADERS: [&str; 5] = [
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
];

/// What has become of the calls, all in all and for those who watch.
#[derive(Debug, Default)]
pub struct Stats {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the next call to start.
    next_call: u64,
    next_watch: u64,
    totals: PerMethod<MethodStats>,
    watches: BTreeMap<u64, Tally>,
}

/// The number of a call, in the order in which calls start. Not `Clone`: a call ends once.
#[derive(Debug)]
pub struct CallId(u64);

/// Somebody who watches a run of consecutive calls. Stops watching when dropped.
#[derive(Debug)]
pub struct Watch {
    stats: Arc<Stats>,
    id: u64,
    complete: Arc<Notify>,
}

/// What a watch has seen.
#[derive(Debug)]
struct Tally {
    calls: Range<u64>,
    remaining: u64,
    keys: MetadataKeys,
    seen: LoadBalancerStatsResponse,
    complete: Arc<Notify>,
}

/// Which response metadata is reported.
#[derive(Debug)]
enum MetadataKeys {
    None,
    All,
    /// In lower case.
    These(Vec<String>),
}

// === impl Stats ===

impl Stats {
    /// Counts a call of `method` that starts now.
    pub fn started(&self, method: Method) -> CallId {
        let mut state = self.state.lock();
        state.totals[method].rpcs_started += 1;
        let id = state.next_call;
        state.next_call += 1;
        CallId(id)
    }

    /// Counts the end of a call.
    pub fn finished(&self, call: CallId, outcome: &Outcome) {
        let mut state = self.state.lock();
        let code = outcome.status.code() as i32;
        *state.totals[outcome.method].result.entry(code).or_default() += 1;
        for tally in state.watches.values_mut() {
            if tally.calls.contains(&call.0) {
                tally.count(outcome);
            }
        }
    }

    /// Watches the next `calls` calls to start. Reports the response metadata with the given keys,
    /// in any case; `*` is every key.
    pub fn watch(self: &Arc<Self>, calls: u32, keys: &[String]) -> Watch {
        let complete = Arc::new(Notify::new());
        let calls = u64::from(calls);
        let mut state = self.state.lock();
        let id = state.next_watch;
        state.next_watch += 1;
        let tally = Tally {
            calls: state.next_call..state.next_call + calls,
            remaining: calls,
            keys: MetadataKeys::new(keys),
            seen: LoadBalancerStatsResponse::default(),
            complete: Arc::clone(&complete),
        };
        if calls == 0 {
            complete.notify_one();
        }
        state.watches.insert(id, tally);
        Watch {
            stats: Arc::clone(self),
            id,
            complete,
        }
    }

    /// What has become of all calls so far. Methods that were never called are left out.
    pub fn accumulated(&self) -> LoadBalancerAccumulatedStatsResponse {
        let state = self.state.lock();
        let mut response = LoadBalancerAccumulatedStatsResponse::default();
        for method in Method::ALL {
            let totals = &state.totals[method];
            if totals.rpcs_started == 0 {
                continue;
            }
            let name = || method.type_name().to_owned();
            let finished: i32 = totals.result.values().sum();
            let succeeded = totals
                .result
                .get(&(Code::Ok as i32))
                .copied()
                .unwrap_or_default();
            response
                .num_rpcs_started_by_method
                .insert(name(), totals.rpcs_started);
            response
                .num_rpcs_succeeded_by_method
                .insert(name(), succeeded);
            response
                .num_rpcs_failed_by_method
                .insert(name(), finished - succeeded);
            response.stats_per_method.insert(name(), totals.clone());
        }
        response
    }
}

// === impl Watch ===

impl Watch {
    /// Resolves once all watched calls have ended.
    pub async fn complete(&mut self) {
        self.complete.notified().await;
    }

    /// What was seen. Calls that have not ended count as failures.
    pub fn finish(self) -> LoadBalancerStatsResponse {
        let Some(tally) = self.stats.state.lock().watches.remove(&self.id) else {
            return LoadBalancerStatsResponse::default();
        };
        let mut response = tally.seen;
        // At most what was asked for, which is a positive `i32` on the wire.
        let missing = i32::try_from(tally.remaining).unwrap_or(i32::MAX);
        response.num_failures = response.num_failures.saturating_add(missing);
        response
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stats.state.lock().watches.remove(&self.id);
    }
}

// === impl Tally ===

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        self.remaining -= 1;
        if self.remaining == 0 {
            self.complete.notify_one();
        }
        let Some(peer) = &outcome.peer else {
            self.seen.num_failures += 1;
            return;
        };
        increment(&mut self.seen.rpcs_by_peer, peer);
        let method = self
            .seen
            .rpcs_by_method
            .entry(outcome.method.name().to_owned());
        increment(&mut method.or_default().rpcs_by_peer, peer);
        if !matches!(self.keys, MetadataKeys::None) {
            let mut metadata = Vec::new();
            self.keys
                .select(&outcome.initial, MetadataType::Initial, &mut metadata);
            self.keys
                .select(&outcome.trailing, MetadataType::Trailing, &mut metadata);
            let by_peer = self.seen.metadatas_by_peer.entry(peer.clone()).or_default();
            by_peer.rpc_metadata.push(RpcMetadata { metadata });
        }
    }
}

fn increment(counts: &mut HashMap<String, i32>, peer: &str) {
    match counts.get_mut(peer) {
        Some(count) => *count += 1,
        None => {
            counts.insert(peer.to_owned(), 1);
        }
    }
}

// === impl MetadataKeys ===

impl MetadataKeys {
    fn new(keys: &[String]) -> Self {
        match keys {
            [] => Self::None,
            keys if keys.iter().any(|key| key.trim() == "*") => Self::All,
            keys => Self::These(keys.iter().map(|key| key.to_ascii_lowercase()).collect()),
        }
    }

    fn contains(&self, key: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => !PROTOCOL_HEADERS.contains(&key),
            Self::These(keys) => keys.iter().any(|wanted| wanted == key),
        }
    }

    fn select(&self, from: &MetadataMap, at: MetadataType, into: &mut Vec<MetadataEntry>) {
        for entry in from.iter() {
            let (key, value) = match entry {
                KeyAndValueRef::Ascii(key, value) => (key.as_str(), value.as_encoded_bytes()),
                // As it came: in base64.
                KeyAndValueRef::Binary(key, value) => (key.as_str(), value.as_encoded_bytes()),
            };
            if self.contains(key) {
                into.push(MetadataEntry {
                    key: key.to_owned(),
                    value: String::from_utf8_lossy(value).into_owned(),
                    r#type: at.into(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
