//! Bodies of requests and responses.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Any body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// Where the frames of a body are put, or its end.
pub type Frames = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// Bytes of one frame of a long body.
const PIECE: usize = 16 << 10;

/// None.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// This, at once.
pub fn full(data: impl Into<Bytes>) -> Body {
    let full = Full::new(data.into());
    full.map_err(|never| match never {}).boxed_unsync()
}

/// So many bytes, made as they are asked for: 0, 1, 2 ... 250, 0, 1 ... The counter tells how many
/// have been.
pub fn long(length: usize, asked: Arc<watch::Sender<u64>>) -> Body {
    let frames = (0..length).step_by(PIECE).map(move |from| {
        let to = length.min(from + PIECE);
        let data: Vec<u8> = (from..to).map(|at| (at % 251) as u8).collect();
        asked.send_replace(to as u64);
        Ok(Frame::data(Bytes::from(data)))
    });
    StreamBody::new(tokio_stream::iter(frames)).boxed_unsync()
}

/// What is put in, as it is. It ends when the sender is dropped.
pub fn streamed() -> (Frames, Body) {
    let (frames, streamed) = mpsc::channel(1);
    let body = StreamBody::new(ReceiverStream::new(streamed));
    (frames, body.boxed_unsync())
}
