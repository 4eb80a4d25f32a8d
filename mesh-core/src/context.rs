//! What a handler hands to its outgoing calls.
//!
//! A server runs the handler of each request under a [`Context`]: who asked, and until when they
//! wait. An outgoing call made there inherits what is left of that time.
//!
//! A task that the handler spawns has no context of its own accord: [`Context::scope`] hands one
//! on.
//!
//! ```
//! use mesh_core::Context;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // In a handler.
//! let work = async { /* calls made here inherit the deadline */ };
//! tokio::spawn(Context::current().scope(work)).await.unwrap();
//! # }
//! ```

use std::{
    cell::RefCell,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::identity::Peer;

/// What is known of the request that is being handled. Empty outside of a handler. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Context {
    peer: Option<Arc<Peer>>,
    deadline: Option<Instant>,
}

pin_project! {
    /// A future that runs under a [`Context`], and is dropped under it.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        context: Context,
        // `None` once it is over.
        #[pin]
        work: Option<F>,
    }

    impl<F> PinnedDrop for Scoped<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.work.is_some() {
                this.context.enter(|| this.work.set(None));
            }
        }
    }
}

thread_local! {
    /// That of what is polled now.
    static CURRENT: RefCell<Context> = const { RefCell::new(Context::EMPTY) };
}

/// Changes places with the current context, and does so again when dropped: after a panic too.
struct Entered<'a>(&'a mut Context);

// === impl Context ===

impl Context {
    const EMPTY: Self = Self {
        peer: None,
        deadline: None,
    };

    /// The context of a request of `peer`, who waits until `deadline`; `None`: without limit.
    pub fn new(peer: Arc<Peer>, deadline: Option<Instant>) -> Self {
        Self {
            peer: Some(peer),
            deadline,
        }
    }

    /// The one this runs under; an empty one if there is none.
    pub fn current() -> Self {
        let current = CURRENT.try_with(|current| current.borrow().clone());
        current.unwrap_or_default()
    }

    /// Until when whoever waits for what runs here waits. Reads one thread-local, and clones
    /// nothing.
    #[inline]
    pub fn current_deadline() -> Option<Instant> {
        let deadline = CURRENT.try_with(|current| current.borrow().deadline);
        deadline.ok().flatten()
    }

    /// Who sent the request.
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        self.peer.as_ref()
    }

    /// Until when they wait; `None`: without limit.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// This context without its deadline: for work that outlives the request.
    pub fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// Runs `work` under this context, wherever it is polled.
    pub fn scope<F: Future>(self, work: F) -> Scoped<F> {
        Scoped {
            context: self,
            work: Some(work),
        }
    }

    /// Runs `work` under this context, at once.
    #[inline]
    pub fn sync_scope<R>(mut self, work: impl FnOnce() -> R) -> R {
        self.enter(work)
    }

    /// Runs `work` under this context, at once. It must not be looked at meanwhile: it is not here.
    #[inline]
    pub fn enter<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let _entered = Entered::new(self);
        work()
    }
}

// === impl Scoped ===

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        this.context.enter(|| {
            let Some(work) = this.work.as_mut().as_pin_mut() else {
                panic!("polled after completion");
            };
            let polled = work.poll(cx);
            if polled.is_ready() {
                this.work.set(None);
            }
            polled
        })
    }
}

// === impl Entered ===

impl<'a> Entered<'a> {
    #[inline]
    fn new(context: &'a mut Context) -> Self {
        let mut entered = Self(context);
        entered.swap();
        entered
    }

    #[inline]
    fn swap(&mut self) {
        // A thread that ends has no contexts any more.
        let _ = CURRENT.try_with(|current| mem::swap(&mut *current.borrow_mut(), self.0));
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        self.swap();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer() -> Arc<Peer> {
        Arc::new(Peer {
            address: None,
            local: None,
            tls: None,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_context_is_there_while_its_work_runs_and_nowhere_else() {
        let deadline = Instant::now() + Duration::from_secs(3);
        let asker = peer();
        let context = Context::new(Arc::clone(&asker), Some(deadline));
        assert!(Context::current().peer().is_none());

        context
            .scope(async {
                let current = Context::current();
                assert!(Arc::ptr_eq(current.peer().unwrap(), &asker));
                assert_eq!(Context::current_deadline(), Some(deadline));

                let lost = tokio::spawn(async { Context::current_deadline() });
                assert_eq!(lost.await.unwrap(), None, "a spawned task has none");
                let kept = current.clone().scope(async { Context::current_deadline() });
                assert_eq!(tokio::spawn(kept).await.unwrap(), Some(deadline));

                let detached = current.without_deadline();
                assert_eq!(detached.sync_scope(Context::current_deadline), None);
            })
            .await;
        assert_eq!(Context::current_deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_dropped_under_its_context_and_a_panic_ends_it() {
        struct Tell(Arc<parking_lot::Mutex<Vec<Option<Instant>>>>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.lock().push(Context::current_deadline());
            }
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        let context = Context::new(peer(), Some(deadline));
        let told = Arc::default();

        let (tell, inner) = (Tell(Arc::clone(&told)), context.clone());
        let work = context.clone().scope(async move {
            let _tell = tell;
            inner.without_deadline().scope(async {}).await;
            assert_eq!(Context::current_deadline(), Some(deadline));
        });
        work.await;
        let tell = Tell(Arc::clone(&told));
        drop(context.clone().scope(async move {
            let _tell = tell;
            std::future::pending::<()>().await;
        }));
        assert_eq!(*told.lock(), [Some(deadline); 2]);

        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            context.sync_scope(|| panic!("as expected"));
        }));
        assert!(panicked.is_err());
        assert_eq!(Context::current_deadline(), None);
    }
}
