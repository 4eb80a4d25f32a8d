//! What all files say together, and who is told of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use super::{
    document::{Content, Found, read},
    error::{Fault, FileError},
};
use crate::{
    config::{Kind, ResourceId},
    control::{
        Delivery, Event, Inbox, Processed, SourceError, SourceErrorKind,
        xds::{
            ads::{WatcherId, cache::Cache, entry::Bad},
            decode::Decode,
            dump::{ConfigDump, FailureDump, ResourceStatus},
        },
    },
};

/// The bytes of a file, or why they cannot be had.
pub(super) type Text = Result<Arc<[u8]>, String>;

/// What is known of one file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FileStatus {
    /// Its name in its directory, or the name that a text was given in code.
    pub file: Arc<str>,
    /// What is in force of it: its `version_info`, else a fingerprint of its text. `None` if it was
    /// never good.
    pub version: Option<Arc<str>>,
    /// The resources in force that come from it, sorted.
    pub resources: Vec<ResourceId>,
    /// Why its last change is not in force. If empty, all of it is.
    pub errors: Vec<FileError>,
}

#[derive(Debug)]
pub(super) struct Store {
    decode: Arc<dyn Decode>,
    /// Where the files are, for errors.
    origin: Arc<str>,
    node: Arc<str>,
    files: BTreeMap<Arc<str>, File>,
    /// Which file has it.
    owners: HashMap<ResourceId, Arc<str>>,
    cache: Cache,
    inboxes: HashMap<WatcherId, Inbox>,
    last_watcher: u64,
}

#[derive(Debug)]
struct File {
    /// As it was read last.
    text: Text,
    /// Good, and read then.
    good: Option<(Arc<Content>, SystemTime)>,
    errors: Vec<FileError>,
}

// === impl Store ===

impl Store {
    pub(super) fn new(decode: Arc<dyn Decode>, origin: Arc<str>, node: Arc<str>) -> Self {
        Self {
            decode,
            origin,
            node,
            files: BTreeMap::new(),
            owners: HashMap::new(),
            cache: Cache::default(),
            inboxes: HashMap::new(),
            last_watcher: 0,
        }
    }

    pub(super) fn decode(&self) -> Arc<dyn Decode> {
        Arc::clone(&self.decode)
    }

    /// The files whose text is not that of `texts`, read anew.
    pub(super) fn changed(&self, texts: &BTreeMap<Arc<str>, Text>) -> BTreeMap<Arc<str>, Text> {
        let differs = |(name, text): &(&Arc<str>, &Text)| {
            self.files
                .get(*name)
                .is_none_or(|known| known.text != **text)
        };
        let changed = texts.iter().filter(differs);
        changed
            .map(|(name, text)| (Arc::clone(name), text.clone()))
            .collect()
    }

    /// Files that are new or have changed, as [`judge`] found them, and files that are gone. A file is applied as a whole or not at all; what was in force of a file that is bad stays.
    pub(super) fn apply(&mut self, judged: Vec<Judged>, removed: &[Arc<str>], at: SystemTime) {
        for name in removed {
            self.files.remove(name);
        }
        let mut fresh = BTreeMap::new();
        for Judged { name, text, result } in judged {
            let file = self.files.entry(Arc::clone(&name)).or_insert_with(|| File {
                text: text.clone(),
                good: None,
                errors: Vec::new(),
            });
            file.text = text;
            let had_some = |(content, _): &(Arc<Content>, _)| !content.resources.is_empty();
            match result {
                // Most likely about to be written.
                Ok(content)
                    if content.resources.is_empty() && file.good.as_ref().is_some_and(had_some) =>
                {
                    let fault = Fault::new("is empty: remove the file to remove its resources");
                    file.errors = vec![fault.of(&name, None)];
                }
                Ok(content) => {
                    file.errors = Vec::new();
                    fresh.insert(name, Arc::new(content));
                }
                Err(errors) => file.errors = errors,
            }
        }
        while let Some((name, error)) = self.collision(&fresh) {
            fresh.remove(&name);
            let file = self.files.get_mut(&name).expect("it was just read");
            file.errors.push(error);
        }
        for (name, content) in fresh {
            let file = self.files.get_mut(&name).expect("it was just read");
            file.good = Some((content, at));
        }
        self.owners = self
            .files
            .iter()
            .filter_map(|(name, file)| Some((name, &file.good.as_ref()?.0)))
            .flat_map(|(name, content)| {
                let ids = content.resources.keys().cloned();
                ids.map(move |id| (id, Arc::clone(name)))
            })
            .collect();
        self.publish();
    }

    /// A file of `fresh` with a resource that another file has, too. Of two that are both new, the
    /// later one by name; of others, the one that is new.
    fn collision(&self, fresh: &BTreeMap<Arc<str>, Arc<Content>>) -> Option<(Arc<str>, FileError)> {
        let mut owners = HashMap::<&ResourceId, (&Arc<str>, &Found)>::new();
        let old = self
            .files
            .iter()
            .filter(|(name, _)| !fresh.contains_key(*name));
        let old = old.filter_map(|(name, file)| Some((name, &*file.good.as_ref()?.0)));
        let new = fresh.iter().map(|(name, content)| (name, &**content));
        // What stays in force first, then what keeps its own.
        let keeps = |(name, content): &(&Arc<str>, &Content)| {
            let owned = |id| self.owners.get(id) == Some(*name);
            !content.resources.keys().any(owned)
        };
        let mut new: Vec<_> = new.collect();
        new.sort_by_key(keeps);
        for (name, content) in old.chain(new) {
            let mut ids: Vec<_> = content.resources.iter().collect();
            ids.sort_by_key(|(id, _)| *id);
            for (id, found) in ids {
                if let Some((other, first)) = owners.insert(id, (name, found)) {
                    let line = first.at.line;
                    let problem = format!("{other}:{line} has it, too: names are unique");
                    let fault = Fault::new(problem).at(found.at);
                    return Some((Arc::clone(name), fault.of(name, Some(id.clone()))));
                }
            }
        }
        None
    }

    /// Tells watchers of what is not as it was; what others refer to first.
    fn publish(&mut self) {
        self.cache.clear_unwatched();
        for kind in [
            Kind::Secret,
            Kind::Endpoints,
            Kind::Cluster,
            Kind::Route,
            Kind::Listener,
        ] {
            let names: Vec<_> = self
                .cache
                .of_kind(kind)
                .map(|(name, _)| Arc::clone(name))
                .collect();
            for name in names {
                let id = ResourceId::new(kind, name);
                let events = self.refresh(&id);
                let watchers: Vec<_> = self
                    .cache
                    .get(kind, &id.name)
                    .into_iter()
                    .flat_map(|entry| entry.watchers())
                    .collect();
                for event in events {
                    for watcher in &watchers {
                        self.tell(*watcher, &id, event.clone());
                    }
                }
            }
        }
    }

    /// Brings what the cache knows of `id` up to date.
    fn refresh(&mut self, id: &ResourceId) -> Vec<Event> {
        let mut events = Vec::new();
        let file = self.owners.get(id).and_then(|name| self.files.get(name));
        let bad = match file.and_then(|file| Some((file, file.good.as_ref()?))) {
            Some((file, (content, at))) => {
                let Some(found) = content.resources.get(id) else {
                    return events;
                };
                let has_value = self
                    .cache
                    .get(id.kind, &id.name)
                    .is_some_and(|e| e.has_value());
                if file.errors.is_empty() || !has_value {
                    let decoded = Some(found.decoded.clone());
                    let version = &content.version;
                    events.extend(
                        self.cache
                            .accept(id.kind, &id.name, decoded, version, *at, false),
                    );
                }
                let Some(error) = file.errors.first() else {
                    return events;
                };
                self.invalid(id, error, file.errors.len())
            }
            None => self.missing(id),
        };
        events.extend(self.cache.reject(id.kind, &id.name, bad));
        events
    }

    fn invalid(&self, id: &ResourceId, error: &FileError, errors: usize) -> Bad {
        let more = match errors {
            1 => String::new(),
            more => format!(" (and {} more)", more - 1),
        };
        let details = format!("{error}{more}");
        Bad {
            status: ResourceStatus::Nacked,
            error: self.error(
                SourceErrorKind::Invalid,
                &format!("{id}: rejected: {details}"),
            ),
            failure: Some(FailureDump {
                version: "".into(),
                at: SystemTime::now(),
                details: details.into(),
                raw: None,
            }),
            drop_value: false,
        }
    }

    fn missing(&self, id: &ResourceId) -> Bad {
        let mut text = format!("{id}: does not exist: in no file");
        let bad = self.files.values().filter(|file| !file.errors.is_empty());
        let errors: Vec<_> = bad.filter_map(|file| file.errors.first()).collect();
        if let Some(first) = errors.first() {
            text += &format!(
                " that is good; {} not: {first}",
                match errors.len() {
                    1 => "one is".to_owned(),
                    bad => format!("{bad} are"),
                }
            );
        }
        Bad {
            status: ResourceStatus::DoesNotExist,
            error: self.error(SourceErrorKind::DoesNotExist, &text),
            failure: None,
            drop_value: false,
        }
    }

    fn error(&self, kind: SourceErrorKind, text: &str) -> SourceError {
        SourceError {
            kind,
            text: format!("{text} ({})", self.origin).into(),
        }
    }

    pub(super) fn watch(&mut self, id: ResourceId, inbox: Inbox) -> WatcherId {
        self.last_watcher += 1;
        let watcher = WatcherId(self.last_watcher);
        self.inboxes.insert(watcher, inbox);
        let entry = self.cache.watch(watcher, id.clone());
        if entry.status() == ResourceStatus::Requested {
            // Nobody else watches it: nobody else is to be told.
            self.refresh(&id);
        }
        let news: Vec<Event> = self
            .cache
            .get(id.kind, &id.name)
            .into_iter()
            .flat_map(|entry| entry.news())
            .collect();
        for event in news {
            self.tell(watcher, &id, event);
        }
        watcher
    }

    pub(super) fn unwatch(&mut self, watcher: WatcherId) {
        self.inboxes.remove(&watcher);
        self.cache.unwatch(watcher);
    }

    fn tell(&self, watcher: WatcherId, id: &ResourceId, event: Event) {
        if let Some(inbox) = self.inboxes.get(&watcher) {
            // A watcher that no longer listens need not know.
            let _ = inbox.send(Delivery {
                id: id.clone(),
                event,
                processed: Processed::default(),
            });
        }
    }

    pub(super) fn dump(&self) -> ConfigDump {
        ConfigDump {
            server: Arc::clone(&self.origin),
            node_id: Arc::clone(&self.node),
            resources: self.cache.dump(&self.origin),
        }
    }

    pub(super) fn status(&self) -> Vec<FileStatus> {
        let files = self.files.iter();
        files
            .map(|(name, file)| {
                let good = file.good.as_ref().map(|(content, _)| content);
                let mut resources: Vec<_> = good
                    .into_iter()
                    .flat_map(|content| content.resources.keys().cloned())
                    .collect();
                resources.sort();
                FileStatus {
                    file: Arc::clone(name),
                    version: good.map(|content| Arc::clone(&content.version)),
                    resources,
                    errors: file.errors.clone(),
                }
            })
            .collect()
    }

    /// The resources in force, and where they stand.
    pub(super) fn found(&self) -> impl Iterator<Item = (&Arc<str>, &ResourceId, &Found)> {
        let good = self
            .files
            .iter()
            .filter_map(|(name, file)| Some((name, &file.good.as_ref()?.0)));
        good.flat_map(|(name, content)| {
            let resources = content.resources.iter();
            resources.map(move |(id, found)| (name, id, found))
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.files.keys()
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) name: Arc<str>,
    pub(super) text: Text,
    pub(super) result: Result<Content, Vec<FileError>>,
}

/// Reads what has changed. May take its time.
pub(super) fn judge(changed: BTreeMap<Arc<str>, Text>, decode: &dyn Decode) -> Vec<Judged> {
    let judge = |(name, text): (Arc<str>, Text)| {
        let result = match &text {
            Ok(text) => read(&name, text, decode),
            Err(problem) => Err(vec![Fault::new(problem.as_str()).of(&name, None)]),
        };
        Judged { name, text, result }
    };
    changed.into_iter().map(judge).collect()
}
