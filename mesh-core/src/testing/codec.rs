//! The two variants of the protocol, and what waits need to know of either.

use std::{collections::BTreeSet, fmt};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message;
use tonic::Status;

use super::{Request, delta::Delta, render::kind_of, sotw::Sotw, store::Store};
use crate::config::Kind;

/// A variant of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// One stream's side of the protocol.
#[derive(Debug)]
pub(super) enum Codec {
    Sotw(Sotw),
    Delta(Delta),
}

/// How far a client got with one type that it is subscribed to.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    /// The names asked for, without the wildcard.
    pub(super) names: &'a BTreeSet<String>,
    /// The version that was last accepted.
    pub(super) acked: Option<u64>,
    /// The version of the last response and why it was rejected, if it was.
    pub(super) rejection: Option<(u64, &'a str)>,
    /// A response to what was subscribed to is due, or is not answered yet.
    pub(super) is_fresh: bool,
}

/// What a request says of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Ack,
    Nack {
        version: u64,
    },
    /// It answers none, or one that is no longer waited for and therefore has no effect.
    None,
}

/// What bootstraps ask for where the test does not say.
///
/// # Panics
/// If the environment says what is neither.
pub(super) fn is_delta_by_default() -> bool {
    match std::env::var("MESH_TESTING_ADS").as_deref() {
        Err(_) | Ok("sotw") => false,
        Ok("delta") => true,
        Ok(other) => panic!("MESH_TESTING_ADS is `sotw` or `delta`, not {other:?}"),
    }
}

/// The place of a response among those that are due, in the order that never leaves a reference
/// open. `only_shrinks`: it only takes resources away.
pub(super) fn rank(url: &str, only_shrinks: impl Fn() -> bool) -> u8 {
    match kind_of(url) {
        Some(Kind::Cluster) if only_shrinks() => 6,
        Some(Kind::Cluster) => 0,
        Some(Kind::Endpoints) => 1,
        Some(Kind::Listener) if only_shrinks() => 5,
        Some(Kind::Listener) => 2,
        Some(Kind::Route) => 3,
        Some(Kind::Secret) | None => 4,
    }
}

impl Protocol {
    /// The one whose streams have this path.
    pub(super) fn served_at(path: &str) -> Option<Self> {
        match path.strip_prefix("/envoy.service.discovery.v3.AggregatedDiscoveryService/")? {
            "StreamAggregatedResources" => Some(Self::Sotw),
            "DeltaAggregatedResources" => Some(Self::Delta),
            _ => None,
        }
    }

    /// Reads a request on stream `id`, of `node` as far as that is known.
    pub(super) fn read(self, id: u64, node: &str, message: &[u8]) -> Result<Request, Status> {
        let request = match self {
            Self::Sotw => {
                DiscoveryRequest::decode(message).map(|wire| Request::new(id, node, wire))
            }
            Self::Delta => {
                DeltaDiscoveryRequest::decode(message).map(|wire| Request::delta(id, node, wire))
            }
        };
        request
            .map_err(|error| Status::invalid_argument(format!("not a discovery request: {error}")))
    }
}

impl Codec {
    pub(super) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Sotw => Self::Sotw(Sotw::default()),
            Protocol::Delta => Self::Delta(Delta::default()),
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Sotw(_) => Protocol::Sotw,
            Self::Delta(_) => Protocol::Delta,
        }
    }

    /// Takes in a request.
    pub(super) fn request(&mut self, request: &Request) -> Answer {
        match self {
            Self::Sotw(sotw) => sotw.request(request),
            Self::Delta(delta) => delta.request(request),
        }
    }

    /// The next response, encoded, if one is due.
    pub(super) fn respond(&mut self, store: &Store, node: &str) -> Option<Vec<u8>> {
        match self {
            Self::Sotw(sotw) => Some(sotw.respond(store, node)?.encode()),
            Self::Delta(delta) => Some(delta.respond(store, node)?.encode_to_vec()),
        }
    }

    /// Whether it is worth the while to ask [`respond`](Self::respond).
    pub(super) fn is_due(&self, store: &Store, node: &str) -> bool {
        match self {
            Self::Sotw(sotw) => sotw.is_due(store, node),
            Self::Delta(delta) => delta.is_due(store, node),
        }
    }

    /// How far the client got with a type, if it is subscribed to it.
    pub(super) fn progress(&self, url: &str) -> Option<Progress<'_>> {
        match self {
            Self::Sotw(sotw) => Some(sotw.subscription(url)?.progress()),
            Self::Delta(delta) => delta.progress(url),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sotw(sotw) => sotw.fmt(f),
            Self::Delta(delta) => delta.fmt(f),
        }
    }
}
