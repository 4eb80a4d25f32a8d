//! The fields of route configurations.

use super::{
    action::ROUTE_ACTION,
    direct_response::DIRECT_RESPONSE,
    fields::{ANY, Field, Message},
    header_mutation::{adds, removes},
    listener::HOSTS,
    matcher::{HEADER_MATCHER, QUERY_PARAMETER_MATCHER, REGEX_MATCHER, RUNTIME_FRACTION},
    redirect::REDIRECT,
    retry::RETRY_POLICY,
};

/// What becomes under gRPC semantics of what routes say beyond gRPC.
pub(super) const NOT_GRPC: &str = "in force under HTTP semantics; gRPC ignores it (gRFC A28)";
pub(super) const NO_MIRROR: &str = "requests are not mirrored";
pub(super) const NO_HEDGING: &str = "requests are not hedged (gRFC A44)";
pub(super) const NO_RATE_LIMIT: &str = "descriptors for a rate limit filter, which clients lack";
pub(super) const NO_CORS: &str = "deprecated options for a CORS filter, which clients lack";
pub(super) const NO_EXTENSION: &str = "extensions of routes are not supported";
const NO_METADATA: &str = "no filter here reads it";
const BUFFERS: &str = "the buffer for retries is limited in code";
const ATTEMPTS: &str = "grpc-previous-rpc-attempts tells the server (gRFC A6)";
const EVERY_MATCH: &str = "the route matches whether this does or not (gRFC A28)";
const NOT_A_ROUTE: &str =
    "requests that match fail as unavailable: clients forward to clusters only (gRFC A28)";
const ANSWERS: &str = "in force under HTTP semantics; under gRPC's, requests that match fail as \
                       unavailable (gRFC A28)";

pub(super) static ROUTE_CONFIGURATION: Message = Message {
    name: "envoy.config.route.v3.RouteConfiguration",
    fields: &[
        Field::enforced(1, "name"),
        Field::repeated(2, "virtual_hosts", &VIRTUAL_HOST),
        Field::ignored(
            3,
            "internal_only_headers",
            "no peer is taken for an outsider",
        ),
        adds(4, "response_headers_to_add"),
        removes(5, "response_headers_to_remove"),
        adds(6, "request_headers_to_add"),
        Field::ignored(
            7,
            "validate_clusters",
            "a missing cluster fails its own calls only",
        ),
        removes(8, "request_headers_to_remove"),
        Field::ignored(
            9,
            "vhds",
            "virtual hosts in resources of their own are not supported",
        ),
        Field::enforced(10, "most_specific_header_mutations_wins").http_only(NOT_GRPC),
        Field::enforced(11, "max_direct_response_body_size_bytes"),
        Field::ignored(
            12,
            "cluster_specifier_plugins",
            "not supported: routes that name one are skipped (gRFC A28)",
        ),
        Field::ignored(13, "request_mirror_policies", NO_MIRROR),
        Field::enforced(14, "ignore_port_in_host_matching").http_only(HOSTS),
        Field::ignored(
            15,
            "ignore_path_parameters_in_path_matching",
            PATH_PARAMETERS,
        ),
        Field::ignored(16, "typed_per_filter_config", NO_GLOBAL_OVERRIDES),
        Field::ignored(17, "metadata", NO_METADATA),
        Field::ignored(18, "vhost_header", NO_OTHER_HEADER),
        Field::ignored(19, "route_specifiers", NO_EXTENSION),
    ],
};

const NO_OTHER_HEADER: &str = "virtual hosts are chosen by the authority";
const PATH_PARAMETERS: &str = "paths are matched with their parameters (gRFC A28)";
const NO_GLOBAL_OVERRIDES: &str =
    "only those of virtual hosts, routes and weighted clusters are in force (gRFC A39)";

pub(super) static VIRTUAL_HOST: Message = Message {
    name: "envoy.config.route.v3.VirtualHost",
    fields: &[
        Field::enforced(1, "name"),
        Field::enforced(2, "domains"),
        Field::repeated(3, "routes", &ROUTE),
        Field::restricts(4, "require_tls", "requests to those over TLS"),
        Field::ignored(5, "virtual_clusters", "select statistics only"),
        Field::ignored(6, "rate_limits", NO_RATE_LIMIT),
        adds(7, "request_headers_to_add"),
        Field::ignored(8, "cors", NO_CORS),
        adds(10, "response_headers_to_add"),
        removes(11, "response_headers_to_remove"),
        removes(13, "request_headers_to_remove"),
        Field::ignored(14, "include_request_attempt_count", ATTEMPTS),
        Field::map(15, "typed_per_filter_config", &ANY),
        Field::message(16, "retry_policy", &RETRY_POLICY),
        Field::ignored(17, "hedge_policy", NO_HEDGING),
        Field::ignored(18, "per_request_buffer_limit_bytes", BUFFERS),
        Field::ignored(19, "include_attempt_count_in_response", ATTEMPTS),
        Field::ignored(20, "retry_policy_typed_config", NO_EXTENSION),
        Field::ignored(21, "matcher", "routes are taken from `routes` (gRFC A28)"),
        Field::ignored(22, "request_mirror_policies", NO_MIRROR),
        Field::ignored(23, "include_is_timeout_retry_header", ATTEMPTS),
        Field::ignored(24, "metadata", NO_METADATA),
        Field::ignored(25, "request_body_buffer_limit", BUFFERS),
        Field::ignored(26, "route_specifiers", NO_EXTENSION),
    ],
};

pub(super) static ROUTE: Message = Message {
    name: "envoy.config.route.v3.Route",
    fields: &[
        Field::message(1, "match", &ROUTE_MATCH),
        Field::message(2, "route", &ROUTE_ACTION),
        Field::message(3, "redirect", &REDIRECT).http_only(ANSWERS),
        Field::ignored(4, "metadata", NO_METADATA),
        Field::ignored(5, "decorator", "names spans: tracing is set up in code"),
        Field::message(7, "direct_response", &DIRECT_RESPONSE).http_only(ANSWERS),
        adds(9, "request_headers_to_add"),
        adds(10, "response_headers_to_add"),
        removes(11, "response_headers_to_remove"),
        removes(12, "request_headers_to_remove"),
        Field::map(13, "typed_per_filter_config", &ANY),
        Field::enforced(14, "name"),
        Field::ignored(15, "tracing", "tracing is set up in code"),
        Field::ignored(16, "per_request_buffer_limit_bytes", BUFFERS),
        Field::approximated(17, "filter_action", NOT_A_ROUTE),
        // What a server needs; in clients, requests that match fail as they are to (gRFC A36).
        Field::enforced(18, "non_forwarding_action"),
        Field::ignored(
            19,
            "stat_prefix",
            "names statistics, which have labels of their own here",
        ),
        Field::ignored(20, "request_body_buffer_limit", BUFFERS),
        Field::ignored(21, "route_specifiers", NO_EXTENSION),
    ],
};

static ROUTE_MATCH: Message = Message {
    name: "envoy.config.route.v3.RouteMatch",
    fields: &[
        Field::enforced(1, "prefix"),
        Field::enforced(2, "path"),
        Field::enforced(4, "case_sensitive"),
        Field::repeated(6, "headers", &HEADER_MATCHER),
        Field::repeated(7, "query_parameters", &QUERY_PARAMETER_MATCHER),
        Field::ignored(8, "grpc", EVERY_MATCH),
        Field::message(9, "runtime_fraction", &RUNTIME_FRACTION),
        Field::message(10, "safe_regex", &REGEX_MATCHER),
        Field::ignored(11, "tls_context", EVERY_MATCH),
        Field::enforced(12, "connect_matcher"),
        Field::ignored(13, "dynamic_metadata", EVERY_MATCH),
        Field::enforced(14, "path_separated_prefix"),
        Field::enforced(15, "path_match_policy"),
        Field::ignored(16, "filter_state", EVERY_MATCH),
        Field::ignored(17, "cookies", EVERY_MATCH),
    ],
};
