use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::TargetSpec;
use crate::{
    config::Route,
    rewrite::{RequestCx, RouteAnswer, RoutePlace},
    route::Head,
    telemetry::{Instruments, Recorder, Series},
};

/// The answer of a route.
#[derive(Debug)]
pub struct Answer {
    /// The route's name, else its position.
    pub route: Arc<str>,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Where the call is recorded.
    pub instruments: Option<Arc<dyn Instruments>>,
}

/// A route that answers by itself: it redirects, or has a direct response. Under HTTP semantics only.
#[derive(Debug)]
pub(super) struct AnsweringRoute {
    route: Arc<str>,
    instruments: Option<Arc<dyn Instruments>>,
    answer: RouteAnswer,
}

/// A route's name in reports: its own, else its position.
pub(super) fn name(index: usize, route: &Route) -> Arc<str> {
    match &*route.name {
        "" => format!("#{index}").into(),
        _ => Arc::clone(&route.name),
    }
}

// === impl AnsweringRoute ===

impl AnsweringRoute {
    /// `None`: the route does not answer by itself.
    pub(super) fn compile(
        spec: &TargetSpec,
        place: &RoutePlace<'_>,
        index: usize,
        recorder: Option<&dyn Recorder>,
    ) -> Option<Self> {
        let answer = RouteAnswer::compile(place)?;
        let route = name(index, place.route);
        let instruments = recorder.map(|recorder| {
            let listener = Arc::clone(&spec.listener);
            recorder.bind(&Series::client(
                listener,
                Arc::clone(&route),
                "",
                spec.semantics,
            ))
        });
        Some(Self {
            route,
            instruments,
            answer,
        })
    }

    /// The answer to the request with this head.
    pub(super) fn answer(&self, head: &Head<'_>, cx: &RequestCx<'_>) -> Box<Answer> {
        let (parts, mut body) = self.answer.respond(head, cx).into_parts();
        // As over a connection, which carries none of these (RFC 9110 section 6.4.1).
        if head.method == Method::HEAD
            || matches!(
                parts.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
        {
            body = Bytes::new();
        }
        Box::new(Answer {
            route: Arc::clone(&self.route),
            status: parts.status,
            headers: parts.headers,
            body,
            instruments: self.instruments.clone(),
        })
    }
}
