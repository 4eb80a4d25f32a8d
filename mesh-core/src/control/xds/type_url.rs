//! The names that kinds have on the wire.

use crate::config::Kind;

/// The type URL of resources of `kind` (`xDS v3`, gRFC A30).
pub(crate) fn type_url(kind: Kind) -> &'static str {
    match kind {
        Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
        Kind::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    }
}

/// The kind with this type URL, if it is one that can be watched.
pub(crate) fn kind_of(url: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|&kind| type_url(kind) == url)
}
