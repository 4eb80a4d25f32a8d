//! The source of a mesh that serves what an earlier process has saved until a control plane speaks.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use envoy_types::pb::google::protobuf::Any;
use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    Snapshot,
    format::Saved,
    relay::{self, RestsOn},
    saver::Saver,
};
use crate::{
    bootstrap::Bootstrap,
    config::{Kind, ResourceId},
    control::{
        Delivery, Event, Inbox, Processed, Source, SourceError, SourceErrorKind, Watch,
        xds::{
            AcceptedDump, ConfigDump, XdsClient,
            decode::{Decode, Decoded},
        },
    },
};

/// A [`Source`] around the client of the control planes.
pub(crate) struct SnapshotSource {
    bootstrap: Arc<Bootstrap>,
    decode: Arc<dyn Decode>,
    runtime: Handle,
    saver: Arc<Saver>,
    saving: AbortHandle,
    /// It was told that saved resources are in force.
    told: AtomicBool,
}

// === impl SnapshotSource ===

impl SnapshotSource {
    /// Serves what `store` has where `xds` has nothing yet, and saves what it accepts.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(
        bootstrap: Arc<Bootstrap>,
        decode: Arc<dyn Decode>,
        store: Arc<Snapshot>,
        xds: Arc<XdsClient>,
    ) -> Arc<Self> {
        let saver = Saver::new(Arc::clone(&bootstrap), store, xds);
        let saving = tokio::spawn(Arc::clone(&saver).run()).abort_handle();
        Arc::new(Self {
            bootstrap,
            decode,
            runtime: Handle::current(),
            saver,
            saving,
            told: AtomicBool::new(false),
        })
    }

    /// What is known of every watched resource: saved ones that are in force are marked.
    pub(crate) async fn dump(&self) -> ConfigDump {
        let mut dump = self.saver.xds().dump().await;
        let mut last: Option<ResourceId> = None;
        for resource in &mut dump.resources {
            let is_first = last.as_ref() != Some(&resource.id);
            last = Some(resource.id.clone());
            if !is_first || resource.accepted.is_some() {
                continue;
            }
            let RestsOn::Saved(saved) = self.saver.watches().rests_on(&resource.id) else {
                continue;
            };
            // It was accepted when it was put in force.
            if let Ok(decoded) = self.decode.decode(resource.id.kind, &saved.raw) {
                resource.accepted = Some(AcceptedDump {
                    version: saved.version,
                    last_updated: saved.updated,
                    raw: saved.raw,
                    findings: decoded.findings,
                    stale: true,
                });
            }
        }
        dump
    }

    /// What is saved of `id`, if it can be used.
    fn saved(&self, id: &ResourceId) -> Option<(Saved, Decoded)> {
        let store = self.saver.store();
        let saved = store.get(id, SystemTime::now())?;
        let raw: &Any = &saved.raw;
        match self.decode.decode(id.kind, raw) {
            Ok(decoded) => {
                let servers = self.bootstrap.servers_for(&id.name)?.iter();
                let mut servers = servers.filter(|server| *server.uri == *saved.server);
                let decoded = match (servers.next(), servers.next()) {
                    (Some(server), None) => decoded.sent_by(&Arc::new(server.clone())),
                    // Which one of several at one place is not saved: until one sends it again,
                    // none gets the reports that are meant for it (`lrs_server { self }`).
                    _ => decoded,
                };
                Some((saved, decoded))
            }
            // This program knows less than the one before, or is stricter.
            Err(rejected) => {
                let file = store.file().display();
                tracing::warn!(%file, "refused a saved resource: {id}: {rejected}");
                store.discard(id);
                None
            }
        }
    }

    /// What is wrong with serving what was saved.
    fn stale(&self, id: &ResourceId, saved: &Saved) -> SourceError {
        let age = saved.age(SystemTime::now()).as_secs();
        let Saved {
            version, server, ..
        } = saved;
        let node = &self.bootstrap.node.id;
        let text = format!(
            "{id}: stale: version {version:?}, saved by an earlier process and last confirmed {age} s \
             ago, until the control plane answers (xDS server {server:?}, node {node:?})"
        );
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("the control plane has not answered yet: {text}");
        }
        SourceError {
            kind: SourceErrorKind::Unreachable,
            text: text.into(),
        }
    }
}

impl Source for SnapshotSource {
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        let saver = &self.saver;
        if id.kind == Kind::Secret {
            return saver.xds().watch(id, inbox);
        }
        let (relay, news) = saver
            .watches()
            .relay(&inbox, &self.runtime, |number, news| {
                let saver = Arc::downgrade(saver);
                Box::pin(relay::run(number, news, inbox.clone(), saver))
            });
        let saved = match saver.watches().rests_on(&id) {
            // The control planes' client has it.
            RestsOn::Sent => None,
            RestsOn::Saved(_) | RestsOn::Nothing => self.saved(&id),
        };
        let rests_on = match &saved {
            Some((saved, _)) => RestsOn::Saved(saved.clone()),
            None => RestsOn::Nothing,
        };
        saver.watches().enter(relay, &id, rests_on);
        if let Some((saved, decoded)) = saved {
            let stale = Event::Ambient(self.stale(&id, &saved));
            // Before anything is asked: what comes back goes through the relay, to the same inbox.
            for event in [Event::Update(decoded.value), stale] {
                let _ = inbox.send(Delivery {
                    id: id.clone(),
                    event,
                    processed: Processed::default(),
                });
            }
        }
        let watch = saver.xds().watch(id.clone(), news.clone());
        let saver = Arc::downgrade(saver);
        Watch::new(move || {
            drop(watch);
            if let Some(saver) = saver.upgrade() {
                saver.watches().leave(relay, &id);
            }
            // The relay lasts as long as one of its watches.
            drop(news);
        })
    }
}

impl fmt::Debug for SnapshotSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotSource")
            .field("saver", &self.saver)
            .finish_non_exhaustive()
    }
}

impl Drop for SnapshotSource {
    fn drop(&mut self) {
        self.saving.abort();
        self.saver.finish();
    }
}
