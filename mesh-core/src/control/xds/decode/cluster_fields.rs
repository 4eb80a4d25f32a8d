//! The fields of a cluster.

use super::{
    connections_fields::{
        COMMON_OPTIONS, HTTP1_OPTIONS, HTTP2_OPTIONS, NOT_GRPC, UPSTREAM_HTTP_OPTIONS,
    },
    discovery::{ITS_RESOLVER, REFRESH_RATE, TTL},
    endpoints_fields::CLUSTER_LOAD_ASSIGNMENT,
    fields::{ANY, Field, Message},
    least_request::LEAST_REQUEST_LB_CONFIG,
    policy::LOAD_BALANCING_POLICY,
    round_robin::ROUND_ROBIN_LB_CONFIG,
    tls_fields::TRANSPORT_SOCKET,
};

pub(super) static CLUSTER: Message = Message {
    name: "envoy.config.cluster.v3.Cluster",
    fields: &[
        Field::enforced(1, "name"),
        Field::enforced(2, "type"),
        Field::message(3, "eds_cluster_config", &EDS_CLUSTER_CONFIG),
        Field::enforced(4, "connect_timeout"),
        Field::ignored(5, "per_connection_buffer_limit_bytes", WINDOWS),
        Field::enforced(6, "lb_policy"),
        Field::ignored(8, "health_checks", "health is what the endpoints say of it"),
        Field::enforced(9, "max_requests_per_connection").http_only(NOT_GRPC),
        Field::message(10, "circuit_breakers", &CIRCUIT_BREAKERS),
        Field::message(13, "http_protocol_options", &HTTP1_OPTIONS),
        Field::message(14, "http2_protocol_options", &HTTP2_OPTIONS),
        Field::enforced(16, "dns_refresh_rate"),
        Field::enforced(17, "dns_lookup_family"),
        Field::ignored(18, "dns_resolvers", ITS_RESOLVER),
        Field::ignored(
            19,
            "outlier_detection",
            "outlier detection is not in force yet",
        ),
        Field::ignored(
            20,
            "cleanup_interval",
            "only for clusters of type ORIGINAL_DST",
        ),
        Field::ignored(
            21,
            "upstream_bind_config",
            "the system chooses the source address",
        ),
        Field::ignored(22, "lb_subset_config", "every endpoint can be chosen"),
        Field::ignored(23, "ring_hash_lb_config", NOT_YET),
        Field::message(24, "transport_socket", &TRANSPORT_SOCKET),
        Field::approximated(25, "metadata", super::workload::FOR_TELEMETRY),
        // Its decoder reports it.
        Field::enforced(26, "protocol_selection"),
        Field::message(27, "common_lb_config", &COMMON_LB_CONFIG),
        Field::ignored(28, "alt_stat_name", "statistics go by the cluster's name"),
        Field::message(29, "common_http_protocol_options", &COMMON_OPTIONS),
        Field::ignored(30, "upstream_connection_options", NOT_YET),
        Field::ignored(31, "close_connections_on_host_health_failure", NOT_YET),
        Field::ignored(32, "ignore_health_on_host_removal", NO_CHECKS),
        Field::message(33, "load_assignment", &CLUSTER_LOAD_ASSIGNMENT),
        Field::ignored(34, "original_dst_lb_config", NOT_YET),
        Field::map(36, "typed_extension_protocol_options", &ANY),
        Field::message(37, "least_request_lb_config", &LEAST_REQUEST_LB_CONFIG),
        Field::message(38, "cluster_type", &CUSTOM_CLUSTER_TYPE),
        Field::approximated(39, "respect_dns_ttl", TTL),
        Field::ignored(40, "filters", "filters of clusters are not supported"),
        Field::message(41, "load_balancing_policy", &LOAD_BALANCING_POLICY),
        Field::enforced(42, "lrs_server"),
        Field::enforced(43, "transport_socket_matches"),
        Field::message(44, "dns_failure_refresh_rate", &REFRESH_RATE),
        Field::ignored(45, "use_tcp_for_dns_lookups", ITS_RESOLVER),
        Field::message(46, "upstream_http_protocol_options", &UPSTREAM_HTTP_OPTIONS),
        Field::ignored(47, "track_timeout_budgets", NO_STATS),
        Field::ignored(48, "upstream_config", "only HTTP is spoken to endpoints"),
        Field::ignored(49, "track_cluster_stats", NO_STATS),
        Field::ignored(
            50,
            "preconnect_policy",
            "connections are made ahead of calls anyway",
        ),
        Field::ignored(
            51,
            "connection_pool_per_downstream_connection",
            "connections are shared",
        ),
        Field::ignored(52, "maglev_lb_config", NOT_YET),
        Field::ignored(53, "dns_resolution_config", ITS_RESOLVER),
        Field::ignored(54, "wait_for_warm_on_init", NO_CHECKS),
        Field::ignored(55, "typed_dns_resolver_config", ITS_RESOLVER),
        Field::message(56, "round_robin_lb_config", &ROUND_ROBIN_LB_CONFIG),
        // Its decoder reports names that are not known.
        Field::enforced(57, "lrs_report_endpoint_metrics"),
        Field::enforced(58, "dns_jitter"),
        Field::enforced(59, "transport_socket_matcher"),
        Field::ignored(60, "per_connection_buffer_high_watermark_timeout", WINDOWS),
        Field::ignored(61, "stats_matcher", NO_STATS),
        Field::ignored(62, "queuing_policies", NOT_YET),
    ],
};

static CUSTOM_CLUSTER_TYPE: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.CustomClusterType",
    fields: &[
        Field::enforced(1, "name"),
        Field::message(2, "typed_config", &ANY),
    ],
};

static EDS_CLUSTER_CONFIG: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
    fields: &[
        Field::message(1, "eds_config", &EDS_CONFIG),
        Field::enforced(2, "service_name"),
    ],
};

static EDS_CONFIG: Message = Message {
    name: "envoy.config.core.v3.ConfigSource",
    fields: &[
        Field::enforced(1, "path"),
        Field::enforced(2, "api_config_source"),
        Field::enforced(3, "ads"),
        Field::ignored(4, "initial_fetch_timeout", "15 s are in force (gRFC A57)"),
        Field::enforced(5, "self"),
        // Only version 3 is spoken, whatever this says.
        Field::enforced(6, "resource_api_version"),
        Field::ignored(7, "authorities", "the bootstrap names the servers"),
        Field::enforced(8, "path_config_source"),
    ],
};

static CIRCUIT_BREAKERS: Message = Message {
    name: "envoy.config.cluster.v3.CircuitBreakers",
    fields: &[
        Field::repeated(1, "thresholds", &THRESHOLDS),
        Field::repeated(2, "per_host_thresholds", &PER_HOST_THRESHOLDS),
    ],
};

static THRESHOLDS: Message = Message {
    name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
    fields: &[
        Field::enforced(1, "priority"),
        Field::enforced(2, "max_connections").http_only(HTTP_BREAKER),
        Field::enforced(3, "max_pending_requests").http_only(HTTP_BREAKER),
        Field::enforced(4, "max_requests"),
        Field::enforced(5, "max_retries").http_only(HTTP_BREAKER),
        Field::ignored(6, "track_remaining", NO_STATS),
        Field::ignored(7, "max_connection_pools", MAX_REQUESTS),
        Field::ignored(8, "retry_budget", MAX_REQUESTS),
    ],
};

static PER_HOST_THRESHOLDS: Message = Message {
    // Other treatments of the same message: a name of its own keeps their findings apart.
    name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds (per host)",
    fields: &[
        Field::enforced(1, "priority"),
        Field::enforced(2, "max_connections"),
        Field::ignored(3, "max_pending_requests", PER_HOST),
        Field::ignored(4, "max_requests", PER_HOST),
        Field::ignored(5, "max_retries", PER_HOST),
        Field::ignored(6, "track_remaining", PER_HOST),
        Field::ignored(7, "max_connection_pools", PER_HOST),
        Field::ignored(8, "retry_budget", PER_HOST),
    ],
};

static PERCENT: Message = Message {
    name: "envoy.type.v3.Percent",
    fields: &[Field::enforced(1, "value")],
};

static COMMON_LB_CONFIG: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.CommonLbConfig",
    fields: &[
        Field::message(1, "healthy_panic_threshold", &PERCENT)
            .http_only("in force under HTTP semantics; gRPC has no panic mode (gRFC A56)"),
        Field::ignored(
            2,
            "zone_aware_lb_config",
            "localities are chosen by their weights",
        ),
        // What it asks for is the way of every cluster without a load_balancing_policy.
        Field::enforced(3, "locality_weighted_lb_config"),
        Field::ignored(4, "update_merge_window", "updates are applied at once"),
        Field::ignored(5, "ignore_new_hosts_until_first_hc", NO_CHECKS),
        Field::ignored(6, "close_connections_on_host_set_change", NOT_YET),
        Field::ignored(7, "consistent_hashing_lb_config", NOT_YET),
        Field::ignored(
            8,
            "override_host_status",
            "there is no session affinity yet",
        ),
    ],
};

const NOT_YET: &str = "not in force yet";
const NO_CHECKS: &str = "there are no active health checks";
const NO_STATS: &str = "statistics are not configured by the control plane";
const WINDOWS: &str = "the HTTP/2 windows bound what is buffered";
const MAX_REQUESTS: &str = "not among the circuit breakers in force";
const HTTP_BREAKER: &str =
    "in force under HTTP semantics; gRPC ignores it (gRFC A32): max_requests is its only breaker";
const PER_HOST: &str = "max_connections is the only limit per host in force (gRFC A105)";
