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

use std::{future::Future, sync::Arc};

use tokio::{task::futures::TaskLocalFuture, time::Instant};

use crate::identity::Peer;

/// What is known of the request that is being handled. Empty outside of a handler. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Context {
    peer: Option<Arc<Peer>>,
    deadline: Option<Instant>,
}

/// A future that runs under a [`Context`].
pub type Scoped<F> = TaskLocalFuture<Context, F>;

tokio::task_local! {
    static CURRENT: Context;
}

// === impl Context ===

impl Context {
    /// The context of a request of `peer`, who waits until `deadline`; `None`: without limit.
    pub fn new(peer: Arc<Peer>, deadline: Option<Instant>) -> Self {
        Self {
            peer: Some(peer),
            deadline,
        }
    }

    /// The one this runs under; an empty one if there is none.
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Until when whoever waits for what runs here waits. Reads one thread-local, and clones
    /// nothing.
    #[inline]
    pub fn current_deadline() -> Option<Instant> {
        CURRENT.try_with(|context| context.deadline).ok().flatten()
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
        CURRENT.scope(self, work)
    }

    /// Runs `work` under this context, at once.
    pub fn sync_scope<R>(self, work: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, work)
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
}
