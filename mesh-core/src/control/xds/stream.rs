//! The stream to one control plane: moves messages between the state machine and the world.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    future::pending,
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use http::HeaderMap;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    ads::{Ads, Input, Output, Reporter, WatcherId},
    dump::ConfigDump,
    server::ServerStatus,
};
use crate::{
    bootstrap::ServerConfig,
    config::ResourceId,
    control::{Delivery, Inbox, Processed},
    runtime::{Limits, Messages, RpcStatus, SideCall, SideCallError, SideCallFuture},
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
struct Io {
    server: ServerConfig,
    limits: Limits,
    calls: Arc<dyn SideCall>,
    commands: mpsc::UnboundedReceiver<Command>,
    link: Link,
    /// Waits for room on the stream.
    unsent: Option<Bytes>,
    reading: bool,
    gate: Gate,
}

enum Link {
    Closed,
    Opening(SideCallFuture),
    Open(Messages),
}

/// Counts the deliveries of a response that are not yet processed: `None` of the receiver says
/// that all are.
#[derive(Default)]
struct Gate {
    open: Option<(mpsc::Sender<Infallible>, mpsc::Receiver<Infallible>)>,
    closing: Option<mpsc::Receiver<Infallible>>,
}

/// Why the task woke up.
enum Wake {
    Command(Command),
    Dropped,
    Opened(Result<Messages, SideCallError>),
    /// There was room for the unsent message, or nobody to take it.
    Sent,
    Read(Option<Result<Bytes, RpcStatus>>),
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
                server,
                limits,
                calls,
                commands,
                link: Link::Closed,
                unsent: None,
                reading: false,
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
                Wake::Opened(Ok(messages)) => {
                    self.io.link = Link::Open(messages);
                    self.handle(Input::Connected);
                }
                Wake::Opened(Err(error)) => {
                    self.io.link = Link::Closed;
                    self.handle(Input::ConnectFailed(error.to_string()));
                }
                Wake::Sent => self.handle(Input::Sent),
                Wake::Read(Some(Ok(message))) => self.handle(Input::Received {
                    message,
                    at: SystemTime::now(),
                }),
                Wake::Read(Some(Err(status))) => {
                    self.io.close();
                    self.handle(Input::Closed(Some(status)));
                }
                Wake::Read(None) => {
                    self.io.close();
                    self.handle(Input::Closed(None));
                }
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
                Output::Connect => self.io.open(self.ads.path()),
                Output::Close => self.io.close(),
                Output::Send(message) => {
                    if self.io.try_send(message) {
                        self.handle(Input::Sent);
                    }
                }
                Output::Read => self.io.reading = true,
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
    fn open(&mut self, path: &'static str) {
        self.link =
            Link::Opening(
                self.calls
                    .stream(&self.server, path, HeaderMap::new(), self.limits),
            );
    }

    fn close(&mut self) {
        self.link = Link::Closed;
        self.unsent = None;
        self.reading = false;
    }

    /// Sends `message` if there is room, and keeps it for later otherwise.
    fn try_send(&mut self, message: Bytes) -> bool {
        let Link::Open(messages) = &self.link else {
            return false;
        };
        match messages.send.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(message)) => {
                self.unsent = Some(message);
                false
            }
            // The end of the stream is about to be read.
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// The next thing that happens. Loses nothing when it is dropped.
    async fn next(&mut self, wake_at: Option<Instant>) -> Wake {
        let (sender, receiver, opening) = match &mut self.link {
            Link::Closed => (None, None, None),
            Link::Opening(opening) => (None, None, Some(opening)),
            Link::Open(Messages { send, recv }) => (Some(&*send), Some(recv), None),
        };
        let (unsent, reading) = (&mut self.unsent, &mut self.reading);
        tokio::select! {
            biased;
            command = self.commands.recv() => command.map_or(Wake::Dropped, Wake::Command),
            Some(result) = maybe(opening) => Wake::Opened(result),
            () = send(sender, unsent) => Wake::Sent,
            message = read(receiver, reading) => Wake::Read(message),
            () = self.gate.closed() => Wake::Processed,
            () = sleep(wake_at) => Wake::Timer,
        }
    }
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io")
            .field("server", &self.server.uri)
            .finish_non_exhaustive()
    }
}

/// Ready with `None` never, so that its arm is as good as absent.
async fn maybe(future: Option<&mut SideCallFuture>) -> Option<Result<Messages, SideCallError>> {
    match future {
        Some(future) => Some(future.await),
        None => pending().await,
    }
}

async fn send(sender: Option<&mpsc::Sender<Bytes>>, unsent: &mut Option<Bytes>) {
    let (Some(sender), true) = (sender, unsent.is_some()) else {
        return pending().await;
    };
    match sender.reserve().await {
        Ok(permit) => {
            if let Some(message) = unsent.take() {
                permit.send(message);
            }
        }
        // The end of the stream is about to be read.
        Err(_) => pending().await,
    }
}

async fn read(
    receiver: Option<&mut mpsc::Receiver<Result<Bytes, RpcStatus>>>,
    reading: &mut bool,
) -> Option<Result<Bytes, RpcStatus>> {
    match receiver {
        Some(receiver) if *reading => {
            let message = receiver.recv().await;
            *reading = false;
            message
        }
        _ => pending().await,
    }
}

async fn sleep(until: Option<Instant>) {
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
