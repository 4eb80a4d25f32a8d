use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mesh_core::{
    Code, Semantics,
    balance::{InFlight, LinkState},
    resilience::Permit,
    telemetry::{Amount, Cause},
};

use super::{Keeper, Tally};
use crate::{
    call::{Clock, Late},
    classify,
    conn::{StreamGuard, chain, code_of, reason_of},
    error::Error,
    record::{CallGuard, End},
    timer::{Expired, Timer},
};

/// The body of a response.
///
/// It carries the call's deadline to its end, decides the call's outcome (trailers, end, error or
/// drop) and holds what the call occupies until then.
#[derive(Default)]
pub struct ResponseBody(State);

#[derive(Default)]
enum State {
    #[default]
    Ended,
    /// Not an endpoint's.
    Text(Bytes),
    Live(Live),
}

struct Live {
    incoming: Incoming,
    /// The outcome, where the response headers told it.
    code: Option<Code>,
    timer: Timer,
    record: CallGuard,
    received: Tally,
    held: Held,
    /// The request's body, which must not go on once the response is not wanted any more.
    request: Keeper,
    /// The times of HTTP semantics, in place of `timer`, and the frames that came.
    clock: Option<Box<(Clock, u32)>>,
    /// A frame of data has come.
    begun: bool,
}

/// What a call occupies until its response ends.
#[derive(Debug)]
pub(crate) struct Held {
    in_flight: InFlight,
    _permit: Permit,
    _stream: StreamGuard,
}

// === impl Live ===

impl Live {
    #[inline]
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        match &mut self.clock {
            None => self.timer.poll_expired(cx).map(|Expired| Late::Deadline),
            Some(clock) => clock.0.poll(cx, &self.request, clock.1),
        }
    }

    /// Counts how it ended for a load report. Under HTTP semantics the response's headers have said
    /// that, as to Envoy: whether its body comes is not looked at.
    #[inline]
    fn count(&mut self, code: Code, cause: Cause) {
        let is_http = self.clock.is_some();
        let good = self.record.was_good(code, is_http);
        self.held.end(good && (is_http || cause == Cause::Response));
    }

    /// Records how it ended.
    fn finish(&mut self, code: Code, cause: Cause, flag: Option<&'static str>) {
        self.count(code, cause);
        let end = End::new(code, cause, Some(self.held.link()));
        let end = end.flagged(flag.or(cause.response_flag()));
        let end = end.after(self.request.sent(), self.received.amount());
        self.record.finish(&end);
    }
}

/// A response dropped before its end is a cancelled call; one that has ended is recorded already.
impl Drop for Live {
    fn drop(&mut self) {
        self.request.cancel();
        // Where the headers told the outcome, nobody has to read on.
        let (code, cause) = match self.code {
            Some(code) if self.clock.is_none() => (code, Cause::Response),
            Some(code) if code != Code::Ok => (code, Cause::Response),
            _ => (Code::Cancelled, Cause::Cancelled),
        };
        self.finish(code, cause, None);
    }
}

// === impl Held ===

impl Held {
    pub(crate) fn new(in_flight: InFlight, permit: Permit, stream: StreamGuard) -> Self {
        Self {
            in_flight,
            _permit: permit,
            _stream: stream,
        }
    }

    /// The attempt has ended, well or not, for a load report.
    #[inline]
    pub(crate) fn end(&mut self, well: bool) {
        self.in_flight.end(well);
    }

    /// The attempt has this response: its headers, or its trailers.
    #[inline]
    pub(crate) fn said(&mut self, headers: &HeaderMap) {
        self.in_flight.said(headers);
    }

    /// The endpoint.
    pub(crate) fn link(&self) -> &std::sync::Arc<LinkState> {
        self.in_flight.link()
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// A body without data.
    pub fn empty() -> Self {
        Self(State::Ended)
    }

    /// Where it comes from; `None` once it has ended, and if no endpoint answered.
    pub fn endpoint(&self) -> Option<&mesh_core::config::Address> {
        match &self.0 {
            State::Live(live) => Some(live.held.link().address()),
            State::Ended | State::Text(_) => None,
        }
    }

    /// A body of this text.
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self(match text.is_empty() {
            true => State::Ended,
            false => State::Text(text),
        })
    }

    pub(crate) fn new(
        incoming: Incoming,
        code: Option<Code>,
        mut held: Held,
        timer: Timer,
        mut record: CallGuard,
        request: Keeper,
        clock: Option<Box<(Clock, u32)>>,
    ) -> Self {
        if incoming.is_end_stream() {
            let code = code.unwrap_or(Code::Unknown);
            request.cancel();
            held.end(record.was_good(code, clock.is_some()));
            let end = End::new(code, Cause::Response, Some(held.link()));
            record.finish(&end.after(request.sent(), Amount::default()));
            return Self(State::Ended);
        }
        Self(State::Live(Live {
            incoming,
            code,
            timer,
            record,
            received: Tally::default(),
            held,
            request,
            clock,
            begun: false,
        }))
    }

    /// Ends the call at its deadline.
    #[cold]
    fn expire(&mut self, late: Late) -> Error {
        let text = match late {
            Late::Idle | Late::AttemptIdle => {
                "nothing happened on the stream within the idle timeout"
            }
            _ => "the deadline passed while the response was being received",
        };
        let error = Error::new(Code::DeadlineExceeded, Cause::Deadline, text);
        let error = match late {
            Late::Idle => error.idle(),
            _ => error,
        };
        self.failed(error)
    }

    /// Ends the call. Dropping what is left of the stream resets it.
    fn failed(&mut self, error: Error) -> Error {
        self.end(error.code(), error.cause(), error.response_flag());
        error
    }

    fn end(&mut self, code: Code, cause: Cause, flag: Option<&'static str>) {
        if let State::Live(mut live) = std::mem::take(&mut self.0) {
            live.finish(code, cause, flag);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let live = match &mut self.0 {
            State::Live(live) => live,
            State::Ended => return Poll::Ready(None),
            State::Text(text) => {
                let text = std::mem::take(text);
                self.0 = State::Ended;
                return Poll::Ready(Some(Ok(Frame::data(text))));
            }
        };
        match Pin::new(&mut live.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(clock) = &mut live.clock {
                    clock.1 = clock.1.wrapping_add(1);
                }
                if let Some(data) = frame.data_ref() {
                    let semantics = match live.clock {
                        Some(_) => Semantics::Http,
                        None => Semantics::Grpc,
                    };
                    live.received.count(semantics, data);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    live.held.said(trailers);
                    let code = classify::grpc_trailers(trailers).or(live.code);
                    self.end(code.unwrap_or(Code::Unknown), Cause::Response, None);
                } else if std::mem::replace(&mut live.begun, true)
                    && let Poll::Ready(late) = live.poll_late(cx)
                {
                    // A response that never pauses is never waited for. Those of one frame are
                    // spared this look.
                    return Poll::Ready(Some(Err(self.expire(late))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                let code = live.code.unwrap_or(Code::Unknown);
                self.end(code, Cause::Response, None);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let error = broken(live.held.link(), error);
                Poll::Ready(Some(Err(self.failed(error))))
            }
            Poll::Pending => match live.poll_late(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(late) => Poll::Ready(Some(Err(self.expire(late)))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Ended => true,
            State::Text(_) => false,
            State::Live(live) => live.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Ended => SizeHint::with_exact(0),
            State::Text(text) => SizeHint::with_exact(text.len() as u64),
            State::Live(live) => live.incoming.size_hint(),
        }
    }
}

#[cold]
fn broken(link: &LinkState, error: hyper::Error) -> Error {
    let address = link.address();
    let text = format!("the response of {address} broke off: {}", chain(&error));
    Error::new(code_of(&error), Cause::Reset, text)
        .broken_by(reason_of(&error))
        .caused_by(error)
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint();
        f.debug_struct("ResponseBody")
            .field("endpoint", &endpoint)
            .finish_non_exhaustive()
    }
}
