//! What follows an attempt: the call's answer, another attempt, or its failure.

use std::{borrow::Cow, mem, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use mesh_core::{
    Code,
    filter::Reply,
    resilience::Pushback,
    resolve::Destination,
    telemetry::{Amount, Cause},
};

use super::{
    attempts::Call,
    http::{code_of, no_response},
};
use crate::{
    body::{Held, Outgoing, ResponseBody},
    classify,
    conn::{Fate, ResetReason, SendError},
    error::Error,
    record::End,
};

/// An attempt that failed: an answer of the server, or none.
pub(super) enum Failure {
    Response(Response<Incoming>, Held, Code),
    Transport(SendError),
    /// Its time was over (`per_try_timeout`).
    Late,
}

/// What is to be done after an attempt.
pub(super) enum Next {
    /// The call has its answer.
    Done(Response<Incoming>, Held, Option<Code>),
    /// Nobody saw the request: send it again as it is.
    Resend(Request<Outgoing>),
    /// Send it again after this pause, if its body can be had again.
    Retry(Failure, Duration),
    /// It stays failed.
    Fail(SendError),
}

// === impl Call ===

impl Call {
    /// What follows from response headers: only trailers that tell of a failure can be tried again.
    #[inline]
    pub(super) fn answered(&mut self, response: Response<Incoming>, mut held: Held) -> Next {
        if let Some(exchange) = &self.http {
            let (status, headers) = (response.status(), response.headers());
            held.said(headers);
            if status == StatusCode::SWITCHING_PROTOCOLS && !exchange.upgrades {
                drop(response);
                return self.switched_unasked(held);
            }
            let code = code_of(status);
            return match self.pause_after_response(status, headers) {
                Some(pause) => {
                    self.tried.push(Arc::clone(held.link()));
                    Next::Retry(Failure::Response(response, held, code), pause)
                }
                None => Next::Done(response, held, Some(code)),
            };
        }
        let code = classify::grpc_headers(response.status(), response.headers());
        if code.is_some() {
            // They are its trailers, too.
            held.said(response.headers());
        }
        match code {
            None | Some(Code::Ok) => Next::Done(response, held, code),
            Some(failed) => match self.next_pause(failed, Pushback::parse(response.headers())) {
                Some(pause) => {
                    self.tried.push(Arc::clone(held.link()));
                    Next::Retry(Failure::Response(response, held, failed), pause)
                }
                None => Next::Done(response, held, code),
            },
        }
    }

    /// What is spoken on from here is not what the request asked for, whatever it is: nobody gets it,
    /// and its connection is closed.
    #[cold]
    fn switched_unasked(&mut self, mut held: Held) -> Next {
        held.end(false);
        let link = Arc::clone(held.link());
        let address = link.address().clone();
        self.tried.push(link);
        let why = "the server switches protocols (101), for which the request did not ask";
        self.unanswered(SendError::misanswered(address, why), false)
    }

    /// What follows from no response at all. `unreachable`: an endpoint that could not be connected
    /// to before cannot be now.
    pub(super) fn unanswered(&mut self, mut error: SendError, unreachable: bool) -> Next {
        // More of what there is too much of, or of what is not there, would not help.
        let overflow = error.reason() == ResetReason::Overflow;
        if !overflow
            && !unreachable
            && let Some(request) = error.take_request()
            && self.retry.unsent()
        {
            // It never left: it moves to another connection, and nobody sees it.
            return Next::Resend(request);
        }
        let again = match error.fate() {
            Fate::Unsent if overflow || unreachable => false,
            Fate::Unsent => self.retry.unsent(),
            Fate::Unprocessed => self.retry.unprocessed(),
            Fate::Unknown => false,
        };
        let pause = match again {
            true => Some(Duration::ZERO),
            false if self.http.is_some() => self.pause_after(no_response(error.reason())),
            false => self.next_pause(error.code(), None),
        };
        match pause {
            Some(pause) => Next::Retry(Failure::Transport(error), pause),
            None => Next::Fail(error),
        }
    }

    fn next_pause(&mut self, code: Code, pushback: Option<Pushback>) -> Option<Duration> {
        let policy = self.plan.destination.retry.as_deref();
        let policy = policy.filter(|_| !self.options.forbids_retries());
        self.retry.next(policy, code, pushback)
    }

    /// Records an attempt that is made again.
    pub(super) fn note(&mut self, mut failure: Failure) {
        if let Failure::Response(response, held, _) = &mut failure {
            // Under HTTP semantics others than 5xx may be tried again.
            held.end(self.http.is_some() && !response.status().is_server_error());
        }
        let (code, cause) = match &failure {
            Failure::Response(_, _, code) => (*code, Cause::Response),
            Failure::Transport(error) => (error.code(), cause_of(error)),
            Failure::Late => (Code::DeadlineExceeded, Cause::Deadline),
        };
        let end = End::new(code, cause, self.tried.last().map(|link| &**link));
        let end = end.after(self.keeper.sent(), Amount::default());
        self.record.retried(&end);
    }

    /// Turns a response into what the caller gets. Takes what that carries on from where it is: to
    /// move all of the call for it costs more.
    #[inline]
    pub(super) fn respond(
        &mut self,
        response: Response<Incoming>,
        held: Held,
        code: Option<Code>,
    ) -> Response<ResponseBody> {
        self.keeper.commit();
        self.record.attempts(&self.retry);
        self.record.answered(response.status());
        let (mut parts, incoming) = response.into_parts();
        let clock = self.http.take().map(|mut exchange| {
            let route = self.plan.destination.http.as_deref();
            let address = held.link().address();
            exchange.respond(route, parts.status, &mut parts.headers, address);
            if let Some(no_retry) = exchange.no_retry {
                parts.extensions.insert(no_retry);
                self.record.not_retried(no_retry);
            }
            exchange.clock.responded();
            if parts.status == StatusCode::SWITCHING_PROTOCOLS {
                exchange.clock.stop();
            }
            Box::new((exchange.clock, 0))
        });
        let body = ResponseBody::new(
            incoming,
            code,
            held,
            mem::take(&mut self.timer),
            self.record.take(),
            mem::take(&mut self.keeper),
            clock,
        );
        Response::from_parts(parts, body)
    }

    /// A filter's answer, in place of an endpoint's.
    pub(super) fn answer(mut self, reply: Reply) -> Result<Response<ResponseBody>, Error> {
        if self.http.is_some() {
            self.record.answered(reply.http);
            self.record.finish(&End::new(reply.grpc, reply.cause, None));
            let mut response = Response::new(ResponseBody::text(match reply.message {
                Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
                Cow::Owned(text) => text.into(),
            }));
            *response.status_mut() = reply.http;
            // No server has said that.
            response.extensions_mut().insert(reply.cause);
            return Ok(response);
        }
        if reply.grpc != Code::Ok {
            return Err(self.failed(Error::new(reply.grpc, reply.cause, reply.message)));
        }
        self.record.finish(&End::new(Code::Ok, reply.cause, None));
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        Ok(response)
    }

    pub(super) fn broken(mut self, error: SendError) -> Error {
        let text = error.to_string();
        let failed = Error::new(error.code(), cause_of(&error), text);
        self.failed(failed.broken_by(error.reason()).caused_by(error))
    }

    /// Records the failure and adds where it happened.
    pub(super) fn failed(&mut self, error: Error) -> Error {
        let Destination { route, cluster, .. } = &*self.plan.destination;
        let tried = self.tried.iter().map(|link| link.address().clone());
        let mut error = error.at(route, cluster).tried(tried);
        if let Some(no_retry) = self.http.as_ref().and_then(|exchange| exchange.no_retry) {
            error = error.not_retried(no_retry);
            self.record.not_retried(no_retry);
        }
        self.record.attempts(&self.retry);
        let link = self.tried.last().map(|link| &**link);
        let end = End::new(error.code(), error.cause(), link).flagged(error.response_flag());
        (self.record).finish(&end.after(self.keeper.sent(), Amount::default()));
        error
    }
}

/// What a broken attempt is recorded as.
fn cause_of(error: &SendError) -> Cause {
    match error.reason() {
        ResetReason::ConnectFailure => Cause::ConnectFailed,
        ResetReason::Overflow => Cause::CircuitBreaker,
        _ => Cause::Reset,
    }
}
