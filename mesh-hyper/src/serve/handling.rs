use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::Body;
use mesh_core::filter::Reply;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    body::{Held, RequestBody, ResponseChange, Served},
    pace::Over,
    record::Recorded,
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
        Over,
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
    #[inline]
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
        let allows_switch = held.tunnel.is_some();
        let change = &mut held.change;
        let polled = (held.context).enter(|| this.step.as_mut().poll(change, allows_switch, cx));
        let answer = match polled {
            Poll::Ready(answer) => answer,
            // The handler ends here: nobody waits for it any more.
            Poll::Pending => {
                let over = ready!(held.poll_over(cx));
                // The rest of its body is not waited for.
                held.close |= over == (Over::Idle { received: false });
                Answer::Reply(reply::late(over))
            }
        };
        this.step.set(Step::Over);
        let Some(mut held) = this.held.take() else {
            panic!("polled after completion");
        };
        let (mut response, text) = match answer {
            Answer::Handler(mut response) => {
                held.change(&mut response);
                held.finish(&mut response);
                return Poll::Ready(Ok(response.map(|body| Served::handler(body, held))));
            }
            Answer::Reply(reply) => {
                held.recorded.replied(&reply);
                held.form.response(reply)
            }
            Answer::Route(answer) => {
                held.recorded.routed();
                reply::routed(*answer, held.form)
            }
        };
        held.finish(&mut response);
        Poll::Ready(Ok(response.map(|()| Served::text(text, held))))
    }
}

/// What a request is answered with.
enum Answer<B> {
    Handler(Response<B>),
    Reply(Reply),
    Route(Box<Response<Bytes>>),
}

// === impl NotServed ===

impl NotServed {
    /// What is answered, and its text.
    pub(crate) fn response(self, form: Form, recorded: &mut Recorded) -> (Response<()>, Bytes) {
        match self {
            Self::Reply(reply) => {
                recorded.replied(&reply);
                form.response(reply)
            }
            Self::Answer(answer) => {
                recorded.routed();
                reply::routed(*answer, form)
            }
        }
    }
}

// === impl Step ===

impl<S> Step<S, S::Future>
where
    S: Service<Request<RequestBody>>,
    S::Error: Into<BoxError>,
{
    /// Goes on until there is an answer, or something to wait for.
    fn poll<B>(
        mut self: Pin<&mut Self>,
        change: &mut Option<Arc<ResponseChange>>,
        allows_switch: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Answer<B>>
    where
        S: Service<Request<RequestBody>, Response = Response<B>>,
    {
        loop {
            let next = match self.as_mut().project() {
                StepProj::Waiting { rest, service } => match ready!(rest.as_mut().poll(cx)) {
                    Ok(mut request) => {
                        *change = ResponseChange::take(&mut request);
                        match service.take() {
                            Some(service) => Step::Admitted {
                                service,
                                request: Some(request),
                            },
                            None => break,
                        }
                    }
                    Err(NotServed::Reply(reply)) => return Poll::Ready(Answer::Reply(reply)),
                    Err(NotServed::Answer(answer)) => return Poll::Ready(Answer::Route(answer)),
                },
                StepProj::Admitted { service, request } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        return Poll::Ready(failed(error.into()));
                    }
                    let Some(request) = request.take() else {
                        break;
                    };
                    Step::Called {
                        future: service.call(request),
                    }
                }
                StepProj::Called { future } => {
                    return Poll::Ready(match ready!(future.poll(cx)) {
                        Ok(response) if is_allowed(response.status(), allows_switch) => {
                            Answer::Handler(response)
                        }
                        Ok(_) => {
                            let text = "it answers with 1xx, which it may not, or switches protocols unasked";
                            failed(text.into())
                        }
                        Err(error) => failed(error.into()),
                    });
                }
                StepProj::Answered { reply } => match reply.take() {
                    Some(reply) => return Poll::Ready(Answer::Reply(reply)),
                    None => break,
                },
                StepProj::Routed { answer } => match answer.take() {
                    Some(answer) => return Poll::Ready(Answer::Route(answer)),
                    None => break,
                },
                StepProj::Over => break,
            };
            self.set(next);
        }
        // Not reached: each is taken once.
        Poll::Ready(Answer::Reply(reply::failed()))
    }
}

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

/// Whether a handler may answer with this.
#[inline]
fn is_allowed(status: StatusCode, allows_switch: bool) -> bool {
    match status {
        StatusCode::SWITCHING_PROTOCOLS => allows_switch,
        status => !status.is_informational(),
    }
}

fn failed<B>(error: BoxError) -> Answer<B> {
    tracing::debug!(%error, "a service failed");
    Answer::Reply(reply::failed())
}
