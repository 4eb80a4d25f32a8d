//! State of the world: each request names everything wanted, each response is one version of a
//! kind (xDS transport protocol, gRFC A27).

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
};
use prost::Message;

use super::{
    cache::Subscription,
    codec::error_detail,
    received::{Received, ReportedError, Response, Sent, can_be_deleted},
};
use crate::{
    config::Kind,
    control::xds::type_url::{kind_of, type_url},
};

/// The messages of one client, stream after stream.
#[derive(Debug)]
pub(super) struct Sotw {
    node: Node,
    /// The stream's first request has been made.
    introduced: bool,
    kinds: [State; Kind::ALL.len()],
}

#[derive(Debug, Default)]
struct State {
    /// Of the last response that was accepted as a whole. Outlives the stream.
    version: String,
    /// Of the last response of this stream.
    nonce: String,
    /// The stream has asked for something of this kind. As the first request, one without names
    /// would ask for everything.
    asked: bool,
    /// A response waits for its ACK or, with the text, NACK.
    answer: Option<Result<(), String>>,
}

impl Sotw {
    /// The RPC that carries the messages.
    pub(super) const PATH: &str =
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

    /// For a client that is `node`.
    pub(super) fn new(node: Node) -> Self {
        Self {
            node,
            introduced: false,
            kinds: Default::default(),
        }
    }

    /// A new stream: nonces are void, versions stay.
    pub(super) fn open(&mut self) {
        self.introduced = false;
        for state in &mut self.kinds {
            state.nonce.clear();
            state.asked = false;
            state.answer = None;
        }
    }

    /// Nothing that the versions stand for is known any more.
    pub(super) fn forget(&mut self) {
        for state in &mut self.kinds {
            state.version.clear();
        }
    }

    /// Whether a response of `kind` waits for its ACK or NACK.
    pub(super) fn owes_answer(&self, kind: Kind) -> bool {
        self.kinds[kind as usize].answer.is_some()
    }

    /// The request that asks for `subscription` and answers the last response, if either is due.
    pub(super) fn request(&mut self, kind: Kind, subscription: &Subscription) -> Option<Bytes> {
        let state = &mut self.kinds[kind as usize];
        let answer = state.answer.take();
        if answer.is_none() && !subscription.changed {
            return None;
        }
        // Without names, there is a change only if the stream has asked for some before, and an
        // answer only to what it has asked for: a request never asks for everything.
        debug_assert!(state.asked || !subscription.names.is_empty());
        state.asked = true;
        // The first request of a stream names the version that the last stream ended with. But a
        // server may take it for granted that who has the version has all of it, so it is named
        // only if that is so.
        let version = if state.nonce.is_empty() && !subscription.complete {
            String::new()
        } else {
            state.version.clone()
        };
        let request = DiscoveryRequest {
            version_info: version,
            node: (!std::mem::replace(&mut self.introduced, true)).then(|| self.node.clone()),
            resource_names: subscription.names.iter().map(|n| n.to_string()).collect(),
            type_url: type_url(kind).to_owned(),
            response_nonce: state.nonce.clone(),
            error_detail: answer.and_then(error_detail),
            ..Default::default()
        };
        Some(request.encode_to_vec().into())
    }

    /// Reads a message of the control plane.
    pub(super) fn read(&self, message: &Bytes) -> Received {
        let DiscoveryResponse {
            version_info,
            resources,
            type_url,
            nonce,
            resource_errors,
            ..
        } = match DiscoveryResponse::decode(message.clone()) {
            Ok(response) => response,
            Err(error) => return Received::Unreadable(error.to_string()),
        };
        let Some(kind) = kind_of(&type_url) else {
            return Received::UnknownType(type_url);
        };
        if !self.kinds[kind as usize].asked {
            return Received::Unasked(kind);
        }
        let resources = resources.into_iter().map(|raw| Sent { raw, wrapped: None });
        let errors = resource_errors.into_iter().map(ReportedError::from);
        Received::Response(Response {
            kind,
            version: Arc::from(version_info),
            nonce,
            resources: resources.collect(),
            errors: errors.collect(),
            removed: Vec::new(),
            whole: can_be_deleted(kind),
        })
    }

    /// Notes that a response is to be answered by an ACK, or by a NACK with this text.
    pub(super) fn answer(
        &mut self,
        kind: Kind,
        version: &str,
        nonce: String,
        verdict: Result<(), String>,
    ) {
        let state = &mut self.kinds[kind as usize];
        if verdict.is_ok() {
            version.clone_into(&mut state.version);
        }
        state.nonce = nonce;
        state.answer = Some(verdict);
    }
}
