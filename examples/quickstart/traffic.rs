//! Steady traffic, and what is seen of it.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use mesh_core::Mesh;
use mesh_examples::greeter::{GreetReply, GreetRequest, greeter_client::GreeterClient};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tonic::{Code, Status};

/// Workers, each making a call every 4 ms.
const WORKERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(4);
/// An act that takes longer than this has stalled.
const STALLED: Duration = Duration::from_secs(20);

/// Workers that call the greeter until they are stopped.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

struct Shared {
    act: Mutex<Act>,
    calls: watch::Sender<u64>,
}

/// What was seen of the calls that began in the act.
#[derive(Default)]
pub(crate) struct Act {
    number: u32,
    by_instance: BTreeMap<(String, String), u32>,
    latencies: Vec<Duration>,
    denied: u32,
    failed: u32,
    /// A policy is to deny calls: they do not count as failed.
    may_be_denied: bool,
    failed_before: u32,
    denied_before: u32,
    first_failure: Option<String>,
}

impl Traffic {
    /// Starts the workers.
    pub(crate) fn start(channel: mesh_tonic::Channel) -> Self {
        let shared = Arc::new(Shared {
            act: Mutex::default(),
            calls: watch::Sender::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(worker(
                GreeterClient::new(channel.clone()),
                Arc::clone(&shared),
                stopped.clone(),
            ));
        }
        Self {
            shared,
            workers,
            stop,
        }
    }

    /// Watches the next `calls` calls and prints what was seen of them.
    pub(crate) async fn act(&self, title: &str, calls: u64) -> Result<Act, Box<dyn Error>> {
        // What was acknowledged is in force for calls that begin from here on. Those under way, at
        // most two rounds of all workers, belong to no act.
        let mut seen = self.shared.calls.subscribe();
        let settled = *seen.borrow() + 2 * WORKERS as u64;
        timeout(STALLED, seen.wait_for(|seen| *seen >= settled))
            .await
            .map_err(|_| format!("traffic stalled before {title:?}"))??;
        self.shared.with(Act::begin);
        let until = *seen.borrow() + calls;
        timeout(STALLED, seen.wait_for(|seen| *seen >= until))
            .await
            .map_err(|_| format!("traffic stalled during {title:?}"))??;
        let act = self.shared.with(Act::end);
        act.print(title);
        Ok(act)
    }

    /// Sets whether calls that a policy denies are expected, and are not failed ones.
    pub(crate) fn expect_denials(&self, expected: bool) {
        self.shared.with(|act| act.may_be_denied = expected);
    }

    /// Waits until `instance` has answered a call.
    pub(crate) async fn answered_by(&self, instance: &str) -> Result<(), Box<dyn Error>> {
        self.shared.with(Act::begin);
        let mut seen = self.shared.calls.subscribe();
        timeout(
            STALLED,
            seen.wait_for(|_| self.shared.with(|act| act.from(instance)) > 0),
        )
        .await
        .map_err(|_| format!("{instance} got no call"))??;
        Ok(())
    }

    /// Stops the workers after the call each of them is making; returns how many calls failed in
    /// all, and how many were denied.
    pub(crate) async fn stop(mut self, patience: Duration) -> Result<(u32, u32), Box<dyn Error>> {
        self.stop.send_replace(true);
        timeout(patience, async {
            while self.workers.join_next().await.is_some() {}
        })
        .await?;
        Ok(self.shared.with(|act| {
            let failed = act.failed + act.failed_before;
            (failed, act.denied + act.denied_before)
        }))
    }
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Act) -> T) -> T {
        look(&mut self.act.lock())
    }
}

async fn worker(
    mut greeter: GreeterClient<mesh_tonic::Channel>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stop.borrow_and_update() {
        ticks.tick().await;
        let began_in = shared.with(|act| act.number);
        let start = Instant::now();
        let reply = greeter
            .greet(GreetRequest {
                name: "mesh".to_owned(),
            })
            .await;
        let latency = start.elapsed();
        let is_of_act = shared.with(|act| {
            let is_of_act = act.number == began_in;
            match reply {
                Ok(reply) if is_of_act => act.answered(reply.into_inner(), latency),
                // What was configured before the act may have chosen its endpoint.
                Ok(_) => {}
                Err(status) if act.may_be_denied && status.code() == Code::PermissionDenied => {
                    act.denied += 1;
                }
                Err(status) => act.failed(&status),
            }
            is_of_act
        });
        if is_of_act {
            shared.calls.send_modify(|calls| *calls += 1);
        }
    }
}

impl Act {
    fn begin(&mut self) {
        self.end();
    }

    fn end(&mut self) -> Act {
        let next = Act {
            number: self.number + 1,
            failed_before: self.failed_before + self.failed,
            denied_before: self.denied_before + self.denied,
            may_be_denied: self.may_be_denied,
            ..Act::default()
        };
        std::mem::replace(self, next)
    }

    fn answered(&mut self, reply: GreetReply, latency: Duration) {
        let instance = (reply.version, reply.instance);
        *self.by_instance.entry(instance).or_default() += 1;
        self.latencies.push(latency);
    }

    fn failed(&mut self, status: &Status) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| status.to_string());
    }

    fn from(&self, instance: &str) -> u32 {
        self.by_instance
            .iter()
            .filter(|((_, name), _)| name == instance)
            .map(|(_, n)| n)
            .sum()
    }

    /// Fails if `instance` answered a call in this act.
    pub(crate) fn expect_none_from(&self, instance: &str) -> Result<(), Box<dyn Error>> {
        match self.from(instance) {
            0 => Ok(()),
            calls => Err(format!("{calls} calls reached {instance}").into()),
        }
    }

    /// Fails unless the policy denied all calls of this act, or none.
    pub(crate) fn expect_denied(&self, all: bool) -> Result<(), Box<dyn Error>> {
        let answered: u32 = self.by_instance.values().sum();
        match (all, answered, self.denied) {
            (true, 0, 1..) | (false, 1.., 0) => Ok(()),
            (_, answered, denied) => {
                Err(format!("{answered} calls were answered and {denied} denied").into())
            }
        }
    }

    /// Fails if `version` got another share of the calls than `percent`, give or take `margin`.
    pub(crate) fn expect_share(
        &self,
        version: &str,
        percent: f64,
        margin: f64,
    ) -> Result<(), Box<dyn Error>> {
        let all: u32 = self.by_instance.values().sum();
        let calls: u32 = self
            .by_instance
            .iter()
            .filter(|((of, _), _)| of == version)
            .map(|(_, n)| n)
            .sum();
        let share = 100.0 * f64::from(calls) / f64::from(all.max(1));
        if (share - percent).abs() <= margin {
            Ok(())
        } else {
            Err(format!("{version} got {share:.1} % of the calls in place of {percent} %").into())
        }
    }

    fn print(&self, title: &str) {
        let total: u32 = self.by_instance.values().sum::<u32>() + self.failed + self.denied;
        let share = |calls: u32| 100.0 * f64::from(calls) / f64::from(total.max(1));
        let mut versions = BTreeMap::<&str, u32>::new();
        for ((version, _), calls) in &self.by_instance {
            *versions.entry(version).or_default() += calls;
        }
        let split: Vec<String> = versions
            .iter()
            .map(|(version, calls)| format!("{version} {:.0} %", share(*calls)))
            .collect();
        let mut latencies = self.latencies.clone();
        latencies.sort();
        let quantile = |share: f64| {
            let at = ((latencies.len().max(1) - 1) as f64 * share) as usize;
            latencies
                .get(at)
                .map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
        };
        if self.denied > 0 {
            println!("{title:34}  {total} calls: denied {}", self.denied);
            return;
        }
        println!(
            "{title:34}  {total} calls: {:20} p50 {:.1} ms  p99 {:.1} ms  failed {}",
            split.join(", "),
            quantile(0.5),
            quantile(0.99),
            self.failed,
        );
        let instances: Vec<String> = self
            .by_instance
            .iter()
            .map(|((_, instance), calls)| format!("{instance} {:.0} %", share(*calls)))
            .collect();
        println!("{:34}  {}", "", instances.join(", "));
        if let Some(failure) = &self.first_failure {
            println!("{:34}  first failure: {failure}", "");
        }
    }

    /// Retries that the mesh has made so far.
    pub(crate) fn retried(&self, mesh: &Mesh) -> u64 {
        mesh.metrics().totals().retries()
    }
}
