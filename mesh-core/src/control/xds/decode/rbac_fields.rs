//! The fields of the filter of role-based access control, and of its rules.
//!
//! A field of a rule that is not known here may be the one that keeps somebody out: it is never
//! left out.

use super::{
    fields::{ANY, Field, Message},
    matcher::{REGEX_MATCHER, STRING_MATCHER},
};

pub(super) static RBAC: Message = Message {
    name: "envoy.extensions.filters.http.rbac.v3.RBAC",
    fields: &[
        Field::message(1, "rules", &RULES),
        Field::ignored(2, "shadow_rules", NO_SHADOW),
        Field::ignored(3, "shadow_rules_stat_prefix", NO_SHADOW),
        Field::restricts(4, "matcher", ACCESS),
        Field::ignored(5, "shadow_matcher", NO_SHADOW),
        Field::ignored(6, "rules_stat_prefix", NO_STATISTICS),
        Field::ignored(7, "track_per_rule_stats", NO_STATISTICS),
        Field::others_restrict(ACCESS),
    ],
};

pub(super) static RBAC_PER_ROUTE: Message = Message {
    name: "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
    fields: &[
        Field::message(2, "rbac", &RBAC),
        Field::others_restrict(ACCESS),
    ],
};

static RULES: Message = Message {
    name: "envoy.config.rbac.v3.RBAC",
    fields: &[
        Field::enforced(1, "action"),
        Field::map(2, "policies", &POLICY),
        Field::message(3, "audit_logging_options", &AUDIT_LOGGING_OPTIONS),
        Field::others_restrict(ACCESS),
    ],
};

static AUDIT_LOGGING_OPTIONS: Message = Message {
    name: "envoy.config.rbac.v3.RBAC.AuditLoggingOptions",
    fields: &[
        Field::enforced(1, "audit_condition"),
        Field::repeated(2, "logger_configs", &AUDIT_LOGGER_CONFIG),
    ],
};

static AUDIT_LOGGER_CONFIG: Message = Message {
    name: "envoy.config.rbac.v3.RBAC.AuditLoggingOptions.AuditLoggerConfig",
    fields: &[
        Field::message(1, "audit_logger", &TYPED_EXTENSION_CONFIG),
        Field::enforced(2, "is_optional"),
    ],
};

static TYPED_EXTENSION_CONFIG: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[
        Field::enforced(1, "name"),
        Field::message(2, "typed_config", &ANY),
    ],
};

static POLICY: Message = Message {
    name: "envoy.config.rbac.v3.Policy",
    fields: &[
        Field::repeated(1, "permissions", &PERMISSION),
        Field::repeated(2, "principals", &PRINCIPAL),
        Field::restricts(3, "condition", ACCESS),
        Field::restricts(4, "checked_condition", ACCESS),
        Field::restricts(5, "cel_config", ACCESS),
        Field::others_restrict(ACCESS),
    ],
};

static PERMISSION: Message = Message {
    name: "envoy.config.rbac.v3.Permission",
    fields: &[
        Field::message(1, "and_rules", &PERMISSION_SET),
        Field::message(2, "or_rules", &PERMISSION_SET),
        Field::enforced(3, "any"),
        Field::message(4, "header", &HEADER_MATCHER),
        Field::message(5, "destination_ip", &CIDR_RANGE),
        Field::enforced(6, "destination_port"),
        Field::approximated(7, "metadata", NO_METADATA),
        Field::message(8, "not_rule", &PERMISSION),
        Field::approximated(
            9,
            "requested_server_name",
            "under gRPC semantics it is always the empty string (gRFC A41)",
        ),
        Field::message(10, "url_path", &PATH_MATCHER),
        Field::enforced(11, "destination_port_range"),
        Field::restricts(12, "matcher", ACCESS),
        Field::restricts(13, "uri_template", ACCESS),
        Field::restricts(14, "sourced_metadata", ACCESS),
        Field::others_restrict(ACCESS),
    ],
};

static PERMISSION_SET: Message = Message {
    name: "envoy.config.rbac.v3.Permission.Set",
    fields: &[
        Field::repeated(1, "rules", &PERMISSION),
        Field::others_restrict(ACCESS),
    ],
};

static PRINCIPAL: Message = Message {
    name: "envoy.config.rbac.v3.Principal",
    fields: &[
        Field::message(1, "and_ids", &PRINCIPAL_SET),
        Field::message(2, "or_ids", &PRINCIPAL_SET),
        Field::enforced(3, "any"),
        Field::message(4, "authenticated", &AUTHENTICATED),
        Field::message(5, "source_ip", &CIDR_RANGE),
        Field::message(6, "header", &HEADER_MATCHER),
        Field::approximated(7, "metadata", NO_METADATA),
        Field::message(8, "not_id", &PRINCIPAL),
        Field::message(9, "url_path", &PATH_MATCHER),
        Field::message(10, "direct_remote_ip", &CIDR_RANGE),
        Field::message(11, "remote_ip", &CIDR_RANGE),
        Field::restricts(12, "filter_state", ACCESS),
        Field::restricts(13, "sourced_metadata", ACCESS),
        Field::restricts(14, "custom", ACCESS),
        Field::others_restrict(ACCESS),
    ],
};

static PRINCIPAL_SET: Message = Message {
    name: "envoy.config.rbac.v3.Principal.Set",
    fields: &[
        Field::repeated(1, "ids", &PRINCIPAL),
        Field::others_restrict(ACCESS),
    ],
};

static AUTHENTICATED: Message = Message {
    name: "envoy.config.rbac.v3.Principal.Authenticated",
    fields: &[
        Field::message(2, "principal_name", &STRING_MATCHER),
        Field::others_restrict(ACCESS),
    ],
};

static PATH_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.PathMatcher",
    fields: &[
        Field::message(1, "path", &STRING_MATCHER),
        Field::others_restrict(ACCESS),
    ],
};

static CIDR_RANGE: Message = Message {
    name: "envoy.config.core.v3.CidrRange",
    fields: &[
        Field::enforced(1, "address_prefix"),
        Field::enforced(2, "prefix_len"),
        Field::others_restrict(ACCESS),
    ],
};

/// As for routes, but that an absent header can be read as empty here.
static HEADER_MATCHER: Message = Message {
    name: "envoy.config.route.v3.HeaderMatcher",
    fields: &[
        Field::enforced(1, "name"),
        Field::enforced(4, "exact_match"),
        Field::enforced(6, "range_match"),
        Field::enforced(7, "present_match"),
        Field::enforced(8, "invert_match"),
        Field::enforced(9, "prefix_match"),
        Field::enforced(10, "suffix_match"),
        Field::message(11, "safe_regex_match", &REGEX_MATCHER),
        Field::enforced(12, "contains_match"),
        Field::message(13, "string_match", &STRING_MATCHER),
        Field::enforced(14, "treat_missing_header_as_empty"),
        Field::others_restrict(ACCESS),
    ],
};

const ACCESS: &str = "who may do what";
const NO_METADATA: &str = "there is no metadata: it matches only if it is inverted (gRFC A41)";
const NO_SHADOW: &str = "shadow rules decide nothing (gRFC A41)";
const NO_STATISTICS: &str = "there are no such statistics";
