use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::TypedExtensionConfig,
            rbac::v3::{
                principal::Authenticated,
                rbac::{
                    AuditLoggingOptions,
                    audit_logging_options::{AuditCondition, AuditLoggerConfig},
                },
            },
            route::v3::header_matcher::HeaderMatchSpecifier,
        },
        extensions::rbac::audit_loggers::stream::v3::StdoutAuditLog,
        r#type::matcher::v3::{
            FilterStateMatcher, MetadataMatcher, RegexMatcher, StringMatcher as WireString,
            string_matcher::MatchPattern,
        },
    },
    google::{
        api::expr::v1alpha1::{CheckedExpr, Expr},
        protobuf::{Any, UInt32Value},
    },
};
use prost::{Message as _, Name as _};

use super::*;
use crate::{
    authz::{AuditCondition as Condition, AuditEvent},
    config::Finding,
    control::xds::decode::{
        SharedLogger,
        fields::{Extensions, Findings, walk},
        test_support::lines,
    },
};

mod accepted;
mod audit;
mod rejected;

/// What walks a filter's configuration in a listener.
struct Known(FilterRegistry);

impl Extensions for Known {
    fn message(&self, name: &str) -> Option<&'static Message> {
        self.0.message(name)
    }

    fn structure(&self, _: &str) -> bool {
        false
    }
}

fn string(pattern: MatchPattern) -> WireString {
    WireString {
        match_pattern: Some(pattern),
        ..Default::default()
    }
}

fn exact(text: &str) -> WireString {
    string(MatchPattern::Exact(text.into()))
}

fn asked(rule: Asked) -> Permission {
    Permission { rule: Some(rule) }
}

fn asks(identifier: Asks) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}

fn url_path(text: &str) -> PathMatcher {
    PathMatcher {
        rule: Some(path_matcher::Rule::Path(exact(text))),
    }
}

fn header(name: &str, specifier: HeaderMatchSpecifier) -> WireHeader {
    WireHeader {
        name: name.into(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

fn present(name: &str) -> WireHeader {
    header(name, HeaderMatchSpecifier::PresentMatch(true))
}

fn range(address: &str, length: u32) -> CidrRange {
    CidrRange {
        address_prefix: address.into(),
        prefix_len: Some(UInt32Value { value: length }),
    }
}

fn policy_of(permissions: Vec<Permission>, principals: Vec<Principal>) -> WirePolicy {
    WirePolicy {
        permissions,
        principals,
        ..Default::default()
    }
}

/// One that matches everything, but for what is given.
fn policy_for(permission: Option<Permission>, principal: Option<Principal>) -> WirePolicy {
    policy_of(
        vec![permission.unwrap_or_else(|| asked(Asked::Any(true)))],
        vec![principal.unwrap_or_else(|| asks(Asks::Any(true)))],
    )
}

fn rules_of(policy: WirePolicy) -> WireRules {
    WireRules {
        action: WireAction::Deny.into(),
        policies: [("p".to_owned(), policy)].into(),
        audit_logging_options: None,
    }
}

fn filter_of(rules: WireRules) -> Rbac {
    Rbac {
        rules: Some(rules),
        ..Default::default()
    }
}

fn logger_config(typed_config: Option<Any>, is_optional: bool) -> AuditLoggerConfig {
    AuditLoggerConfig {
        audit_logger: Some(TypedExtensionConfig {
            name: "any name".into(),
            typed_config,
        }),
        is_optional,
    }
}

fn audited(condition: i32, logger_configs: Vec<AuditLoggerConfig>) -> Rbac {
    filter_of(WireRules {
        audit_logging_options: Some(AuditLoggingOptions {
            audit_condition: condition,
            logger_configs,
        }),
        ..rules_of(policy_for(None, None))
    })
}

/// Walks and decodes as a listener's decoder does.
fn decode_with(
    filters: FilterRegistry,
    encoded: Vec<u8>,
) -> Result<(FilterConfig, Vec<Finding>), FieldError> {
    let known = Known(filters);
    let mut findings = Findings::default();
    walk(&RBAC, &encoded, &known, &mut findings)?;
    let decoder = known.0.get(RBAC.name).expect("it is registered");
    let config = decoder.decode_instance("rbac", RBAC.name, &Extension::Message(encoded))?;
    Ok((config, findings.finish()))
}

fn decode(wire: &Rbac) -> Result<(FilterConfig, Vec<Finding>), FieldError> {
    decode_with(FilterRegistry::standard(), wire.encode_to_vec())
}

fn spec_of(config: &FilterConfig) -> &RbacSpec {
    (&*config.0 as &dyn std::any::Any)
        .downcast_ref()
        .expect("it is an RBAC")
}

/// The only policy of `wire`, decoded, and the findings.
fn decoded(wire: WirePolicy) -> Result<(Policy, Vec<String>), FieldError> {
    let (config, findings) = decode(&filter_of(rules_of(wire)))?;
    let rules = spec_of(&config).rules().expect("there are rules");
    Ok((rules.policies["p"].clone(), lines(&findings)))
}
