//! A request that an endpoint has, and the future of a call on its first attempt.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use http::Response;
use hyper::body::Incoming;
use mesh_core::{balance::InFlight, resilience::Permit};
use pin_project_lite::pin_project;

use super::{attempts::Call, outcome::Next};
use crate::{
    body::ResponseBody,
    conn::{SendError, StreamGuard},
    error::Error,
};

pin_project! {
    /// A request that an endpoint has, and what it occupies there.
    pub(super) struct Sent<S> {
        #[pin]
        pub(super) response: S,
        pub(super) place: Option<(InFlight, Permit)>,
    }
}

pin_project! {
    /// A call on its first attempt. Written by hand: as an async function it would be several
    /// times as large, and every call would move all of it.
    pub(super) struct Unanswered<S> {
        pub(super) call: Option<Call>,
        // None once it is settled: its stream ends there, whoever keeps this.
        #[pin]
        pub(super) sent: Option<Sent<S>>,
        // What follows a failure.
        pub(super) rest: Option<BoxFuture<'static, Result<Response<ResponseBody>, Error>>>,
    }
}

/// hyper's future, which has no name.
pub(super) trait Sending:
    Future<Output = Result<(Response<Incoming>, StreamGuard), SendError>> + Send
{
}

impl<S> Sending for S where
    S: Future<Output = Result<(Response<Incoming>, StreamGuard), SendError>> + Send
{
}

// === impl Unanswered ===

impl<S: Sending> Future for Unanswered<S> {
    type Output = Result<Response<ResponseBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(rest) = this.rest {
            return rest.as_mut().poll(cx);
        }
        let (Some(sent), Some(call)) = (this.sent.as_mut().as_pin_mut(), this.call.as_mut()) else {
            panic!("polled after completion");
        };
        let sent = sent.project();
        let result = match sent.response.poll(cx) {
            Poll::Ready(result) => Ok(result),
            Poll::Pending => Err(ready!(call.poll_late(cx))),
        };
        let settled = call.settled(result, sent.place);
        this.sent.set(None);
        let result = match settled {
            Ok(Next::Done(response, held, code)) => Ok(call.respond(response, held, code)),
            Ok(next) => {
                let Some(call) = this.call.take() else {
                    panic!("polled after completion");
                };
                let rest = this.rest.insert(Box::pin(call.again(next)));
                return rest.as_mut().poll(cx);
            }
            Err(error) => Err(call.failed(error)),
        };
        *this.call = None;
        Poll::Ready(result)
    }
}
