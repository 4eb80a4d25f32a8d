use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::TlsId;
use crate::config::UpstreamTls;

/// The TLS settings in use and their ids: equal settings have the same one, whichever cluster and
/// update they are of.
#[derive(Debug, Default)]
pub(super) struct TlsIds(Mutex<HashMap<u64, Vec<Weak<Numbered>>>>);

/// TLS settings with their id, which equal ones have too for as long as somebody keeps this.
#[derive(Debug)]
pub(super) struct Numbered {
    id: TlsId,
    settings: Arc<UpstreamTls>,
}

// === impl TlsIds ===

impl TlsIds {
    pub(super) fn number(&self, settings: &Arc<UpstreamTls>) -> Arc<Numbered> {
        let mut known = self.0.lock();
        if known.len() == known.capacity() {
            // Instead of growing for those that nobody uses any more.
            known.retain(|_, alike| alike.iter().any(|known| known.strong_count() != 0));
        }
        let alike = known.entry(settings.digest()).or_default();
        alike.retain(|known| known.strong_count() != 0);
        let mut in_use = alike.iter().filter_map(Weak::upgrade);
        if let Some(known) = in_use.find(|known| known.settings == *settings) {
            return known;
        }
        let new = Numbered::new(settings);
        alike.push(Arc::downgrade(&new));
        new
    }
}

// === impl Numbered ===

impl Numbered {
    /// With an id that no other has.
    pub(super) fn new(settings: &Arc<UpstreamTls>) -> Arc<Self> {
        Arc::new(Self {
            id: TlsId::unique(),
            settings: Arc::clone(settings),
        })
    }

    pub(super) fn id(&self) -> TlsId {
        self.id
    }
}
