//! Policies as RBAC filters.

use std::net::IpAddr;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{CidrRange, TypedExtensionConfig},
            rbac::v3::{
                Permission as WirePermission, Principal as WirePrincipal, Rbac as Rules,
                permission, principal,
                rbac::{
                    AuditLoggingOptions,
                    audit_logging_options::{AuditCondition, AuditLoggerConfig},
                },
            },
        },
        extensions::{
            filters::http::rbac::v3::{Rbac as Filter, RbacPerRoute},
            rbac::audit_loggers::stream::v3::StdoutAuditLog,
        },
        r#type::matcher::v3::{PathMatcher, path_matcher},
    },
    google::protobuf::Any,
};

use super::{header_matcher, pack, string_matcher, uint32};
use crate::testing::{
    parts::{PathRule, Text},
    rbac::{Permission, PermissionRule, Principal, PrincipalRule, Rbac},
};

/// The filter of a listener.
pub(in crate::testing) fn rbac(rbac: &Rbac) -> Any {
    pack(&filter(rbac))
}

/// What a route says in its place.
pub(in crate::testing) fn rbac_per_route(rbac: &Rbac) -> Any {
    pack(&RbacPerRoute {
        rbac: rbac.action.is_some().then(|| filter(rbac)),
    })
}

fn filter(rbac: &Rbac) -> Filter {
    let rules = rbac.action.map(|action| Rules {
        action: action.into(),
        policies: rbac.policies.clone().into_iter().collect(),
        audit_logging_options: rbac.audit.clone(),
    });
    Filter {
        rules,
        ..Filter::default()
    }
}

/// The logger that writes to the standard output, told under this condition.
pub(in crate::testing) fn stdout_audit(condition: AuditCondition) -> AuditLoggingOptions {
    let logger = TypedExtensionConfig {
        name: "stdout".to_owned(),
        typed_config: Some(pack(&StdoutAuditLog::default())),
    };
    AuditLoggingOptions {
        audit_condition: condition.into(),
        logger_configs: vec![AuditLoggerConfig {
            audit_logger: Some(logger),
            is_optional: false,
        }],
    }
}

pub(in crate::testing) fn permission(permission: &Permission) -> WirePermission {
    use permission::{Rule, Set};
    let set = |of: &[Permission]| Set {
        rules: of.iter().map(self::permission).collect(),
    };
    let rule = match &permission.0 {
        PermissionRule::Any => Rule::Any(true),
        PermissionRule::Path(path) => Rule::UrlPath(path_matcher(path)),
        PermissionRule::Header(name, rule) => Rule::Header(header_matcher(name, rule)),
        PermissionRule::DestinationIp(address, prefix) => {
            Rule::DestinationIp(cidr(*address, *prefix))
        }
        PermissionRule::DestinationPort(port) => Rule::DestinationPort(u32::from(*port)),
        PermissionRule::All(of) => Rule::AndRules(set(of)),
        PermissionRule::One(of) => Rule::OrRules(set(of)),
        PermissionRule::Not(not) => Rule::NotRule(Box::new(self::permission(not))),
        PermissionRule::Given(given) => return (**given).clone(),
    };
    WirePermission { rule: Some(rule) }
}

pub(in crate::testing) fn principal(principal: &Principal) -> WirePrincipal {
    use principal::{Authenticated, Identifier, Set};
    let set = |of: &[Principal]| Set {
        ids: of.iter().map(self::principal).collect(),
    };
    let identifier = match &principal.0 {
        PrincipalRule::Any => Identifier::Any(true),
        PrincipalRule::Authenticated(name) => Identifier::Authenticated(Authenticated {
            principal_name: name.as_ref().map(string_matcher),
        }),
        PrincipalRule::SourceIp(address, prefix) => {
            Identifier::DirectRemoteIp(cidr(*address, *prefix))
        }
        PrincipalRule::Path(path) => Identifier::UrlPath(path_matcher(path)),
        PrincipalRule::Header(name, rule) => Identifier::Header(header_matcher(name, rule)),
        PrincipalRule::All(of) => Identifier::AndIds(set(of)),
        PrincipalRule::One(of) => Identifier::OrIds(set(of)),
        PrincipalRule::Not(not) => Identifier::NotId(Box::new(self::principal(not))),
        PrincipalRule::Given(given) => return (**given).clone(),
    };
    WirePrincipal {
        identifier: Some(identifier),
    }
}

pub(super) fn cidr(address: IpAddr, prefix: u32) -> CidrRange {
    CidrRange {
        address_prefix: address.to_string(),
        prefix_len: Some(uint32(prefix)),
    }
}

fn path_matcher(path: &PathRule) -> PathMatcher {
    let text = match path.clone() {
        PathRule::Exact(path) => Text::Exact(path),
        PathRule::Prefix(prefix) => Text::Prefix(prefix),
        PathRule::Segments(prefix) => Text::Regex(format!("{}(/.*)?", ::regex::escape(&prefix))),
        PathRule::Regex(expression) => Text::Regex(expression),
    };
    PathMatcher {
        rule: Some(path_matcher::Rule::Path(string_matcher(&text))),
    }
}
