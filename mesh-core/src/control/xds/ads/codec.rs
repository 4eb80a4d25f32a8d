//! The variant of the protocol that a server speaks.

use bytes::Bytes;
use envoy_types::pb::{envoy::config::core::v3::Node, google::rpc::Status};

use super::{
    cache::{Cache, Subscription},
    delta::Delta,
    received::Received,
    sotw::Sotw,
};
use crate::{Code, config::Kind};

/// Frames the messages of one client, stream after stream.
#[derive(Debug)]
pub(super) enum Codec {
    /// State of the world.
    Sotw(Sotw),
    /// Incremental.
    Delta(Delta),
}

impl Codec {
    /// For a client that is `node`.
    pub(super) fn new(delta: bool, node: Node) -> Self {
        if delta {
            Self::Delta(Delta::new(node))
        } else {
            Self::Sotw(Sotw::new(node))
        }
    }

    /// The RPC that carries the messages.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::Sotw(_) => Sotw::PATH,
            Self::Delta(_) => Delta::PATH,
        }
    }

    /// A new stream.
    pub(super) fn open(&mut self) {
        match self {
            Self::Sotw(sotw) => sotw.open(),
            Self::Delta(delta) => delta.open(),
        }
    }

    /// Nothing is known any more of what was accepted.
    pub(super) fn forget(&mut self) {
        match self {
            Self::Sotw(sotw) => sotw.forget(),
            // What it tells of that is in the cache.
            Self::Delta(_) => {}
        }
    }

    /// Whether a response of `kind` waits for its ACK or NACK.
    pub(super) fn owes_answer(&self, kind: Kind) -> bool {
        match self {
            Self::Sotw(sotw) => sotw.owes_answer(kind),
            Self::Delta(delta) => delta.owes_answer(kind),
        }
    }

    /// Whether so many responses wait for theirs that no more are to be read.
    pub(super) fn is_behind(&self) -> bool {
        match self {
            // Only the last response of each kind has an answer.
            Self::Sotw(_) => false,
            Self::Delta(delta) => delta.is_behind(),
        }
    }

    /// The request that asks for `subscription` and answers a response, if either is due.
    pub(super) fn request(
        &mut self,
        kind: Kind,
        subscription: &Subscription,
        cache: &Cache,
    ) -> Option<Bytes> {
        match self {
            Self::Sotw(sotw) => sotw.request(kind, subscription),
            Self::Delta(delta) => delta.request(kind, subscription, cache),
        }
    }

    /// Reads a message of the control plane.
    pub(super) fn read(&self, message: &Bytes) -> Received {
        match self {
            Self::Sotw(sotw) => sotw.read(message),
            Self::Delta(delta) => delta.read(message),
        }
    }

    /// Whether a response of `kind` that was not refused vouches for values from earlier streams,
    /// without a word on them.
    pub(super) fn confirms(&self, kind: Kind) -> bool {
        match self {
            Self::Sotw(_) => false,
            Self::Delta(delta) => delta.confirms(kind),
        }
    }

    /// Whether the server may have nothing to say on this stream for as long as nothing changes.
    pub(super) fn may_hear_nothing(&self) -> bool {
        match self {
            Self::Sotw(_) => false,
            Self::Delta(delta) => delta.may_hear_nothing(),
        }
    }

    /// Notes that a response is to be answered by an ACK, or by a NACK with this text.
    pub(super) fn answer(
        &mut self,
        kind: Kind,
        version: &str,
        nonce: String,
        verdict: Result<(), String>,
    ) {
        match self {
            Self::Sotw(sotw) => sotw.answer(kind, version, nonce, verdict),
            Self::Delta(delta) => delta.answer(kind, nonce, verdict),
        }
    }
}

/// What makes a request a NACK.
pub(super) fn error_detail(verdict: Result<(), String>) -> Option<Status> {
    verdict.err().map(|message| Status {
        code: Code::InvalidArgument as i32,
        message,
        details: Vec::new(),
    })
}
