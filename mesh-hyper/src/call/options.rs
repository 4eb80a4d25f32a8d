use std::time::Duration;

use http::request::Parts;
use mesh_core::Semantics;

use crate::record::verb;

/// How one call differs from others of its caller. As an extension of its request it goes before
/// what the channel or the client has, option by option.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOptions {
    wait_for_ready: Option<bool>,
    detached: Option<bool>,
    no_retries: Option<bool>,
    retry_headers: Option<bool>,
    timeout: Option<Duration>,
    hash_key: Option<u64>,
    registered: Option<bool>,
}

impl CallOptions {
    /// Whether the call waits where it would otherwise fail at once: for a control plane that cannot
    /// be reached, and for a connected endpoint (gRPC's wait-for-ready). It waits until its deadline;
    /// without one, until what it waits for is there. If the control plane says that there is no such
    /// target, or nothing until the resource timer is over, it fails. Default false.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = Some(wait);
        self
    }

    /// Under HTTP semantics: how long the call may take, in place of its route's `timeout`, counted
    /// as that is: once filters have let it pass, for all waits, attempts and the response, but not
    /// while the body of its request is being sent. It may wait for a configuration for that long,
    /// too. Zero: no limit. Default: as the route says.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether failures are never tried again, whatever the route's retry policy says. Default
    /// false. What no server saw is sent again all the same.
    pub fn no_retries(mut self, no_retries: bool) -> Self {
        self.no_retries = Some(no_retries);
        self
    }

    /// Under HTTP semantics: whether the request's own headers may ask for retries, beyond what its
    /// route's policy has: `x-envoy-retry-on`, `x-envoy-retry-grpc-on`, `x-envoy-max-retries`,
    /// `x-envoy-retriable-status-codes` and `x-envoy-retriable-header-names`, with the meaning that
    /// Envoy's router gives them. Default false: a request that comes from elsewhere cannot multiply
    /// itself. They are not sent on, obeyed or not.
    ///
    /// `x-envoy-upstream-rq-timeout-ms` and `x-envoy-upstream-rq-per-try-timeout-ms` are always
    /// obeyed and never sent on: who passes requests on that are not trusted removes them.
    /// `x-envoy-hedge-on-per-try-timeout` is neither obeyed nor sent on, and in place of the request's
    /// own `x-envoy-expected-rq-timeout-ms` goes what the call waits for, if it does not wait for ever.
    pub fn retry_headers(mut self, obeyed: bool) -> Self {
        self.retry_headers = Some(obeyed);
        self
    }

    /// Chooses the endpoint where the cluster's policy picks by hash. Round robin and least request
    /// do not, and are all that is built in: until there is another, only policies that are added to
    /// the registry see it. Default: as the configuration says.
    pub fn hash_key(mut self, key: u64) -> Self {
        self.hash_key = Some(key);
        self
    }

    /// Whether the call does not inherit the deadline of the request that is being handled where it
    /// is made ([`Context`](mesh_core::Context)): for work that outlives it. Default false.
    pub fn detached(mut self, detached: bool) -> Self {
        self.detached = Some(detached);
        self
    }

    /// Under gRPC semantics: whether the request's path is a method that generated code knows, so
    /// that metrics may be labelled with it (gRFC A66). Default false: it counts among `other`.
    pub fn registered_method(mut self, registered: bool) -> Self {
        self.registered = Some(registered);
        self
    }

    /// These, and where they leave something open, `others`.
    pub(crate) fn over(&self, others: &Self) -> Self {
        Self {
            wait_for_ready: self.wait_for_ready.or(others.wait_for_ready),
            detached: self.detached.or(others.detached),
            no_retries: self.no_retries.or(others.no_retries),
            retry_headers: self.retry_headers.or(others.retry_headers),
            timeout: self.timeout.or(others.timeout),
            hash_key: self.hash_key.or(others.hash_key),
            registered: self.registered.or(others.registered),
        }
    }

    /// What a call is recorded as: names that nobody but its peers has made up.
    #[inline]
    pub(super) fn method<'a>(&self, semantics: Semantics, head: &'a Parts) -> Option<&'a str> {
        match semantics {
            Semantics::Http => verb(&head.method),
            Semantics::Grpc if self.registered == Some(true) => head.uri.path().get(1..),
            Semantics::Grpc => None,
        }
    }

    pub(super) fn waits_for_ready(&self) -> bool {
        self.wait_for_ready.unwrap_or(false)
    }

    pub(super) fn is_detached(&self) -> bool {
        self.detached.unwrap_or(false)
    }

    pub(super) fn forbids_retries(&self) -> bool {
        self.no_retries.unwrap_or(false)
    }

    pub(super) fn obeys_retry_headers(&self) -> bool {
        self.retry_headers.unwrap_or(false)
    }

    pub(super) fn own_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(super) fn hash(&self) -> Option<u64> {
        self.hash_key
    }
}
