//! Runs what hyper makes of each call on the connection's own task.
//!
//! For a call hyper makes two futures: one sends the request's body, one waits for the response.
//! Both are variants of one enum that can also hold the whole connection, so each is more than a
//! kilobyte, and as tasks of their own they would cost an allocation beyond the allocator's fast
//! path, several copies and a trip through the scheduler each. Here they lie in boxes that are used
//! again and again. One that is still pending after a few polls, such as a stream's body, moves to
//! a task of its own with its box: from then on only its own call waits for the caller's code in
//! it.

use std::{
    any::Any,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::Mutex;
use tokio::task::coop::unconstrained;

use super::wakes::Wakes;

/// What moves the frames of a connection.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Given to hyper: hands over the future that moves the frames, and keeps all others for
/// [`StreamFutures`].
#[derive(Clone)]
pub(super) struct Exec(Arc<Shared>);

/// The futures of a connection's streams, polled by its task.
pub(super) struct StreamFutures {
    shared: Arc<Shared>,
    slots: Vec<Slot>,
    vacant: Vec<usize>,
    /// Kept for their capacity.
    arrived: Vec<Box<dyn Occupant>>,
    woken: Vec<usize>,
}

struct Shared {
    connection: Mutex<Option<Task>>,
    has_connection: AtomicBool,
    boxes: Mutex<Boxes>,
    /// Slots that want to be polled.
    woken: Mutex<Vec<usize>>,
    wakes: Arc<Wakes>,
    bit: u8,
}

#[derive(Default)]
struct Boxes {
    /// With a future that has not been polled yet.
    arrived: Vec<Box<dyn Occupant>>,
    /// Empty.
    spare: Vec<Box<dyn Occupant>>,
}

struct Slot {
    occupant: Option<Box<dyn Occupant>>,
    polls: u32,
    waker: Waker,
    wake: Arc<WakeSlot>,
}

struct WakeSlot {
    index: usize,
    woken: AtomicBool,
    shared: Arc<Shared>,
}

/// A box for futures of one type, whatever it is.
trait Occupant: Any + Send {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    fn clear(&mut self);
    fn into_task(self: Box<Self>) -> Task;
    fn as_any(&mut self) -> &mut dyn Any;
}

struct Reusable<F>(Pin<Box<Option<F>>>);

/// A future that has moved out, with its box.
struct Moved<F>(Pin<Box<Option<F>>>);

/// Polls after which a future moves to a task of its own. A unary call's body needs two, its
/// response as many.
const POLLS: u32 = 8;
/// Empty boxes that are kept. Many calls at once end and begin in batches, so fewer would be given
/// up and made again with each batch.
const SPARE: usize = 128;

/// Both ends, for the connection whose task is woken through `bit` of `wakes`.
pub(super) fn channel(wakes: &Arc<Wakes>, bit: u8) -> (Exec, StreamFutures) {
    let shared = Arc::new(Shared {
        connection: Mutex::new(None),
        has_connection: AtomicBool::new(false),
        boxes: Mutex::default(),
        woken: Mutex::default(),
        wakes: Arc::clone(wakes),
        bit,
    });
    let futures = StreamFutures {
        shared: Arc::clone(&shared),
        slots: Vec::new(),
        vacant: Vec::new(),
        arrived: Vec::new(),
        woken: Vec::new(),
    };
    (Exec(shared), futures)
}

// === impl Exec ===

impl<F> hyper::rt::Executor<F> for Exec
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let Self(shared) = self;
        if !shared.has_connection.swap(true, Ordering::Relaxed) {
            // During the handshake, before there is any stream.
            *shared.connection.lock() = Some(Box::pin(future));
            return;
        }
        let mut boxes = shared.boxes.lock();
        let spare = boxes.spare.pop();
        boxes.arrived.push(Reusable::fill(spare, future));
        drop(boxes);
        shared.wakes.raise(shared.bit);
    }
}

// === impl StreamFutures ===

impl StreamFutures {
    /// The future that moves the frames, once hyper has made it.
    pub(super) fn connection(&self) -> Option<Task> {
        self.shared.connection.lock().take()
    }

    /// Polls those that are new and those that were woken.
    ///
    /// Outside of tokio's budget of a task: with many calls at once it would run out in the middle,
    /// and each call beyond would be polled again for nothing. A slot is polled once for each time
    /// that it was woken, and few times at all, so other tasks get their turn.
    pub(super) fn run(&mut self) {
        let run = unconstrained(poll_fn(|_| {
            self.run_now();
            Poll::Ready(())
        }));
        // It is ready at once, and wakes nobody.
        let _ = pin!(run).poll(&mut Context::from_waker(Waker::noop()));
    }

    fn run_now(&mut self) {
        let mut arrived = mem::take(&mut self.arrived);
        mem::swap(&mut arrived, &mut self.shared.boxes.lock().arrived);
        for occupant in arrived.drain(..) {
            let index = self.vacant.pop().unwrap_or_else(|| self.add_slot());
            let slot = &mut self.slots[index];
            slot.occupant = Some(occupant);
            slot.polls = 0;
            self.poll(index);
        }
        self.arrived = arrived;

        let mut woken = mem::take(&mut self.woken);
        mem::swap(&mut woken, &mut self.shared.woken.lock());
        for index in woken.drain(..) {
            self.slots[index].wake.woken.store(false, Ordering::SeqCst);
            self.poll(index);
        }
        self.woken = woken;
    }

    /// Lets all that are left go on by themselves.
    pub(super) fn disperse(&mut self) {
        let arrived = mem::take(&mut self.shared.boxes.lock().arrived);
        let occupants = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.occupant.take());
        for occupant in occupants.chain(arrived) {
            tokio::spawn(occupant.into_task());
        }
    }

    fn add_slot(&mut self) -> usize {
        let index = self.slots.len();
        let wake = Arc::new(WakeSlot {
            index,
            woken: AtomicBool::new(false),
            shared: Arc::clone(&self.shared),
        });
        let waker = Waker::from(Arc::clone(&wake));
        self.slots.push(Slot {
            occupant: None,
            polls: 0,
            waker,
            wake,
        });
        index
    }

    /// A slot may be woken for the sake of who was there before: then it is polled for nothing.
    fn poll(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some(occupant) = &mut slot.occupant else {
            return;
        };
        match occupant.poll(&mut Context::from_waker(&slot.waker)) {
            Poll::Ready(()) => {
                occupant.clear();
                let mut boxes = self.shared.boxes.lock();
                if let Some(occupant) = slot.occupant.take()
                    && boxes.spare.len() < SPARE
                {
                    boxes.spare.push(occupant);
                }
            }
            Poll::Pending => {
                slot.polls += 1;
                if slot.polls < POLLS {
                    return;
                }
                if let Some(occupant) = slot.occupant.take() {
                    tokio::spawn(occupant.into_task());
                }
            }
        }
        self.vacant.push(index);
    }
}

// === impl WakeSlot ===

impl Wake for WakeSlot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.shared.woken.lock().push(self.index);
            self.shared.wakes.raise(self.shared.bit);
        }
    }
}

// === impl Reusable ===

impl<F> Reusable<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    /// `future` in the spare box, if that is one for its type, else in a new one.
    fn fill(spare: Option<Box<dyn Occupant>>, future: F) -> Box<dyn Occupant> {
        if let Some(mut spare) = spare
            && let Some(Self(room)) = spare.as_any().downcast_mut::<Self>()
        {
            room.set(Some(future));
            return spare;
        }
        Box::new(Self(Box::pin(Some(future))))
    }
}

impl<F> Occupant for Reusable<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Ready(()),
        }
    }

    fn clear(&mut self) {
        self.0.set(None);
    }

    fn into_task(self: Box<Self>) -> Task {
        Box::pin(Moved(self.0))
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

// === impl Moved ===

impl<F: Future<Output = ()>> Future for Moved<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Ready(()),
        }
    }
}
