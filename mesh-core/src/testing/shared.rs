//! What handles, streams and connections of one control plane have in common.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::Status;

use super::{
    Nack, Request,
    codec::{Answer, Codec, Protocol},
    loads::LoadState,
    providers::Providers,
    raw::RawStream,
    store::Store,
};

/// Requests that are remembered, and resource names in all of them.
const LOGGED_REQUESTS: usize = 10_000;
const LOGGED_NAMES: usize = 200_000;
/// Requests that are shown when a wait fails.
const SHOWN_REQUESTS: usize = 10;
/// How long waits go on by default.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    connections: AtomicUsize,
    /// Bytes of all responses.
    sent: AtomicU64,
    /// Streams look whether there is something to send.
    pub(super) work: watch::Sender<()>,
    /// Waiters look whether what they wait for has happened.
    pub(super) seen: watch::Sender<()>,
    /// All connections end.
    pub(super) cut: watch::Sender<()>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) providers: Providers,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) log: Log,
    pub(super) loads: LoadState,
    /// Nothing is sent.
    pub(super) held: bool,
    /// New streams are refused: stopped.
    pub(super) stopped: bool,
    /// Where new streams go in raw mode.
    pub(super) raw: Option<mpsc::UnboundedSender<RawStream>>,
    /// Bootstraps ask for the incremental protocol.
    pub(super) delta: bool,
    /// How long waits go on.
    pub(super) patience: Duration,
    pub(super) last_stream: u64,
}

/// An open stream that is served automatically.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) node: String,
    pub(super) codec: Codec,
    /// It is to end with this.
    pub(super) end: Option<Status>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) requests: VecDeque<Request>,
    pub(super) nacks: VecDeque<Nack>,
    names: usize,
}

/// What a stream is to do next.
#[derive(Debug)]
pub(super) enum Step {
    End(Status),
    Send,
    Wait,
}

impl Stream {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            node: String::new(),
            codec: Codec::new(protocol),
            end: None,
        }
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                store: Store::default(),
                providers: Providers::default(),
                streams: BTreeMap::new(),
                log: Log::default(),
                loads: LoadState::default(),
                held: false,
                stopped: false,
                raw: None,
                delta: super::codec::is_delta_by_default(),
                patience: PATIENCE,
                last_stream: 0,
            }),
            connections: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            work: watch::Sender::new(()),
            seen: watch::Sender::new(()),
            cut: watch::Sender::new(()),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Changes the state, then makes all streams look.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.work.send_replace(());
        self.seen.send_replace(());
        result
    }

    /// Resolves when a connection that is made now is to end.
    pub(super) fn cut(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut cut = self.cut.subscribe();
        // Whoever stops first says so and then cuts: one of the two is seen here.
        let stopped = self.state().stopped;
        async move {
            if !stopped {
                let _ = cut.changed().await;
            }
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        self.seen.send_replace(());
    }

    pub(super) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::SeqCst);
        self.seen.send_replace(());
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    pub(super) fn patience(&self) -> Duration {
        self.state().patience
    }

    /// Waits until `look` finds something in the state; panics when it has lasted too long.
    pub(super) async fn wait<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> T {
        self.wait_unlocked(what, || look(&mut self.state())).await
    }

    /// The same for a look that takes the lock itself.
    pub(super) async fn wait_unlocked<T>(
        &self,
        what: &str,
        mut look: impl FnMut() -> Option<T>,
    ) -> T {
        let patience = self.patience();
        let mut seen = self.seen.subscribe();
        let found = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                // The sender is in `self`: it is there as long as this wait.
                let _ = seen.changed().await;
            }
        };
        match timeout(patience, found).await {
            Ok(found) => found,
            Err(_) => panic!("waited {patience:?} for: {what}\n{}", self.describe()),
        }
    }

    fn describe(&self) -> String {
        let connections = self.connections();
        let state = self.state();
        let mut text = format!("seen: {connections} connections open");
        if state.stopped {
            text.push_str("; stopped");
        }
        if state.held {
            text.push_str("; everything is held back");
        }
        for (id, Stream { node, codec, .. }) in &state.streams {
            let _ = write!(text, "\n  stream {id} of node {node:?}{codec}");
        }
        let requests = &state.log.requests;
        let skipped = requests.len().saturating_sub(SHOWN_REQUESTS);
        let _ = write!(text, "\nlast requests of {}:", requests.len());
        for request in requests.iter().skip(skipped) {
            let _ = write!(text, "\n  {request}");
        }
        for nack in &state.log.nacks {
            let _ = write!(
                text,
                "\nnode {:?} rejected version {} of {}: {}",
                nack.node, nack.version, nack.type_url, nack.message
            );
        }
        text
    }

    pub(super) fn new_stream_id(&self) -> u64 {
        let mut state = self.state();
        state.last_stream += 1;
        state.last_stream
    }

    /// What stream `id` is to do.
    pub(super) fn step(&self, id: u64) -> Step {
        let mut state = self.state();
        let State {
            store,
            streams,
            held,
            ..
        } = &mut *state;
        match streams.get_mut(&id) {
            None => Step::End(Status::unavailable("the stream was closed")),
            Some(stream) => match stream.end.take() {
                Some(status) => Step::End(status),
                None if !*held && stream.codec.is_due(store, &stream.node) => Step::Send,
                None => Step::Wait,
            },
        }
    }

    /// Takes in a request of stream `id`.
    pub(super) fn request(&self, id: u64, message: &[u8]) -> Result<(), Status> {
        let mut state = self.state();
        let State { streams, log, .. } = &mut *state;
        if let Some(stream) = streams.get_mut(&id) {
            let protocol = stream.codec.protocol();
            let request = protocol.read(id, &stream.node, message)?;
            stream.node.clone_from(&request.node_id);
            if let (Answer::Nack { version }, Some(error)) =
                (stream.codec.request(&request), &request.error)
            {
                log.nacks.push_back(Nack {
                    node: request.node_id.clone(),
                    type_url: request.type_url.clone(),
                    kind: request.kind,
                    version,
                    nonce: request.nonce.clone(),
                    code: error.code,
                    message: error.message.clone(),
                });
            }
            log.push(request);
        }
        drop(state);
        self.seen.send_replace(());
        Ok(())
    }

    /// The next message to stream `id`, if one is due still.
    pub(super) fn respond(&self, id: u64) -> Option<Vec<u8>> {
        let response = {
            let mut state = self.state();
            let State {
                store,
                streams,
                held,
                ..
            } = &mut *state;
            let stream = streams.get_mut(&id).filter(|_| !*held)?;
            stream.codec.respond(store, &stream.node)
        };
        let bytes = response.as_ref().map_or(0, Vec::len);
        self.sent.fetch_add(bytes as u64, Ordering::SeqCst);
        // That nothing was new for the client is worth a look, too.
        self.seen.send_replace(());
        response
    }
}

impl Log {
    pub(super) fn push(&mut self, request: Request) {
        self.names += request.names.len();
        self.requests.push_back(request);
        while self.requests.len() > LOGGED_REQUESTS || self.names > LOGGED_NAMES {
            match self.requests.pop_front() {
                Some(old) => self.names -= old.names.len(),
                None => break,
            }
        }
        while self.nacks.len() > LOGGED_REQUESTS {
            self.nacks.pop_front();
        }
    }
}
