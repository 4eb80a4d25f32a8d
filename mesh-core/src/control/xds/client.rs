//! The xDS client: a [`Source`] over streams to control planes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    ads::{Ads, Timeouts, WatcherId},
    decode::Decode,
    dump::ConfigDump,
    server::{Command, ServerStatus, ServerStream},
};
use crate::{
    bootstrap::Bootstrap,
    config::ResourceId,
    control::{Inbox, Source, Watch},
    runtime::{Limits, SideCall},
};

/// Limits of an [`XdsClient`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct XdsOptions {
    /// Bytes a message of the control plane may have. Default 64 MiB. A longer one ends the
    /// stream, and what is in force stays.
    pub max_message: usize,
    /// From asking a connected control plane for a resource to the conclusion that there is none.
    /// Default 15 s (gRFC A57), twice that under `resource_timer_is_transient_error` (gRFC A88).
    pub resource_timeout: Duration,
    /// For opening a stream. Default 20 s.
    pub connect_timeout: Duration,
}

impl Default for XdsOptions {
    fn default() -> Self {
        Self {
            max_message: 64 << 20,
            resource_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(20),
        }
    }
}

/// Watches resources at the control plane that the bootstrap names first, over one stream for the
/// whole process.
///
/// The stream is opened for the first watch, closed after the last one, and reopened for the next.
/// What was accepted stays in force whatever happens to the stream. Dropping the client closes the
/// stream, and watches that are left are told nothing more.
pub struct XdsClient {
    runtime: Handle,
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<ServerStatus>,
    /// Until the first watch.
    unstarted: Mutex<Option<ServerStream>>,
    watchers: AtomicU64,
    nothing: ConfigDump,
}

impl XdsClient {
    /// A client that is not connected yet. `decode` says what resources mean, `calls` opens
    /// streams.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime; or if `bootstrap` names no server, which no bootstrap does that
    /// was parsed or built.
    pub fn new(
        bootstrap: Arc<Bootstrap>,
        decode: Arc<dyn Decode>,
        calls: Arc<dyn SideCall>,
        options: XdsOptions,
    ) -> Arc<Self> {
        let server = bootstrap
            .servers
            .first()
            .expect("a bootstrap names at least one server");
        let timeouts = Timeouts {
            resource: options.resource_timeout,
            connect: options.connect_timeout,
        };
        let ads = Ads::new(server, &bootstrap.node, decode, timeouts, Instant::now());
        let nothing = ads.dump();
        let (commands, receiver) = mpsc::unbounded_channel();
        let (sender, status) = watch::channel(ServerStatus::Idle);
        let limits = Limits {
            max_message: options.max_message,
        };
        let stream = ServerStream::new(ads, server.clone(), limits, calls, receiver, sender);
        Arc::new(Self {
            runtime: Handle::current(),
            commands,
            status,
            unstarted: Mutex::new(Some(stream)),
            watchers: AtomicU64::new(0),
            nothing,
        })
    }

    /// How it stands with the control plane, now and from now on.
    pub fn status(&self) -> watch::Receiver<ServerStatus> {
        self.status.clone()
    }

    /// What is known of every watched resource: everything that was watched before is in it.
    pub async fn dump(&self) -> ConfigDump {
        let (reply, dump) = oneshot::channel();
        if self.unstarted.lock().is_none() && self.commands.send(Command::Dump(reply)).is_ok() {
            // The task ends early only with its runtime.
            dump.await.unwrap_or_else(|_| self.nothing.clone())
        } else {
            self.nothing.clone()
        }
    }
}

impl fmt::Debug for XdsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdsClient")
            .field("server", &self.nothing.server)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

impl Source for XdsClient {
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        if let Some(stream) = self.unstarted.lock().take() {
            self.runtime.spawn(stream.run());
        }
        let watcher = WatcherId(self.watchers.fetch_add(1, Ordering::Relaxed));
        // Without the task there is no runtime, and nobody to be told.
        let _ = self.commands.send(Command::Watch { watcher, id, inbox });
        // A watch that outlives the client must not keep its task alive.
        let commands = self.commands.downgrade();
        Watch::new(move || {
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::Unwatch(watcher));
            }
        })
    }
}

#[cfg(test)]
mod tests;
