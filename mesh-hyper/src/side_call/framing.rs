use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame};
use mesh_core::{
    Code,
    runtime::{Limits, RpcStatus},
};
use tokio::sync::mpsc;

/// A flag for compression, and the length in 32 bits.
const PREFIX: usize = 5;

/// Messages from a queue as the body of a gRPC request. Ends when the queue's senders are gone.
#[derive(Debug)]
pub(super) struct Framed {
    queue: mpsc::Receiver<Bytes>,
    /// The message whose prefix was yielded.
    message: Option<Bytes>,
}

/// Takes messages out of the bytes of a gRPC response.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: BytesMut,
    max_message: usize,
}

// === impl Framed ===

impl Framed {
    pub(super) fn new(queue: mpsc::Receiver<Bytes>) -> Self {
        Self {
            queue,
            message: None,
        }
    }
}

impl Body for Framed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        let Some(message) = ready!(self.queue.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        let Ok(length) = u32::try_from(message.len()) else {
            let error = io::Error::other("a gRPC message has at most 4 GiB");
            return Poll::Ready(Some(Err(error)));
        };
        let mut prefix = [0; PREFIX];
        prefix[1..].copy_from_slice(&length.to_be_bytes());
        // On its own, so that a large message is not copied.
        if !message.is_empty() {
            self.message = Some(message);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&prefix)))))
    }
}

// === impl Decoder ===

impl Decoder {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            buffer: BytesMut::new(),
            max_message: limits.max_message,
        }
    }

    /// Adds what was received. To be called when [`next`](Self::next) has no more.
    pub(super) fn push(&mut self, data: Bytes) {
        self.buffer.extend_from_slice(&data);
    }

    /// The next whole message. A message's length is checked before it is waited for.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, RpcStatus> {
        let Some(&[flag, a, b, c, d]) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if flag != 0 {
            let message = match flag {
                1 => "the server compressed a message, which it was not asked to".to_owned(),
                flag => format!("the server sent a message with the invalid flag {flag}"),
            };
            return Err(RpcStatus {
                code: Code::Internal,
                message,
            });
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.max_message {
            return Err(RpcStatus {
                code: Code::ResourceExhausted,
                message: format!(
                    "the server sent a message of {length} bytes, more than the limit of {} bytes",
                    self.max_message
                ),
            });
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether a message is incomplete.
    pub(super) fn is_midway(&self) -> bool {
        !self.buffer.is_empty()
    }
}
