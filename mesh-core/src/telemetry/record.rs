use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    Code,
    config::{Address, LocalityId, Workload},
};

/// How a call ended.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct CallRecord<'a> {
    /// The gRPC status; under HTTP semantics the one nearest to what happened.
    pub code: Code,
    /// The HTTP status that the caller saw, if it saw one.
    pub status: Option<StatusCode>,
    /// Where the outcome came from.
    pub cause: Cause,
    /// Envoy's response flags for it, such as `UF` and `URX`; [`Cause::response_flag`] unless more
    /// is known.
    pub flags: [Option<&'static str>; 2],
    /// The category of a [`Cause::Drop`].
    pub drop_category: Option<&'a str>,
    /// From the call's start to the end of its response.
    pub duration: Duration,
    /// Attempts after the first that a retry policy asked for.
    pub retries: u32,
    /// Attempts after the first for requests that no server had seen (gRFC A6).
    pub transparent_retries: u32,
    /// The endpoint of the last attempt.
    pub endpoint: Option<&'a Address>,
    /// Where that endpoint is.
    pub locality: Option<&'a Arc<LocalityId>>,
    /// What is at the other end, where that is known.
    pub peer: Option<&'a Arc<Workload>>,
    /// How the other end was spoken to, for a server; a client does not say (as in Istio, where
    /// it is the destination's to tell).
    pub security: Security,
    /// What was sent: a client's request, a server's response.
    pub sent: Amount,
    /// What was received: a client's response, a server's request.
    pub received: Amount,
}

/// How much of a body there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes, for gRPC without the five before each message.
    pub bytes: u64,
    /// Messages, for gRPC; else zero.
    pub messages: u64,
}

/// How a peer was spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Security {
    /// It is not told.
    #[default]
    Unknown,
    /// Without TLS, or without a certificate of the client.
    None,
    /// With TLS in which both sides showed a certificate.
    MutualTls,
}

/// How one attempt of a call ended.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The gRPC status; under HTTP semantics the one nearest to what happened.
    pub code: Code,
    /// The HTTP status of the response, if there was one.
    pub status: Option<StatusCode>,
    /// Where the outcome came from.
    pub cause: Cause,
    /// From the choice of the endpoint to the end of its response.
    pub duration: Duration,
    /// Where it was sent.
    pub endpoint: Option<&'a Address>,
    /// Where that endpoint is.
    pub locality: Option<&'a Arc<LocalityId>>,
    /// What was sent of the request.
    pub sent: Amount,
    /// What was received of the response.
    pub received: Amount,
}

/// Where an outcome came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Cause {
    /// The caller gave up: it dropped the call.
    Cancelled,
    /// The circuit breaker was open.
    CircuitBreaker,
    /// No connection to the endpoint could be made.
    ConnectFailed,
    /// The deadline passed.
    Deadline,
    /// Authorization refused it, or it could be read in more than one way.
    Denied,
    /// Configuration drops a share of the calls.
    Drop,
    /// A fault was injected.
    Fault,
    /// A filter answered.
    Filter,
    /// The route's cluster is not known or has failed.
    NoCluster,
    /// There was no configuration in time.
    NoConfig,
    /// The cluster had no endpoint to offer.
    NoEndpoint,
    /// No virtual host or route takes the request.
    NoRoute,
    /// The stream or its connection broke before the response's end.
    Reset,
    /// The endpoint answered; so it did if it answered with an error.
    Response,
    /// The route answered: a redirect, or a direct response.
    Route,
}

// === impl CallRecord ===

impl<'a> CallRecord<'a> {
    /// The attempt that the call was, if it was no more than one.
    pub fn as_attempt(&self) -> Attempt<'a> {
        Attempt {
            code: self.code,
            status: self.status,
            cause: self.cause,
            duration: self.duration,
            endpoint: self.endpoint,
            locality: self.locality,
            sent: self.sent,
            received: self.received,
        }
    }

    /// A call that ended so, without retries and without an endpoint: set those fields if it had
    /// them.
    pub fn new(code: Code, cause: Cause, duration: Duration) -> Self {
        Self {
            code,
            status: None,
            cause,
            flags: [cause.response_flag(), None],
            drop_category: None,
            duration,
            retries: 0,
            transparent_retries: 0,
            endpoint: None,
            locality: None,
            peer: None,
            security: Security::Unknown,
            sent: Amount::default(),
            received: Amount::default(),
        }
    }
}

// === impl Security ===

impl Security {
    /// As Istio's label `connection_security_policy` has it.
    pub fn name(self) -> &'static str {
        match self {
            Security::Unknown => "unknown",
            Security::None => "none",
            Security::MutualTls => "mutual_tls",
        }
    }
}

// === impl Attempt ===

impl Attempt<'_> {
    /// An attempt that ended so, without an endpoint: set that if it had one.
    pub fn new(code: Code, cause: Cause, duration: Duration) -> Self {
        Self {
            code,
            status: None,
            cause,
            duration,
            endpoint: None,
            locality: None,
            sent: Amount::default(),
            received: Amount::default(),
        }
    }
}

// === impl Cause ===

impl Cause {
    /// All causes, by number.
    pub(super) const ALL: [Cause; 15] = [
        Cause::Cancelled,
        Cause::CircuitBreaker,
        Cause::ConnectFailed,
        Cause::Deadline,
        Cause::Denied,
        Cause::Drop,
        Cause::Fault,
        Cause::Filter,
        Cause::NoCluster,
        Cause::NoConfig,
        Cause::NoEndpoint,
        Cause::NoRoute,
        Cause::Reset,
        Cause::Response,
        Cause::Route,
    ];

    /// Its name, such as `circuit_breaker`.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Cancelled => "cancelled",
            Cause::CircuitBreaker => "circuit_breaker",
            Cause::ConnectFailed => "connect_failed",
            Cause::Deadline => "deadline",
            Cause::Denied => "denied",
            Cause::Drop => "drop",
            Cause::Fault => "fault",
            Cause::Filter => "filter",
            Cause::NoCluster => "no_cluster",
            Cause::NoConfig => "no_config",
            Cause::NoEndpoint => "no_endpoint",
            Cause::NoRoute => "no_route",
            Cause::Reset => "reset",
            Cause::Response => "response",
            Cause::Route => "route",
        }
    }

    /// The Envoy response flag that dashboards know it by; none for a response, and where the flag
    /// depends on what the filter did.
    pub fn response_flag(self) -> Option<&'static str> {
        match self {
            Cause::Cancelled => Some("DC"),
            Cause::CircuitBreaker => Some("UO"),
            Cause::ConnectFailed => Some("UF"),
            Cause::Deadline => Some("UT"),
            Cause::Drop => Some("DO"),
            Cause::Fault => Some("FI"),
            Cause::NoCluster => Some("NC"),
            Cause::NoEndpoint => Some("UH"),
            Cause::NoConfig | Cause::NoRoute => Some("NR"),
            Cause::Reset => Some("UC"),
            Cause::Denied | Cause::Filter | Cause::Response | Cause::Route => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn causes_are_numbered_and_named_apart() {
        for (number, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, number, "{cause}");
        }
        let names: HashSet<_> = Cause::ALL.into_iter().map(Cause::name).collect();
        assert_eq!(names.len(), Cause::ALL.len());
    }
}
