//! The task that stands between one target and several control planes.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Weak},
    task::Poll,
};

use tokio::sync::mpsc;

use super::{
    fallback::{Action, Fallback},
    server::Server,
};
use crate::{
    config::ResourceId,
    control::{Delivery, Inbox, Processed, Watch},
};

/// Where the watches of a target on several servers are made: all that share an inbox and an
/// authority fall back together, and nothing else does with them (gRFC A71).
#[derive(Debug)]
pub(super) struct Scope {
    authority: Option<Box<str>>,
    inbox: mpsc::WeakUnboundedSender<Delivery>,
    commands: mpsc::WeakUnboundedSender<Command>,
}

/// A command of a watch.
#[derive(Debug)]
pub(super) enum Command {
    Watch(ResourceId),
    Unwatch(ResourceId),
}

/// The running side of a [`Scope`]; ends with its last watch.
struct Task {
    servers: Vec<Weak<Server>>,
    fallback: Fallback,
    inbox: Inbox,
    commands: mpsc::UnboundedReceiver<Command>,
    /// By server.
    news: Vec<(Inbox, mpsc::UnboundedReceiver<Delivery>)>,
    watches: HashMap<(usize, ResourceId), Watch>,
}

/// Why the task woke up.
enum Wake {
    Command(Option<Command>),
    News(usize, Delivery),
}

// === impl Scope ===

impl Scope {
    /// Starts a scope, and says where its commands go.
    pub(super) fn start(
        authority: Option<&str>,
        inbox: Inbox,
        servers: &[Arc<Server>],
        on_reachability_only: bool,
        runtime: &tokio::runtime::Handle,
    ) -> (Self, mpsc::UnboundedSender<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let scope = Self {
            authority: authority.map(Box::from),
            inbox: inbox.downgrade(),
            commands: commands.downgrade(),
        };
        let task = Task {
            servers: servers.iter().map(Arc::downgrade).collect(),
            fallback: Fallback::new(servers.len(), on_reachability_only),
            inbox,
            commands: receiver,
            news: servers.iter().map(|_| mpsc::unbounded_channel()).collect(),
            watches: HashMap::new(),
        };
        runtime.spawn(task.run());
        (scope, commands)
    }

    /// Its commands, if it is that of `authority` and `inbox`; `Err` if it has ended.
    pub(super) fn find(
        &self,
        authority: Option<&str>,
        inbox: &Inbox,
    ) -> Result<Option<mpsc::UnboundedSender<Command>>, Ended> {
        let (Some(commands), Some(own)) = (self.commands.upgrade(), self.inbox.upgrade()) else {
            return Err(Ended);
        };
        let same = self.authority.as_deref() == authority && own.same_channel(inbox);
        Ok(same.then_some(commands))
    }
}

/// A scope without watches.
pub(super) struct Ended;

/// A watch of `id` through the scope of `commands`.
pub(super) fn watch(commands: mpsc::UnboundedSender<Command>, id: ResourceId) -> Watch {
    // Without the task there is no runtime, and nobody to be told.
    let _ = commands.send(Command::Watch(id.clone()));
    Watch::new(move || {
        let _ = commands.send(Command::Unwatch(id));
    })
}

// === impl Task ===

impl Task {
    async fn run(mut self) {
        loop {
            match self.next().await {
                Wake::Command(None) => return,
                Wake::Command(Some(command)) => {
                    let actions = match &command {
                        Command::Watch(id) => self.fallback.watch(id),
                        Command::Unwatch(id) => self.fallback.unwatch(id),
                    };
                    self.act(actions, &Processed::default());
                }
                Wake::News(server, delivery) => {
                    let Delivery {
                        id,
                        event,
                        processed,
                    } = delivery;
                    let actions = self.fallback.news(server, &id, event);
                    self.act(actions, &processed);
                }
            }
        }
    }

    async fn next(&mut self) -> Wake {
        poll_fn(|cx| {
            if let Poll::Ready(command) = self.commands.poll_recv(cx) {
                return Poll::Ready(Wake::Command(command));
            }
            for (server, (_, news)) in self.news.iter_mut().enumerate() {
                // Never closed: its sender is beside it.
                if let Poll::Ready(Some(delivery)) = news.poll_recv(cx) {
                    return Poll::Ready(Wake::News(server, delivery));
                }
            }
            Poll::Pending
        })
        .await
    }

    fn act(&mut self, actions: Vec<Action>, processed: &Processed) {
        for action in actions {
            match action {
                Action::Ask(server, id) => {
                    // Without the client, nobody is asked any more.
                    if let Some(asked) = self.servers[server].upgrade() {
                        let watch = asked.watch(id.clone(), self.news[server].0.clone());
                        self.watches.insert((server, id), watch);
                    }
                }
                Action::Leave(server, id) => {
                    self.watches.remove(&(server, id));
                }
                Action::Tell(id, event) => {
                    // A target that no longer listens has nothing to process.
                    let _ = self.inbox.send(Delivery {
                        id,
                        event,
                        processed: processed.clone(),
                    });
                }
            }
        }
    }
}
