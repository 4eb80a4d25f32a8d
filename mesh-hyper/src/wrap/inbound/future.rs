use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use mesh_core::Scoped;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    body::BoxError,
    serve::{Held, NotServed, Served, failed, late},
    wrap::PeerInfo,
};

pin_project! {
    /// A request on its way through an [`InboundLayer`](super::InboundLayer) and the service.
    #[must_use = "futures do nothing unless polled"]
    pub struct InboundFuture<S: Service<Request<A>>, A> {
        #[pin]
        inner: Scoped<Handling<S, A>>,
    }
}

pin_project! {
    /// The body of its response: the service's, until the request's deadline.
    pub struct InboundBody<B> {
        #[pin]
        body: Served<B>,
    }
}

pin_project! {
    /// Runs under the request's context.
    struct Handling<S: Service<Request<A>>, A> {
        #[pin]
        step: Step<S, A, S::Future>,
        held: Option<Held>,
        // Whose connection may be told to end: over HTTP/1.1 alone.
        info: Option<PeerInfo>,
    }
}

pin_project! {
    #[project = StepProj]
    pub(super) enum Step<S, A, F> {
        /// A filter, or whether there is a listener, is not known yet.
        Waiting { rest: BoxFuture<'static, Result<Request<A>, NotServed>>, service: Option<S> },
        Called { #[pin] future: F },
        Answered { reply: Option<NotServed> },
    }
}

// === impl InboundFuture ===

impl<S, A, B> InboundFuture<S, A>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    pub(super) fn new(step: Step<S, A, S::Future>, held: Held, info: Option<PeerInfo>) -> Self {
        let context = held.context.clone();
        let handling = Handling {
            step,
            held: Some(held),
            info,
        };
        Self {
            inner: context.scope(handling),
        }
    }
}

impl<S, A, B> Future for InboundFuture<S, A>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<InboundBody<B>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx)
    }
}

impl<S: Service<Request<A>>, A> fmt::Debug for InboundFuture<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InboundFuture")
    }
}

// === impl InboundBody ===

impl<B> Body for InboundBody<B>
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
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for InboundBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InboundBody")
    }
}

// === impl Handling ===

impl<S, A, B> Future for Handling<S, A>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<InboundBody<B>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(held) = this.held.as_mut() else {
            panic!("polled after completion");
        };
        let response = loop {
            let next = match this.step.as_mut().project() {
                StepProj::Waiting { rest, service } => match rest.as_mut().poll(cx) {
                    Poll::Ready(Ok(mut request)) => match service.take() {
                        Some(mut service) => {
                            held.take_change(&mut request);
                            Some(Step::Called {
                                future: service.call(request),
                            })
                        }
                        None => Some(Step::answered(NotServed::Reply(failed()))),
                    },
                    Poll::Ready(Err(reply)) => Some(Step::answered(reply)),
                    Poll::Pending => None,
                },
                StepProj::Called { future } => match future.poll(cx) {
                    Poll::Ready(Ok(response)) => break Ok(response),
                    Poll::Ready(Err(error)) => {
                        *this.held = None;
                        return Poll::Ready(Err(error));
                    }
                    Poll::Pending => None,
                },
                StepProj::Answered { reply } => {
                    break Err(reply.take().unwrap_or_else(|| NotServed::Reply(failed())));
                }
            };
            let next = match next {
                Some(next) => next,
                // The service ends here: nobody waits for it any more.
                None => {
                    let over = ready!(held.poll_over(cx));
                    Step::answered(NotServed::Reply(late(over)))
                }
            };
            this.step.set(next);
        };
        let Some(mut held) = this.held.take() else {
            panic!("polled after completion");
        };
        this.step.set(Step::Answered { reply: None });
        held.close |= this.info.as_ref().is_some_and(PeerInfo::is_ending);
        let response = match response {
            Ok(mut response) => {
                held.change(&mut response);
                held.finish(&mut response);
                response.map(|body| Served::handler(body, held))
            }
            Err(reply) => {
                let form = held.form;
                let (mut response, text) = reply.response(form, &mut held.recorded);
                held.finish(&mut response);
                response.map(|()| Served::text(text, held))
            }
        };
        Poll::Ready(Ok(response.map(|body| InboundBody { body })))
    }
}

// === impl Step ===

impl<S, A, F> Step<S, A, F> {
    pub(super) fn answered(reply: NotServed) -> Self {
        Self::Answered { reply: Some(reply) }
    }
}
