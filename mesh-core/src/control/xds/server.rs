//! One control plane: what others hold of its stream.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};

use super::{
    ads::{Ads, WatcherId},
    dump::ConfigDump,
    stream::{Command, ServerStream},
};
use crate::{
    bootstrap::ServerConfig,
    config::ResourceId,
    control::{Inbox, SourceError, Watch},
    runtime::{Limits, SideCall},
};

/// How it stands with a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerStatus {
    /// Nothing is watched, so there is no stream.
    Idle,
    /// The first attempt, or the one after a stream that had worked, is under way.
    Connecting,
    /// The stream is open.
    Connected,
    /// The last attempt failed, or its stream ended before it was of use. Stays until the control
    /// plane answers, whatever is tried meanwhile.
    Failed(SourceError),
}

/// A control plane, reached over one stream, however many ask it.
///
/// Dropping it ends the stream, and watches that are left are told nothing more.
pub(super) struct Server {
    config: ServerConfig,
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<ServerStatus>,
    /// Until the first watch.
    unstarted: Mutex<Option<(ServerStream, Handle)>>,
    watchers: AtomicU64,
    nothing: ConfigDump,
}

impl Server {
    /// One that is not connected yet. To be called in a tokio runtime.
    pub(super) fn new(
        ads: Ads,
        config: &ServerConfig,
        limits: Limits,
        calls: Arc<dyn SideCall>,
    ) -> Arc<Self> {
        let nothing = ads.dump();
        let (commands, receiver) = mpsc::unbounded_channel();
        let (sender, status) = watch::channel(ServerStatus::Idle);
        let stream = ServerStream::new(ads, config.clone(), limits, calls, receiver, sender);
        Arc::new(Self {
            config: config.clone(),
            commands,
            status,
            unstarted: Mutex::new(Some((stream, Handle::current()))),
            watchers: AtomicU64::new(0),
            nothing,
        })
    }

    /// Where it is, and how it is reached.
    pub(super) fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// How it stands with it, now and from now on.
    pub(super) fn status(&self) -> watch::Receiver<ServerStatus> {
        self.status.clone()
    }

    /// What is known of these resources, or of every one watched at it: everything that was watched
    /// before is in it.
    pub(super) async fn dump_of(&self, of: Option<Arc<BTreeSet<ResourceId>>>) -> ConfigDump {
        let (reply, dump) = oneshot::channel();
        let ask = || self.commands.send(Command::Dump(of, reply)).is_ok();
        if self.unstarted.lock().is_none() && ask() {
            // The task ends early only with its runtime.
            dump.await.unwrap_or_else(|_| self.nothing.clone())
        } else {
            self.nothing.clone()
        }
    }

    /// Watches one of its resources.
    pub(super) fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        if let Some((stream, runtime)) = self.unstarted.lock().take() {
            runtime.spawn(stream.run());
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

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("uri", &self.config.uri)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
