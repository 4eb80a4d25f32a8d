//! The stream to one control plane: moves messages between the state machine and the world.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    future::pending,
    sync::Arc,
    time::SystemTime,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    ads::{Ads, Input, Output, Reporter, WatcherId},
    dump::ConfigDump,
    pipe::{Moved, Pipe},
    server::ServerStatus,
};
use crate::{
    bootstrap::ServerConfig,
    config::ResourceId,
    control::{Delivery, Inbox, Processed},
    runtime::{Limits, SideCall},
};

/// What others want of a stream.
#[derive(Debug)]
pub(super) enum Command {
    /// Watch a resource.
    Watch {
        watcher: WatcherId,
        id: ResourceId,
        inbox: Inbox,
    },
    /// End a watch.
    Unwatch(WatcherId),
    /// Say what is known, of these resources or of all.
    Dump(
        Option<Arc<BTreeSet<ResourceId>>>,
        oneshot::Sender<ConfigDump>,
    ),
}

/// One control plane's task.
#[derive(Debug)]
pub(super) struct ServerStream {
    ads: Ads,
    inboxes: HashMap<WatcherId, Inbox>,
    status: watch::Sender<ServerStatus>,
    reporter: Reporter,
    io: Io,
}

/// What the task waits for, each part apart so that all can be waited for at once.
#[derive(Debug)]
struct Io {
    commands: mpsc::UnboundedReceiver<Command>,
    pipe: Pipe,
    gate: Gate,
}

/// Counts the deliveries of a response that are not yet processed: `None` of the receiver says
/// that all are.
#[derive(Debug, Default)]
struct Gate {
    open: Option<(mpsc::Sender<Infallible>, mpsc::Receiver<Infallible>)>,
    closing: Option<mpsc::Receiver<Infallible>>,
}

/// Why the task woke up.
enum Wake {
    Command(Command),
    Dropped,
    Moved(Moved),
    Processed,
    Timer,
}

// === impl ServerStream ===

impl ServerStream {
    /// A task that is to be run; nothing happens before that.
    pub(super) fn new(
        ads: Ads,
        server: ServerConfig,
        limits: Limits,
        calls: Arc<dyn SideCall>,
        commands: mpsc::UnboundedReceiver<Command>,
        status: watch::Sender<ServerStatus>,
    ) -> Self {
        Self {
            reporter: Reporter::new(ads.identity().clone()),
            ads,
            inboxes: HashMap::new(),
            status,
            io: Io {
                commands,
                pipe: Pipe::new(server, limits, calls),
                gate: Gate::default(),
            },
        }
    }

    /// Runs until nobody is left to send commands.
    pub(super) async fn run(mut self) {
        loop {
            match self.io.next(self.ads.wake_at()).await {
                Wake::Dropped => return,
                Wake::Command(command) => {
                    self.command(command);
                    // Watches that begin together go into one request.
                    while let Ok(command) = self.io.commands.try_recv() {
                        self.command(command);
                    }
                }
                Wake::Moved(moved) => self.handle(match moved {
                    Moved::Opened(Ok(())) => Input::Connected,
                    Moved::Opened(Err(error)) => Input::ConnectFailed(error.to_string()),
                    Moved::Sent => Input::Sent,
                    Moved::Read(message) => Input::Received {
                        message,
                        at: SystemTime::now(),
                    },
                    Moved::Ended(status) => Input::Closed(status),
                }),
                Wake::Processed => self.handle(Input::Processed),
                Wake::Timer => self.handle(Input::Timer),
            }
            self.act();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Watch { watcher, id, inbox } => {
                self.inboxes.insert(watcher, inbox);
                self.handle(Input::Watch { watcher, id });
            }
            Command::Unwatch(watcher) => {
                self.inboxes.remove(&watcher);
                self.handle(Input::Unwatch(watcher));
            }
            // Whoever asked may be gone.
            Command::Dump(of, reply) => drop(reply.send(match of {
                Some(of) => self.ads.dump_of(&of),
                None => self.ads.dump(),
            })),
        }
    }

    fn handle(&mut self, input: Input) {
        self.ads.handle(input, Instant::now());
    }

    /// Does what the state machine says until it has no more to say.
    fn act(&mut self) {
        while let Some(output) = self.ads.poll() {
            match output {
                Output::Connect => self.io.pipe.open(self.ads.path()),
                Output::Close => self.io.pipe.close(),
                Output::Send(message) => {
                    if self.io.pipe.try_send(message) {
                        self.handle(Input::Sent);
                    }
                }
                Output::Read => self.io.pipe.read(),
                Output::Deliver {
                    watcher,
                    id,
                    event,
                    gated,
                } => {
                    let processed = if gated {
                        self.io.gate.token()
                    } else {
                        Processed::default()
                    };
                    if let Some(inbox) = self.inboxes.get(&watcher) {
                        // A watcher that no longer listens has nothing to process.
                        let _ = inbox.send(Delivery {
                            id,
                            event,
                            processed,
                        });
                    }
                }
                Output::AwaitProcessed => self.io.gate.close(),
                Output::Notice(notice) => self.reporter.report(&notice, Instant::now()),
            }
        }
        let status = self.ads.status();
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }
}

// === impl Io ===

impl Io {
    /// The next thing that happens. Loses nothing when it is dropped.
    async fn next(&mut self, wake_at: Option<Instant>) -> Wake {
        tokio::select! {
            biased;
            command = self.commands.recv() => command.map_or(Wake::Dropped, Wake::Command),
            moved = self.pipe.next() => Wake::Moved(moved),
            () = self.gate.closed() => Wake::Processed,
            () = sleep(wake_at) => Wake::Timer,
        }
    }
}

/// Never, where nothing is to be waited for.
pub(super) async fn sleep(until: Option<Instant>) {
    match until {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

// === impl Gate ===

impl Gate {
    /// One more delivery to be processed.
    fn token(&mut self) -> Processed {
        let (sender, _) = self.open.get_or_insert_with(|| mpsc::channel(1));
        Processed::new(sender.clone())
    }

    /// No more deliveries of this response.
    fn close(&mut self) {
        // Without any delivery, the sender is dropped at once, and all are processed.
        let (_, receiver) = self.open.take().unwrap_or_else(|| mpsc::channel(1));
        self.closing = Some(receiver);
    }

    /// All deliveries are processed.
    async fn closed(&mut self) {
        match &mut self.closing {
            Some(receiver) => {
                // Nothing can be sent, so this is the end.
                receiver.recv().await;
                self.closing = None;
            }
            None => pending().await,
        }
    }
}
