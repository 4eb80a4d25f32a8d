use std::{io::Write, sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tonic::{Code, Status};

use super::{Channel, Flags, Method, Outcome, Plan, Stats, perform};

/// Makes the planned calls at a fixed rate over channels taken in turn.
#[derive(Debug)]
pub struct Traffic<T> {
    channels: Vec<T>,
    period: Duration,
    plan: Arc<Plan>,
    stats: Arc<Stats>,
    report: Report,
}

/// What is said of calls that ended, and which of them end the client.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Whether each call is written to standard output.
    pub print: bool,
    /// The status of a call that counts as a success.
    pub expect: Code,
    /// Whether a call that fails after the first success ends the client.
    pub fail: bool,
}

/// A call that failed where none may.
#[derive(Debug, thiserror::Error)]
#[error("a call to {} ended with {:?} after another had succeeded: {}", .method.name(), .status.code(), .status.message())]
pub struct CallFailed {
    /// The method that was called.
    pub method: Method,
    /// How the call ended.
    pub status: Status,
}

// === impl Traffic ===

impl<T: Channel> Traffic<T> {
    /// Traffic over `channels`, `flags.qps` calls of each method per second and channel.
    pub fn new(flags: &Flags, channels: Vec<T>, plan: Arc<Plan>, stats: Arc<Stats>) -> Self {
        let ticks = flags
            .qps
            .saturating_mul(u32::try_from(channels.len()).unwrap_or(u32::MAX));
        // Spread evenly: one channel's turn at each tick.
        let period = (Duration::from_secs(1) / ticks.max(1)).max(Duration::from_nanos(1));
        let report = Report {
            print: flags.print_response,
            expect: flags.expect_status,
            fail: flags.fail_on_failed_rpc,
        };
        Self {
            channels,
            period,
            plan,
            stats,
            report,
        }
    }

    /// Makes calls until dropped, which also ends those under way. Each call is a task of its own:
    /// slow ones hold up nothing.
    ///
    /// # Errors
    /// If a call failed and [`Report::fail`] says that none may.
    pub async fn run(self) -> Result<(), CallFailed> {
        let mut ticks = interval(self.period);
        // Ticks that came too late are made up for at once, so the rate holds.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut turn = self.channels.iter().cycle();
        let mut under_way = JoinSet::new();
        let mut succeeded = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => match turn.next() {
                    Some(channel) => self.launch(channel, &mut under_way),
                    None => return Ok(()),
                },
                Some(ended) = under_way.join_next() => {
                    let outcome = outcome(ended);
                    self.report.print(&outcome);
                    if self.report.success(&outcome) {
                        succeeded = true;
                    } else if self.report.fail && succeeded {
                        let Outcome { method, status, .. } = outcome;
                        return Err(CallFailed { method, status });
                    }
                }
            }
        }
    }

    fn launch(&self, channel: &T, under_way: &mut JoinSet<Outcome>) {
        for call in self.plan.calls().iter() {
            let (channel, call) = (channel.clone(), Arc::clone(call));
            let stats = Arc::clone(&self.stats);
            // Counted here, not in the task: calls are numbered in the order of the plan.
            let id = stats.started(call.method);
            under_way.spawn(async move {
                let outcome = perform(channel, &call).await;
                stats.finished(id, &outcome);
                outcome
            });
        }
    }
}

/// Carries a call's panic on: nothing else ends its task early.
fn outcome(ended: Result<Outcome, JoinError>) -> Outcome {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(outcome) => outcome,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(cancelled)) => {
            unreachable!("no call is cancelled while it is awaited: {cancelled}")
        }
    }
}

// === impl Report ===

impl Report {
    fn success(&self, outcome: &Outcome) -> bool {
        outcome.status.code() == self.expect
    }

    fn print(&self, outcome: &Outcome) {
        let (method, status) = (outcome.method.name(), &outcome.status);
        let peer = outcome.peer.as_deref().unwrap_or("unknown");
        if self.print {
            // A reader that went away is no reason to stop.
            let mut out = std::io::stdout().lock();
            let _ = match status.code() {
                Code::Ok => writeln!(out, "{method}: OK from {peer}"),
                code => writeln!(out, "{method}: {code:?} from {peer}: {}", status.message()),
            };
        }
    }
}

#[cfg(test)]
mod tests;
