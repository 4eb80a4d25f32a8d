//! The fields of an endpoints resource.

use super::fields::{Field, Message};

pub(super) static CLUSTER_LOAD_ASSIGNMENT: Message = Message {
    name: "envoy.config.endpoint.v3.ClusterLoadAssignment",
    fields: &[
        Field::enforced(1, "cluster_name"),
        Field::repeated(2, "endpoints", &LOCALITY_LB_ENDPOINTS),
        Field::message(4, "policy", &POLICY),
        Field::ignored(
            5,
            "named_endpoints",
            "endpoints are where localities list them",
        ),
    ],
};

static POLICY: Message = Message {
    name: "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy",
    fields: &[
        Field::enforced(2, "drop_overloads"),
        Field::enforced(3, "overprovisioning_factor").http_only("gRPC ignores it (gRFC A27, A56)"),
        Field::ignored(
            4,
            "endpoint_stale_after",
            "endpoints stay until they are replaced",
        ),
        Field::ignored(
            6,
            "weighted_priority_health",
            "each endpoint counts as one; gRPC counts none (gRFC A56)",
        ),
    ],
};

static LOCALITY_LB_ENDPOINTS: Message = Message {
    name: "envoy.config.endpoint.v3.LocalityLbEndpoints",
    fields: &[
        Field::enforced(1, "locality"),
        Field::repeated(2, "lb_endpoints", &LB_ENDPOINT),
        Field::enforced(3, "load_balancing_weight"),
        Field::enforced(5, "priority"),
        Field::ignored(6, "proximity", "not in force yet"),
        Field::enforced(7, "load_balancer_endpoints"),
        Field::enforced(8, "leds_cluster_locality_config"),
        Field::ignored(9, "metadata", NOT_READ),
    ],
};

static LB_ENDPOINT: Message = Message {
    name: "envoy.config.endpoint.v3.LbEndpoint",
    fields: &[
        Field::message(1, "endpoint", &ENDPOINT),
        Field::enforced(2, "health_status"),
        Field::approximated(3, "metadata", super::workload::FOR_TELEMETRY),
        Field::enforced(4, "load_balancing_weight"),
        Field::enforced(5, "endpoint_name"),
    ],
};

static ENDPOINT: Message = Message {
    name: "envoy.config.endpoint.v3.Endpoint",
    fields: &[
        Field::message(1, "address", &ADDRESS),
        Field::ignored(
            2,
            "health_check_config",
            "there are no active health checks",
        ),
        Field::enforced(3, "hostname"),
        Field::repeated(4, "additional_addresses", &ADDITIONAL_ADDRESS),
        Field::ignored(5, "observability_name", "endpoints go by their address"),
    ],
};

static ADDITIONAL_ADDRESS: Message = Message {
    name: "envoy.config.endpoint.v3.Endpoint.AdditionalAddress",
    fields: &[Field::message(1, "address", &ADDRESS)],
};

pub(super) static ADDRESS: Message = Message {
    name: "envoy.config.core.v3.Address",
    fields: &[
        Field::message(1, "socket_address", &SOCKET_ADDRESS),
        Field::message(2, "pipe", &PIPE),
        Field::enforced(3, "envoy_internal_address"),
    ],
};

static SOCKET_ADDRESS: Message = Message {
    name: "envoy.config.core.v3.SocketAddress",
    fields: &[
        Field::enforced(1, "protocol"),
        Field::enforced(2, "address"),
        Field::enforced(3, "port_value"),
        Field::enforced(4, "named_port"),
        // That of an address which is looked up; other addresses are not.
        Field::ignored(5, "resolver_name", "an IP address is not looked up"),
        Field::ignored(6, "ipv4_compat", "how a socket is bound is said in code"),
        Field::ignored(
            7,
            "network_namespace_filepath",
            "there is one namespace: ours",
        ),
    ],
};

static PIPE: Message = Message {
    name: "envoy.config.core.v3.Pipe",
    fields: &[
        Field::enforced(1, "path"),
        Field::ignored(2, "mode", "how a socket is bound is said in code"),
    ],
};

const NOT_READ: &str = "nothing here reads it";
