use std::{collections::HashMap, sync::Arc};

use mesh_core::identity::Peer;
use parking_lot::Mutex;

use crate::wrap::PeerInfo;

/// The peers that were told of by themselves, without a [`PeerInfo`] that lives as long as their
/// connection.
#[derive(Default)]
pub(super) struct Peers(Mutex<HashMap<usize, PeerInfo>>);

/// How many are kept: who has more connections than this puts a `PeerInfo` into the requests.
const MOST: usize = 1024;

// === impl Peers ===

impl Peers {
    /// That of this peer, the same for as long as it is kept.
    pub(super) fn info(&self, peer: &Arc<Peer>) -> PeerInfo {
        // What is kept holds the peer, so nobody else gets its address meanwhile.
        let key = Arc::as_ptr(peer).addr();
        let mut peers = self.0.lock();
        if let Some(known) = peers.get(&key) {
            return known.clone();
        }
        if peers.len() >= MOST {
            // When somebody was here last is not known, and filters are bound anew soon enough.
            peers.clear();
        }
        let info = PeerInfo::from(Arc::clone(peer));
        peers.insert(key, info.clone());
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_kept_up_to_a_limit() {
        let peers = Peers::default();
        let first = Arc::new(Peer::default());
        let kept = peers.info(&first);
        assert!(std::ptr::eq(kept.slot(), peers.info(&first).slot()));
        for _ in 0..3 * MOST {
            peers.info(&Arc::new(Peer::default()));
            assert!(peers.0.lock().len() <= MOST);
        }
        assert!(!std::ptr::eq(kept.slot(), peers.info(&first).slot()));
    }
}
