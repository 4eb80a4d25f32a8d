//! One accepted connection, from its first byte to its last.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Extensions, Request, Response};
use http_body::Body;
use hyper::{
    rt::{Read, Write, bounds::Http2ServerConnExec},
    server::conn::{http1, http2},
    service::HttpService,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::{
    connections::{Live, Order},
    resolve::{Ends, InboundState},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep_until, timeout},
};
use tower_service::Service;

use super::{
    Shared,
    body::RequestBody,
    clock::Clock,
    dispatch::{Dispatch, Known, Limits},
    half_open::Ticket,
    stream::{Accepted, Protocol},
    strict::Strict,
    upgrade::{Tunnel, Tunnelled},
};
use crate::body::BoxError;

/// What a server asks of the services it is given.
pub(super) trait Handler<B>:
    Service<
        Request<RequestBody>,
        Response = Response<B>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<S, B> Handler<B> for S where
    S: Service<
            Request<RequestBody>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// A hyper connection that can be told to go away.
pub(super) trait Serving: Future<Output = hyper::Result<()>> {
    /// Whether going away says so to the peer at once, and takes what it sent before it heard that.
    /// HTTP/1.1 closes a connection that seems idle, though a request may be on its way.
    const TELLS: bool;

    /// Takes nothing new from now on: GOAWAY, or no more keep-alive.
    fn go_away(self: Pin<&mut Self>);
}

enum Event {
    Ended(hyper::Result<()>),
    Ordered(Order),
    Tick,
}

/// Carries a connection to its end.
pub(super) async fn run<T, S, B>(
    shared: Arc<Shared>,
    io: T,
    ends: Ends,
    mut ticket: Ticket,
    service: S,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Handler<B>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let opened = tokio::select! {
        biased;
        opened = open(&shared, io, ends) => opened,
        () = ticket.lost() => {
            tracing::debug!(peer = %ends.peer, "closed in its handshake to make room for others");
            return;
        }
    };
    drop(ticket);
    let Some(Opened {
        live,
        known,
        protocol,
        io,
    }) = opened
    else {
        return;
    };
    let peer = Arc::clone(live.handle().peer());
    let extensions = shared.options.peer_extension.then(|| {
        let mut extensions = Extensions::new();
        extensions.insert(Arc::clone(&peer));
        extensions
    });
    let dispatch = Dispatch {
        service,
        follow: Arc::clone(&shared.follow),
        semantics: shared.semantics,
        peer,
        extensions,
        connection: live.handle().clone(),
        ends,
        known: RefCell::new(known),
        protocol,
        tunnel: Tunnel::default(),
        limits: Limits {
            requests: shared.options.max_connection_requests.unwrap_or(u64::MAX),
            drain_grace: shared.options.drain_grace,
        },
    };
    match protocol {
        Protocol::Http1 => {
            let tunnel = dispatch.tunnel.clone();
            let io = Strict::new(io, shared.options.header_timeout, tunnel.clone());
            let connection = shared.http1.serve_connection(TokioIo::new(io), dispatch);
            let connection = Tunnelled::new(connection.with_upgrades(), tunnel);
            drive(connection, live, &shared).await;
        }
        Protocol::Http2 => {
            let connection = shared.http2.serve_connection(TokioIo::new(io), dispatch);
            drive(connection, live, &shared).await;
        }
    }
}

/// A connection that is ready for requests.
struct Opened<T> {
    live: Live,
    known: Known,
    protocol: Protocol,
    io: Accepted<T>,
}

/// Secures the connection, and registers it. `None`: it is closed.
async fn open<T>(shared: &Shared, io: T, ends: Ends) -> Option<Opened<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (chain, security, secured) = shared.secure(io, ends).await?;
    let look = Accepted::look(secured.io);
    let (protocol, io) = timeout(shared.options.header_timeout, look)
        .await
        .ok()?
        .ok()??;
    if protocol == Protocol::Http1 && !shared.speaks_http1 {
        tracing::debug!(peer = %ends.peer, "a connection was refused: it does not speak HTTP/2");
        return None;
    }
    let config = secured.config.as_ref();
    let live = shared.register(secured.peer, &security, config).await?;
    let peer = live.handle().peer();
    let recording = shared.follow.recording(shared.semantics, peer);
    let state = Arc::clone(&shared.follow.load());
    let chain = match &*state {
        InboundState::Serving(snapshot) => snapshot.chain(ends).cloned().unwrap_or(chain),
        InboundState::Waiting | InboundState::NotServing(_) => chain,
    };
    Some(Opened {
        live,
        known: Known::new(state, chain, recording),
        protocol,
        io,
    })
}

/// Moves a connection's bytes until it ends, or is to end.
async fn drive<C: Serving>(connection: C, mut live: Live, shared: &Shared) {
    let mut connection = pin!(connection);
    let mut clock = Clock::new(&shared.options);
    let mut sleep = pin!(sleep_until(clock.next()));
    // While it drains.
    let mut distrusted: Option<BoxFuture<'_, ()>> = None;
    // Whom the clock wakes: it need not be told again with each request.
    let mut told: Option<Waker> = None;
    loop {
        let event = poll_fn(|cx: &mut Context<'_>| {
            // First, so that who is distrusted by now is not served again.
            if let Some(future) = &mut distrusted
                && future.as_mut().poll(cx).is_ready()
            {
                distrusted = None;
                if let Poll::Ready(order) = live.poll_order(cx) {
                    return Poll::Ready(Event::Ordered(order));
                }
            }
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(Event::Ended(result));
            }
            if let Poll::Ready(order) = live.poll_order(cx) {
                return Poll::Ready(Event::Ordered(order));
            }
            let is_told = told.as_ref().is_some_and(|it| it.will_wake(cx.waker()));
            if is_told && !sleep.is_elapsed() {
                return Poll::Pending;
            }
            let tick = sleep.as_mut().poll(cx).map(|()| Event::Tick);
            told = tick.is_pending().then(|| cx.waker().clone());
            tick
        });
        match event.await {
            Event::Ended(Ok(())) => return,
            Event::Ended(Err(error)) => {
                tracing::debug!(peer = ?live.handle().peer().address, %error, "a connection broke");
                return;
            }
            Event::Ordered(Order::Drain(why, grace)) => {
                tracing::debug!(peer = ?live.handle().peer().address, %why, "a connection drains");
                if C::TELLS {
                    connection.as_mut().go_away();
                }
                clock.drain(grace, C::TELLS);
                distrusted = Some(Box::pin(shared.distrusted(live.handle().clone())));
            }
            // To close, or what this version does not know: it cannot be right to go on.
            Event::Ordered(_) => {
                connection.as_mut().go_away();
                // Once more, so that the peer is told.
                poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx).is_ready())).await;
                return;
            }
            Event::Tick => {
                if let Some(order) = clock.due(live.handle(), &shared.options) {
                    live.handle().order(order);
                }
            }
        }
        sleep.as_mut().reset(clock.next());
        told = None;
    }
}

// === impl Serving ===

impl<I, S, B> Serving for http1::UpgradeableConnection<I, S>
where
    I: Read + Write + Unpin + Send + 'static,
    S: HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    const TELLS: bool = false;

    fn go_away(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Serving for http2::Connection<I, S, TokioExecutor>
where
    I: Read + Write + Unpin,
    S: HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>> + 'static,
    TokioExecutor: Http2ServerConnExec<S::Future, B>,
{
    const TELLS: bool = true;

    fn go_away(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
