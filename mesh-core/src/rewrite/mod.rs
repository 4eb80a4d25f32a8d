//! What a route changes in a request and in its response, under HTTP semantics: path, authority and
//! headers.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, Method, StatusCode, Version,
    uri::{Authority, PathAndQuery},
};

use crate::{
    config::{Address, HttpForward},
    identity::Peer,
};

/// What is in force on a route under HTTP semantics alone, compiled.
#[derive(Debug)]
pub struct HttpRoute {
    /// From the end of the request to the end of the response, retries included. `None`: no limit.
    pub timeout: Option<Duration>,
    /// How long nothing may happen on the stream. `None`: no limit.
    pub idle_timeout: Option<Duration>,
}

/// The parts of a request that a route may change.
#[derive(Debug)]
pub struct RequestEdit<'a> {
    /// Its method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Its authority.
    pub authority: &'a mut Authority,
    /// Its path and query.
    pub path: &'a mut PathAndQuery,
    /// Its headers.
    pub headers: &'a mut HeaderMap,
}

/// What is known of a request besides.
#[derive(Debug, Clone, Copy)]
pub struct RequestCx<'a> {
    /// Who sent it, in servers, and in clients whose call is made while a request is handled.
    pub peer: Option<&'a Arc<Peer>>,
    /// The protocol that it came by, or will leave by as far as is known.
    pub version: Version,
}

/// What the changes of the response need to know of the request.
#[derive(Debug, Default)]
pub struct Remembered(());

// === impl HttpRoute ===

impl HttpRoute {
    /// Compiles what `forward` says; `stream_idle_timeout` is the listener's.
    pub(crate) fn compile(forward: &HttpForward, stream_idle_timeout: Option<Duration>) -> Self {
        let idle_timeout = forward.idle_timeout.or(stream_idle_timeout);
        Self {
            timeout: forward.timeout,
            idle_timeout: idle_timeout.filter(|timeout| !timeout.is_zero()),
        }
    }

    /// Changes the request, once per call.
    pub fn request(&self, request: &mut RequestEdit<'_>, cx: &RequestCx<'_>) -> Remembered {
        let _ = (request, cx);
        Remembered::default()
    }

    /// Changes the headers of the response that came from `endpoint`; `None`: from none.
    pub fn response(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        remembered: &Remembered,
        endpoint: Option<&Address>,
    ) {
        let _ = (status, headers, remembered, endpoint);
    }

    /// Whether the authority of each attempt is its endpoint's host name, where that has one
    /// (`auto_host_rewrite`).
    pub fn takes_host_of_endpoint(&self) -> bool {
        false
    }

    /// Whether a request may upgrade to this protocol, in lower case.
    pub fn allows_upgrade(&self, protocol: &str) -> bool {
        let _ = protocol;
        false
    }
}
