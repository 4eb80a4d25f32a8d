//! The incremental protocol on one stream, without IO.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource},
    google::protobuf::Any,
};
use prost::{Message, Name};

use super::{
    Request,
    codec::{Answer, Progress, rank},
    control_plane::Named,
    render::kind_of,
    store::{Names, Store, Versioned},
};
use crate::config::Kind;

/// One stream's subscriptions by type URL.
#[derive(Debug, Default)]
pub(super) struct Delta {
    types: BTreeMap<String, Subscription>,
    /// Responses sent: the last nonce.
    sent: u64,
}

/// What a stream is subscribed to of one type, and how far it got.
#[derive(Debug, Default)]
struct Subscription {
    names: BTreeSet<String>,
    wildcard: bool,
    /// A request came: only the first can ask for everything by asking for nothing.
    begun: bool,
    /// Something was subscribed to that no response answered yet.
    fresh: bool,
    /// Of what was subscribed to: it is to be answered even if there is none.
    unanswered: BTreeSet<String>,
    /// What the client has, in the version that was sent last or that it came with.
    held: BTreeMap<String, String>,
    /// The version of the type up to which all was sent.
    sent: Option<u64>,
    /// Responses without an ACK or NACK: nonce and version.
    outstanding: BTreeMap<String, u64>,
    acked: Option<u64>,
    nacked: Option<(u64, String)>,
}

/// What a client lacks.
#[derive(Debug)]
struct Difference {
    version: u64,
    changed: Versioned,
    removed: Vec<String>,
}

impl Delta {
    /// Takes in a request. What it subscribes to counts whatever it answers.
    pub(super) fn request(&mut self, request: &Request) -> Answer {
        let subscription = self.types.entry(request.type_url.clone()).or_default();
        let answer = subscription.answer(request);
        subscription.subscribe(request);
        answer
    }

    /// The next response, if one is due: because of a new subscription, or because something
    /// changed that the client asked for. The order of types is that of state of the world.
    pub(super) fn respond(&mut self, store: &Store, node: &str) -> Option<DeltaDiscoveryResponse> {
        let mut next: Option<(u8, &String, Difference)> = None;
        for (url, subscription) in &mut self.types {
            if !subscription.is_due(store.version(node, url)) {
                continue;
            }
            let difference = subscription.difference(store, node, url);
            if difference.is_empty() && !subscription.fresh {
                subscription.passed(difference.version);
                continue;
            }
            let rank = rank(url, || difference.changed.is_empty() && !subscription.fresh);
            if next.as_ref().is_none_or(|(first, ..)| rank < *first) {
                next = Some((rank, url, difference));
            }
        }
        let (_, url, difference) = next?;
        let url = url.clone();
        self.sent += 1;
        let nonce = self.sent.to_string();
        let subscription = self.types.get_mut(&url)?;
        subscription.send(&difference, nonce.clone());
        let resources = difference.changed.into_iter();
        let resources = resources.flat_map(|(name, (version, resources))| {
            resources.into_iter().map(move |any| Resource {
                name: name.clone(),
                version: version.to_string(),
                resource: Some((*any).clone()),
                ..Resource::default()
            })
        });
        Some(DeltaDiscoveryResponse {
            system_version_info: difference.version.to_string(),
            resources: resources.collect(),
            type_url: url,
            removed_resources: difference.removed,
            nonce,
            ..DeltaDiscoveryResponse::default()
        })
    }

    /// Whether something was subscribed to, or changed, since the last look.
    pub(super) fn is_due(&self, store: &Store, node: &str) -> bool {
        self.types
            .iter()
            .any(|(url, subscription)| subscription.is_due(store.version(node, url)))
    }

    /// How far the client got with one type, if it is subscribed to it.
    pub(super) fn progress(&self, url: &str) -> Option<Progress<'_>> {
        let subscription = self.types.get(url).filter(|s| s.is_active())?;
        let nacked = subscription.nacked.as_ref();
        Some(Progress {
            names: &subscription.names,
            acked: subscription.acked,
            rejection: nacked
                .filter(|(version, _)| subscription.acked.is_none_or(|acked| acked < *version))
                .map(|(version, message)| (*version, message.as_str())),
            is_fresh: subscription.fresh || !subscription.outstanding.is_empty(),
        })
    }
}

impl Subscription {
    fn answer(&mut self, request: &Request) -> Answer {
        let Some(version) = self.outstanding.remove(&request.nonce) else {
            return Answer::None;
        };
        match &request.error {
            Some(error) => {
                self.nacked = Some((version, error.message.clone()));
                Answer::Nack { version }
            }
            None => {
                // What came after it and was none of the client's business goes with it.
                let all = self.outstanding.is_empty();
                self.acked = self.acked.max(if all { self.sent } else { Some(version) });
                Answer::Ack
            }
        }
    }

    fn subscribe(&mut self, request: &Request) {
        let first = !std::mem::replace(&mut self.begun, true);
        if first {
            self.held = request.known_versions.clone();
            // The wildcard's old spelling.
            let can_wildcard = matches!(request.kind, Some(Kind::Listener | Kind::Cluster));
            if can_wildcard && request.names.is_empty() {
                (self.wildcard, self.fresh) = (true, true);
            }
        }
        for name in &request.unsubscribed {
            match name.as_str() {
                "*" => self.wildcard = false,
                name => drop(self.names.remove(name)),
            }
            if !self.wildcard {
                self.held.remove(name);
                self.unanswered.remove(name);
            }
        }
        for name in &request.names {
            self.fresh = true;
            if name == "*" {
                self.wildcard = true;
                continue;
            }
            // It may have been dropped since, unless the client has just said that it has it.
            if !first {
                self.held.remove(name);
            }
            self.names.insert(name.clone());
            self.unanswered.insert(name.clone());
        }
    }

    fn difference(&self, store: &Store, node: &str, url: &str) -> Difference {
        let asked = if self.wildcard {
            Names::All
        } else {
            Names::These(&self.names)
        };
        let mut changed = store.versioned(node, url, asked);
        let awaited = self.unanswered.iter().chain(self.held.keys());
        let removed: BTreeSet<_> = awaited
            .filter(|name| !changed.contains_key(*name))
            .filter(|name| self.wildcard || self.names.contains(*name))
            .cloned()
            .collect();
        changed.retain(|name, (version, _)| self.held.get(name) != Some(&version.to_string()));
        Difference {
            version: store.version(node, url),
            changed,
            removed: removed.into_iter().collect(),
        }
    }

    fn send(&mut self, difference: &Difference, nonce: String) {
        for name in &difference.removed {
            self.held.remove(name);
        }
        for (name, (version, _)) in &difference.changed {
            self.held.insert(name.clone(), version.to_string());
        }
        self.unanswered.clear();
        self.fresh = false;
        self.sent = Some(difference.version);
        self.outstanding.insert(nonce, difference.version);
    }

    /// Up to `version`, nothing was new for this client.
    fn passed(&mut self, version: u64) {
        self.sent = Some(version);
        if self.outstanding.is_empty() {
            self.acked = self.sent;
        }
    }

    fn is_active(&self) -> bool {
        self.wildcard || !self.names.is_empty()
    }

    fn is_due(&self, version: u64) -> bool {
        self.is_active() && (self.fresh || self.sent.is_none_or(|sent| sent < version))
    }
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// A resource in the wrapper of the incremental protocol, by the name that it carries; one that
/// is wrapped already stays as it is.
pub(super) fn wrapped(any: Any, version: &str) -> Resource {
    if any.type_url == Resource::type_url()
        && let Ok(resource) = Resource::decode(any.value.as_slice())
    {
        return resource;
    }
    let named = Named::decode(any.value.as_slice()).unwrap_or_default();
    Resource {
        name: named.name,
        version: version.to_owned(),
        resource: Some(any),
        ..Resource::default()
    }
}

/// For a person who wonders why a wait does not end.
impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        write!(f, " (incremental)")?;
        for (url, subscription) in &self.types {
            let names: Vec<_> = subscription.names.iter().take(SHOWN).collect();
            let more = subscription.names.len().saturating_sub(SHOWN);
            match kind_of(url) {
                Some(kind) => write!(f, "\n    {kind}: asks for {names:?}")?,
                None => write!(f, "\n    {url}: asks for {names:?}")?,
            }
            if more > 0 {
                write!(f, " and {more} more")?;
            }
            if subscription.wildcard {
                write!(f, " (all)")?;
            }
            match subscription.sent {
                Some(sent) => write!(f, ", was sent what is new up to version {sent}")?,
                None => write!(f, ", was sent nothing")?,
            }
            match (&subscription.nacked, subscription.acked) {
                (Some((version, message)), _) => {
                    write!(f, ", rejected version {version}: {message}")?;
                }
                (None, Some(acked)) => write!(f, ", accepted version {acked}")?,
                (None, None) => write!(f, ", accepted none")?,
            }
            let unanswered = subscription.outstanding.len();
            if unanswered > 0 {
                write!(f, ", owes {unanswered} answers")?;
            }
        }
        Ok(())
    }
}
