//! The lives of HTTP/2 connections.

use std::{sync::Arc, time::Duration};

use mesh_core::identity::IdentityError;
use tokio::time::Instant;

use super::{Attempt, DISTRUSTED_DRAIN, Shared};
use crate::conn::{
    drive::Ended, establish::Established2, h2::Connection, protocol::Speaks, streams::Streams,
    tls::Watchdog,
};

/// A connection that takes streams, until this is dropped.
struct Published<'a> {
    shared: &'a Shared,
    streams: &'a Arc<Streams>,
    ended: Ended,
    distrusted: Option<IdentityError>,
}

// === impl Shared ===

impl Shared {
    /// Takes streams until the connection ends, then lets those that are open end. Returns the pause
    /// before another attempt, if one has begun.
    pub(super) async fn serve_http2(
        &self,
        established: Established2,
        attempt: bool,
    ) -> Option<Duration> {
        let Established2 {
            sender,
            limit,
            mut driver,
            trusted,
        } = established;
        let streams = Arc::new(Streams::new(
            self.address().clone(),
            limit,
            self.link().cluster().connections.max_requests.unwrap_or(0),
            Arc::clone(self.connections.waiters()),
        ));
        let connection = Connection {
            sender,
            streams: Arc::clone(&streams),
            stopper: driver.stopper(),
        };
        let published = {
            let mut state = self.state.lock();
            if attempt {
                state.attempt = Attempt::None;
            }
            if !state.retired {
                self.connections.add(connection);
            }
            if self.speaks == Speaks::Either {
                // Requests that waited for HTTP/1.1 come back and go here.
                self.http1.give_way();
            }
            self.note(&state, None);
            !state.retired
        };
        self.reporter.report();
        let since = Instant::now();
        let mut drain = self.drain;
        let mut pause = None;
        if published {
            self.connections.waiters().wake_all();
            let idle = self.link().cluster().connections.idle_timeout;
            let idle = (!idle.is_zero()).then_some(idle);
            let mut published = Published {
                shared: self,
                streams: &streams,
                ended: Ended::Lost,
                distrusted: None,
            };
            let trusted = trusted.map(|trusted| Watchdog::start(trusted, driver.stopper()));
            published.ended = match driver.serve(&streams, idle).await {
                Ended::Stopped if streams.is_spent() => Ended::Spent,
                ended => ended,
            };
            published.distrusted = trusted.and_then(|trusted| trusted.found());
            if published.distrusted.is_some() {
                drain = drain.min(DISTRUSTED_DRAIN);
            }
            let by_peer = !matches!(published.ended, Ended::Stopped | Ended::Idle | Ended::Spent);
            let useless = by_peer && streams.begun() == 0 && since.elapsed() < self.backoff_base;
            pause = self.pause_after(useless);
        }
        // Nobody can send any more but calls that hold a sender already, for a moment.
        if tokio::time::timeout(drain, driver.finish()).await.is_err() {
            let address = self.address();
            let open = streams.open();
            tracing::debug!(%address, open, "closing a connection whose streams do not end");
        }
        pause
    }

    /// The connection of `streams` takes no more.
    fn remove(&self, streams: &Arc<Streams>, ended: &Ended, distrusted: Option<&IdentityError>) {
        let why = match distrusted {
            Some(why) => format!("{} is not trusted any more: {why}", self.address()),
            None => self.explain(ended),
        };
        tracing::debug!(why, "connection takes no more streams");
        {
            let state = self.state.lock();
            self.connections.remove(streams);
            self.note(&state, Some(why.into()));
        }
        self.connections.waiters().wake_all();
        self.reporter.report();
    }
}

// === impl Published ===

/// However it comes about that a connection is not driven any more, it takes no more calls.
impl Drop for Published<'_> {
    fn drop(&mut self) {
        let distrusted = self.distrusted.as_ref();
        self.shared.remove(self.streams, &self.ended, distrusted);
    }
}
