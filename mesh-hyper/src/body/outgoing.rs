use std::{
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use mesh_core::{Semantics, telemetry::Amount};
use parking_lot::Mutex;

use super::{
    Tally,
    progress::{Frames, Progress},
    replay::Replay,
};

/// Any error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request: the one body type of all our connections.
///
/// A cheap handle. The body it wraps is erased with a single allocation, none if it is empty, and
/// stays recoverable through a [`Keeper`] for as long as another attempt may need it.
#[derive(Default)]
pub struct Outgoing(Option<Handle>);

/// Stays with the caller while the [`Outgoing`] is away, and makes the body of another attempt.
///
/// It keeps the wrapped body alive. [`commit`](Self::commit) to the attempt that is under way as
/// soon as it is known to be the last; [`cancel`](Self::cancel) when its response is not wanted any
/// more.
#[derive(Default)]
pub struct Keeper(Option<Arc<Shared<Erased>>>);

/// What the sender of a body gets when its keeper took it back. Resets the stream with CANCEL.
#[derive(Debug)]
pub struct Withdrawn(h2::Error);

struct Handle {
    shared: Arc<Shared<Erased>>,
    /// The attempt it belongs to. Only the latest may poll.
    attempt: u32,
}

type Erased = dyn Body<Data = Bytes, Error = BoxError> + Send + Unpin;

/// What all handles of one body share.
///
/// The body is the caller's code, and it is polled under the lock: what may be called from within
/// it, such as dropping the response, must not take the lock.
struct Shared<B: ?Sized> {
    /// The attempt that may poll.
    attempt: AtomicU32,
    /// There will be no other attempt.
    committed: AtomicBool,
    /// Who waits for the next frame, to be told when the body is withdrawn.
    waiting: AtomicWaker,
    /// Frames that were sent, where somebody watches.
    frames: Option<Box<Frames>>,
    /// What the attempt under way has had, as of its last frame.
    sent: Sent,
    /// Last, so that it can be unsized in place: one allocation for all of it.
    source: Mutex<Source<B>>,
}

#[derive(Default)]
struct Sent {
    bytes: AtomicU64,
    messages: AtomicU64,
}

/// Where frames come from.
struct Source<B: ?Sized> {
    /// A frame was asked for.
    touched: bool,
    /// The body has yielded its last.
    ended: bool,
    replay: Replay,
    tally: Tally,
    body: B,
}

/// Boxes errors of a body as they come.
struct BoxErrors<B>(B);

// === impl Outgoing ===

impl Outgoing {
    /// No body. Allocates nothing.
    pub fn empty() -> Self {
        Self(None)
    }

    /// `body`, which its keeper can make again if no frame of it was asked for.
    ///
    /// A body that is not `Unpin` comes as `Box::pin(body)`.
    pub fn new<B>(body: B) -> (Self, Keeper)
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        Self::erase(body, Replay::Off, false)
    }

    /// `body`, of which at most `limit` bytes are kept for another attempt. They are kept as they
    /// are sent, not ahead of it; a frame counts for 64 bytes at least. Once there is more, none
    /// are kept and there is no other attempt.
    pub fn replayable<B>(body: B, limit: usize) -> (Self, Keeper)
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        Self::erase(body, Replay::on(limit), false)
    }

    /// As [`replayable`](Self::replayable); its keeper can tell how far the sending is.
    pub fn watched<B>(body: B, limit: usize) -> (Self, Keeper)
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        Self::erase(body, Replay::on(limit), true)
    }

    fn erase<B>(body: B, replay: Replay, watched: bool) -> (Self, Keeper)
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return (Self(None), Keeper(None));
        }
        let shared: Arc<Shared<Erased>> = Arc::new(Shared {
            attempt: AtomicU32::new(0),
            committed: AtomicBool::new(false),
            waiting: AtomicWaker::new(),
            frames: watched.then(Box::default),
            sent: Sent::default(),
            source: Mutex::new(Source {
                touched: false,
                ended: false,
                replay,
                tally: Tally::default(),
                body: BoxErrors(body),
            }),
        });
        let keeper = Keeper(Some(Arc::clone(&shared)));
        (Self(Some(Handle { shared, attempt: 0 })), keeper)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &self.get_mut().0 {
            None => Poll::Ready(None),
            Some(handle) => handle.shared.poll_frame(handle.attempt, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            None => true,
            Some(handle) => handle.shared.is_end_stream(handle.attempt),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(handle) => handle.shared.size_hint(handle.attempt),
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Outgoing(empty)"),
            Some(handle) => write!(f, "Outgoing(attempt {})", handle.attempt),
        }
    }
}

// === impl Handle ===

/// hyper does not ask for what it knows is not to come: after trailers, or as much data as the
/// length that it told.
impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(frames) = &self.shared.frames {
            frames.over(self.attempt);
        }
    }
}

// === impl Keeper ===

impl Keeper {
    /// Whether no frame was ever asked for: the body is whole. It says nothing of the request's
    /// head, which may have been sent; an empty body is always whole.
    #[cfg(test)]
    pub(crate) fn is_untouched(&self) -> bool {
        match &self.0 {
            None => true,
            Some(shared) => !shared.source.lock().touched,
        }
    }

    /// The body from its beginning, for another attempt. `None` if frames of it are gone, or after
    /// [`commit`](Self::commit).
    ///
    /// From then on the previous attempt's handle yields [`Withdrawn`].
    pub fn again(&self) -> Option<Outgoing> {
        let Some(shared) = &self.0 else {
            return Some(Outgoing::empty());
        };
        let attempt = shared.again()?;
        Some(Outgoing(Some(Handle {
            shared: Arc::clone(shared),
            attempt,
        })))
    }

    /// How far the sending is; `cx` is woken when it is further. Only for a body that is
    /// [`watched`](Outgoing::watched), or empty: that is sent.
    pub(crate) fn watch(&self, cx: &mut Context<'_>) -> Progress {
        match self.frames() {
            Some(frames) => frames.watch(cx),
            None => Progress::sent(),
        }
    }

    /// As [`watch`](Self::watch), for once.
    pub(crate) fn progress(&self) -> Progress {
        self.frames().map_or(Progress::sent(), Frames::progress)
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Frames sent so far, of a body that is [`watched`](Outgoing::watched).
    pub(crate) fn frames_sent(&self) -> u32 {
        self.frames().map_or(0, Frames::sent)
    }

    /// How much of the body the attempt under way has had.
    pub(crate) fn sent(&self) -> Amount {
        self.0
            .as_ref()
            .map_or_else(Amount::default, |shared| Amount {
                bytes: shared.sent.bytes.load(Ordering::Relaxed),
                messages: shared.sent.messages.load(Ordering::Relaxed),
            })
    }

    fn frames(&self) -> Option<&Frames> {
        self.0.as_ref()?.frames.as_deref()
    }

    /// There will be no other attempt: what was kept is released, and nothing more is kept.
    pub fn commit(&self) {
        if let Some(shared) = &self.0 {
            shared.committed.store(true, Ordering::SeqCst);
            // If the body is being polled, whoever does so sees to it.
            if let Some(mut source) = shared.source.try_lock() {
                source.replay.commit();
            }
        }
    }

    /// The response is not wanted any more: whoever still sends the body gets [`Withdrawn`] and
    /// resets its stream.
    ///
    /// hyper does so by itself while it waits for the response's headers; when a response's body
    /// is dropped later, it would go on for as long as the request's body does.
    pub fn cancel(&self) {
        if let Some(shared) = &self.0 {
            shared.withdraw();
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            None => "Keeper(empty)",
            Some(_) => "Keeper(body)",
        })
    }
}

// === impl Withdrawn ===

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body was withdrawn: its call was cancelled, or is tried again")
    }
}

impl Error for Withdrawn {
    /// An HTTP/2 error with the reason that hyper is to reset the stream with.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

// === impl Shared ===

impl Shared<Erased> {
    fn poll_frame(
        &self,
        attempt: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut source = self.source.lock();
        if self.is_withdrawn(attempt) {
            return Poll::Ready(Some(Err(withdrawn())));
        }
        if self.committed.load(Ordering::SeqCst) {
            source.replay.commit();
        }
        let polled = source.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            // Who makes bodies that can be watched speaks HTTP.
            let semantics = match self.frames {
                Some(_) => Semantics::Http,
                None => Semantics::Grpc,
            };
            source.tally.count(semantics, data);
            self.sent.store(source.tally.amount());
        }
        if let Some(frames) = &self.frames {
            let ended = source.replay.is_drained() && (source.ended || source.body.is_end_stream());
            frames.asked(attempt, polled.is_ready(), ended);
        }
        drop(source);
        if polled.is_pending() {
            self.waiting.register(cx.waker());
            // Withdrawn in the meantime, before there was anybody to be told.
            if self.is_withdrawn(attempt) {
                return Poll::Ready(Some(Err(withdrawn())));
            }
        }
        polled
    }

    fn is_withdrawn(&self, attempt: u32) -> bool {
        attempt != self.attempt.load(Ordering::SeqCst)
    }

    /// Never true for a superseded attempt: a half-sent body must not look complete.
    fn is_end_stream(&self, attempt: u32) -> bool {
        let source = self.source.lock();
        !self.is_withdrawn(attempt)
            && source.replay.is_drained()
            && (source.ended || source.body.is_end_stream())
    }

    fn size_hint(&self, attempt: u32) -> SizeHint {
        match self.is_withdrawn(attempt) {
            true => SizeHint::default(),
            false => self.source.lock().size_hint(),
        }
    }

    /// The number of the next attempt.
    fn again(&self) -> Option<u32> {
        let mut source = self.source.lock();
        let committed = self.committed.load(Ordering::SeqCst);
        if committed || (source.touched && !source.replay.rewind()) {
            return None;
        }
        source.tally = Tally::default();
        self.sent.store(Amount::default());
        // Under the lock: the previous attempt must not have a frame of what was rewound.
        let next = self.withdraw();
        if let Some(frames) = &self.frames {
            frames.again(next, source.ended || source.body.is_end_stream());
        }
        Some(next)
    }

    /// Takes the body from the attempt under way; the number of the next.
    fn withdraw(&self) -> u32 {
        let next = self.attempt.fetch_add(1, Ordering::SeqCst) + 1;
        self.waiting.wake();
        next
    }
}

// === impl Sent ===

impl Sent {
    fn store(&self, amount: Amount) {
        self.bytes.store(amount.bytes, Ordering::Relaxed);
        self.messages.store(amount.messages, Ordering::Relaxed);
    }
}

// === impl Source ===

impl Source<Erased> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.touched = true;
        if let Some(frame) = self.replay.next() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let body = Pin::new(&mut self.body);
        // A body that panics ends its own stream, not the connection that polls it.
        let polled = catch_unwind(AssertUnwindSafe(|| body.poll_frame(cx)))
            .unwrap_or_else(|_| Poll::Ready(Some(Err("the request's body panicked".into()))));
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(frame))) => {
                // Nothing follows trailers (RFC 9110 section 6.5).
                self.ended = frame.is_trailers();
                self.replay.keep(frame);
            }
            Poll::Ready(Some(Err(_))) => {
                self.ended = true;
                self.replay = Replay::Spent;
            }
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.replay.remaining();
        if self.ended {
            return SizeHint::with_exact(kept);
        }
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        // The upper bound first: a lower one must not pass it.
        if let Some(upper) = body.upper() {
            hint.set_upper(kept.saturating_add(upper));
        }
        hint.set_lower(kept.saturating_add(body.lower()));
        hint
    }
}

fn withdrawn() -> BoxError {
    Withdrawn(h2::Reason::CANCEL.into()).into()
}

// === impl BoxErrors ===

impl<B> Body for BoxErrors<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().0)
            .poll_frame(cx)
            .map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

const _: fn() = || {
    fn assert<T: Body + Unpin + Send + Sync + 'static>() {}
    fn assert_keeper<T: Send + Sync + 'static>() {}
    assert::<Outgoing>();
    assert_keeper::<Keeper>();
};
