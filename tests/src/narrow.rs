//! A server's words, byte by byte.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// How long a test waits for a byte before it panics.
const PATIENCE: Duration = Duration::from_secs(20);

/// In front of a server, on a loopback port that the system chose: passes on all that clients say,
/// and what the server says as far as the test lets it. Open to begin with. Ends, with its
/// connections, when it is dropped.
#[derive(Debug)]
pub struct Narrow {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// Bytes that may pass; `None`: all.
    room: Option<u64>,
    /// Bytes that wait for room.
    waiting: u64,
    /// How often all connections were cut.
    cuts: u64,
}

// === impl Narrow ===

impl Narrow {
    /// In front of `server`.
    ///
    /// # Panics
    /// If loopback has no port to give.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("loopback has a port to give");
        let address = listener.local_addr().expect("it is bound");
        let state = watch::Sender::new(State {
            room: None,
            waiting: 0,
            cuts: 0,
        });
        let task = tokio::spawn(accept(listener, server, state.clone()));
        Self {
            address,
            state,
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes all on, from here on.
    pub fn open(&self) {
        self.state.send_modify(|state| state.room = None);
    }

    /// Passes nothing on, from here on.
    pub fn close(&self) {
        self.state.send_modify(|state| state.room = Some(0));
    }

    /// Waits until a byte of the server waits, and passes it on alone. Only while it is
    /// [closed](Self::close).
    ///
    /// # Panics
    /// If none comes within 20 s.
    pub async fn pass_one(&self) {
        let mut state = self.state.subscribe();
        let passed = async {
            // The sender is in `self`.
            let _ = state.wait_for(|state| state.waiting > 0).await;
            self.state.send_modify(|state| state.room = Some(1));
            let _ = state.wait_for(|state| state.room != Some(1)).await;
        };
        if timeout(PATIENCE, passed).await.is_err() {
            panic!("the server said nothing for {PATIENCE:?}");
        }
    }

    /// Ends all connections, with what waits in them.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: watch::Sender<State>) {
    // Aborted with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            // A byte that passes is to arrive.
            let _ = client.set_nodelay(true);
            let (mut client_says, client) = client.into_split();
            let (server_says, mut server) = server.into_split();
            let mut changes = state.subscribe();
            let cuts = changes.borrow().cuts;
            // What it returns holds a lock, which must not outlast it.
            let cut = async { drop(changes.wait_for(|state| state.cuts > cuts).await) };
            // However it ends, both sides are closed.
            tokio::select! {
                _ = copy(&mut client_says, &mut server) => {}
                () = pass(server_says, client, &state) => {}
                () = cut => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What the server says.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &watch::Sender<State>) {
    let mut buffer = [0; 4096];
    let mut changes = state.subscribe();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut rest = &buffer[..read];
        let mut waiting = Waiting::new(state, rest.len() as u64);
        while !rest.is_empty() {
            let room = match changes.wait_for(|state| state.room != Some(0)).await {
                Ok(now) => now.room.unwrap_or(u64::MAX),
                Err(_) => return,
            };
            let room = room.min(rest.len() as u64);
            let (passes, waits) = rest.split_at(room as usize);
            if to.write_all(passes).await.is_err() {
                return;
            }
            rest = waits;
            waiting.passed(room);
        }
    }
}

/// Bytes that wait: given up with their connection.
struct Waiting<'a> {
    state: &'a watch::Sender<State>,
    bytes: u64,
}

impl<'a> Waiting<'a> {
    fn new(state: &'a watch::Sender<State>, bytes: u64) -> Self {
        state.send_modify(|state| state.waiting += bytes);
        Self { state, bytes }
    }

    fn passed(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.state.send_modify(|state| {
            state.waiting -= bytes;
            state.room = state.room.map(|room| room.saturating_sub(bytes));
        });
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.state.send_modify(|state| state.waiting -= self.bytes);
    }
}
