//! What a control plane has sent, whatever the variant of the protocol, and whether it is news.

use std::sync::Arc;

use envoy_types::pb::{envoy::service::discovery::v3::ResourceError, google::protobuf::Any};

use super::{cache::Cache, entry::Entry};
use crate::{Code, config::Kind, control::xds::dump::ResourceStatus};

/// What a control plane has sent.
#[derive(Debug)]
pub(super) enum Received {
    /// Resources that were asked for.
    Response(Response),
    /// Resources of a kind that was not asked for.
    Unasked(Kind),
    /// Resources of a type that no decoder knows.
    UnknownType(String),
    /// Not a message of the protocol.
    Unreadable(String),
}

/// Resources of one kind.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) kind: Kind,
    pub(super) version: Arc<str>,
    pub(super) nonce: String,
    pub(super) resources: Vec<Sent>,
    pub(super) errors: Vec<ReportedError>,
    /// Names of resources that do not exist, or no longer.
    pub(super) removed: Vec<String>,
    /// A resource that is not in it does not exist.
    pub(super) whole: bool,
}

/// A resource as it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// For the decoder: it judges the wrapper, too.
    pub(super) raw: Any,
    /// What the wrapper says, where the protocol goes by that.
    pub(super) wrapped: Option<Wrapped>,
}

/// What a wrapper says of its resource.
#[derive(Debug)]
pub(super) struct Wrapped {
    /// What it is called: the name that it was asked for by may be an alias.
    pub(super) names: Vec<String>,
    /// Of this resource alone.
    pub(super) version: Arc<str>,
    /// The resource itself. Without it, nothing has changed.
    pub(super) content: Option<Any>,
    /// There is nothing else in the wrapper.
    pub(super) plain: bool,
}

/// An error that the control plane reports in place of a resource (xRFC TP3).
#[derive(Debug)]
pub(super) struct ReportedError {
    pub(super) name: String,
    pub(super) code: Code,
    pub(super) message: String,
}

// === impl ReportedError ===

impl From<ResourceError> for ReportedError {
    fn from(wire: ResourceError) -> Self {
        let status = wire.error_detail.unwrap_or_default();
        Self {
            name: wire.resource_name.unwrap_or_default().name,
            code: Code::from_i32(status.code),
            message: status.message,
        }
    }
}

/// Whether the control plane can take a resource of `kind` away. Others stay in force until
/// something else takes their place: they are of use only as long as a listener or cluster refers
/// to them (gRFC A27).
pub(super) fn can_be_deleted(kind: Kind) -> bool {
    matches!(kind, Kind::Listener | Kind::Cluster)
}

/// The watched resource to which `raw` brings nothing new.
pub(super) fn unchanged<'a>(
    cache: &'a Cache,
    kind: Kind,
    raw: &Any,
    wrapped: Option<&Wrapped>,
) -> Option<&'a Arc<str>> {
    let Some(wrapped) = wrapped else {
        return cache.find_identical(kind, raw);
    };
    let is_called = |name: &Arc<str>| wrapped.names.iter().any(|called| **called == **name);
    match &wrapped.content {
        Some(content) if wrapped.plain => cache
            .find_identical(kind, content)
            .filter(|name| is_called(name)),
        Some(_) => None,
        // A sign of life of one with a `ttl`.
        None => wrapped.names.iter().find_map(|name| {
            let (name, entry) = cache.watched(kind, name)?;
            (entry.version()? == &wrapped.version).then_some(name)
        }),
    }
}

/// Whether a removal is news of a resource. One that was not asked for since may be about an
/// earlier time. Routes and endpoints may be about to come: what refers to them already keeps what
/// it has until they are there, or their time is up, as in state of the world.
pub(super) fn is_removed(kind: Kind, entry: &Entry) -> bool {
    can_be_deleted(kind) && entry.subscribed && entry.status() != ResourceStatus::DoesNotExist
}

/// Whether nothing was said of a resource yet.
pub(super) fn is_awaited(entry: &Entry) -> bool {
    matches!(
        entry.status(),
        ResourceStatus::Requested | ResourceStatus::Timeout
    )
}
