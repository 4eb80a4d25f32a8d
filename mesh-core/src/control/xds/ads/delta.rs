//! Incremental: requests say what to add to and take from what is asked for, responses what has
//! changed; each resource has a version of its own (xDS transport protocol, "Incremental xDS").

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, Resource as Wrapper, ResourceError, ResourceName,
        },
    },
    google::protobuf::Any,
};
use prost::Message;

use super::{
    cache::{Cache, Subscription},
    codec::error_detail,
    received::{Received, ReportedError, Response, Sent, Wrapped},
};
use crate::{
    config::Kind,
    control::xds::{
        decode::WRAPPER_URL,
        type_url::{kind_of, type_url},
    },
};

/// The messages of one client, stream after stream. What it has, it finds in the cache.
#[derive(Debug)]
pub(super) struct Delta {
    node: Node,
    /// The stream's first request has been made.
    introduced: bool,
    kinds: [State; Kind::ALL.len()],
}

#[derive(Debug, Default)]
struct State {
    /// The stream has asked for something of this kind.
    asked: bool,
    /// What it asked for first, with versions.
    known: bool,
    /// Responses that wait for their ACK or, with the text, NACK: each is answered, since each
    /// says something that no other says.
    answers: VecDeque<(String, Result<(), String>)>,
}

/// A `DeltaDiscoveryResponse`, with resources as they were sent: no field of theirs is lost.
#[derive(Clone, PartialEq, Message)]
struct DeltaResponse {
    #[prost(string, tag = "1")]
    system_version_info: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(string, repeated, tag = "6")]
    removed_resources: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    removed_resource_names: Vec<ResourceName>,
    #[prost(message, repeated, tag = "9")]
    resource_errors: Vec<ResourceError>,
}

/// Answers that may wait to be sent: a NACK has up to 64 KiB.
const MAX_OWED: usize = 64;

impl Delta {
    /// The RPC that carries the messages.
    pub(super) const PATH: &str =
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

    /// For a client that is `node`.
    pub(super) fn new(node: Node) -> Self {
        Self {
            node,
            introduced: false,
            kinds: Default::default(),
        }
    }

    /// A new stream: nothing is asked for, nothing to be answered.
    pub(super) fn open(&mut self) {
        self.introduced = false;
        self.kinds = Default::default();
    }

    /// Whether a response of `kind` waits for its ACK or NACK.
    pub(super) fn owes_answer(&self, kind: Kind) -> bool {
        !self.kinds[kind as usize].answers.is_empty()
    }

    /// Whether more answers wait than a control plane that reads has outstanding.
    pub(super) fn is_behind(&self) -> bool {
        let owed = self.kinds.iter().map(|kind| kind.answers.len());
        owed.sum::<usize>() >= MAX_OWED
    }

    /// Whether the stream has told which versions of `kind` are in force, so that the server says
    /// nothing of what is still the same.
    pub(super) fn confirms(&self, kind: Kind) -> bool {
        self.kinds[kind as usize].known
    }

    /// The same of any kind.
    pub(super) fn may_hear_nothing(&self) -> bool {
        self.kinds.iter().any(|state| state.known)
    }

    /// The request that asks for what changed in `subscription` and answers the oldest response
    /// without an answer, if either is due.
    pub(super) fn request(
        &mut self,
        kind: Kind,
        subscription: &Subscription,
        cache: &Cache,
    ) -> Option<Bytes> {
        let state = &mut self.kinds[kind as usize];
        let answer = state.answers.pop_front();
        if answer.is_none() && !subscription.changed {
            return None;
        }
        let first = !std::mem::replace(&mut state.asked, true);
        // A first request without names would ask for everything.
        debug_assert!(!first || !subscription.added.is_empty());
        let initial_resource_versions: HashMap<_, _> = if first {
            cache.versions(kind).collect()
        } else {
            HashMap::new()
        };
        state.known |= !initial_resource_versions.is_empty();
        let (response_nonce, verdict) = answer.unwrap_or((String::new(), Ok(())));
        let names = |names: &[Arc<str>]| names.iter().map(|name| name.to_string()).collect();
        let request = DeltaDiscoveryRequest {
            node: (!std::mem::replace(&mut self.introduced, true)).then(|| self.node.clone()),
            type_url: type_url(kind).to_owned(),
            resource_names_subscribe: names(&subscription.added),
            resource_names_unsubscribe: names(&subscription.removed),
            initial_resource_versions,
            response_nonce,
            error_detail: error_detail(verdict),
            ..Default::default()
        };
        Some(request.encode_to_vec().into())
    }

    /// Reads a message of the control plane.
    pub(super) fn read(&self, message: &Bytes) -> Received {
        let response = match DeltaResponse::decode(message.clone()) {
            Ok(response) => response,
            Err(error) => return Received::Unreadable(error.to_string()),
        };
        let Some(kind) = kind_of(&response.type_url) else {
            return Received::UnknownType(response.type_url);
        };
        if !self.kinds[kind as usize].asked {
            return Received::Unasked(kind);
        }
        let mut removed = response.removed_resources;
        let names = response.removed_resource_names.into_iter();
        removed.extend(names.map(|ResourceName { name, .. }| name));
        let errors = response.resource_errors.into_iter();
        Received::Response(Response {
            kind,
            version: response.system_version_info.into(),
            nonce: response.nonce,
            resources: response.resources.into_iter().map(sent).collect(),
            errors: errors.map(ReportedError::from).collect(),
            removed,
            whole: false,
        })
    }

    /// Notes that a response is to be answered by an ACK, or by a NACK with this text.
    pub(super) fn answer(&mut self, kind: Kind, nonce: String, verdict: Result<(), String>) {
        self.kinds[kind as usize]
            .answers
            .push_back((nonce, verdict));
    }
}

/// A resource in its wrapper, which is there for the decoder to judge. What of it cannot be read
/// is for the decoder to refuse.
fn sent(wrapper: Bytes) -> Sent {
    let Wrapper {
        name,
        resource_name,
        aliases,
        version,
        resource,
        ttl,
        cache_control,
        metadata,
    } = Wrapper::decode(wrapper.clone()).unwrap_or_default();
    let plain = aliases.is_empty()
        && resource_name.is_none()
        && ttl.is_none()
        && cache_control.is_none()
        && metadata.is_none();
    let name = match (name.is_empty(), resource_name) {
        (true, Some(resource_name)) => resource_name.name,
        _ => name,
    };
    let names = std::iter::once(name)
        .chain(aliases)
        .filter(|name| !name.is_empty());
    Sent {
        raw: Any {
            type_url: WRAPPER_URL.to_owned(),
            value: wrapper.to_vec(),
        },
        wrapped: Some(Wrapped {
            names: names.collect(),
            version: version.into(),
            content: resource,
            plain,
        }),
    }
}
