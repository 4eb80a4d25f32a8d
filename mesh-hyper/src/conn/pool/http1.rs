//! Requests over HTTP/1.1, and the lives of its connections.

use std::{iter, sync::Arc, time::Duration};

use futures_util::future::{self, BoxFuture};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{Attempt, DISTRUSTED_DRAIN, Shared};
use crate::{
    body::Outgoing,
    conn::{
        drive::Ended,
        drive1::Driver1,
        error::{ConnectError, ResetReason, SendError},
        establish::Established1,
        h1::{Claim, Connection, Dialing},
        streams::StreamGuard,
        tls::Watchdog,
    },
};

/// The way of a request, as a whole.
pub(super) type Exchange =
    BoxFuture<'static, Result<(http::Response<Incoming>, StreamGuard), SendError>>;

/// A connection that is open, until this is dropped.
struct Open<'a> {
    shared: &'a Arc<Shared>,
    connection: Arc<Connection>,
}

// === impl Shared ===

impl Shared {
    /// Sends `request` on an idle connection, or has it wait for one.
    pub(super) fn send_http1(
        self: &Arc<Self>,
        request: http::Request<Outgoing>,
    ) -> Result<Exchange, Box<http::Request<Outgoing>>> {
        match self.http1.claim() {
            Claim::Connection(lease) => Ok(Box::pin(lease.send(request))),
            Claim::Wait(answer) => {
                self.dial_for_waiting();
                let address = self.address().clone();
                Ok(Box::pin(async move {
                    match answer.await {
                        Ok(Ok(lease)) => lease.send(request).await,
                        Ok(Err(why)) => {
                            let reason = ResetReason::ConnectFailure;
                            Err(SendError::refused(address, reason, why, request))
                        }
                        Err(_) => Err(SendError::unsent(address, request)),
                    }
                }))
            }
            Claim::Overflow => {
                let address = self.address().clone();
                let why = format!(
                    "{} requests wait for a connection already, as many as max_pending_requests of \
                     the cluster's circuit breakers allows",
                    self.http1.max_pending()
                );
                let reason = ResetReason::Overflow;
                let error = SendError::refused(address, reason, why.into(), request);
                Ok(Box::pin(future::ready(Err(error))))
            }
            Claim::Down => Err(Box::new(request)),
        }
    }

    /// As many attempts as those that wait can use.
    pub(super) fn dial_for_waiting(self: &Arc<Self>) {
        // Counted first: without a runtime, each is over at once.
        let wanted: Vec<_> = iter::from_fn(|| self.http1.wanted()).collect();
        for dialing in wanted {
            let shared = Arc::clone(self);
            self.runtime.spawn(shared.run(Some(dialing), false));
        }
    }

    /// An attempt failed. If nothing else can serve those that wait, they are told, and nobody
    /// tries for the returned while. Otherwise one is told, whose attempt it was: it may find another
    /// endpoint, where the connections of this one may stay busy for as long as they like.
    pub(super) fn failed_http1(
        self: &Arc<Self>,
        error: &ConnectError,
        dialing: Dialing,
        attempt: bool,
    ) -> Option<Duration> {
        let why: Arc<str> = error.to_string().into();
        let (waiters, pause) = {
            let mut state = self.state.lock();
            drop(dialing);
            match self.http1.go_down() {
                Some(waiters) => {
                    state.attempt = Attempt::Pausing;
                    self.note(&state, Some(Arc::clone(&why)));
                    (waiters, Some(state.backoff.next_pause()))
                }
                None => {
                    if attempt {
                        state.attempt = Attempt::None;
                    }
                    (self.http1.left_over().into_iter().collect(), None)
                }
            }
        };
        self.reporter.report();
        for waiter in waiters {
            // Whoever waits no more does not care.
            let _ = waiter.send(Err(Arc::clone(&why)));
        }
        if pause.is_none() {
            // At the limit, not each of the others had an attempt of its own.
            self.dial_for_waiting();
        }
        pause
    }

    /// Takes requests until the connection ends. Returns the pause before another attempt, if one
    /// has begun.
    pub(super) async fn serve_http1(
        self: &Arc<Self>,
        established: Established1,
        dialing: Dialing,
        attempt: bool,
    ) -> Option<Duration> {
        let Established1 {
            sender,
            bytes,
            trusted,
        } = established;
        let connection = {
            let mut state = self.state.lock();
            if attempt {
                state.attempt = Attempt::None;
            }
            let connection = dialing.succeeded(sender, self.address().clone());
            self.note(&state, None);
            connection
        };
        self.reporter.report();
        let open = Open {
            shared: self,
            connection: connection?,
        };
        let connection = &open.connection;
        let options = &self.link().cluster().connections;
        let idle = (!options.idle_timeout.is_zero()).then_some(options.idle_timeout);
        let mut driver = Driver1::new(bytes, Arc::clone(connection), options.max_requests);
        let watchdog = trusted.map(|it| Watchdog::start(it, connection.stopper.clone()));
        Arc::clone(connection).give_back();

        let since = Instant::now();
        let ended = driver.serve(idle).await;
        let mut drain = self.drain;
        let distrusted = watchdog.and_then(|watchdog| watchdog.found());
        let address = self.address();
        match &distrusted {
            Some(why) => {
                drain = drain.min(DISTRUSTED_DRAIN);
                tracing::debug!(%address, %why, "a server is not trusted any more");
            }
            None => tracing::debug!(why = self.explain(&ended), "HTTP/1.1 connection ends"),
        }
        let by_peer = !matches!(ended, Ended::Stopped | Ended::Idle | Ended::Spent);
        let useless =
            by_peer && connection.streams.begun() == 0 && since.elapsed() < self.backoff_base;
        let pause = self.pause_after_http1(useless, &ended);
        if tokio::time::timeout(drain, driver.finish()).await.is_err() {
            tracing::debug!(%address, "closing a connection whose request does not end");
        }
        pause
    }

    /// As [`pause_after`](Self::pause_after), if there is no other connection.
    fn pause_after_http1(&self, useless: bool, ended: &Ended) -> Option<Duration> {
        let (waiters, pause) = {
            let mut state = self.state.lock();
            if !useless {
                state.backoff.reset();
                return None;
            }
            if state.attempt != Attempt::None {
                return None;
            }
            let waiters = self.http1.go_down()?;
            state.attempt = Attempt::Pausing;
            self.note(&state, Some(self.explain(ended).into()));
            (waiters, state.backoff.next_pause())
        };
        self.reporter.report();
        drop(waiters);
        Some(pause)
    }
}

// === impl Open ===

/// However it comes about that a connection is not driven any more.
impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.connection.close();
        // There may be room for another.
        self.shared.dial_for_waiting();
    }
}
