//! The state-of-the-world protocol on one stream, without IO.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use envoy_types::pb::{envoy::service::discovery::v3::DiscoveryResponse, google::protobuf::Any};
use prost::Message;

use super::{
    Request,
    codec::{Answer, Progress, rank},
    render::type_url,
    store::{Names, Store},
};
use crate::config::Kind;

/// One stream's subscriptions by type URL.
#[derive(Debug, Default)]
pub(super) struct Sotw {
    types: BTreeMap<String, Subscription>,
    /// Responses sent: the last nonce.
    sent: u64,
}

/// What a stream is subscribed to of one type, and how far it got.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    names: BTreeSet<String>,
    wildcard: bool,
    /// A request named resources: from then on an empty list means none.
    named: bool,
    /// Something was subscribed to that no response answered yet.
    fresh: bool,
    /// A response did, and no ACK or NACK answered that.
    owed: bool,
    /// Of the last response; empty before the first.
    nonce: String,
    /// The last response's version and content.
    sent: Option<u64>,
    content: Vec<Arc<Any>>,
    acked: Option<u64>,
    nacked: Option<(u64, String)>,
}

/// A response to be sent.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) type_url: String,
    pub(super) version: u64,
    pub(super) nonce: String,
    pub(super) resources: Vec<Arc<Any>>,
}

impl Sotw {
    /// Takes in a request.
    pub(super) fn request(&mut self, request: &Request) -> Answer {
        let subscription = self.types.entry(request.type_url.clone()).or_default();
        let answer = match (&request.nonce, &request.error) {
            (nonce, _) if nonce.is_empty() => Answer::None,
            (nonce, _) if *nonce != subscription.nonce => return Answer::None,
            (_, None) => {
                subscription.owed = false;
                subscription.acked = subscription.sent;
                Answer::Ack
            }
            (_, Some(error)) => {
                subscription.owed = false;
                let version = subscription.sent.unwrap_or(0);
                subscription.nacked = Some((version, error.message.clone()));
                Answer::Nack { version }
            }
        };
        subscription.subscribe(request);
        answer
    }

    /// The next response, if one is due: because of a new subscription or a new version.
    ///
    /// Where several types are, they come in the order that never leaves a reference open:
    /// clusters, endpoints, listeners, routes; a response that only takes listeners or clusters
    /// away comes after all others.
    pub(super) fn respond(&mut self, store: &Store, node: &str) -> Option<Response> {
        let (_, url) = self
            .types
            .iter()
            .filter(|(url, subscription)| subscription.is_due(store.version(node, url)))
            .map(|(url, subscription)| (subscription.rank(store, node, url), url))
            .min()?;
        let url = url.clone();
        let subscription = self.types.get_mut(&url)?;
        self.sent += 1;
        let version = store.version(node, &url);
        let resources = store.served(node, &url, subscription.asked());
        subscription.owed |= std::mem::take(&mut subscription.fresh);
        subscription.nonce = self.sent.to_string();
        subscription.sent = Some(version);
        subscription.content.clone_from(&resources);
        Some(Response {
            type_url: url,
            version,
            nonce: subscription.nonce.clone(),
            resources,
        })
    }

    /// Whether [`respond`](Self::respond) has something to send.
    pub(super) fn is_due(&self, store: &Store, node: &str) -> bool {
        self.types
            .iter()
            .any(|(url, subscription)| subscription.is_due(store.version(node, url)))
    }

    /// The stream's subscription of one type, if it has any.
    pub(super) fn subscription(&self, url: &str) -> Option<&Subscription> {
        self.types.get(url).filter(|s| s.is_active())
    }
}

impl Response {
    /// The response on the wire.
    pub(super) fn encode(self) -> Vec<u8> {
        let resources = self.resources.iter();
        DiscoveryResponse {
            version_info: self.version.to_string(),
            resources: resources.map(|any| (**any).clone()).collect(),
            type_url: self.type_url,
            nonce: self.nonce,
            ..DiscoveryResponse::default()
        }
        .encode_to_vec()
    }
}

impl Subscription {
    /// How far its client got.
    pub(super) fn progress(&self) -> Progress<'_> {
        Progress {
            names: &self.names,
            acked: self.acked(),
            rejection: self.rejection(),
            is_fresh: self.is_fresh(),
        }
    }

    /// The version that was last accepted.
    pub(super) fn acked(&self) -> Option<u64> {
        self.acked
    }

    /// The version of the last response and why it was rejected, if it was.
    pub(super) fn rejection(&self) -> Option<(u64, &str)> {
        let (version, message) = self.nacked.as_ref()?;
        (Some(*version) == self.sent && self.acked != self.sent).then_some((*version, message))
    }

    /// Whether a response to what was subscribed to is due, or is not answered yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh || self.owed
    }

    fn subscribe(&mut self, request: &Request) {
        let can_wildcard = matches!(request.kind, Some(Kind::Listener | Kind::Cluster));
        let names: BTreeSet<_> = request.names.iter().cloned().collect();
        self.named |= !names.is_empty();
        let wildcard = can_wildcard && (!self.named || names.contains("*"));
        let grows = names.iter().any(|name| !self.names.contains(name));
        self.fresh |= grows || (wildcard && !self.wildcard);
        self.names = names;
        self.wildcard = wildcard;
    }

    fn is_active(&self) -> bool {
        self.wildcard || !self.names.is_empty()
    }

    fn is_due(&self, version: u64) -> bool {
        self.is_active() && (self.fresh || self.sent.is_none_or(|sent| sent < version))
    }

    fn asked(&self) -> Names<'_> {
        if self.wildcard {
            Names::All
        } else {
            Names::These(&self.names)
        }
    }

    /// The place of this type's response among those that are due.
    fn rank(&self, store: &Store, node: &str, url: &str) -> u8 {
        rank(url, || self.only_shrinks(store, node, url))
    }

    fn only_shrinks(&self, store: &Store, node: &str, url: &str) -> bool {
        if self.fresh {
            return false;
        }
        let old: BTreeSet<_> = self.content.iter().map(Arc::as_ptr).collect();
        let new = store.served(node, url, self.asked());
        new.len() < old.len() && new.iter().all(|any| old.contains(&Arc::as_ptr(any)))
    }
}

/// For a person who wonders why a wait does not end.
impl fmt::Display for Sotw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        for kind in Kind::ALL {
            let Some(subscription) = self.types.get(type_url(kind)) else {
                continue;
            };
            let names: Vec<_> = subscription.names.iter().take(SHOWN).collect();
            let more = subscription.names.len().saturating_sub(SHOWN);
            write!(f, "\n    {kind}: asks for {names:?}")?;
            if more > 0 {
                write!(f, " and {more} more")?;
            }
            if subscription.wildcard {
                write!(f, " (all)")?;
            }
            match subscription.sent {
                Some(sent) => write!(f, ", was sent version {sent}")?,
                None => write!(f, ", was sent nothing")?,
            }
            match (subscription.rejection(), subscription.acked) {
                (Some((_, message)), _) => write!(f, ", rejected it: {message}")?,
                (None, Some(acked)) => write!(f, ", accepted version {acked}")?,
                (None, None) => write!(f, ", accepted none")?,
            }
        }
        Ok(())
    }
}
