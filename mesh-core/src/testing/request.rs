use std::{collections::BTreeMap, fmt};

use envoy_types::pb::{
    envoy::{
        config::core::v3::{Node as WireNode, node::UserAgentVersionType},
        service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    },
    google::{
        protobuf::{Struct, Value, value},
        rpc,
    },
};
use serde_json::Value as Json;

use super::render::kind_of;
use crate::{
    Code,
    config::{Kind, LocalityId},
};

/// A request of a client, as it was received.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// Which stream it came on; streams are numbered from 1 in the order in which they opened.
    pub stream: u64,
    /// The id of the node whose stream this is: known from the stream's first request.
    pub node_id: String,
    /// The node, if this request carried one.
    pub node: Option<ClientNode>,
    /// The type of resource asked for.
    pub type_url: String,
    /// The same where it is one of the four kinds.
    pub kind: Option<Kind>,
    /// The resources asked for; under the incremental protocol those that are asked for in addition
    /// to others before.
    pub names: Vec<String>,
    /// The resources that are no longer asked for. Incremental only.
    pub unsubscribed: Vec<String>,
    /// What the client has from an earlier stream: versions by name. Incremental only.
    pub known_versions: BTreeMap<String, String>,
    /// The version last accepted; empty: none. State of the world only.
    pub version: String,
    /// The response that this one answers; empty: none.
    pub nonce: String,
    /// Why that response is rejected.
    pub error: Option<RequestError>,
}

/// The error of a request that rejects a response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestError {
    /// Its code.
    pub code: Code,
    /// Its text.
    pub message: String,
}

/// A client as it presents itself.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ClientNode {
    /// Its id.
    pub id: String,
    /// The cluster it belongs to.
    pub cluster: String,
    /// Where it is.
    pub locality: LocalityId,
    /// Whatever else it says of itself.
    pub metadata: serde_json::Map<String, Json>,
    /// The name of its xDS library.
    pub user_agent_name: String,
    /// The library's version.
    pub user_agent_version: String,
    /// What it says it can do.
    pub client_features: Vec<String>,
}

/// A response that a client rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Nack {
    /// The client's node id.
    pub node: String,
    /// The type of the resources.
    pub type_url: String,
    /// The same where it is one of the four kinds.
    pub kind: Option<Kind>,
    /// The version that was rejected.
    pub version: u64,
    /// The nonce of the response.
    pub nonce: String,
    /// The code, which should be INVALID_ARGUMENT.
    pub code: Code,
    /// What was wrong.
    pub message: String,
}

impl Request {
    /// `node_id` is that of the stream so far.
    pub(super) fn new(stream: u64, node_id: &str, wire: DiscoveryRequest) -> Self {
        let node = wire.node.map(ClientNode::from);
        Self {
            stream,
            node_id: node.as_ref().map_or(node_id, |node| &node.id).to_owned(),
            node,
            kind: kind_of(&wire.type_url),
            type_url: wire.type_url,
            names: wire.resource_names,
            unsubscribed: Vec::new(),
            known_versions: BTreeMap::new(),
            version: wire.version_info,
            nonce: wire.response_nonce,
            error: wire.error_detail.map(RequestError::from),
        }
    }

    /// The same of the incremental protocol.
    pub(super) fn delta(stream: u64, node_id: &str, wire: DeltaDiscoveryRequest) -> Self {
        let node = wire.node.map(ClientNode::from);
        Self {
            stream,
            node_id: node.as_ref().map_or(node_id, |node| &node.id).to_owned(),
            node,
            kind: kind_of(&wire.type_url),
            type_url: wire.type_url,
            names: wire.resource_names_subscribe,
            unsubscribed: wire.resource_names_unsubscribe,
            known_versions: wire.initial_resource_versions.into_iter().collect(),
            version: String::new(),
            nonce: wire.response_nonce,
            error: wire.error_detail.map(RequestError::from),
        }
    }
}

impl From<rpc::Status> for RequestError {
    fn from(status: rpc::Status) -> Self {
        Self {
            code: Code::from_i32(status.code),
            message: status.message,
        }
    }
}

/// On one line, with few of its names.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        match self.kind {
            Some(kind) => write!(f, "stream {}: {kind}", self.stream)?,
            None => write!(f, "stream {}: {}", self.stream, self.type_url)?,
        }
        write!(f, " {:?}", &self.names[..self.names.len().min(SHOWN)])?;
        if self.names.len() > SHOWN {
            write!(f, " and {} more", self.names.len() - SHOWN)?;
        }
        if !self.unsubscribed.is_empty() {
            write!(f, ", {} less", self.unsubscribed.len())?;
        }
        if !self.known_versions.is_empty() {
            write!(f, ", {} known", self.known_versions.len())?;
        }
        write!(f, ", version {:?}, nonce {:?}", self.version, self.nonce)?;
        match &self.error {
            Some(error) => write!(f, ", error {}: {}", error.code, error.message),
            None => Ok(()),
        }
    }
}

impl From<WireNode> for ClientNode {
    fn from(node: WireNode) -> Self {
        let locality = node.locality.unwrap_or_default();
        Self {
            id: node.id,
            cluster: node.cluster,
            locality: LocalityId {
                region: locality.region,
                zone: locality.zone,
                sub_zone: locality.sub_zone,
            },
            metadata: node.metadata.map(object).unwrap_or_default(),
            user_agent_name: node.user_agent_name,
            user_agent_version: match node.user_agent_version_type {
                Some(UserAgentVersionType::UserAgentVersion(version)) => version,
                Some(UserAgentVersionType::UserAgentBuildVersion(_)) | None => String::new(),
            },
            client_features: node.client_features,
        }
    }
}

fn object(object: Struct) -> serde_json::Map<String, Json> {
    let fields = object.fields.into_iter();
    fields.map(|(key, value)| (key, json(value))).collect()
}

fn json(value: Value) -> Json {
    match value.kind {
        None | Some(value::Kind::NullValue(_)) => Json::Null,
        Some(value::Kind::NumberValue(number)) => number.into(),
        Some(value::Kind::StringValue(string)) => string.into(),
        Some(value::Kind::BoolValue(bool)) => bool.into(),
        Some(value::Kind::StructValue(fields)) => object(fields).into(),
        Some(value::Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
    }
}
