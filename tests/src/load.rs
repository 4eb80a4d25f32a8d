//! Calls of the echo service: one, many, or without an end.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::Status;

use crate::{fixture::PATIENCE, way::Call};

/// Makes one call; the name of the server that answered.
///
/// # Errors
/// If the call fails.
pub async fn call(caller: &impl Call) -> Result<String, Status> {
    caller.call().await
}

/// Makes `calls` calls, one after the other: how many each server answered.
///
/// # Panics
/// If one fails.
pub async fn spread(caller: &impl Call, calls: usize) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for _ in 0..calls {
        match call(caller).await {
            Ok(server) => *spread.entry(server).or_default() += 1,
            Err(status) => panic!("a call failed: {status:?}; {spread:?} before"),
        }
    }
    spread
}

/// Makes calls until each of `servers` has answered one.
///
/// # Panics
/// If one fails, or that takes longer than 20 s.
pub async fn until_from(caller: &impl Call, servers: &[&str]) {
    let mut missing = servers.to_vec();
    let all = async {
        while !missing.is_empty() {
            let server = call(caller).await.expect("the call succeeds");
            missing.retain(|missing| *missing != server);
        }
    };
    if timeout(PATIENCE, all).await.is_err() {
        panic!("no call reached {missing:?}");
    }
}

/// Makes calls until one fails; its status.
///
/// # Panics
/// If that takes longer than 20 s.
pub async fn until_failure(caller: &impl Call) -> Status {
    let failure = async {
        loop {
            if let Err(status) = call(caller).await {
                return status;
            }
        }
    };
    match timeout(PATIENCE, failure).await {
        Ok(status) => status,
        Err(_) => panic!("no call failed"),
    }
}

/// Makes calls until one fails with a message that has all `parts`; its status.
///
/// # Panics
/// If that takes longer than 20 s.
pub async fn until_failure_with(caller: &impl Call, parts: &[&str]) -> Status {
    let mut last = None;
    let failure = async {
        loop {
            if let Err(status) = call(caller).await {
                if parts.iter().all(|part| status.message().contains(part)) {
                    return status;
                }
                last = Some(status);
            }
            tokio::task::yield_now().await;
        }
    };
    let failure = timeout(PATIENCE, failure).await;
    failure.unwrap_or_else(|_| panic!("no call failed with {parts:?}; the last: {last:?}"))
}

/// Makes calls until one succeeds; the name of the server that answered.
///
/// # Panics
/// If that takes longer than 20 s.
pub async fn until_success(caller: &impl Call) -> String {
    let success = async {
        loop {
            match call(caller).await {
                Ok(server) => return server,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    match timeout(PATIENCE, success).await {
        Ok(server) => server,
        Err(_) => panic!("no call succeeded"),
    }
}

/// Workers that make calls, one after the other each, until they are stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

/// What became of the calls of a [`Load`].
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Calls that ended.
    pub calls: u64,
    /// Calls that each server answered.
    pub by_server: BTreeMap<String, u64>,
    /// How many failed.
    pub failed: u64,
    /// How the first one failed.
    pub first_failure: Option<Status>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    calls: watch::Sender<u64>,
}

// === impl Load ===

impl Load {
    /// Starts `workers` workers.
    pub fn start(caller: &impl Call, workers: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let stop = watch::Sender::new(false);
        let mut set = JoinSet::new();
        for _ in 0..workers {
            let (shared, stop, caller) = (Arc::clone(&shared), stop.subscribe(), caller.clone());
            set.spawn(async move {
                while !*stop.borrow() {
                    let result = caller.call().await;
                    shared.seen.lock().count(result);
                    shared.calls.send_modify(|calls| *calls += 1);
                    // A call that fails at once must not keep others from running.
                    tokio::task::yield_now().await;
                }
            });
        }
        Self {
            shared,
            stop,
            workers: set,
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().clone()
    }

    /// Forgets what was seen so far; returns it.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.shared.seen.lock())
    }

    /// Waits until `calls` more calls have ended.
    ///
    /// # Panics
    /// If that takes longer than 20 s.
    pub async fn more(&self, calls: u64) {
        let mut seen = self.shared.calls.subscribe();
        let until = *seen.borrow() + calls;
        if timeout(PATIENCE, seen.wait_for(|seen| *seen >= until))
            .await
            .is_err()
        {
            panic!("calls have stalled: {:?}", self.seen());
        }
    }

    /// Waits until `condition` holds for what was seen.
    ///
    /// # Panics
    /// If that takes longer than 20 s.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.shared.calls.subscribe();
        let found = seen.wait_for(|_| condition(&self.shared.seen.lock()));
        if timeout(PATIENCE, found).await.is_err() {
            panic!("waited in vain until {what}; seen: {:?}", self.seen());
        }
    }

    /// Stops the workers, each after its call; what was seen.
    ///
    /// # Panics
    /// If a call does not end within 20 s.
    pub async fn stop(mut self) -> Seen {
        self.stop.send_replace(true);
        let ended = async { while self.workers.join_next().await.is_some() {} };
        if timeout(PATIENCE, ended).await.is_err() {
            panic!("a call does not end: {:?}", self.seen());
        }
        self.take()
    }
}

// === impl Seen ===

impl Seen {
    /// Calls that `server` answered.
    pub fn from(&self, server: &str) -> u64 {
        self.by_server.get(server).copied().unwrap_or(0)
    }

    /// Panics if a call has failed, and says how.
    #[track_caller]
    pub fn assert_no_failure(&self) {
        assert!(self.failed == 0, "calls have failed: {self:?}");
    }

    fn count(&mut self, result: Result<String, Status>) {
        self.calls += 1;
        match result {
            Ok(server) => *self.by_server.entry(server).or_default() += 1,
            Err(status) => {
                self.failed += 1;
                self.first_failure.get_or_insert(status);
            }
        }
    }
}
