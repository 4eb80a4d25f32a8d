//! Moves load reports between the state machine and the world.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use super::{Input, Lrs, Notice, Output, PATH};
use crate::{
    balance::{Reporter, ServerLoads, WeakLoads},
    bootstrap::{Bootstrap, ServerConfig},
    control::xds::{
        ads::Limiter,
        pipe::{Moved, Pipe},
        stream::sleep,
    },
    runtime::{Limits, SideCall},
};

/// How long the control plane has to take the last report.
const GRACE: Duration = Duration::from_secs(1);

/// Reports loads to the control planes of a bootstrap: one stream to each that has sent a cluster
/// which wants that, from its first such cluster to the end of its last.
#[derive(Debug)]
pub(in crate::control::xds) struct LoadReporter {
    pub(in crate::control::xds) bootstrap: Arc<Bootstrap>,
    pub(in crate::control::xds) limits: Limits,
    pub(in crate::control::xds) connect_timeout: Duration,
    pub(in crate::control::xds) calls: Arc<dyn SideCall>,
    pub(in crate::control::xds) runtime: Handle,
    pub(in crate::control::xds) loads: WeakLoads,
}

/// The stream to one control plane.
#[derive(Debug)]
struct Task {
    server: Arc<ServerConfig>,
    node: Arc<str>,
    lrs: Lrs,
    loads: Arc<ServerLoads>,
    all: WeakLoads,
    pipe: Pipe,
    failed: Limiter,
    unusable: Limiter,
}

impl Reporter for LoadReporter {
    fn begin(&self, server: &Arc<ServerConfig>, loads: &Arc<ServerLoads>) {
        let node = &self.bootstrap.node;
        let now = Instant::now();
        let task = Task {
            server: Arc::clone(server),
            node: node.id.as_str().into(),
            lrs: Lrs::new(node, Arc::clone(loads), self.connect_timeout, now),
            loads: Arc::clone(loads),
            all: self.loads.clone(),
            pipe: Pipe::new(
                ServerConfig::clone(server),
                self.limits,
                Arc::clone(&self.calls),
            ),
            failed: Limiter::default(),
            unusable: Limiter::default(),
        };
        self.runtime.spawn(task.run());
    }
}

impl Task {
    /// Runs until there is nothing to report, or nobody whose loads they are.
    async fn run(mut self) {
        loop {
            self.act();
            let (server, lrs) = (&self.server, &self.lrs);
            let Some(all) = self.all.upgrade() else {
                return;
            };
            if all.end(server, || lrs.is_over()) {
                drop(all);
                return self.pipe.finish(GRACE).await;
            }
            drop(all);
            let input = tokio::select! {
                biased;
                () = self.loads.changed.notified() => Input::Changed,
                moved = self.pipe.next() => match moved {
                    Moved::Opened(Ok(())) => Input::Connected,
                    Moved::Opened(Err(error)) => Input::ConnectFailed(error.to_string()),
                    Moved::Sent => Input::Sent,
                    Moved::Read(message) => Input::Received(message),
                    Moved::Ended(status) => Input::Closed(status),
                },
                () = sleep(self.lrs.wake_at()) => Input::Timer,
            };
            self.lrs.handle(input, Instant::now());
        }
    }

    /// Does what the state machine says until it has no more to say.
    fn act(&mut self) {
        while let Some(output) = self.lrs.poll() {
            match output {
                Output::Connect => self.pipe.open(PATH),
                Output::Close => self.pipe.close(),
                Output::Send(message) => {
                    if self.pipe.try_send(message) {
                        self.lrs.handle(Input::Sent, Instant::now());
                    }
                }
                Output::Read => self.pipe.read(),
                Output::Notice(notice) => self.report(&notice),
            }
        }
    }

    fn report(&mut self, notice: &Notice) {
        let (server, node, now) = (&self.server.uri, &self.node, Instant::now());
        match notice {
            Notice::Failed(reason) => {
                if let Some(suppressed) = self.failed.admit(reason, now) {
                    tracing::warn!(%server, %node, suppressed, "no load reports to the control plane: {reason}");
                }
            }
            Notice::Unusable(reason) => {
                if let Some(suppressed) = self.unusable.admit(reason, now) {
                    tracing::warn!(%server, %node, suppressed, "what the control plane asks of load reports: {reason}");
                }
            }
        }
    }
}
