use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use mesh_core::filter::Reply;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    body::{Held, RequestBody, Served},
    pace::Over,
    reply::{self, Form},
};
use crate::body::BoxError;

pin_project! {
    /// One request on its way through the filters and the service, until its response begins or its
    /// deadline passes. Written by hand, so that it is no larger than it must be.
    pub(super) struct Handling<S: Service<Request<RequestBody>>> {
        #[pin]
        step: Step<S, S::Future>,
        held: Option<Held>,
    }
}

pin_project! {
    #[project = StepProj]
    pub(super) enum Step<S, F> {
        /// A filter does not know yet.
        Waiting { rest: BoxFuture<'static, Result<Request<RequestBody>, NotServed>>, service: Option<S> },
        /// The service has to be ready for it.
        Admitted { service: S, request: Option<Request<RequestBody>> },
        Called { #[pin] future: F },
        Answered { reply: Option<Reply> },
        /// The route answers by itself.
        Routed { answer: Option<Box<Response<Bytes>>> },
    }
}

/// Why a request does not reach the service.
pub(crate) enum NotServed {
    Reply(Reply),
    /// Its route answers by itself.
    Answer(Box<Response<Bytes>>),
}

// === impl Handling ===

impl<S: Service<Request<RequestBody>>> Handling<S> {
    pub(super) fn new(step: Step<S, S::Future>, held: Held) -> Self {
        Self {
            step,
            held: Some(held),
        }
    }
}

impl<S, B> Future for Handling<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<Served<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(held) = this.held.as_mut() else {
            panic!("polled after completion");
        };
        loop {
            let polled = match this.step.as_mut().project() {
                StepProj::Waiting { rest, service } => {
                    rest.as_mut().poll(cx).map(|outcome| match outcome {
                        Ok(request) => match service.take() {
                            Some(service) => Next::Step(Step::Admitted {
                                service,
                                request: Some(request),
                            }),
                            None => Next::Step(Step::answered(reply::failed())),
                        },
                        Err(NotServed::Reply(reply)) => Next::Step(Step::answered(reply)),
                        Err(NotServed::Answer(answer)) => Next::Step(Step::routed(answer)),
                    })
                }
                StepProj::Admitted { service, request } => {
                    service
                        .poll_ready(cx)
                        .map(|ready| match (ready, request.take()) {
                            (Ok(()), Some(mut request)) => {
                                held.take_change(&mut request);
                                Next::Step(Step::Called {
                                    future: service.call(request),
                                })
                            }
                            (Ok(()), None) => Next::Step(Step::answered(reply::failed())),
                            (Err(error), _) => Next::Step(failed(error.into())),
                        })
                }
                StepProj::Called { future } => future.poll(cx).map(|outcome| match outcome {
                    Ok(response) if held.allows(response.status()) => Next::Done(response),
                    Ok(_) => {
                        let text =
                            "it answers with 1xx, which it may not, or switches protocols unasked";
                        Next::Step(failed(text.into()))
                    }
                    Err(error) => Next::Step(failed(error.into())),
                }),
                StepProj::Answered { reply } => {
                    let reply = reply.take().unwrap_or_else(reply::failed);
                    let (mut response, text) = held.form.response(reply);
                    held.finish(&mut response);
                    let Some(held) = this.held.take() else {
                        panic!("polled after completion");
                    };
                    return Poll::Ready(Ok(response.map(|()| Served::text(text, held))));
                }
                StepProj::Routed { answer } => {
                    let (Some(answer), Some(mut held)) = (answer.take(), this.held.take()) else {
                        panic!("polled after completion");
                    };
                    let (mut response, text) = reply::routed(*answer, held.form);
                    held.finish(&mut response);
                    return Poll::Ready(Ok(response.map(|()| Served::text(text, held))));
                }
            };
            let next = match polled {
                Poll::Ready(next) => next,
                // The handler ends here: nobody waits for it any more.
                Poll::Pending => {
                    let over = ready!(held.pace.poll_over(cx));
                    // The rest of its body is not waited for.
                    held.close |= over == (Over::Idle { received: false });
                    Next::Step(Step::answered(reply::late(over)))
                }
            };
            match next {
                Next::Step(step) => this.step.set(step),
                Next::Done(mut response) => {
                    held.change(&mut response);
                    held.finish(&mut response);
                    this.step.set(Step::Answered { reply: None });
                    let Some(held) = this.held.take() else {
                        panic!("polled after completion");
                    };
                    return Poll::Ready(Ok(response.map(|body| Served::handler(body, held))));
                }
            }
        }
    }
}

enum Next<S, F, B> {
    Step(Step<S, F>),
    Done(Response<B>),
}

// === impl NotServed ===

impl NotServed {
    /// What is answered, and its text.
    pub(crate) fn response(self, form: Form) -> (Response<()>, Bytes) {
        match self {
            Self::Reply(reply) => form.response(reply),
            Self::Answer(answer) => reply::routed(*answer, form),
        }
    }
}

// === impl Step ===

impl<S, F> Step<S, F> {
    pub(super) fn answered(reply: Reply) -> Self {
        Self::Answered { reply: Some(reply) }
    }

    pub(super) fn routed(answer: Box<Response<Bytes>>) -> Self {
        Self::Routed {
            answer: Some(answer),
        }
    }
}

fn failed<S, F>(error: BoxError) -> Step<S, F> {
    tracing::debug!(%error, "a service failed");
    Step::answered(reply::failed())
}
