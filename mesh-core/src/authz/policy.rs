use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use super::AuditLoggers;
use crate::config::{Cidr, HeaderMatcher, StringMatcher};

/// The rules of one filter (`envoy.config.rbac.v3.RBAC`, gRFC A41).
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// What a match means.
    pub action: Action,
    /// The policies by name. Of several that match, the first by name is reported.
    pub policies: BTreeMap<Arc<str>, Policy>,
    /// Who hears of decisions (gRFC A59).
    pub audit: AuditLoggers,
}

/// What it means that a policy matches a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The request may pass, and one that no policy matches may not: without policies, none may.
    Allow,
    /// The request may not pass, and one that no policy matches may.
    Deny,
    /// Every request may pass; one that matches is a `tracing` event of level DEBUG.
    Log,
}

/// Matches a request if one of its permissions and one of its principals do.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What is asked for. None match if there are none.
    pub permissions: Vec<Rule>,
    /// Who asks. None match if there are none.
    pub principals: Vec<Rule>,
}

/// A test of a request and the connection that it came on. Permissions and principals are made of
/// the same tests.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// All of these pass.
    All(Vec<Rule>),
    /// Always passes.
    Any,
    /// One of these passes.
    AnyOf(Vec<Rule>),
    /// The connection is TLS and the client's name passes: one of the URI names in its
    /// certificate; without any, one of the DNS names; without those, the subject; and the empty
    /// string without a certificate. `None`: TLS is enough.
    Authenticated(Option<StringMatcher>),
    /// The address that the connection reached is in this range.
    DestinationIp(Cidr),
    /// The port that the connection reached is one of these.
    DestinationPort(RangeInclusive<u16>),
    /// A header passes: `:method`, `:path` and `:authority` (which is `host`) among them.
    ///
    /// A header that occurs more than once has several readings: each value, and all of them
    /// joined by `,` (gRFC A41). Where passing helps the request, all readings must pass; where it
    /// hurts, one is enough. So a value that is added never lets a request through: neither past a
    /// DENY nor by an ALLOW, and a NOT turns that around. `:path` is read in the same way, with its
    /// query and without.
    Header(HeaderMatcher),
    /// There is no metadata here in Envoy's sense: passes only if it is inverted.
    Metadata {
        /// `MetadataMatcher.invert`.
        invert: bool,
    },
    /// This does not pass.
    Not(Box<Rule>),
    /// The path, without the query, passes.
    Path(StringMatcher),
    /// The server name that TLS asked for passes. Under gRPC semantics that is always the empty
    /// string (gRFC A41).
    ServerName(StringMatcher),
    /// The peer's address is in this range (`source_ip`, `direct_remote_ip` and `remote_ip`).
    SourceIp(Cidr),
}
