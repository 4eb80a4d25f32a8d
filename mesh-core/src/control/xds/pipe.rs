//! A stream to a control plane that may be open or not, waited for in one place.

use std::{fmt, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    bootstrap::ServerConfig,
    runtime::{Limits, Messages, RpcStatus, SideCall, SideCallError, SideCallFuture},
};

/// The stream to one control plane.
pub(super) struct Pipe {
    server: ServerConfig,
    limits: Limits,
    calls: Arc<dyn SideCall>,
    link: Link,
    /// Waits for room on the stream.
    unsent: Option<Bytes>,
    reading: bool,
}

enum Link {
    Closed,
    Opening(SideCallFuture),
    Open(Messages),
}

/// What happened on a [`Pipe`].
#[derive(Debug)]
pub(super) enum Moved {
    /// It is open, or there will be no stream.
    Opened(Result<(), SideCallError>),
    /// There was room for the message that waited.
    Sent,
    /// A message came.
    Read(Bytes),
    /// It ended; `None`: with OK. It is closed.
    Ended(Option<RpcStatus>),
}

impl Pipe {
    /// One that is closed.
    pub(super) fn new(server: ServerConfig, limits: Limits, calls: Arc<dyn SideCall>) -> Self {
        Self {
            server,
            limits,
            calls,
            link: Link::Closed,
            unsent: None,
            reading: false,
        }
    }

    /// Opens a stream of `path`.
    pub(super) fn open(&mut self, path: &'static str) {
        let headers = HeaderMap::new();
        let opening = self.calls.stream(&self.server, path, headers, self.limits);
        self.link = Link::Opening(opening);
    }

    pub(super) fn close(&mut self) {
        self.link = Link::Closed;
        self.unsent = None;
        self.reading = false;
    }

    /// Says nothing more, and closes once what was sent has been taken, or after so long.
    pub(super) async fn finish(self, grace: Duration) {
        if let Link::Open(Messages { send, mut recv }) = self.link {
            drop(send);
            let ended = async { while let Some(Ok(_)) = recv.recv().await {} };
            // Whoever does not take it in time has had it.
            let _ = timeout(grace, ended).await;
        }
    }

    /// Has the next message read: none is before that.
    pub(super) fn read(&mut self) {
        self.reading = true;
    }

    /// Sends `message` if there is room, and keeps it for later otherwise.
    pub(super) fn try_send(&mut self, message: Bytes) -> bool {
        let Link::Open(messages) = &self.link else {
            return false;
        };
        match messages.send.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(message)) => {
                self.unsent = Some(message);
                false
            }
            // The end of the stream is about to be read.
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// The next thing that happens. Loses nothing when it is dropped.
    pub(super) async fn next(&mut self) -> Moved {
        match &mut self.link {
            Link::Closed => pending().await,
            Link::Opening(opening) => match opening.await {
                Ok(messages) => {
                    self.link = Link::Open(messages);
                    Moved::Opened(Ok(()))
                }
                Err(error) => {
                    self.link = Link::Closed;
                    Moved::Opened(Err(error))
                }
            },
            Link::Open(Messages { send, recv }) => {
                let (unsent, reading) = (&mut self.unsent, &mut self.reading);
                let read = tokio::select! {
                    biased;
                    () = self::send(send, unsent) => return Moved::Sent,
                    message = receive(recv, reading) => message,
                };
                let status = match read {
                    Some(Ok(message)) => return Moved::Read(message),
                    Some(Err(status)) => Some(status),
                    None => None,
                };
                self.close();
                Moved::Ended(status)
            }
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("server", &self.server.uri)
            .finish_non_exhaustive()
    }
}

async fn send(sender: &mpsc::Sender<Bytes>, unsent: &mut Option<Bytes>) {
    if unsent.is_none() {
        return pending().await;
    }
    match sender.reserve().await {
        Ok(permit) => {
            if let Some(message) = unsent.take() {
                permit.send(message);
            }
        }
        // The end of the stream is about to be read.
        Err(_) => pending().await,
    }
}

async fn receive(
    receiver: &mut mpsc::Receiver<Result<Bytes, RpcStatus>>,
    reading: &mut bool,
) -> Option<Result<Bytes, RpcStatus>> {
    if !*reading {
        return pending().await;
    }
    let message = receiver.recv().await;
    *reading = false;
    message
}
