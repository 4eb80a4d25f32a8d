mod http1;
mod http2;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{body::Incoming, client::conn::TrySendError};
use mesh_core::{
    Semantics,
    balance::{Connectivity, LinkState},
    config::Address,
    identity::UpstreamContext,
    resilience::Backoff,
};
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, sync::watch};

use self::http1::Exchange;
use super::{
    attempt::Way,
    dial::Dial,
    drive::{Ended, Http2},
    error::{ConnectError, SendError, chain},
    establish::{Established, establish},
    h1::{Dialing, Http1Connections},
    h2::{Claim, Http2Connections},
    net::{Net, NetOptions},
    protocol::{MAX_HEADERS, Speaks},
    report::Reporter,
    streams::StreamGuard,
};
use crate::body::Outgoing;

/// The connections to one endpoint. Dropping it retires them.
///
/// All of it is made when a connection is wanted for the first time: of many thousand endpoints, those
/// of other zones and priorities may never be.
#[derive(Default)]
pub struct Pool {
    /// `None` in it: retired before that.
    shared: OnceLock<Option<Arc<Shared>>>,
}

struct Shared {
    reporter: Reporter,
    /// Where connections are driven.
    runtime: Handle,
    dial: Arc<dyn Dial>,
    /// `None`: plaintext, as the cluster has it.
    tls: Option<Arc<UpstreamContext>>,
    speaks: Speaks,
    http2: Http2,
    max_connections: usize,
    backoff_base: Duration,
    drain: Duration,
    connections: Http2Connections,
    http1: Arc<Http1Connections>,
    /// All changes to `connections` are made under it.
    state: Mutex<State>,
    /// Ends attempts and pauses.
    retired: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    attempt: Attempt,
    retired: bool,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    None,
    Connecting,
    Pausing,
}

/// An attempt to connect that is under way.
struct Trying<'a> {
    shared: &'a Arc<Shared>,
    /// HTTP/1.1 may be spoken.
    dialing: Option<Dialing>,
    /// It is the pool's one attempt.
    attempt: bool,
    is_over: bool,
}

pin_project! {
    /// Where a call is: on an HTTP/2 connection, or elsewhere (waiting, which is rare, or HTTP/1.1),
    /// boxed so that it does not make every call's future larger. `F` is hyper's future. Written by
    /// hand: an async function would hold it twice.
    #[project = StageProj]
    enum Stage<F> {
        Sent { #[pin] response: F, guard: Option<StreamGuard> },
        Elsewhere { exchange: Exchange },
    }
}

/// How long streams may go on with a server whose certificate is not trusted any more: calls that
/// are about to end do, and nobody talks to it for long.
const DISTRUSTED_DRAIN: Duration = Duration::from_secs(5);

// === impl Pool ===

impl Pool {
    pub(super) fn connect(&self, net: &Net, link: &Arc<LinkState>) {
        let shared = self
            .shared
            .get_or_init(|| Some(Arc::new(Shared::new(net, link))));
        if let Some(shared) = shared {
            shared.connect();
        }
    }

    pub(super) fn retire(&self) {
        if let Some(shared) = self.shared.get_or_init(|| None) {
            shared.retire();
        }
    }

    fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.get()?.as_ref()
    }

    /// Sends `request` on a connection that is up; gives it back if there is none.
    ///
    /// Over HTTP/2 the request is in hyper's queue when this returns, without a lock, a task or an
    /// await in between. Only if all connections are at the peer's limit of streams and no further
    /// one is allowed does it wait, in order, within the future. Dropping the future resets the
    /// stream.
    ///
    /// Over HTTP/1.1 it has the idle connection that was used last, for itself: nothing is
    /// pipelined. If none is idle, it waits in order for whichever comes first, one that gets idle
    /// or a new one; as many are made as requests wait, up to `max_connections_per_host` of the
    /// cluster's circuit breakers or else `max_connections`, counted per endpoint. If
    /// `max_pending_requests` wait already, it fails with [`ResetReason::Overflow`]; if a connection
    /// for it cannot be made, with [`ResetReason::ConnectFailure`], though others are busy. Dropping the future, or the
    /// response's body before its end, closes the connection. Responses of 1xx are hyper's to read,
    /// but for 101: `hyper::upgrade::on` such a response is the connection, which the pool has
    /// nothing to do with any more. What is meant for one connection only is removed from requests
    /// and responses (RFC 9110 section 7.6.1), and a request's `host` is its URI's authority unless
    /// it has one.
    ///
    /// [`ResetReason::Overflow`]: super::ResetReason::Overflow
    /// [`ResetReason::ConnectFailure`]: super::ResetReason::ConnectFailure
    ///
    /// The request's URI must have a scheme and an authority.
    #[expect(clippy::type_complexity, reason = "hyper's future has no name")]
    pub fn try_send(
        &self,
        request: http::Request<Outgoing>,
    ) -> Result<
        impl Future<Output = Result<(http::Response<Incoming>, StreamGuard), SendError>> + Send + use<>,
        Box<http::Request<Outgoing>>,
    > {
        let Some(shared) = self.shared() else {
            return Err(Box::new(request));
        };
        let claim = match shared.speaks {
            Speaks::Http1 => Claim::NoConnection,
            Speaks::Http2 | Speaks::Either => shared.connections.claim(false),
        };
        let stage = match claim {
            Claim::Stream(mut sender, guard) => {
                Stage::sent(sender.try_send_request(request), guard)
            }
            Claim::Full => {
                shared.grow();
                let shared = Arc::clone(shared);
                Stage::Elsewhere {
                    exchange: Box::pin(async move {
                        match shared.connections.wait().await {
                            Some((mut sender, guard)) => {
                                let response = sender.try_send_request(request);
                                Stage::sent(response, guard).await
                            }
                            None => Err(SendError::unsent(shared.address().clone(), request)),
                        }
                    }),
                }
            }
            Claim::NoConnection if shared.speaks != Speaks::Http2 => Stage::Elsewhere {
                exchange: shared.send_http1(request)?,
            },
            Claim::NoConnection => return Err(Box::new(request)),
        };
        Ok(stage)
    }

    /// Connections that take streams or, over HTTP/1.1, requests.
    pub fn connections(&self) -> usize {
        let shared = self.shared();
        shared.map_or(0, |shared| shared.connections.len() + shared.http1.len())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.retire();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn new(net: &Net, link: &Arc<LinkState>) -> Self {
        let (options, cluster) = (&net.options, link.cluster());
        let speaks = Speaks::of(link);
        let (connections, breakers) = (&cluster.connections, &cluster.breakers);
        let max_connections = breakers
            .max_connections_per_host
            .unwrap_or(options.max_connections)
            .clamp(1, NetOptions::MAX_CONNECTIONS);
        // A connection is a request here, so ten are not many.
        let http1 = Http1Connections::new(
            breakers
                .max_connections_per_host
                .unwrap_or(breakers.max_connections) as usize,
            breakers.max_pending_requests as usize,
        );
        Self {
            reporter: Reporter::new(Arc::clone(link)),
            runtime: Handle::current(),
            dial: Arc::clone(&net.dial),
            tls: cluster.tls.as_ref().map(|tls| {
                let hostname = link.hostname().map(|name| &**name);
                net.identities.upstream(tls, hostname, speaks.alpn())
            }),
            speaks,
            http2: Http2 {
                stream_window: connections.initial_stream_window,
                connection_window: connections.initial_connection_window,
                keepalive: connections
                    .keepalive_interval
                    .map(|interval| (interval, connections.keepalive_timeout)),
                max_headers: (link.semantics() == Semantics::Http).then_some(MAX_HEADERS),
            },
            max_connections: max_connections as usize,
            backoff_base: options.backoff_base,
            drain: options.drain,
            connections: Http2Connections::default(),
            http1: Arc::new(http1),
            state: Mutex::new(State {
                attempt: Attempt::None,
                retired: false,
                backoff: Backoff::connection(options.backoff_base, options.backoff_max),
            }),
            retired: watch::Sender::new(false),
        }
    }

    fn link(&self) -> &LinkState {
        self.reporter.link()
    }

    fn address(&self) -> &Address {
        self.link().address()
    }

    fn connect(self: &Arc<Self>) {
        if self.connections.is_empty() && !self.http1.is_up() {
            self.start();
        }
    }

    /// Another connection, if one more is allowed.
    fn grow(self: &Arc<Self>) {
        if self.connections.len() < self.max_connections {
            self.start();
        }
    }

    /// Starts an attempt unless one is under way or pauses.
    fn start(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            if state.retired
                || state.attempt != Attempt::None
                || self.connections.len() >= self.max_connections
            {
                return;
            }
            state.attempt = Attempt::Connecting;
            self.note(&state, None);
        }
        self.reporter.report();
        // Whoever asks, and from wherever: the connection is everybody's.
        let dialing = (self.speaks != Speaks::Http2).then(|| self.http1.first());
        self.runtime.spawn(Arc::clone(self).run(dialing, true));
    }

    /// The life of one connection, from the attempt to its end. `attempt`: it is the pool's one
    /// attempt, not one of those that requests over HTTP/1.1 have asked for. `dialing`: HTTP/1.1 may
    /// be spoken.
    async fn run(self: Arc<Self>, dialing: Option<Dialing>, attempt: bool) {
        let mut retired = self.retired.subscribe();
        let mut trying = Trying {
            shared: &self,
            dialing,
            attempt,
            is_over: false,
        };
        let established = tokio::select! {
            biased;
            _ = retired.wait_for(|&retired| retired) => None,
            established = self.establish() => {
                Some(established)
            }
        };
        let dialing = trying.over();
        let Some(established) = established else {
            drop(dialing);
            if attempt {
                self.attempt_over(None);
            }
            return;
        };
        let pause = match (established, dialing) {
            (Ok(Established::Http1(established)), dialing) => {
                let dialing = dialing.unwrap_or_else(|| self.http1.first());
                self.serve_http1(*established, dialing, attempt).await
            }
            (Ok(Established::Http2(established)), dialing) => {
                drop(dialing);
                self.serve_http2(*established, attempt).await
            }
            (Err(error), dialing) => self.not_established(&error, dialing, attempt),
        };
        if let Some(pause) = pause {
            self.pause(pause).await;
        }
    }

    /// An attempt failed. Returns the pause before another one, if that has begun.
    fn not_established(
        self: &Arc<Self>,
        error: &ConnectError,
        dialing: Option<Dialing>,
        attempt: bool,
    ) -> Option<Duration> {
        let address = self.address();
        tracing::debug!(%address, %error, "connection attempt failed");
        match dialing {
            Some(dialing) => self.failed_http1(error, dialing, attempt),
            None => Some(self.failed(error)),
        }
    }

    /// An attempt failed, and nobody tries for the returned while.
    fn failed(&self, error: &ConnectError) -> Duration {
        let pause = {
            let mut state = self.state.lock();
            state.attempt = Attempt::Pausing;
            self.note(&state, Some(error.to_string().into()));
            state.backoff.next_pause()
        };
        self.reporter.report();
        pause
    }

    async fn establish(&self) -> Result<Established, ConnectError> {
        let way = Way {
            dial: &*self.dial,
            tls: self.tls.as_ref(),
            speaks: self.speaks,
        };
        establish(self.link(), way, &self.http2).await
    }

    /// Lets time pass before the next attempt.
    async fn pause(&self, pause: Duration) {
        let mut retired = self.retired.subscribe();
        tokio::select! {
            biased;
            _ = retired.wait_for(|&retired| retired) => {}
            () = tokio::time::sleep(pause) => {}
        }
        self.attempt_over(None);
    }

    /// What the end of a connection means for the next attempt. A peer that closes each connection
    /// as soon as it is up, unused, is no better than one that refuses it.
    fn pause_after(&self, useless: bool) -> Option<Duration> {
        let mut state = self.state.lock();
        if !useless {
            state.backoff.reset();
            return None;
        }
        (state.attempt == Attempt::None).then(|| {
            state.attempt = Attempt::Pausing;
            state.backoff.next_pause()
        })
    }

    fn explain(&self, ended: &Ended) -> String {
        let address = self.address();
        match ended {
            Ended::Stopped => format!("{address} was removed"),
            Ended::Idle => format!("the connection to {address} was idle and was closed"),
            Ended::Spent => format!("a connection to {address} took as many requests as it may"),
            Ended::GoAway => format!("{address} sent GOAWAY"),
            Ended::Closed => format!("{address} closed the connection"),
            Ended::Lost => format!("the task of the connection to {address} was lost"),
            Ended::Broken(error) => format!("the connection to {address} broke: {}", chain(error)),
        }
    }

    fn attempt_over(&self, error: Option<Arc<str>>) {
        {
            let mut state = self.state.lock();
            state.attempt = Attempt::None;
            self.note(&state, error);
        }
        self.reporter.report();
    }

    fn retire(&self) {
        let connections = {
            let mut state = self.state.lock();
            if state.retired {
                return;
            }
            state.retired = true;
            let connections = self.connections.take();
            self.http1.retire();
            self.note(&state, None);
            connections
        };
        self.retired.send_replace(true);
        for connection in connections.iter() {
            connection.stopper.stop();
        }
        self.connections.waiters().wake_all();
        self.reporter.report();
    }

    /// Notes what is to be reported once the lock on `state` is given up.
    fn note(&self, state: &State, error: Option<Arc<str>>) {
        let connectivity = match state.attempt {
            _ if !self.connections.is_empty() || self.http1.is_up() => Connectivity::Ready,
            Attempt::None => Connectivity::Idle,
            Attempt::Connecting => Connectivity::Connecting,
            Attempt::Pausing => Connectivity::Failing,
        };
        self.reporter.note(connectivity, error);
    }
}

// === impl Trying ===

impl Trying<'_> {
    fn over(&mut self) -> Option<Dialing> {
        self.is_over = true;
        self.dialing.take()
    }
}

/// However an attempt ends, the endpoint does not look as if it were still under way.
impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let shared = self.shared;
        let error = ConnectError::Lost {
            address: shared.address().clone(),
        };
        let pause = shared.not_established(&error, self.dialing.take(), self.attempt);
        if let Some(pause) = pause {
            let shared = Arc::clone(shared);
            // Without its runtime nobody ends the pause: the endpoint has failed for good.
            self.shared
                .runtime
                .spawn(async move { shared.pause(pause).await });
        }
    }
}

// === impl Stage ===

impl<F> Stage<F> {
    fn sent(response: F, guard: StreamGuard) -> Self {
        Self::Sent {
            response,
            guard: Some(guard),
        }
    }
}

impl<F> Future for Stage<F>
where
    F: Future<Output = Result<http::Response<Incoming>, TrySendError<http::Request<Outgoing>>>>,
{
    type Output = Result<(http::Response<Incoming>, StreamGuard), SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            StageProj::Sent { response, guard } => {
                let result = ready!(response.poll(cx));
                let Some(guard) = guard.take() else {
                    panic!("polled after completion");
                };
                Poll::Ready(match result {
                    Ok(response) => Ok((response, guard)),
                    Err(failed) => Err(SendError::new(guard.address().clone(), failed)),
                })
            }
            StageProj::Elsewhere { exchange } => exchange.as_mut().poll(cx),
        }
    }
}
