//! What watchers rest on: what an earlier process saved, or what a control plane sent.

use std::{collections::BTreeMap, sync::Weak};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, WeakUnboundedSender},
};

use super::{format::Saved, saver::Saver};
use crate::{
    config::ResourceId,
    control::{Delivery, Event, Inbox, SourceError, SourceErrorKind},
};

/// Every watch, by resource and by the relay that it goes through.
///
/// All watches that share an inbox share a relay, so that the control planes' client sees the same
/// inboxes as without one: its decisions about falling back depend on them.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    relays: Vec<Relay>,
    standings: BTreeMap<ResourceId, Vec<Standing>>,
}

/// Stands between an inbox and the control planes' client; ends with its last watch.
#[derive(Debug)]
struct Relay {
    number: u64,
    inbox: WeakUnboundedSender<Delivery>,
    news: WeakUnboundedSender<Delivery>,
}

/// What the watches of one resource through one relay rest on.
#[derive(Debug)]
struct Standing {
    relay: u64,
    watches: usize,
    rests_on: RestsOn,
}

/// Where the value comes from that watchers were told last.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RestsOn {
    Nothing,
    /// What an earlier process saved, kept here: the store may have lost it meanwhile.
    Saved(Saved),
    Sent,
}

/// What is to be done about what is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// There is a new value to be saved.
    Changed,
    /// It is not there any more for who asks anew.
    Removed,
}

// === impl Watches ===

impl Watches {
    /// The relay of `inbox`, and where its news are to be sent.
    pub(super) fn relay(
        &self,
        inbox: &Inbox,
        runtime: &Handle,
        run: impl FnOnce(u64, mpsc::UnboundedReceiver<Delivery>) -> BoxedRun,
    ) -> (u64, Inbox) {
        let mut state = self.0.lock();
        // Watches of one target begin together: it is most likely the last one.
        for relay in state.relays.iter().rev() {
            if let Some(news) = relay.news.upgrade()
                && let Some(own) = relay.inbox.upgrade()
                && own.same_channel(inbox)
            {
                return (relay.number, news);
            }
        }
        state.relays.retain(|relay| relay.news.strong_count() > 0);
        let (news, receiver) = mpsc::unbounded_channel();
        state.last += 1;
        let number = state.last;
        state.relays.push(Relay {
            number,
            inbox: inbox.downgrade(),
            news: news.downgrade(),
        });
        runtime.spawn(run(number, receiver));
        (number, news)
    }

    /// A watch of `id` begins.
    pub(super) fn enter(&self, relay: u64, id: &ResourceId, rests_on: RestsOn) {
        let mut state = self.0.lock();
        let standings = state.standings.entry(id.clone()).or_default();
        match standings.iter_mut().find(|other| other.relay == relay) {
            Some(standing) => standing.watches += 1,
            None => standings.push(Standing {
                relay,
                watches: 1,
                rests_on,
            }),
        }
    }

    /// A watch of `id` has ended.
    pub(super) fn leave(&self, relay: u64, id: &ResourceId) {
        let mut state = self.0.lock();
        let Some(standings) = state.standings.get_mut(id) else {
            return;
        };
        if let Some(standing) = standings.iter_mut().find(|other| other.relay == relay) {
            standing.watches -= 1;
        }
        standings.retain(|standing| standing.watches > 0);
        if standings.is_empty() {
            state.standings.remove(id);
        }
    }

    /// What `id` rests on where that is best known.
    pub(super) fn rests_on(&self, id: &ResourceId) -> RestsOn {
        let state = self.0.lock();
        let standings = state.standings.get(id).into_iter().flatten();
        let mut best = RestsOn::Nothing;
        for standing in standings {
            match &standing.rests_on {
                RestsOn::Sent => return RestsOn::Sent,
                RestsOn::Saved(_) => best = standing.rests_on.clone(),
                RestsOn::Nothing => {}
            }
        }
        best
    }

    /// Everything that is watched.
    pub(super) fn ids(&self) -> Vec<ResourceId> {
        self.0.lock().standings.keys().cloned().collect()
    }

    /// What watchers of `id` are told of `event`. `strict`: a control plane that says that there is
    /// no such resource takes a saved one away (`fail_on_data_errors`).
    pub(super) fn pass(
        &self,
        relay: u64,
        id: &ResourceId,
        event: Event,
        strict: bool,
    ) -> (Event, Effect) {
        let mut state = self.0.lock();
        let standings = state.standings.get_mut(id).into_iter().flatten();
        let standing = standings
            .into_iter()
            .find(|standing| standing.relay == relay);
        // It was under way when the last watch ended.
        let Some(Standing { rests_on, .. }) = standing else {
            return (event, Effect::None);
        };
        match event {
            Event::Update(value) => {
                *rests_on = RestsOn::Sent;
                (Event::Update(value), Effect::Changed)
            }
            Event::Ambient(error) => match rests_on {
                RestsOn::Saved(_) => (Event::Ambient(on_saved(&error)), effect_of(&error)),
                RestsOn::Sent => {
                    let effect = effect_of(&error);
                    (Event::Ambient(error), effect)
                }
                RestsOn::Nothing => (Event::Ambient(error), Effect::None),
            },
            Event::Gone(error) => match rests_on {
                RestsOn::Saved(_) if !strict || error.kind.is_no_answer() => {
                    (Event::Ambient(on_saved(&error)), effect_of(&error))
                }
                RestsOn::Saved(_) | RestsOn::Sent => {
                    *rests_on = RestsOn::Nothing;
                    (Event::Gone(error), Effect::Removed)
                }
                RestsOn::Nothing => (Event::Gone(error), Effect::None),
            },
        }
    }
}

/// A relay as a task.
type BoxedRun = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Passes `news` on to `inbox`.
pub(super) async fn run(
    number: u64,
    mut news: mpsc::UnboundedReceiver<Delivery>,
    inbox: Inbox,
    saver: Weak<Saver>,
) {
    while let Some(delivery) = news.recv().await {
        // Without the source nothing more is told.
        let Some(saver) = saver.upgrade() else {
            return;
        };
        let Delivery {
            id,
            event,
            processed,
        } = delivery;
        let event = saver.pass(number, &id, event);
        // Who does not listen any more need not know.
        let _ = inbox.send(Delivery {
            id,
            event,
            processed,
        });
    }
}

/// What becomes of the saved value of those who keep theirs in spite of `error`: the next process is
/// not to begin with what the control plane says is not there. Its silence may be slowness.
fn effect_of(error: &SourceError) -> Effect {
    match error.kind {
        SourceErrorKind::DoesNotExist => Effect::Removed,
        _ => Effect::None,
    }
}

/// `error`, for those who have a value in spite of it.
fn on_saved(error: &SourceError) -> SourceError {
    let text = format!("{error}; in force is what an earlier process has saved");
    SourceError {
        kind: error.kind,
        text: text.into(),
    }
}

#[cfg(test)]
mod tests;
