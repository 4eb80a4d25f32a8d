use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONNECTION};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mesh_core::{
    Context, Semantics, connections::RequestGuard, resolve::InboundRoute, rewrite::Remembered,
};
use pin_project_lite::pin_project;

use super::{
    pace::{Over, Pace, Received},
    record::Recorded,
    reply::{self, Form},
    upgrade::Tunnel,
};
use crate::body::{BoxError, Tally};

/// The body of a request that a server received.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    /// Told of each frame, where somebody asks.
    received: Option<Arc<Received>>,
    tally: Tally,
    semantics: Semantics,
}

pin_project! {
    /// The body of a response under way: the handler's, until its deadline.
    pub(crate) struct Served<B> {
        #[pin]
        body: Kind<B>,
        held: Held,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Handler { #[pin] body: B },
        Text { text: Bytes },
        Ended,
    }
}

/// What a request holds from its first byte to the last of its response.
pub(crate) struct Held {
    pub(super) pace: Pace,
    /// In milliseconds; zero: any time. Beside other small fields, where it takes no room.
    pub(super) idle: u32,
    pub(crate) context: Context,
    pub(crate) form: Form,
    /// Whether the response says `Connection: close`.
    pub(crate) close: bool,
    /// Whether it does if the connection drains by then.
    pub(super) close_if_draining: bool,
    /// What the connection becomes with a response of 101; `None`: it must not.
    pub(super) tunnel: Option<Tunnel>,
    /// Tells over HTTP/1.1 whether some of the request's body is still to come: a response that
    /// begins then is the last of its connection, as in Envoy.
    pub(super) receiving: Option<Tunnel>,
    /// Counts it among those under way on its connection, if that is one of ours.
    pub(crate) guard: Option<RequestGuard>,
    /// What its route does with the response of its handler.
    pub(super) change: Option<Arc<ResponseChange>>,
    pub(crate) recorded: Recorded,
}

/// What a route changes in the response to one request.
#[derive(Debug)]
pub(super) struct ResponseChange {
    pub(super) route: Arc<InboundRoute>,
    pub(super) remembered: Remembered,
}

// === impl Held ===

impl Held {
    /// For a request whose connection is carried by somebody else.
    pub(crate) fn elsewhere(
        context: Context,
        form: Form,
        close: bool,
        guard: Option<RequestGuard>,
        recorded: Recorded,
    ) -> Self {
        Self {
            pace: Pace::default(),
            idle: 0,
            context,
            form,
            close,
            close_if_draining: false,
            tunnel: None,
            receiving: None,
            guard,
            change: None,
            recorded,
        }
    }

    /// Ready once a time of the request is over.
    #[inline]
    pub(crate) fn poll_over(&mut self, cx: &mut task::Context<'_>) -> Poll<Over> {
        self.pace.poll_over(self.context.deadline(), self.idle, cx)
    }

    /// Takes what the request carries for its response.
    #[inline]
    pub(crate) fn take_change<B>(&mut self, request: &mut Request<B>) {
        self.change = ResponseChange::take(request);
    }

    /// What the route does with a handler's response.
    #[inline]
    pub(crate) fn change<B>(&mut self, response: &mut Response<B>) {
        if let Some(change) = self.change.take()
            && let Some(http) = &change.route.http
        {
            let status = response.status();
            http.response(status, response.headers_mut(), &change.remembered, None);
        }
    }

    /// Makes the last changes to a response, and to its connection.
    #[inline]
    pub(crate) fn finish<B>(&mut self, response: &mut Response<B>) {
        (self.recorded).answered(response.status(), response.headers());
        if let Some(tunnel) = self.tunnel.take()
            && response.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            tunnel.open(self.guard.take());
            return;
        }
        let is_ending = || self.guard.as_ref().is_some_and(RequestGuard::is_ending);
        let is_early = || self.receiving.as_ref().is_some_and(Tunnel::is_receiving);
        if self.close || (self.close_if_draining && is_ending()) || is_early() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
    }
}

// === impl ResponseChange ===

impl ResponseChange {
    /// Takes what the request carries for its response; the handler does not see it.
    #[inline]
    pub(super) fn take<B>(request: &mut Request<B>) -> Option<Arc<Self>> {
        request.extensions_mut().remove()
    }
}

// === impl RequestBody ===

impl RequestBody {
    pub(super) fn new(incoming: Incoming, semantics: Semantics) -> Self {
        Self {
            incoming,
            received: None,
            tally: Tally::default(),
            semantics,
        }
    }

    /// Notes what comes.
    pub(super) fn watch(&mut self, received: &Arc<Received>) {
        self.received = Some(Arc::clone(received));
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let this = &mut *self;
        if let (Some(received), Poll::Ready(frame)) = (&this.received, &polled) {
            received.note(frame.is_none() || this.incoming.is_end_stream());
            if let Some(Ok(frame)) = frame
                && let Some(data) = frame.data_ref()
            {
                this.tally.count(this.semantics, data);
                received.count(this.tally.amount());
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

// === impl Served ===

impl<B> Served<B> {
    pub(crate) fn handler(body: B, mut held: Held) -> Self
    where
        B: Body,
    {
        if body.is_end_stream() {
            held.recorded.complete();
        }
        Self {
            body: Kind::Handler { body },
            held,
        }
    }

    pub(crate) fn text(text: Bytes, mut held: Held) -> Self {
        held.recorded.sent(&text);
        held.recorded.complete();
        Self {
            body: Kind::Text { text },
            held,
        }
    }
}

impl<B> Body for Served<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let body = match this.body.as_mut().project() {
            KindProj::Handler { body } => body,
            KindProj::Text { text } => {
                let text = std::mem::take(text);
                this.body.set(Kind::Ended);
                return Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(text))));
            }
            KindProj::Ended => return Poll::Ready(None),
        };
        // What a handler streams is its work too.
        let polled = this.held.context.enter(|| body.poll_frame(cx));
        if polled.is_pending()
            && let Poll::Ready(over) = this.held.poll_over(cx)
        {
            this.body.set(Kind::Ended);
            let late = reply::late(over);
            this.held.recorded.replied(&late);
            this.held.recorded.complete();
            return Poll::Ready(Some(match this.held.form {
                Form::Grpc => Ok(Frame::trailers(reply::trailers(late.grpc, &late.message))),
                Form::Http => Err(late.message.into()),
            }));
        }
        if let Poll::Ready(frame) = &polled {
            this.held.pace.responded();
            let recorded = &mut this.held.recorded;
            match frame {
                None => recorded.complete(),
                Some(Err(_)) => recorded.broken(),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        recorded.sent(data);
                    } else if let Some(trailers) = frame.trailers_ref() {
                        recorded.trailers(trailers);
                    }
                    // hyper does not ask for more than there is.
                    if let KindProj::Handler { body } = this.body.project()
                        && (body.is_end_stream() || body.size_hint().exact() == Some(0))
                    {
                        recorded.complete();
                    }
                }
            }
        }
        polled.map(|frame| Some(frame?.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Kind::Handler { body } => body.is_end_stream(),
            Kind::Text { text } => text.is_empty(),
            Kind::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Handler { body } => body.size_hint(),
            Kind::Text { text } => SizeHint::with_exact(text.len() as u64),
            Kind::Ended => SizeHint::with_exact(0),
        }
    }
}
