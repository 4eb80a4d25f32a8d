use std::{fmt, sync::Arc};

use super::{LinkState, ReadySet};

/// Endpoints that a [`Policy`](super::Policy) picks among. Fixed, but for which are ready.
pub struct Group {
    links: Box<[Arc<LinkState>]>,
    weights: Box<[u32]>,
    ready: ReadySet,
}

impl Group {
    /// Of these endpoints with their weights (none zero), ready as they are now.
    pub fn new(members: impl IntoIterator<Item = (Arc<LinkState>, u32)>) -> Self {
        let (links, weights): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let group = Self {
            ready: ReadySet::new(links.len()),
            links: links.into(),
            weights: weights.into(),
        };
        for index in 0..group.links.len() {
            group.refresh(index);
        }
        group
    }

    /// Its members.
    pub fn links(&self) -> &[Arc<LinkState>] {
        &self.links
    }

    /// The weight of each member.
    pub fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// Which members are ready.
    #[inline]
    pub fn ready(&self) -> &ReadySet {
        &self.ready
    }

    /// Brings the ready bit of a member up to date. Whoever observes the members calls it, one
    /// call at a time.
    pub fn refresh(&self, index: usize) {
        if let Some(link) = self.links.get(index) {
            self.ready.set(index, link.is_ready());
        }
    }

    /// `index`, or the next ready member after it that is not among `tried`, where there is one.
    #[inline]
    pub fn untried(&self, index: usize, tried: &[Arc<LinkState>]) -> usize {
        if tried.is_empty() {
            return index;
        }
        let is_tried = |index: usize| {
            self.links
                .get(index)
                .is_some_and(|link| tried.iter().any(|tried| Arc::ptr_eq(tried, link)))
        };
        // One step more than there are tried ones reaches any that is not.
        let mut at = index;
        for _ in 0..=tried.len() {
            if !is_tried(at) {
                return at;
            }
            match self.ready.next(at + 1) {
                Some(next) => at = next,
                None => break,
            }
        }
        index
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.ready).finish()
    }
}
