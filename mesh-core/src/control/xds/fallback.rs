//! Which of several control planes speaks for the resources of one target (gRFC A71, A95).
//!
//! Pure logic: it is told what is watched and what each server says, and answers with what to ask
//! whom and what to tell the target.

use std::collections::BTreeMap;

use crate::{
    config::{Resource, ResourceId},
    control::{Event, SourceError, SourceErrorKind},
};

/// The servers of one target and authority, by preference, and what each has said.
///
/// The first server is asked for everything. The next one is asked as well once those before it
/// are out of reach *and* something is missing that they would have to send; what they sent before
/// stays in force until the next one sends its own. When a server that was out of reach answers,
/// those behind it are left, and what they sent stays in force until it has sent its own.
#[derive(Debug)]
pub(super) struct Fallback {
    servers: usize,
    /// The last server that is asked; all before it are asked, too.
    active: usize,
    /// Falls back although nothing is missing (gRFC A95).
    on_reachability_only: bool,
    resources: BTreeMap<ResourceId, Known>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Action {
    /// Watch this at the server.
    Ask(usize, ResourceId),
    /// End the watch of this at the server.
    Leave(usize, ResourceId),
    /// Tell the target.
    Tell(ResourceId, Event),
}

/// What is known of one resource.
#[derive(Debug, Default)]
struct Known {
    watches: usize,
    /// By server, of those that are asked.
    news: Vec<News>,
    /// The server whose value the target was told last; it may have been left since.
    in_force: Option<usize>,
    /// The target was told that there is none.
    absent: bool,
}

/// What one server says of one resource.
#[derive(Debug, Default)]
struct News {
    value: Option<Resource>,
    trouble: Option<SourceError>,
}

// === impl Fallback ===

impl Fallback {
    /// A target of `servers` control planes, at least one.
    pub(super) fn new(servers: usize, on_reachability_only: bool) -> Self {
        Self {
            servers,
            active: 0,
            on_reachability_only,
            resources: BTreeMap::new(),
        }
    }

    /// The target watches `id`.
    pub(super) fn watch(&mut self, id: &ResourceId) -> Vec<Action> {
        let known = self.resources.entry(id.clone()).or_default();
        known.watches += 1;
        if known.watches > 1 {
            let value = known.value_in_force().cloned();
            return value
                .map(|value| Action::Tell(id.clone(), Event::Update(value)))
                .into_iter()
                .collect();
        }
        known.news.resize_with(self.active + 1, News::default);
        (0..=self.active)
            .map(|server| Action::Ask(server, id.clone()))
            .collect()
    }

    /// The target watches `id` no longer.
    pub(super) fn unwatch(&mut self, id: &ResourceId) -> Vec<Action> {
        let Some(known) = self.resources.get_mut(id) else {
            return Vec::new();
        };
        known.watches -= 1;
        if known.watches > 0 {
            return Vec::new();
        }
        self.resources.remove(id);
        (0..=self.active)
            .map(|server| Action::Leave(server, id.clone()))
            .collect()
    }

    /// `server` says something of `id`. What comes from a server that is not asked, or of a
    /// resource that is not watched, was under way when that ended.
    pub(super) fn news(&mut self, server: usize, id: &ResourceId, event: Event) -> Vec<Action> {
        if server > self.active {
            return Vec::new();
        }
        let Some(known) = self.resources.get_mut(id) else {
            return Vec::new();
        };
        let reached = !is_unreachable(&event);
        known.news[server].take(event.clone());
        if server < self.active && is_no_answer(&event) {
            // Which is why the next one is asked, or no reason to leave it.
            return Vec::new();
        }
        if server < self.active {
            return self.return_to(server, id, event);
        }
        if reached {
            return Vec::from([known.tell(id, server, event)]);
        }
        if server + 1 < self.servers && (self.on_reachability_only || self.lacks_something()) {
            return self.fall_back();
        }
        let Event::Ambient(error) = event else {
            return Vec::new();
        };
        let known = &self.resources[id];
        Vec::from([Action::Tell(
            id.clone(),
            Event::Ambient(known.unreachable(error)),
        )])
    }

    /// Whether the target waits for a resource: one that does not exist counts as known.
    fn lacks_something(&self) -> bool {
        self.resources
            .values()
            .any(|known| known.in_force.is_none() && !known.absent)
    }

    /// Asks the next server for everything.
    fn fall_back(&mut self) -> Vec<Action> {
        self.active += 1;
        let next = self.active;
        self.resources
            .iter_mut()
            .map(|(id, known)| {
                known.news.push(News::default());
                Action::Ask(next, id.clone())
            })
            .collect()
    }

    /// `server`, which was out of reach, has answered with `event` of `answered`: leaves those
    /// behind it, and tells what it had sent before where they had told otherwise.
    fn return_to(&mut self, server: usize, answered: &ResourceId, event: Event) -> Vec<Action> {
        let left = server + 1..=self.active;
        self.active = server;
        let mut actions = Vec::new();
        for (id, known) in &mut self.resources {
            actions.extend(left.clone().map(|server| Action::Leave(server, id.clone())));
            known.news.truncate(server + 1);
            let events = if known.in_force != Some(server) {
                known.news[server].events()
            } else if id == answered {
                Vec::from([event.clone()])
            } else {
                Vec::new()
            };
            actions.extend(
                events
                    .into_iter()
                    .map(|event| known.tell(id, server, event)),
            );
        }
        actions
    }
}

// === impl Known ===

impl Known {
    /// What the target is told of `event`, which `server` tells.
    fn tell(&mut self, id: &ResourceId, server: usize, event: Event) -> Action {
        let event = match event {
            Event::Update(value) => {
                (self.in_force, self.absent) = (Some(server), false);
                Event::Update(value)
            }
            // Another server's value outlives it: only the one that sent it can take it away.
            Event::Gone(error) if self.in_force.is_some_and(|other| other != server) => {
                Event::Ambient(error)
            }
            Event::Gone(error) => {
                (self.in_force, self.absent) = (None, true);
                Event::Gone(error)
            }
            Event::Ambient(error) => Event::Ambient(error),
        };
        Action::Tell(id.clone(), event)
    }

    fn value_in_force(&self) -> Option<&Resource> {
        self.news.get(self.in_force?)?.value.as_ref()
    }

    /// The trouble of every server that is out of reach, where `last` is that of the last.
    fn unreachable(&self, last: SourceError) -> SourceError {
        let mut texts: Vec<&str> = self
            .news
            .iter()
            .filter_map(|news| news.trouble.as_ref())
            .filter(|trouble| trouble.kind == SourceErrorKind::Unreachable)
            .map(|trouble| &*trouble.text)
            .collect();
        texts.dedup();
        match &texts[..] {
            [] | [_] => last,
            all => SourceError {
                kind: SourceErrorKind::Unreachable,
                text: all.join("; ").into(),
            },
        }
    }
}

// === impl News ===

impl News {
    fn take(&mut self, event: Event) {
        match event {
            Event::Update(value) => {
                *self = News {
                    value: Some(value),
                    trouble: None,
                };
            }
            Event::Ambient(error) => self.trouble = Some(error),
            Event::Gone(error) => {
                *self = News {
                    value: None,
                    trouble: Some(error),
                };
            }
        }
    }

    /// The same as events. A server that answers is within reach, whatever it said of this
    /// resource before.
    fn events(&self) -> Vec<Event> {
        let update = self.value.clone().map(Event::Update);
        let trouble = self
            .trouble
            .clone()
            .filter(|error| error.kind != SourceErrorKind::Unreachable)
            .map(|error| match self.value {
                None if !error.kind.is_no_answer() => Event::Gone(error),
                _ => Event::Ambient(error),
            });
        update.into_iter().chain(trouble).collect()
    }
}

/// Whether it says nothing of the resource: the server is out of reach, or has trouble of its own.
fn is_no_answer(event: &Event) -> bool {
    matches!(event, Event::Ambient(error) if error.kind.is_no_answer())
}

fn is_unreachable(event: &Event) -> bool {
    matches!(event, Event::Ambient(error) if error.kind == SourceErrorKind::Unreachable)
}

#[cfg(test)]
mod tests;
