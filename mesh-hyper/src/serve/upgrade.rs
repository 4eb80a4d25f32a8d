//! HTTP/1.1 connections that become something else (`101 Switching Protocols`).

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use http::{Version, header::UPGRADE, request::Parts};
use hyper::upgrade::OnUpgrade;
use mesh_core::{connections::RequestGuard, route::first_value};
use parking_lot::Mutex;
use pin_project_lite::pin_project;

use super::connection::Serving;
use crate::upgrade;
pub(super) use crate::upgrade::Asked;

/// What an HTTP/1.1 connection may become, and how far its request is: told by who answers its
/// requests and who reads its bytes, and seen by them and by who carries it.
#[derive(Clone, Default)]
pub(super) struct Tunnel(Arc<State>);

#[derive(Default)]
struct State {
    /// It speaks another protocol.
    open: AtomicBool,
    /// It is to end now.
    cut: AtomicBool,
    /// Its bytes are gone.
    ended: AtomicBool,
    /// The body of a request has not come to its end.
    receiving: AtomicBool,
    /// The request that opened it is under way for as long as it lives.
    request: Mutex<Option<RequestGuard>>,
    reader: AtomicWaker,
    writer: AtomicWaker,
    carrier: AtomicWaker,
}

pin_project! {
    /// A hyper connection, and the tunnel that it may become. Dropping this cuts the tunnel.
    pub(super) struct Tunnelled<C> {
        #[pin]
        connection: Option<C>,
        tunnel: Tunnel,
    }

    impl<C> PinnedDrop for Tunnelled<C> {
        fn drop(this: Pin<&mut Self>) {
            this.project().tunnel.cut();
        }
    }
}

/// What `head` asks its connection to become; nothing unless it came over HTTP/1.1.
#[inline]
pub(super) fn asked(head: &mut Parts) -> Asked {
    if head.version != Version::HTTP_11 || first_value(&head.headers, &UPGRADE).is_none() {
        return Asked::Nothing;
    }
    let asked = upgrade::asked(&mut head.headers);
    if asked == Asked::Nothing {
        head.extensions.remove::<OnUpgrade>();
    }
    asked
}

// === impl Tunnel ===

impl Tunnel {
    /// From now on its bytes are no HTTP. It counts as this request until it ends.
    pub(super) fn open(&self, request: Option<RequestGuard>) {
        *self.0.request.lock() = request;
        self.0.open.store(true, Ordering::Release);
        if self.0.ended.load(Ordering::Acquire) {
            self.0.request.lock().take();
        }
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Whether some of a request's body is still to come.
    #[inline]
    pub(super) fn set_receiving(&self, receiving: bool) {
        self.0.receiving.store(receiving, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_receiving(&self) -> bool {
        self.0.receiving.load(Ordering::Relaxed)
    }

    /// Ends it, if it is open: whoever reads or writes gets an error.
    fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.0.request.lock().take();
        self.0.reader.wake();
        self.0.writer.wake();
    }

    /// Its bytes are gone.
    pub(super) fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.request.lock().take();
        self.0.carrier.wake();
    }

    /// Whether it may be read on. Has the reader woken when not.
    pub(super) fn check_read(&self, cx: &Context<'_>) -> io::Result<()> {
        self.check(&self.0.reader, cx)
    }

    /// Whether it may be written on. Has the writer woken when not.
    #[inline]
    pub(super) fn check_write(&self, cx: &Context<'_>) -> io::Result<()> {
        match self.is_open() {
            true => self.check(&self.0.writer, cx),
            false => Ok(()),
        }
    }

    fn check(&self, waker: &AtomicWaker, cx: &Context<'_>) -> io::Result<()> {
        waker.register(cx.waker());
        match self.0.cut.load(Ordering::Acquire) {
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server has ended the upgraded connection",
            )),
            false => Ok(()),
        }
    }

    fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.carrier.register(cx.waker());
        match self.0.ended.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

// === impl Tunnelled ===

impl<C> Tunnelled<C> {
    pub(super) fn new(connection: C, tunnel: Tunnel) -> Self {
        Self {
            connection: Some(connection),
            tunnel,
        }
    }
}

impl<C: Serving> Future for Tunnelled<C> {
    type Output = hyper::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let mut this = self.project();
        if let Some(connection) = this.connection.as_mut().as_pin_mut() {
            match connection.poll(cx) {
                Poll::Ready(Ok(())) if this.tunnel.is_open() => this.connection.set(None),
                polled => return polled,
            }
        }
        this.tunnel.poll_ended(cx).map(Ok)
    }
}

impl<C: Serving> Serving for Tunnelled<C> {
    const TELLS: bool = C::TELLS;

    /// A tunnel cannot be told.
    fn go_away(self: Pin<&mut Self>) {
        if let Some(connection) = self.project().connection.as_pin_mut() {
            connection.go_away();
        }
    }
}
