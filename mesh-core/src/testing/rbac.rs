use std::{collections::BTreeMap, net::IpAddr};

use envoy_types::pb::envoy::config::rbac::v3 as wire;

use super::parts::{HeaderRule, PathRule, Text};
use crate::authz::AuditCondition;

/// Who may do what: the configuration of an RBAC filter (gRFC A41), as
/// [`ServerListener::rbac`](super::ServerListener::rbac) and [`Route::rbac`](super::Route::rbac)
/// take it.
///
/// ```
/// use mesh_core::testing::{Permission, Principal, Rbac};
///
/// let rbac = Rbac::allow().policy(
///     "readers",
///     Permission::path("/greeter.v1.Greeter/SayHello"),
///     Principal::identity("spiffe://cluster.local/ns/shop/sa/web"),
/// );
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "policies are set by `ServerListener::rbac` or `Route::rbac`"]
pub struct Rbac {
    pub(super) action: Option<wire::rbac::Action>,
    pub(super) policies: BTreeMap<String, wire::Policy>,
    pub(super) audit: Option<wire::rbac::AuditLoggingOptions>,
}

/// A request, in a policy.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a permission is part of a policy: `Rbac::policy`"]
pub struct Permission(pub(super) PermissionRule);

/// A client, in a policy.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a principal is part of a policy: `Rbac::policy`"]
pub struct Principal(pub(super) PrincipalRule);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum PermissionRule {
    Any,
    Path(PathRule),
    Header(String, HeaderRule),
    DestinationIp(IpAddr, u32),
    DestinationPort(u16),
    All(Vec<Permission>),
    One(Vec<Permission>),
    Not(Box<Permission>),
    Given(Box<wire::Permission>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum PrincipalRule {
    Any,
    /// With a name that passes; `None`: whoever uses TLS.
    Authenticated(Option<Text>),
    SourceIp(IpAddr, u32),
    Path(PathRule),
    Header(String, HeaderRule),
    All(Vec<Principal>),
    One(Vec<Principal>),
    Not(Box<Principal>),
    Given(Box<wire::Principal>),
}

// === impl Rbac ===

impl Rbac {
    /// Only what a policy matches is let in: nothing, without a policy.
    pub fn allow() -> Self {
        Self::new(Some(wire::rbac::Action::Allow))
    }

    /// What a policy matches is refused.
    pub fn deny() -> Self {
        Self::new(Some(wire::rbac::Action::Deny))
    }

    /// All is let in.
    pub fn log() -> Self {
        Self::new(Some(wire::rbac::Action::Log))
    }

    /// No rules: all is let in. On a route: the server's own rules do not apply.
    pub fn off() -> Self {
        Self::new(None)
    }

    /// Adds a policy, or replaces the one of this name: it matches these clients' requests of
    /// this kind.
    pub fn policy(
        self,
        name: impl Into<String>,
        permission: Permission,
        principal: Principal,
    ) -> Self {
        let policy = wire::Policy {
            permissions: vec![super::render::permission(&permission)],
            principals: vec![super::render::principal(&principal)],
            ..wire::Policy::default()
        };
        self.given(name, policy)
    }

    /// Adds a policy as it is, for what has no method here.
    pub fn given(mut self, name: impl Into<String>, policy: wire::Policy) -> Self {
        self.policies.insert(name.into(), policy);
        self
    }

    /// Tells the audit logger that writes to the standard output of denied requests, of allowed
    /// ones, or of both (gRFC A59).
    pub fn audited(self, condition: AuditCondition) -> Self {
        use wire::rbac::audit_logging_options::AuditCondition as Wire;
        let condition = match condition {
            AuditCondition::Never => Wire::None,
            AuditCondition::OnDeny => Wire::OnDeny,
            AuditCondition::OnAllow => Wire::OnAllow,
            AuditCondition::OnDenyAndAllow => Wire::OnDenyAndAllow,
        };
        self.audit(super::render::stdout_audit(condition))
    }

    /// Audits decisions as these options say (gRFC A59).
    pub fn audit(mut self, options: wire::rbac::AuditLoggingOptions) -> Self {
        self.audit = Some(options);
        self
    }

    fn new(action: Option<wire::rbac::Action>) -> Self {
        Self {
            action,
            policies: BTreeMap::new(),
            audit: None,
        }
    }
}

// === impl Permission ===

impl Permission {
    /// Any request.
    pub fn any() -> Self {
        Self(PermissionRule::Any)
    }

    /// Requests of this path, such as `/helloworld.Greeter/SayHello`.
    pub fn path(path: impl Into<String>) -> Self {
        Self(PermissionRule::Path(PathRule::Exact(path.into())))
    }

    /// Requests whose path starts with this.
    pub fn path_prefix(prefix: impl Into<String>) -> Self {
        Self(PermissionRule::Path(PathRule::Prefix(prefix.into())))
    }

    /// Requests whose whole path matches this RE2 expression.
    pub fn path_regex(expression: impl Into<String>) -> Self {
        Self(PermissionRule::Path(PathRule::Regex(expression.into())))
    }

    /// Requests that have this header with this value.
    pub fn header(name: impl Into<String>, value: impl Into<String>) -> Self {
        let rule = HeaderRule::Exact(value.into());
        Self(PermissionRule::Header(name.into(), rule))
    }

    /// Requests that have this header, or have it not.
    pub fn header_present(name: impl Into<String>, present: bool) -> Self {
        let rule = HeaderRule::Present(present);
        Self(PermissionRule::Header(name.into(), rule))
    }

    /// Requests to this range of the server's addresses: its first address, and how many bits of
    /// it are fixed.
    pub fn destination_ip(address: impl Into<IpAddr>, prefix: u32) -> Self {
        Self(PermissionRule::DestinationIp(address.into(), prefix))
    }

    /// Requests to this port of the server.
    pub fn destination_port(port: u16) -> Self {
        Self(PermissionRule::DestinationPort(port))
    }

    /// Requests that are all of this.
    pub fn all(all: impl IntoIterator<Item = Self>) -> Self {
        Self(PermissionRule::All(all.into_iter().collect()))
    }

    /// Requests that are any of this.
    pub fn one(of: impl IntoIterator<Item = Self>) -> Self {
        Self(PermissionRule::One(of.into_iter().collect()))
    }

    /// All other requests.
    pub fn negated(self) -> Self {
        Self(PermissionRule::Not(Box::new(self)))
    }

    /// A permission as it is, for what has no method here.
    pub fn given(permission: wire::Permission) -> Self {
        Self(PermissionRule::Given(Box::new(permission)))
    }
}

// === impl Principal ===

impl Principal {
    /// Any client.
    pub fn any() -> Self {
        Self(PrincipalRule::Any)
    }

    /// Any client that uses TLS.
    pub fn authenticated() -> Self {
        Self(PrincipalRule::Authenticated(None))
    }

    /// The client whose certificate carries this name, such as a SPIFFE identity.
    pub fn identity(name: impl Into<String>) -> Self {
        Self(PrincipalRule::Authenticated(Some(Text::Exact(name.into()))))
    }

    /// Clients whose certificate carries a name that starts so.
    pub fn identity_prefix(prefix: impl Into<String>) -> Self {
        let text = Text::Prefix(prefix.into());
        Self(PrincipalRule::Authenticated(Some(text)))
    }

    /// Clients whose certificate carries a name that matches this RE2 expression whole.
    pub fn identity_regex(expression: impl Into<String>) -> Self {
        let text = Text::Regex(expression.into());
        Self(PrincipalRule::Authenticated(Some(text)))
    }

    /// Clients in this range of addresses: its first address, and how many bits of it are fixed.
    pub fn source_ip(address: impl Into<IpAddr>, prefix: u32) -> Self {
        Self(PrincipalRule::SourceIp(address.into(), prefix))
    }

    /// Clients that call this path.
    pub fn path(path: impl Into<String>) -> Self {
        Self(PrincipalRule::Path(PathRule::Exact(path.into())))
    }

    /// Clients that send this header with this value.
    pub fn header(name: impl Into<String>, value: impl Into<String>) -> Self {
        let rule = HeaderRule::Exact(value.into());
        Self(PrincipalRule::Header(name.into(), rule))
    }

    /// Clients that are all of this.
    pub fn all(all: impl IntoIterator<Item = Self>) -> Self {
        Self(PrincipalRule::All(all.into_iter().collect()))
    }

    /// Clients that are any of this.
    pub fn one(of: impl IntoIterator<Item = Self>) -> Self {
        Self(PrincipalRule::One(of.into_iter().collect()))
    }

    /// All other clients.
    pub fn negated(self) -> Self {
        Self(PrincipalRule::Not(Box::new(self)))
    }

    /// A principal as it is, for what has no method here.
    pub fn given(principal: wire::Principal) -> Self {
        Self(PrincipalRule::Given(Box::new(principal)))
    }
}
