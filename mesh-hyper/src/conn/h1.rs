//! The HTTP/1.1 connections to one endpoint: a request at a time on each, never pipelined.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hyper::{body::Incoming, client::conn::http1::SendRequest};
use mesh_core::config::Address;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    drive::Stopper,
    error::SendError,
    hop::{self, Original},
    streams::{StreamGuard, Streams},
};
use crate::body::Outgoing;

/// The HTTP/1.1 connections to one endpoint, and the requests that wait for one.
pub(super) struct Http1Connections {
    /// Connections that may be open or under way.
    limit: usize,
    /// Requests that may wait.
    max_pending: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The last attempt did not fail: connections are dialled on demand.
    up: bool,
    retired: bool,
    /// The one used last is taken first.
    idle: Vec<Arc<Connection>>,
    /// Those that take requests, idle or not.
    serving: Vec<Arc<Connection>>,
    /// All that are open.
    open: usize,
    /// Attempts under way.
    dialing: usize,
    waiters: VecDeque<oneshot::Sender<Answer>>,
}

/// What a request that waits gets: a connection, or why none could be made.
pub(super) type Answer = Result<Lease, Arc<str>>;

/// A connection, as its driver and its requests share it.
pub(super) struct Connection {
    pub(super) streams: Arc<Streams>,
    pub(super) stopper: Stopper,
    list: Arc<Http1Connections>,
    slot: Mutex<Slot>,
    /// Takes no more requests. Set under the list's lock.
    leaving: AtomicBool,
    /// And nobody has it any more.
    free: AtomicBool,
}

struct Slot {
    /// `None` once the connection is to be closed.
    sender: Option<SendRequest<Outgoing>>,
    /// A request was sent, and hyper is not ready for another.
    busy: bool,
}

/// A connection for one request. It goes back if none is sent.
pub(super) struct Lease(Option<Arc<Connection>>);

/// A connection attempt, counted until it is over.
pub(super) struct Dialing(Option<Arc<Http1Connections>>);

/// Where a request goes.
pub(super) enum Claim {
    Connection(Lease),
    /// It waits. Another connection may be wanted.
    Wait(oneshot::Receiver<Answer>),
    /// As many wait as may.
    Overflow,
    /// The endpoint is not connected to.
    Down,
}

// === impl Http1Connections ===

impl Http1Connections {
    pub(super) fn new(limit: usize, max_pending: usize) -> Self {
        Self {
            limit: limit.max(1),
            max_pending,
            inner: Mutex::default(),
        }
    }

    /// Connections that take requests.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().serving.len()
    }

    /// Whether connections are dialled on demand.
    pub(super) fn is_up(&self) -> bool {
        self.inner.lock().up
    }

    pub(super) fn max_pending(&self) -> usize {
        self.max_pending
    }

    /// The idle connection used last, or a place among those that wait.
    pub(super) fn claim(&self) -> Claim {
        let mut inner = self.inner.lock();
        if !inner.up {
            return Claim::Down;
        }
        while let Some(connection) = inner.idle.pop() {
            // Its driver sees to one that is closed.
            if !connection.is_closed() {
                return Claim::Connection(Lease(Some(connection)));
            }
        }
        inner.forget_gone();
        if inner.waiters.len() >= self.max_pending {
            inner.waiters.retain(|waiter| !waiter.is_closed());
            if inner.waiters.len() >= self.max_pending {
                return Claim::Overflow;
            }
        }
        let (waiter, answer) = oneshot::channel();
        inner.waiters.push_back(waiter);
        Claim::Wait(answer)
    }

    /// An attempt, if there are more that wait than attempts, and the limit allows it.
    pub(super) fn wanted(self: &Arc<Self>) -> Option<Dialing> {
        let mut inner = self.inner.lock();
        inner.forget_gone();
        let wanted = inner.up
            && inner.dialing < inner.waiters.len()
            && inner.open + inner.dialing < self.limit;
        wanted.then(|| {
            inner.dialing += 1;
            Dialing(Some(Arc::clone(self)))
        })
    }

    /// The attempt that finds out whether the endpoint can be connected to.
    pub(super) fn first(self: &Arc<Self>) -> Dialing {
        self.inner.lock().dialing += 1;
        Dialing(Some(Arc::clone(self)))
    }

    /// Whether the endpoint counts as one that cannot be connected to now: nothing is open, nor
    /// under way. Those that waited are to be told.
    pub(super) fn go_down(&self) -> Option<VecDeque<oneshot::Sender<Answer>>> {
        let mut inner = self.inner.lock();
        if !inner.serving.is_empty() || inner.dialing > 0 {
            return None;
        }
        inner.up = false;
        Some(std::mem::take(&mut inner.waiters))
    }

    /// Whoever waits longest, after an attempt has failed while others are open or under way: if no
    /// attempt is left for it, it would wait for the end of a request that need not end.
    pub(super) fn left_over(&self) -> Option<oneshot::Sender<Answer>> {
        let mut inner = self.inner.lock();
        inner.waiters.retain(|waiter| !waiter.is_closed());
        match inner.waiters.len() > inner.dialing {
            true => inner.waiters.pop_front(),
            false => None,
        }
    }

    /// HTTP/2 takes its place: those that waited are given back.
    pub(super) fn give_way(&self) {
        let mut inner = self.inner.lock();
        inner.up = false;
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        drop(waiters);
    }

    /// No more requests; all connections close once they are idle.
    pub(super) fn retire(&self) {
        let mut inner = self.inner.lock();
        inner.retired = true;
        inner.up = false;
        let waiters = std::mem::take(&mut inner.waiters);
        let connections = inner.serving.clone();
        drop(inner);
        drop(waiters);
        for connection in connections {
            connection.stopper.stop();
        }
    }
}

impl Inner {
    /// Forgets those of the front that wait no more.
    fn forget_gone(&mut self) {
        while self.waiters.front().is_some_and(oneshot::Sender::is_closed) {
            self.waiters.pop_front();
        }
    }

    fn unlist(&mut self, connection: &Arc<Connection>) -> bool {
        let is = |other: &Arc<Connection>| Arc::ptr_eq(other, connection);
        if let Some(at) = self.serving.iter().position(is) {
            self.serving.swap_remove(at);
        }
        let idle = self.idle.iter().position(is);
        if let Some(at) = idle {
            // The order tells who was used last.
            self.idle.remove(at);
        }
        idle.is_some()
    }
}

// === impl Connection ===

impl Connection {
    /// Offers the connection to who waits longest, or to whoever comes.
    pub(super) fn give_back(self: Arc<Self>) {
        let list = Arc::clone(&self.list);
        let mut inner = list.inner.lock();
        if self.leaving.load(Ordering::SeqCst) {
            drop(inner);
            self.free.store(true, Ordering::SeqCst);
            // Its driver looks.
            self.stopper.stop();
            return;
        }
        let mut lease = Lease(Some(self));
        while let Some(waiter) = inner.waiters.pop_front() {
            let Err(Ok(back)) = waiter.send(Ok(lease)) else {
                return;
            };
            lease = back;
        }
        inner.idle.extend(lease.0.take());
    }

    /// No more requests on it. See [`is_free`](Self::is_free).
    pub(super) fn leave(self: &Arc<Self>) {
        let mut inner = self.list.inner.lock();
        self.leaving.store(true, Ordering::SeqCst);
        if inner.unlist(self) {
            self.free.store(true, Ordering::SeqCst);
        }
    }

    /// Whether it left and nobody has it any more.
    pub(super) fn is_free(&self) -> bool {
        self.free.load(Ordering::SeqCst)
    }

    /// The request it had is over, and it takes no other.
    pub(super) fn set_free(&self) {
        self.free.store(true, Ordering::SeqCst);
    }

    /// It is closed.
    pub(super) fn close(self: &Arc<Self>) {
        let mut inner = self.list.inner.lock();
        self.leaving.store(true, Ordering::SeqCst);
        inner.unlist(self);
        inner.open -= 1;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.slot.lock().busy
    }

    /// Whether hyper, which was busy, is ready for another request. To be asked by who polls it.
    pub(super) fn has_finished(&self) -> bool {
        let mut slot = self.slot.lock();
        let ready = slot.sender.as_ref().is_some_and(SendRequest::is_ready);
        if ready {
            slot.busy = false;
        }
        ready
    }

    /// Has hyper close it; false if it knows already.
    pub(super) fn hang_up(&self) -> bool {
        self.slot.lock().sender.take().is_some()
    }

    fn is_closed(&self) -> bool {
        let slot = self.slot.lock();
        slot.sender.as_ref().is_none_or(SendRequest::is_closed)
    }
}

// === impl Lease ===

impl Lease {
    /// Sends `request`, which is in hyper's queue when this returns. Dropping the future closes the
    /// connection.
    pub(super) fn send(
        mut self,
        mut request: http::Request<Outgoing>,
    ) -> impl Future<Output = Result<(http::Response<Incoming>, StreamGuard), SendError>> + Send + use<>
    {
        let connection = self.0.take();
        let sent = connection.map(|connection| {
            let original = Original::dress(&mut request);
            let guard = connection.streams.begin_anyway();
            let mut slot = connection.slot.lock();
            // Under one lock: who sees it busy knows that the request is in the queue.
            slot.busy = true;
            match &mut slot.sender {
                Some(sender) => Ok((sender.try_send_request(request), guard, original)),
                None => {
                    original.undress(&mut request);
                    Err(SendError::unsent(guard.address().clone(), request))
                }
            }
        });
        async move {
            // A lease is taken once: there is a connection.
            let Some(sent) = sent else {
                std::future::pending().await
            };
            let (response, guard, original) = sent?;
            match response.await {
                Ok(mut response) => {
                    hop::strip_response(&mut response);
                    Ok((response, guard))
                }
                Err(failed) => {
                    let mut error = SendError::new(guard.address().clone(), failed);
                    if let Some(request) = error.request_mut() {
                        original.undress(request);
                    }
                    Err(error)
                }
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.give_back();
        }
    }
}

/// Needed where a channel's error holds one.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

// === impl Dialing ===

impl Dialing {
    /// It came about; `None` if the pool has been retired. Offer it next, with
    /// [`Connection::give_back`].
    pub(super) fn succeeded(
        mut self,
        sender: SendRequest<Outgoing>,
        address: Address,
    ) -> Option<Arc<Connection>> {
        let list = self.0.take()?;
        let mut inner = list.inner.lock();
        inner.dialing -= 1;
        if inner.retired {
            return None;
        }
        let connection = Arc::new(Connection {
            streams: Arc::new(Streams::new(address, u32::MAX, 0, Arc::default())),
            stopper: Stopper::apart(),
            list: Arc::clone(&list),
            slot: Mutex::new(Slot {
                sender: Some(sender),
                busy: false,
            }),
            leaving: AtomicBool::new(false),
            free: AtomicBool::new(false),
        });
        inner.up = true;
        inner.open += 1;
        inner.serving.push(Arc::clone(&connection));
        Some(connection)
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        if let Some(list) = self.0.take() {
            list.inner.lock().dialing -= 1;
        }
    }
}
