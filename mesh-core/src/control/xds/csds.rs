//! The client status discovery service (gRFC A40): what a [`ConfigDump`] is in its words.
//!
//! Messages come and go as bytes, so that whoever serves them needs no protobuf of the protocol.

use std::{sync::Arc, time::SystemTime};

use envoy_types::pb::{
    envoy::{
        admin::v3::{ClientResourceStatus, UpdateFailureState},
        service::status::v3 as wire,
    },
    google::protobuf::{Any, Timestamp},
};
use prost::Message;
use wire::client_config::GenericXdsConfig;

use super::{
    dump::{AcceptedDump, ConfigDump, FailureDump, ResourceDump, ResourceStatus},
    node,
    type_url::type_url,
};
use crate::bootstrap::Node;

/// What someone wants to know: an `envoy.service.status.v3.ClientStatusRequest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRequest {
    exclude_contents: bool,
}

/// Why a [`StatusRequest`] cannot be answered: INVALID_ARGUMENT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatusRequestError {
    /// It is no such message.
    #[error("not a ClientStatusRequest: {0}")]
    Malformed(Box<str>),
    /// A process is one node, so that there is nothing to choose from (gRFC A40).
    #[error("node_matchers are not supported")]
    NodeMatchers,
}

// === impl StatusRequest ===

impl StatusRequest {
    /// Reads an encoded request.
    ///
    /// # Errors
    /// If it is none, or asks for certain nodes.
    pub fn decode(message: &[u8]) -> Result<Self, StatusRequestError> {
        let request = wire::ClientStatusRequest::decode(message)
            .map_err(|error| StatusRequestError::Malformed(error.to_string().into()))?;
        if !request.node_matchers.is_empty() {
            return Err(StatusRequestError::NodeMatchers);
        }
        Ok(Self {
            exclude_contents: request.exclude_resource_contents,
        })
    }

    /// The answer of the process that is `node` and knows what is in `dump`: an encoded
    /// `envoy.service.status.v3.ClientStatusResponse`.
    ///
    /// It has one `ClientConfig` for all that one control plane was asked for. Where resources were
    /// asked of several (gRFC A71), each has its own, the preferred first, and `client_scope` is the
    /// control plane as the bootstrap names it; otherwise it is empty. The contents are as they
    /// were received, but for private keys, and are left out if the request says so. A value that an
    /// earlier process has saved has an `error_state` whose details begin with `stale:`.
    pub fn answer(&self, node: &Node, dump: &ConfigDump) -> Vec<u8> {
        let mut servers = vec![&dump.server];
        for resource in &dump.resources {
            if !servers.contains(&&resource.server) {
                servers.push(&resource.server);
            }
        }
        let asked = |server: &Arc<str>| dump.resources.iter().any(|r| r.server == *server);
        // A control plane that was asked for nothing has nothing to tell, unless it is the only one.
        if servers.len() > 1 {
            servers.retain(|server| asked(server));
        }
        let several = servers.len() > 1;
        let configs = servers.into_iter().map(|server| {
            let of = dump.resources.iter().filter(|r| r.server == *server);
            wire::ClientConfig {
                node: Some(node::encode(node)),
                generic_xds_configs: of.map(|resource| self.resource(resource)).collect(),
                client_scope: if several {
                    server.to_string()
                } else {
                    String::new()
                },
                ..Default::default()
            }
        });
        let config = configs.collect();
        wire::ClientStatusResponse { config }.encode_to_vec()
    }

    fn resource(&self, resource: &ResourceDump) -> GenericXdsConfig {
        let accepted = resource.accepted.as_ref();
        GenericXdsConfig {
            type_url: type_url(resource.id.kind).to_owned(),
            name: resource.id.name.to_string(),
            version_info: accepted.map_or_else(String::new, |a| a.version.to_string()),
            xds_config: accepted.and_then(|a| self.contents(&a.raw)),
            last_updated: accepted.map(|a| timestamp(a.last_updated)),
            client_status: status(resource.status).into(),
            error_state: match (&resource.failure, accepted) {
                (Some(failure), _) => Some(self.failure(failure)),
                (None, Some(accepted)) if accepted.stale => Some(stale(accepted)),
                (None, _) => None,
            },
            ..Default::default()
        }
    }

    fn failure(&self, failure: &FailureDump) -> UpdateFailureState {
        UpdateFailureState {
            failed_configuration: failure.raw.as_ref().and_then(|raw| self.contents(raw)),
            last_update_attempt: Some(timestamp(failure.at)),
            details: failure.details.to_string(),
            version_info: failure.version.to_string(),
        }
    }

    fn contents(&self, raw: &Arc<Any>) -> Option<Any> {
        (!self.exclude_contents).then(|| Any::clone(raw))
    }
}

/// The protocol has no word for a value that an earlier process has saved: beside a status that says that
/// none has come, this says where it is from.
fn stale(accepted: &AcceptedDump) -> UpdateFailureState {
    UpdateFailureState {
        details: "stale: saved by an earlier process, and in force until a control plane answers"
            .into(),
        last_update_attempt: Some(timestamp(accepted.last_updated)),
        version_info: accepted.version.to_string(),
        ..Default::default()
    }
}

fn status(status: ResourceStatus) -> ClientResourceStatus {
    match status {
        ResourceStatus::Requested => ClientResourceStatus::Requested,
        ResourceStatus::DoesNotExist => ClientResourceStatus::DoesNotExist,
        ResourceStatus::Acked => ClientResourceStatus::Acked,
        ResourceStatus::Nacked => ClientResourceStatus::Nacked,
        ResourceStatus::ReceivedError => ClientResourceStatus::ReceivedError,
        ResourceStatus::Timeout => ClientResourceStatus::Timeout,
    }
}

/// A clock that stands before 1970 is told as 1970.
fn timestamp(at: SystemTime) -> Timestamp {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: since.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: since.subsec_nanos().try_into().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
