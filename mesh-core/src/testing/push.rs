use std::sync::Arc;

use super::{
    Nack,
    render::{kind_of, type_url},
    shared::{Shared, State},
    store::{Changed, Scope},
};
use crate::config::Kind;

/// One push: what [`Service::apply`](super::Service::apply) and its like changed.
///
/// Does not keep the control plane alive.
#[derive(Debug, Clone)]
pub struct Push {
    pub(super) shared: Arc<Shared>,
    pub(super) scope: Scope,
    pub(super) changed: Changed,
}

impl Push {
    /// The version that the changed types have from here on.
    pub fn version(&self) -> u64 {
        self.changed.revision
    }

    /// The kinds of resource that changed; none if all was so before.
    pub fn kinds(&self) -> Vec<Kind> {
        let urls = self.changed.types.iter();
        urls.filter_map(|url| kind_of(url)).collect()
    }

    /// Waits until every type that changed is accepted and in force: with at least one client, and
    /// with all that are subscribed to it.
    ///
    /// Clients of this crate send the ACK once all that watch the resources have processed them,
    /// and after the subscriptions that follow from them, which are waited for, too. A call that
    /// begins after this therefore goes by the new configuration, unless that refers to resources
    /// of a type that did not change and that the client did not know yet. What it only sets off
    /// takes its time: connections to new endpoints, the end of old ones, the ports of a server.
    ///
    /// Other clients may send the ACK before it is in force, as gRPC does.
    ///
    /// # Panics
    /// If a client rejects it, or within the control plane's patience not all accept it. Says
    /// what was seen.
    pub async fn acked(&self) {
        self.acked_in(&self.scope).await;
    }

    /// The same of one node: where others are connected and this one may not be yet, it is waited
    /// for.
    ///
    /// # Panics
    /// As [`acked`](Self::acked).
    pub async fn acked_by(&self, node_id: &str) {
        self.acked_in(&Some(node_id.into())).await;
    }

    async fn acked_in(&self, scope: &Scope) {
        let types: Vec<_> = self.changed.types.iter().collect();
        let text = format!("ACK of version {} of {types:?}", self.version());
        let done = |state: &mut State| {
            types
                .iter()
                .all(|url| is_acked(state, scope, url, self.version()))
                .then_some(())
        };
        self.shared.wait(&text, done).await;
    }

    /// Waits until a client rejects it, and takes the rejection out of the log.
    ///
    /// # Panics
    /// If none does within the control plane's patience.
    pub async fn nacked(&self) -> Nack {
        let text = format!("NACK of version {}", self.version());
        let ours = |nack: &Nack| {
            nack.version == self.version() && self.changed.types.contains(&nack.type_url)
        };
        self.shared
            .wait(&text, |state| take_nack(state, &self.scope, ours))
            .await
    }
}

/// Whether `version` of a type is accepted by all who are subscribed, and at least by one.
///
/// Panics if it was rejected: there is nothing to wait for any more.
pub(super) fn is_acked(state: &State, scope: &Scope, url: &str, version: u64) -> bool {
    let mut accepted = false;
    for stream in state.streams.values() {
        if scope.as_deref().is_some_and(|node| node != stream.node) {
            continue;
        }
        let Some(subscription) = stream.codec.progress(url) else {
            continue;
        };
        // A stream of another node may have nothing to do with this version.
        let expected = version.min(state.store.version(&stream.node, url));
        if let Some((rejected, message)) = subscription.rejection
            && rejected >= expected
        {
            panic!(
                "node {:?} rejected version {rejected} of {url}: {message}",
                stream.node
            );
        }
        match subscription.acked {
            Some(acked) if acked >= expected && !subscription.is_fresh => {
                accepted |= acked >= version;
            }
            _ => return false,
        }
    }
    accepted
}

/// The oldest rejection that `is_it` accepts, out of the log.
pub(super) fn take_nack(
    state: &mut State,
    scope: &Scope,
    is_it: impl Fn(&Nack) -> bool,
) -> Option<Nack> {
    let nacks = &mut state.log.nacks;
    let index = nacks
        .iter()
        .position(|nack| scope.as_deref().is_none_or(|node| node == nack.node) && is_it(nack))?;
    nacks.remove(index)
}

/// The type URL in a text for people.
pub(super) fn waiting_for(what: &str, kind: Kind) -> String {
    format!("{what} of {kind} ({})", type_url(kind))
}
