//! A call that goes on.

use bytes::Bytes;
use futures_util::StreamExt;
use http::uri::PathAndQuery;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mesh_hyper::ResponseBody;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Ask, Caller, ask};
use crate::{
    echo,
    fixture::PATIENCE,
    pb::{EchoReply, EchoRequest},
};

/// An open stream in both directions: of messages, or of the pieces of bodies.
#[derive(Debug)]
pub struct Chat {
    pieces: mpsc::UnboundedSender<Bytes>,
    replies: Replies,
}

/// A stream whose request is there, and that nobody has answered: it is sent once that is waited for.
#[derive(Debug)]
pub struct Opening {
    caller: Caller,
    ask: Ask,
    pieces: mpsc::UnboundedSender<Bytes>,
    receiver: mpsc::UnboundedReceiver<Bytes>,
}

#[derive(Debug)]
enum Replies {
    Grpc(Box<Streaming<EchoReply>>),
    Http {
        server: String,
        body: Box<ResponseBody>,
    },
}

// === impl Chat ===

impl Chat {
    /// Opens a stream.
    ///
    /// # Errors
    /// If there is no answer but a failure.
    pub async fn open(caller: &Caller) -> Result<Self, Status> {
        Self::begin(caller, Ask::new("")).answered().await
    }

    /// Opens a stream on which only the server has more to say: the request has ended.
    ///
    /// # Errors
    /// If there is no answer but a failure.
    pub async fn listen(caller: &Caller, ask: Ask) -> Result<Self, Status> {
        Self::begin(caller, ask).ended().await
    }

    /// A stream that begins with the payload, if there is any.
    pub fn begin(caller: &Caller, ask: Ask) -> Opening {
        let (pieces, receiver) = mpsc::unbounded_channel();
        let opening = Opening {
            caller: caller.clone(),
            ask: ask.path(echo::CHAT),
            pieces,
            receiver,
        };
        if !opening.ask.payload.is_empty() {
            opening.send(opening.ask.payload.clone());
        }
        opening
    }

    /// Sends a piece and waits for its echo; the name of the server.
    ///
    /// # Errors
    /// If the stream has ended or ends.
    ///
    /// # Panics
    /// If it is answered with something else.
    pub async fn say(&mut self) -> Result<String, Status> {
        self.send("word");
        let (server, reply) = self.hear().await?;
        assert_eq!(reply, "word");
        Ok(server)
    }

    /// Sends a piece. If the stream has ended, [`hear`](Self::hear) says how.
    pub fn send(&self, piece: impl Into<Bytes>) {
        let _ = self.pieces.send(piece.into());
    }

    /// Waits until the request's stream is not read any more.
    pub async fn closed(&self) {
        self.pieces.closed().await;
    }

    /// Waits for an echo; the name of the server. Pieces of HTTP that were sent one right after the
    /// other may come as one.
    ///
    /// # Errors
    /// If the stream has ended or ends.
    pub async fn hear(&mut self) -> Result<(String, Bytes), Status> {
        let heard = self.next().await?;
        heard.ok_or_else(|| Status::unknown("the stream ended without an echo"))
    }

    /// Ends the request; what is left of the replies can be heard still.
    pub fn end(&mut self) {
        self.pieces = mpsc::unbounded_channel().0;
    }

    /// Stops to listen; the request's stream is left.
    pub fn give_up(self) -> mpsc::UnboundedSender<Bytes> {
        self.pieces
    }

    /// Waits, without a word, for the stream to end; its status.
    ///
    /// # Panics
    /// If it ends well, or not within 20 s.
    pub async fn finish_late(mut self) -> Status {
        match timeout(PATIENCE, self.next()).await {
            Ok(Err(status)) => status,
            Ok(Ok(reply)) => panic!("expected the stream to fail, not {reply:?}"),
            Err(_) => panic!("the stream does not end"),
        }
    }

    /// Ends the stream from this side and waits for its end.
    ///
    /// # Errors
    /// If it ends with another status than OK.
    pub async fn finish(mut self) -> Result<(), Status> {
        self.end();
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<(String, Bytes)>, Status> {
        match &mut self.replies {
            Replies::Grpc(replies) => {
                let reply = replies.message().await?;
                Ok(reply.map(|reply| (reply.server, reply.payload)))
            }
            Replies::Http { server, body } => {
                while let Some(frame) = body.frame().await {
                    if let Ok(piece) = frame.map_err(ask::failed)?.into_data() {
                        return Ok(Some((server.clone(), piece)));
                    }
                }
                Ok(None)
            }
        }
    }
}

// === impl Opening ===

impl Opening {
    /// Sends a piece.
    pub fn send(&self, piece: impl Into<Bytes>) {
        let _ = self.pieces.send(piece.into());
    }

    /// Ends the request, and waits for the answer.
    ///
    /// # Errors
    /// If there is none but a failure.
    pub async fn ended(mut self) -> Result<Chat, Status> {
        self.pieces = mpsc::unbounded_channel().0;
        self.answered().await
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// If there is none but a failure.
    pub async fn answered(self) -> Result<Chat, Status> {
        let stream = UnboundedReceiverStream::new(self.receiver);
        let replies = match &self.caller {
            Caller::Grpc(channel) => {
                let message = |payload| EchoRequest { payload, count: 1 };
                let request = self.ask.grpc(stream.map(message));
                let codec = ProstCodec::<EchoRequest, EchoReply>::default();
                let path = PathAndQuery::from_static(echo::CHAT);
                let response = ask::grpc(channel).streaming(request, path, codec).await?;
                Replies::Grpc(Box::new(response.into_inner()))
            }
            Caller::Http(client) => {
                let piece = |piece| Ok::<_, std::convert::Infallible>(Frame::data(piece));
                let request = self.ask.http(StreamBody::new(stream.map(piece)));
                let (server, response) = ask::answer(client.request(request).await).await?;
                let body = Box::new(response.into_body());
                Replies::Http { server, body }
            }
        };
        Ok(Chat {
            pieces: self.pieces,
            replies,
        })
    }
}
