//! Connections that are accepted and secured here, and carried by a server loop that is not ours.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{BoxFuture, OptionFuture};
use mesh_core::{
    connections::{ConnectionHandle, Connections, Ending, Live, Order},
    resolve::Ends,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    ServingMode, Shared,
    follow::Follow,
    half_open::Ticket,
    listen::Acceptor,
    server::{Prepared, Teller},
    stream::Maybe,
    trust,
};
use crate::wrap::gate::{Gate, Gated};

/// Where secured connections come from. The port is closed when this is dropped; what was handed
/// over is watched for as long as it lives.
pub(crate) struct Handover {
    secured: mpsc::Receiver<HandedOver>,
    follow: Arc<Follow>,
    connections: Connections,
    address: SocketAddr,
    /// Dropped with this.
    _open: oneshot::Sender<Infallible>,
}

/// A connection whose handshake is done.
pub(crate) struct HandedOver {
    pub(crate) io: Gated<Maybe<TcpStream>>,
    pub(crate) connection: ConnectionHandle,
}

/// About 30 years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

// === impl Handover ===

impl Handover {
    /// Accepts from `listener` from now on, in a task of its own.
    pub(super) fn start(prepared: Prepared, listener: TcpListener, address: SocketAddr) -> Self {
        // As many that are secured wait to be taken as may be in their handshake.
        let most = prepared.shared.options.max_half_open.max(1);
        let (hand_over, secured) = mpsc::channel(most);
        let (open, closed) = oneshot::channel();
        let handover = Self {
            secured,
            follow: Arc::clone(&prepared.shared.follow),
            connections: prepared.shared.connections.clone(),
            address,
            _open: open,
        };
        tokio::spawn(run(prepared, listener, hand_over, closed));
        handover
    }

    /// The next connection; `None`: there will be no more, because the process drains.
    pub(crate) async fn next(&mut self) -> Option<HandedOver> {
        self.secured.recv().await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<HandedOver>> {
        self.secured.poll_recv(cx)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn follow(&self) -> &Arc<Follow> {
        &self.follow
    }

    pub(crate) fn mode(&self) -> ServingMode {
        match self.connections.is_draining() {
            true => ServingMode::Draining,
            false => self.follow.mode(),
        }
    }

    /// Waits until the process drains.
    pub(crate) fn drain_begun(&self) -> impl Future<Output = ()> + Send + use<> {
        let connections = self.connections.clone();
        async move { connections.drain_begun().await }
    }
}

/// The task of a listener: until it is dropped and all its connections have ended.
async fn run(
    prepared: Prepared,
    listener: TcpListener,
    hand_over: mpsc::Sender<HandedOver>,
    closed: oneshot::Receiver<Infallible>,
) {
    let Prepared {
        shared,
        watchers,
        overdue,
        teller,
        registration: _registration,
    } = prepared;
    let tell = |mode| teller.tell(mode);
    tell(shared.follow.mode());
    tokio::select! {
        biased;
        () = accept(&shared, Acceptor::new(listener), hand_over, closed, &teller) => {}
        never = shared.supervise(overdue, &tell) => match never {},
        () = trust::run(watchers) => {}
    }
}

async fn accept(
    shared: &Arc<Shared>,
    mut acceptor: Acceptor<TcpListener>,
    hand_over: mpsc::Sender<HandedOver>,
    mut closed: oneshot::Receiver<Infallible>,
    teller: &Teller,
) {
    let mut connections = JoinSet::new();
    let mut drained = pin!(shared.connections.drain_begun());
    let most = shared.options.max_connections.unwrap_or(usize::MAX).max(1);
    let mut is_full = false;
    loop {
        let next = async {
            // Nobody is turned away before it is known whether they are to be.
            shared.follow.settled().await;
            // Whoever takes none gets no more: those to come wait in the system's queue.
            drop(hand_over.reserve().await);
            acceptor.accept().await
        };
        let has_room = connections.len() < most;
        if !has_room && !is_full {
            tracing::warn!(
                connections = most,
                "no connection is accepted until another one ends (ServerOptions::max_connections)"
            );
        }
        is_full = !has_room;
        tokio::select! {
            _ = &mut closed => break,
            () = &mut drained => break,
            Some(_) = connections.join_next() => {}
            (io, ends) = next, if has_room => {
                let ticket = shared.half_open.enter(ends.peer.ip());
                let (shared, hand_over) = (Arc::clone(shared), hand_over.clone());
                connections.spawn(carry(shared, io, ends, ticket, hand_over));
            }
        }
    }
    drop(acceptor);
    drop(hand_over);
    teller.tell(ServingMode::Draining);
    shared.half_open.close();
    while connections.join_next().await.is_some() {}
}

/// One connection, from its first byte until whoever has it drops it.
async fn carry(
    shared: Arc<Shared>,
    io: TcpStream,
    ends: Ends,
    mut ticket: Ticket,
    hand_over: mpsc::Sender<HandedOver>,
) {
    let open = async {
        let (_, security, secured) = shared.secure(io, ends).await?;
        let config = secured.config.as_ref();
        let live = shared.register(secured.peer, &security, config).await?;
        Some((live, secured.io))
    };
    let opened = tokio::select! {
        biased;
        opened = open => opened,
        () = ticket.lost() => {
            tracing::debug!(peer = %ends.peer, "closed in its handshake to make room for others");
            return;
        }
    };
    drop(ticket);
    let Some((live, io)) = opened else { return };
    let (io, gate) = Gated::new(io);
    let connection = live.handle().clone();
    let handed = hand_over.send(HandedOver { io, connection });
    // If nobody takes it, it is dropped, and closed.
    if handed.await.is_err() {
        return;
    }
    drop(hand_over);
    watch(&shared, live, gate).await;
}

/// Closes a connection when it is to close, or has had its time to drain. Its bytes are nothing that
/// could be told to go away: that is up to who carries it.
async fn watch(shared: &Shared, mut live: Live, mut gate: Gate) {
    let never = Instant::now() + NEVER;
    let age = shared.options.max_connection_age;
    let mut age = age.and_then(|age| Instant::now().checked_add(age));
    let mut end: Option<Instant> = None;
    let mut distrusted: Option<BoxFuture<'_, ()>> = None;
    loop {
        let next = end.or(age).unwrap_or(never);
        let order = std::future::poll_fn(|cx| live.poll_order(cx));
        tokio::select! {
            biased;
            () = gate.dropped() => return,
            order = order => match order {
                Order::Drain(why, grace) => {
                    tracing::debug!(peer = ?live.handle().peer().address, %why, "a connection drains");
                    let over = Instant::now() + grace.min(NEVER);
                    end = Some(end.map_or(over, |earlier| earlier.min(over)));
                    age = None;
                    distrusted = Some(Box::pin(shared.distrusted(live.handle().clone())));
                }
                // To close, or what this version does not know: it cannot be right to go on.
                _ => {
                    gate.close(live.handle().ending().unwrap_or(Ending::Shutdown).to_string());
                    gate.dropped().await;
                    return;
                }
            },
            Some(()) = OptionFuture::from(distrusted.as_mut()) => distrusted = None,
            () = sleep_until(next) => match end.take() {
                Some(_) => {
                    let why = live.handle().ending().unwrap_or(Ending::Shutdown);
                    live.handle().order(Order::Close(why));
                }
                None => {
                    age = None;
                    // It may have been told to go meanwhile.
                    if live.handle().ending().is_none() {
                        let grace = shared.options.drain_grace;
                        live.handle().order(Order::Drain(Ending::Age, grace));
                    }
                }
            },
        }
    }
}
