//! An HTTP/1.1 connection, driven by one task, which also notices when it can take another request.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::{dial::Stream, drive::Ended, h1::Connection, idle::Idle};
use crate::body::Outgoing;

/// Moves the bytes of a connection. An upgrade (101) takes the connection from it, and ends it:
/// `hyper::upgrade::on` the response gives the bytes to the caller, whose they are from then on.
pub(super) type Bytes1 = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Moves a connection. Does nothing unless polled.
pub(super) struct Driver1 {
    /// Gone once the connection is closed.
    bytes: Option<Bytes1>,
    connection: Arc<Connection>,
    /// Requests that it takes.
    most: Option<u32>,
}

/// What became of a poll.
enum Progress {
    /// The request is over, and another may come.
    Finished,
    Over(Ended),
}

/// Starts HTTP/1.1 on `io`. Nothing is sent before there is a request.
pub(super) async fn handshake(io: Stream) -> hyper::Result<(SendRequest<Outgoing>, Bytes1)> {
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(io)).await?;
    Ok((sender, Box::pin(connection.with_upgrades())))
}

// === impl Driver1 ===

impl Driver1 {
    pub(super) fn new(bytes: Bytes1, connection: Arc<Connection>, most: Option<u32>) -> Self {
        Self {
            bytes: Some(bytes),
            connection,
            most,
        }
    }

    /// Moves the connection until it takes no more requests.
    pub(super) async fn serve(&mut self, idle: Option<Duration>) -> Ended {
        let mut idle = idle.map(|timeout| Idle::new(timeout, &self.connection.streams));
        let ended = poll_fn(|cx| {
            match self.poll(cx) {
                Poll::Ready(Progress::Over(ended)) => return Poll::Ready(ended),
                Poll::Ready(Progress::Finished) => {
                    let begun = self.connection.streams.begun();
                    if self.most.is_some_and(|most| begun >= most) {
                        self.connection.set_free();
                        return Poll::Ready(Ended::Spent);
                    }
                    Arc::clone(&self.connection).give_back();
                }
                Poll::Pending => {}
            }
            if self.connection.stopper.poll_stopped(cx) {
                return Poll::Ready(Ended::Stopped);
            }
            if let Some(idle) = &mut idle
                && idle.poll(cx.waker(), &self.connection.streams).is_ready()
            {
                return Poll::Ready(Ended::Idle);
            }
            Poll::Pending
        })
        .await;
        self.connection.leave();
        ended
    }

    /// Moves the connection until whoever has it is done with it, then closes it.
    pub(super) async fn finish(&mut self) {
        poll_fn(|cx| {
            loop {
                self.connection.stopper.poll_stopped(cx);
                match self.poll(cx) {
                    Poll::Ready(Progress::Over(_)) => return Poll::Ready(()),
                    Poll::Ready(Progress::Finished) => self.connection.set_free(),
                    Poll::Pending => {}
                }
                if !(self.connection.is_free() && self.connection.hang_up()) {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        // A request that comes while hyper is polled may be left for the next poll.
        let busy = self.connection.is_busy();
        let Some(bytes) = &mut self.bytes else {
            return Poll::Ready(Progress::Over(Ended::Closed));
        };
        if let Poll::Ready(result) = bytes.as_mut().poll(cx) {
            self.bytes = None;
            return Poll::Ready(Progress::Over(match result {
                Ok(()) => Ended::Closed,
                Err(error) => Ended::Broken(error),
            }));
        }
        if busy && self.connection.has_finished() {
            return Poll::Ready(Progress::Finished);
        }
        Poll::Pending
    }
}
