//! Role-based access control (gRFC A41).

use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive, sync::Arc};

use envoy_types::pb::envoy::{
    config::{
        core::v3::CidrRange,
        rbac::v3::{
            Permission, Policy as WirePolicy, Principal, Rbac as WireRules,
            permission::{self, Rule as Asked},
            principal::{self, Identifier as Asks},
            rbac::Action as WireAction,
        },
        route::v3::HeaderMatcher as WireHeader,
    },
    extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute},
    r#type::{
        matcher::v3::{PathMatcher, path_matcher},
        v3::Int32Range,
    },
};

use super::{
    Context, Extension, FieldError, ResultExt,
    audit::{AuditLoggerDecoder, Loggers},
    bounds::quote,
    extension::parse,
    fields::Message,
    limits::Limit,
    matcher,
    rbac_fields::{RBAC, RBAC_PER_ROUTE},
    regex::regex,
};
use crate::{
    authz::{Action, AuditLoggers, Policy, Rule, Rules},
    config::{Cidr, FilterConfig, HeaderMatch, HeaderMatcher, StringMatch, StringMatcher},
    control::xds::{FilterDecoder, FilterRegistry, Side},
    filter::RbacSpec,
};

/// The decoder of `envoy.extensions.filters.http.rbac.v3.RBAC`, and of its overrides,
/// `RBACPerRoute`.
///
/// Everything that it cannot put in force makes it reject the configuration: no rule is skipped.
#[derive(Debug, Clone)]
pub struct RbacDecoder {
    loggers: Loggers,
}

static MESSAGES: [&Message; 2] = [&RBAC, &RBAC_PER_ROUTE];

// === impl RbacDecoder ===

impl RbacDecoder {
    /// With the audit logger that this crate has, which writes to the standard output.
    pub fn standard() -> Self {
        Self {
            loggers: Loggers::standard(),
        }
    }

    /// Adds the audit loggers of one type. They take the place of those registered for the same
    /// message.
    #[must_use]
    pub fn with_logger(mut self, decoder: impl AuditLoggerDecoder) -> Self {
        self.loggers.insert(decoder);
        self
    }

    fn spec(&self, instance: &str, wire: Rbac) -> Result<FilterConfig, FieldError> {
        let Rbac { rules, matcher, .. } = wire;
        if matcher.is_some() {
            return Err(FieldError::new("not supported: use rules").field("matcher"));
        }
        let rules = rules
            .map(|wire| self.rules(wire))
            .transpose()
            .field("rules")?;
        Ok(FilterConfig(Arc::new(RbacSpec::new(instance, rules))))
    }

    fn rules(&self, wire: WireRules) -> Result<Rules, FieldError> {
        let WireRules {
            action,
            policies: wire,
            audit_logging_options,
            ..
        } = wire;
        let action = match WireAction::try_from(action) {
            Ok(WireAction::Allow) => Action::Allow,
            Ok(WireAction::Deny) => Action::Deny,
            Ok(WireAction::Log) => Action::Log,
            Err(_) => {
                return Err(FieldError::new(format!("unknown action {action}")).field("action"));
            }
        };
        // For the limits alone: what is found is found by the tables.
        let filters = FilterRegistry::empty();
        let mut cx = Context::new(&filters);
        // Sorted, so that of several errors always the same one is reported.
        let wire: BTreeMap<String, WirePolicy> = wire.into_iter().collect();
        let mut policies = BTreeMap::new();
        for (name, wire) in wire {
            let policy = cx.key("policies", &quote(&name), |cx| policy(wire, cx))?;
            policies.insert(name.into(), policy);
        }
        let audit = match audit_logging_options {
            Some(wire) => self.loggers.decode(wire).field("audit_logging_options")?,
            None => AuditLoggers::default(),
        };
        Ok(Rules {
            action,
            policies,
            audit,
        })
    }
}

impl FilterDecoder for RbacDecoder {
    fn messages(&self) -> &'static [&'static Message] {
        &MESSAGES
    }

    fn side(&self) -> Side {
        Side::Server
    }

    fn extension(&self, name: &str) -> Option<&'static Message> {
        self.loggers.message(name)
    }

    fn decode(&self, name: &str, config: &Extension) -> Result<FilterConfig, FieldError> {
        self.decode_instance("", name, config)
    }

    fn decode_instance(
        &self,
        instance: &str,
        name: &str,
        config: &Extension,
    ) -> Result<FilterConfig, FieldError> {
        match name == RBAC.name {
            true => self.spec(instance, parse(message(config)?)?),
            false => Err(FieldError::new(format!(
                "{} is for overrides: a filter takes {}",
                RBAC_PER_ROUTE.name, RBAC.name
            ))),
        }
    }

    fn decode_override(&self, name: &str, config: &Extension) -> Result<FilterConfig, FieldError> {
        if name != RBAC_PER_ROUTE.name {
            return Err(FieldError::new(format!(
                "an override takes {}",
                RBAC_PER_ROUTE.name
            )));
        }
        let RbacPerRoute { rbac, .. } = parse(message(config)?)?;
        // An override without a configuration turns the filter off.
        self.spec("", rbac.unwrap_or_default()).field("rbac")
    }
}

fn message(config: &Extension) -> Result<&[u8], FieldError> {
    match config {
        Extension::Message(value) => Ok(value),
        Extension::Struct(_) => Err(FieldError::new("a message is expected")),
    }
}

fn policy(wire: WirePolicy, cx: &mut Context<'_>) -> Result<Policy, FieldError> {
    let WirePolicy {
        permissions,
        principals,
        condition,
        checked_condition,
        cel_config,
        ..
    } = wire;
    for (name, is_set) in [
        ("condition", condition.is_some()),
        ("checked_condition", checked_condition.is_some()),
        ("cel_config", cel_config.is_some()),
    ] {
        if is_set {
            let problem = "expressions in CEL are not supported (gRFC A41)";
            return Err(FieldError::new(problem).field(name));
        }
    }
    Ok(Policy {
        permissions: each(permissions, "permissions", cx, permission)?,
        principals: each(principals, "principals", cx, principal)?,
    })
}

/// At least one: the message forbids an empty list, which could be read as none and as all.
fn each<W>(
    wire: Vec<W>,
    field: &str,
    cx: &mut Context<'_>,
    decode: impl Fn(W, &mut Context<'_>) -> Result<Rule, FieldError>,
) -> Result<Vec<Rule>, FieldError> {
    if wire.is_empty() {
        return Err(FieldError::new("must not be empty").field(field));
    }
    cx.count(Limit::Matchers, wire.len()).field(field)?;
    let mut rules = Vec::with_capacity(wire.len());
    for (index, wire) in wire.into_iter().enumerate() {
        rules.push(cx.index(field, index, |cx| decode(wire, cx))?);
    }
    Ok(rules)
}

#[allow(deprecated)]
fn permission(wire: Permission, cx: &mut Context<'_>) -> Result<Rule, FieldError> {
    let set = |field, permission::Set { rules, .. }, cx: &mut Context<'_>| {
        cx.field(field, |cx| each(rules, "rules", cx, permission))
    };
    match wire.rule {
        Some(Asked::AndRules(wire)) => set("and_rules", wire, cx).map(Rule::All),
        Some(Asked::OrRules(wire)) => set("or_rules", wire, cx).map(Rule::AnyOf),
        Some(Asked::Any(any)) => always(any),
        Some(Asked::Header(wire)) => cx.field("header", |cx| header(wire, cx)),
        Some(Asked::UrlPath(wire)) => cx.field("url_path", |cx| url_path(wire, cx)),
        Some(Asked::DestinationIp(wire)) => {
            cidr(&wire).map(Rule::DestinationIp).field("destination_ip")
        }
        Some(Asked::DestinationPort(port)) => match u16::try_from(port) {
            Ok(port) => Ok(Rule::DestinationPort(port..=port)),
            Err(_) => {
                Err(FieldError::new(format!("{port} is not a port")).field("destination_port"))
            }
        },
        Some(Asked::DestinationPortRange(wire)) => ports(&wire)
            .map(Rule::DestinationPort)
            .field("destination_port_range"),
        Some(Asked::Metadata(wire)) => Ok(Rule::Metadata {
            invert: wire.invert,
        }),
        Some(Asked::NotRule(wire)) => {
            let rule = cx.field("not_rule", |cx| permission(*wire, cx))?;
            Ok(Rule::Not(Box::new(rule)))
        }
        Some(Asked::RequestedServerName(wire)) => cx
            .field("requested_server_name", |cx| matcher::string(wire, cx))
            .map(Rule::ServerName),
        Some(Asked::Matcher(_)) => Err(unsupported("matcher")),
        Some(Asked::UriTemplate(_)) => Err(unsupported("uri_template")),
        Some(Asked::SourcedMetadata(_)) => Err(unsupported("sourced_metadata")),
        None => Err(FieldError::new("none is set that is supported").field("rule")),
    }
}

#[allow(deprecated)]
fn principal(wire: Principal, cx: &mut Context<'_>) -> Result<Rule, FieldError> {
    let set = |field, principal::Set { ids, .. }, cx: &mut Context<'_>| {
        cx.field(field, |cx| each(ids, "ids", cx, principal))
    };
    let source = |wire: CidrRange, field| cidr(&wire).map(Rule::SourceIp).field(field);
    match wire.identifier {
        Some(Asks::AndIds(wire)) => set("and_ids", wire, cx).map(Rule::All),
        Some(Asks::OrIds(wire)) => set("or_ids", wire, cx).map(Rule::AnyOf),
        Some(Asks::Any(any)) => always(any),
        Some(Asks::Authenticated(wire)) => wire
            .principal_name
            .map(|wire| {
                cx.field("authenticated", |cx| {
                    cx.field("principal_name", |cx| matcher::string(wire, cx))
                })
            })
            .transpose()
            .map(Rule::Authenticated),
        Some(Asks::SourceIp(wire)) => source(wire, "source_ip"),
        Some(Asks::DirectRemoteIp(wire)) => source(wire, "direct_remote_ip"),
        Some(Asks::RemoteIp(wire)) => source(wire, "remote_ip"),
        Some(Asks::Header(wire)) => cx.field("header", |cx| header(wire, cx)),
        Some(Asks::UrlPath(wire)) => cx.field("url_path", |cx| url_path(wire, cx)),
        Some(Asks::Metadata(wire)) => Ok(Rule::Metadata {
            invert: wire.invert,
        }),
        Some(Asks::NotId(wire)) => {
            let rule = cx.field("not_id", |cx| principal(*wire, cx))?;
            Ok(Rule::Not(Box::new(rule)))
        }
        Some(Asks::FilterState(_)) => Err(unsupported("filter_state")),
        Some(Asks::SourcedMetadata(_)) => Err(unsupported("sourced_metadata")),
        Some(Asks::Custom(_)) => Err(unsupported("custom")),
        None => Err(FieldError::new("none is set that is supported").field("identifier")),
    }
}

fn unsupported(field: &str) -> FieldError {
    FieldError::new("not supported, and it restricts who may do what").field(field)
}

fn always(any: bool) -> Result<Rule, FieldError> {
    match any {
        true => Ok(Rule::Any),
        false => Err(FieldError::new("must be true").field("any")),
    }
}

fn url_path(wire: PathMatcher, cx: &mut Context<'_>) -> Result<Rule, FieldError> {
    match wire.rule {
        Some(path_matcher::Rule::Path(wire)) => cx
            .field("path", |cx| matcher::string(wire, cx))
            .map(Rule::Path),
        None => Err(FieldError::new("must be set").field("path")),
    }
}

fn header(wire: WireHeader, cx: &mut Context<'_>) -> Result<Rule, FieldError> {
    let matcher = matcher::header(wire, cx)?;
    let name = matcher.name.as_str();
    let problem = match name {
        ":authority" | "host" => return authority(matcher, cx).map(Rule::Header),
        ":method" | ":path" => None,
        _ if name.starts_with(':') => Some("is a pseudo-header that rules cannot see"),
        _ if name.starts_with("grpc-") => Some("belongs to the protocol, not to the request"),
        _ => None,
    };
    match problem {
        Some(problem) => {
            let problem = format!("{:?} {problem} (gRFC A41)", quote(name));
            Err(FieldError::new(problem).field("name"))
        }
        None => Ok(Rule::Header(matcher)),
    }
}

/// `host` is another name of `:authority`, and neither cares for case: the request's is in lower
/// case.
fn authority(
    mut matcher: HeaderMatcher,
    cx: &mut Context<'_>,
) -> Result<HeaderMatcher, FieldError> {
    ":authority".clone_into(&mut matcher.name);
    if let HeaderMatch::Value(StringMatcher { pattern, .. }) = matcher.test {
        let pattern = match pattern {
            StringMatch::Regex(source) => {
                StringMatch::Regex(regex(&format!("(?i:{})", source.as_str()), cx)?)
            }
            pattern => pattern,
        };
        matcher.test = HeaderMatch::Value(StringMatcher::new(pattern, true));
    }
    Ok(matcher)
}

fn cidr(wire: &CidrRange) -> Result<Cidr, FieldError> {
    let CidrRange {
        address_prefix,
        prefix_len,
        ..
    } = wire;
    let address: IpAddr = address_prefix.parse().map_err(|_| {
        let problem = format!("{:?} is not an IP address", quote(address_prefix));
        FieldError::new(problem).field("address_prefix")
    })?;
    let length = prefix_len.as_ref().map_or(0, |length| length.value);
    let most = if address.is_ipv4() { 32 } else { 128 };
    // IPv4 that comes mapped into IPv6 is IPv4 in addresses; so it has to be in ranges.
    let mapped = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().zip(length.checked_sub(96)),
        IpAddr::V4(_) => None,
    };
    match length <= most {
        true => Ok(match mapped {
            Some((v4, length)) => Cidr::new(v4.into(), length),
            None => Cidr::new(address, length),
        }),
        false => Err(FieldError::new(format!("{length} is more than {most}")).field("prefix_len")),
    }
}

/// The end is not part of the range.
fn ports(wire: &Int32Range) -> Result<RangeInclusive<u16>, FieldError> {
    let Int32Range { start, end, .. } = *wire;
    let last = end.checked_sub(1).and_then(|last| u16::try_from(last).ok());
    match (u16::try_from(start), last) {
        (Ok(start), Some(last)) if start <= last => Ok(start..=last),
        _ => Err(FieldError::new(format!(
            "{start} up to {end} is not a range of ports"
        ))),
    }
}

#[cfg(test)]
mod tests;
