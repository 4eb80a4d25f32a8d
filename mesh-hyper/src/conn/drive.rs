//! hyper's half of a connection and h2's, driven by one task.
//!
//! hyper spawns what moves the frames and leaves to the caller what takes requests from the queue.
//! Apart, each request wakes one task that wakes the other, and the one that takes requests does
//! not hear of a GOAWAY before the next of them. Together, they cost one wake-up, and SETTINGS,
//! GOAWAY and the end of the connection are seen in the poll that reads them.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{
    corked::{Cork, Corked},
    dial::Stream,
    exec::{self, Exec, StreamFutures, Task},
    frames::Watched,
    idle::Idle,
    streams::Streams,
    wakes::Wakes,
};
use crate::body::Outgoing;

/// What is set for an HTTP/2 connection. All else is as hyper has it: no adaptive window, frames of
/// 16 KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Http2 {
    /// Bytes; `None`: 2 MiB.
    pub(crate) stream_window: Option<u32>,
    /// Bytes; `None`: 5 MiB.
    pub(crate) connection_window: Option<u32>,
    /// PINGs while streams are open: how often, and how long an answer may take.
    pub(crate) keepalive: Option<(Duration, Duration)>,
    /// Bytes of a response's headers at most; `None`: 16 KiB (gRPC's hard limit too).
    pub(crate) max_headers: Option<u32>,
}

/// Moves a connection. Does nothing unless polled.
pub(crate) struct Driver {
    /// Takes requests; gone once the connection takes no more.
    client: Option<Client>,
    /// Moves frames; gone once the connection is closed.
    conn: Option<Task>,
    /// Send bodies and wait for responses.
    streams: StreamFutures,
    cork: Cork,
    /// Why `client` is gone, until it is asked for.
    ended: Option<Ended>,
    /// The peer's limit of streams, or [`NO_SETTINGS`].
    limit: usize,
    /// SETTINGS or GOAWAY came.
    news: Arc<AtomicBool>,
    wakes: Arc<Wakes>,
    wakers: Wakers,
}

/// Why a connection takes no more streams.
#[derive(Debug)]
pub(crate) enum Ended {
    /// [`Stopper::stop`].
    Stopped,
    /// No stream for the idle timeout.
    Idle,
    /// It has taken as many requests as it may.
    Spent,
    /// The peer sent GOAWAY.
    GoAway,
    /// The peer closed the connection.
    Closed,
    /// What drove it is gone: a panic, or the end of its runtime.
    Lost,
    /// It broke.
    Broken(hyper::Error),
}

/// Ends [`Driver::serve`] from elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Stopper(Arc<Wakes>);

type Client = http2::Connection<TokioIo<Corked<Watched>>, Outgoing, Exec>;

struct Wakers {
    client: Waker,
    conn: Waker,
    idle: Waker,
}

/// What the limit of streams is before the peer's SETTINGS: a value that those cannot set, neither
/// by a limit (32 bits) nor by having none (`usize::MAX`).
const NO_SETTINGS: usize = usize::MAX - 1;

const CLIENT: u8 = 1;
const CONN: u8 = 2;
const IDLE: u8 = 4;
const STOP: u8 = 8;
const STREAMS: u8 = 16;

/// Starts HTTP/2 on `io`. Await [`Driver::settings`] before use: nothing is known of the peer yet.
pub(crate) async fn handshake(
    io: Stream,
    options: &Http2,
) -> hyper::Result<(http2::SendRequest<Outgoing>, Driver)> {
    let wakes = Wakes::new(CLIENT | CONN);
    let (exec, streams) = exec::channel(&wakes, STREAMS);
    let mut builder = http2::Builder::new(exec);
    builder
        .timer(TokioTimer::new())
        .adaptive_window(false)
        .initial_stream_window_size(options.stream_window.map(window))
        .initial_connection_window_size(options.connection_window.map(window))
        .initial_max_send_streams(NO_SETTINGS);
    if let Some(max_headers) = options.max_headers {
        builder.max_header_list_size(max_headers);
    }
    if let Some((interval, timeout)) = options.keepalive {
        builder
            .keep_alive_interval(interval)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(false);
    }
    let news = Arc::new(AtomicBool::new(false));
    let cork = Cork::default();
    let io = Corked::new(Watched::new(io, Arc::clone(&news)), cork.clone());
    let (sender, client) = builder.handshake(TokioIo::new(io)).await?;
    let driver = Driver {
        client: Some(client),
        conn: streams.connection(),
        streams,
        cork,
        ended: None,
        limit: NO_SETTINGS,
        news,
        wakers: Wakers {
            client: wakes.waker(CLIENT),
            conn: wakes.waker(CONN),
            idle: wakes.waker(IDLE),
        },
        wakes,
    };
    Ok((sender, driver))
}

/// HTTP/2 has no larger one (RFC 9113 section 6.9.1).
fn window(size: u32) -> u32 {
    size.min(i32::MAX as u32)
}

// === impl Driver ===

impl Driver {
    /// Waits for the peer's SETTINGS; the peer's limit of streams. `Err` if the connection ends
    /// before.
    pub(crate) async fn settings(&mut self) -> Result<u32, Ended> {
        poll_fn(|cx| {
            self.poll_with(cx, |driver, _| match driver.ended.take() {
                Some(ended) => Poll::Ready(Err(ended)),
                None if driver.limit == NO_SETTINGS => Poll::Pending,
                None => Poll::Ready(Ok(clamp(driver.limit))),
            })
        })
        .await
    }

    /// Moves the connection until it takes no more streams.
    pub(super) async fn serve(&mut self, streams: &Streams, idle: Option<Duration>) -> Ended {
        let mut limit = self.limit;
        let mut idle = idle.map(|timeout| Idle::new(timeout, streams));
        self.look_again();
        poll_fn(|cx| {
            self.poll_with(cx, |driver, raised| {
                if let Some(ended) = driver.ended.take() {
                    return Poll::Ready(ended);
                }
                if limit != driver.limit {
                    limit = driver.limit;
                    streams.set_limit(clamp(limit));
                }
                if raised & STOP != 0 {
                    return Poll::Ready(Ended::Stopped);
                }
                if raised & IDLE != 0
                    && let Some(idle) = &mut idle
                    && idle.poll(&driver.wakers.idle, streams).is_ready()
                {
                    return Poll::Ready(Ended::Idle);
                }
                Poll::Pending
            })
        })
        .await
    }

    /// Moves the connection until it is closed, which it is once nobody can send on it and no
    /// stream is open.
    pub(crate) async fn finish(&mut self) {
        self.look_again();
        poll_fn(|cx| {
            self.poll_with(cx, |driver, _| match driver.conn {
                Some(_) => Poll::Pending,
                None => Poll::Ready(()),
            })
        })
        .await;
        // They have yet to hear that the connection is gone.
        self.streams.disperse();
    }

    pub(super) fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.wakes))
    }

    /// Polls what wants to be, then `look`s, with what was raised, at what became of it.
    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&mut Self, u8) -> Poll<T>,
    ) -> Poll<T> {
        self.wakes.begin(cx);
        let raised = self.wakes.take(u8::MAX);
        let mut result = Poll::Pending;
        if raised != 0 {
            self.poll_parts(raised);
            result = look(self, raised);
        }
        // What has been raised since is left to the next poll: so requests gather, and a part that
        // wakes itself yields to other tasks.
        if self.wakes.end() && result.is_pending() {
            cx.waker().wake_by_ref();
        }
        result
    }

    /// Has the next poll look, even if nothing is raised.
    fn look_again(&self) {
        self.wakes.raise_silently(IDLE);
    }

    /// What was read comes before what is to be sent: a request that is still queued when the
    /// connection turns out to be gone can be given back.
    fn poll_parts(&mut self, raised: u8) {
        if raised & CONN != 0 {
            self.poll_conn();
        }
        if raised & CLIENT != 0 {
            self.poll_client();
        }
        // Responses that came, bodies of requests that were taken.
        if (raised | self.wakes.take(STREAMS)) & STREAMS != 0 {
            self.streams.run();
        }
        if raised & CLIENT != 0 && self.wakes.take(CONN) != 0 {
            // The streams of the requests that were just taken are opened, then their bodies can
            // be sent: both leave together.
            self.cork.put();
            self.poll_conn();
            if self.wakes.take(STREAMS) != 0 {
                self.streams.run();
            }
            self.cork.pull();
            self.wakes.take(CONN);
            self.poll_conn();
        }
    }

    fn poll_conn(&mut self) {
        let Some(conn) = &mut self.conn else {
            return;
        };
        let mut cx = Context::from_waker(&self.wakers.conn);
        if conn.as_mut().poll(&mut cx).is_ready() {
            self.conn = None;
        } else if !self.news.load(Ordering::Relaxed) {
            return;
        }
        self.news.store(false, Ordering::Relaxed);
        // It has no other way to hear of a GOAWAY.
        self.poll_client();
        if let Some(client) = &self.client {
            self.limit = client.current_max_send_streams();
        }
    }

    fn poll_client(&mut self) {
        let Some(client) = &mut self.client else {
            return;
        };
        let mut cx = Context::from_waker(&self.wakers.client);
        if let Poll::Ready(result) = pin!(client).poll(&mut cx) {
            self.client = None;
            self.ended = Some(match result {
                Ok(()) if self.conn.is_some() => Ended::GoAway,
                Ok(()) => Ended::Closed,
                Err(error) => Ended::Broken(error),
            });
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("takes_requests", &self.client.is_some())
            .field("open", &self.conn.is_some())
            .finish_non_exhaustive()
    }
}

/// What a peer's limit means for a count in 32 bits.
fn clamp(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

// === impl Stopper ===

impl Stopper {
    /// For a connection that has no [`Driver`]; its task asks [`poll_stopped`](Self::poll_stopped).
    pub(super) fn apart() -> Self {
        Self(Wakes::new(0))
    }

    /// Whether it was stopped since this was asked last; the task of `cx` is woken when it is.
    pub(super) fn poll_stopped(&self, cx: &Context<'_>) -> bool {
        self.0.begin(cx);
        let stopped = self.0.take(STOP) != 0;
        // Either is seen here, or wakes.
        self.0.end() | stopped
    }

    pub(super) fn stop(&self) {
        self.0.raise(STOP);
    }
}
