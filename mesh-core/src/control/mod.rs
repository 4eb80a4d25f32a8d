//! Where configuration comes from.
//!
//! A [`Source`] turns names into validated [`config`](crate::config) values and keeps them current.

#[cfg(feature = "files")]
pub mod files;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub mod istio_ca;
mod passthrough;
pub mod snapshot;
pub mod xds;

use std::{fmt, sync::Arc};

use tokio::sync::mpsc;

pub use self::passthrough::{OutsideHost, PASSTHROUGH_CLUSTER, Passthrough};
use crate::config::{Resource, ResourceId};

/// Something that configuration can be watched at.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Watches one resource: what is known of it goes to `inbox` at once, what changes later.
    /// Dropping the [`Watch`] ends it.
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch;
}

/// Where a watcher receives its deliveries. One inbox may serve many watches.
pub type Inbox = mpsc::UnboundedSender<Delivery>;

/// News of one resource.
#[derive(Debug)]
pub struct Delivery {
    /// Which one.
    pub id: ResourceId,
    /// What happened.
    pub event: Event,
    /// Dropped once the news is processed and in force: only then does the source acknowledge it,
    /// read on, and ask for what was newly watched meanwhile, all at once. Never to be held while
    /// waiting for other news.
    pub processed: Processed,
}

/// What happened to a watched resource.
#[derive(Debug, Clone)]
pub enum Event {
    /// Its value, first or new; or the same again, once a trouble that was told of is over.
    Update(Resource),
    /// A trouble that leaves the last value in force, if there was one (gRFC A88). Without one,
    /// calls that need the resource fail, until an update.
    Ambient(SourceError),
    /// It does not exist, or was refused with nothing to fall back on.
    Gone(SourceError),
}

/// Held by whoever processes a [`Delivery`].
#[derive(Debug, Clone, Default)]
pub struct Processed {
    _token: Option<mpsc::Sender<std::convert::Infallible>>,
}

impl Processed {
    /// A token whose drop closes the receiver of `all`.
    pub fn new(all: mpsc::Sender<std::convert::Infallible>) -> Self {
        Self { _token: Some(all) }
    }
}

/// A running watch; dropping it ends it.
pub struct Watch(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Watch {
    /// A watch that `end` ends.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

/// Why a resource is not there, or not up to date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SourceError {
    /// What kind of trouble.
    pub kind: SourceErrorKind,
    /// For people: names the resource, the server, the field at fault and the node.
    pub text: Arc<str>,
}

impl SourceError {
    /// [`SourceErrorKind::Lost`].
    pub(crate) fn lost() -> Self {
        Self {
            kind: SourceErrorKind::Lost,
            text: "the tokio runtime in which the mesh was built has been shut down: build the mesh in \
                   the runtime that lasts, or one in each"
                .into(),
        }
    }
}

impl SourceErrorKind {
    /// Whether the source has said nothing of the resource, and may have it all the same.
    pub(crate) fn is_no_answer(self) -> bool {
        matches!(self, Self::Unreachable | Self::Transient)
    }

    /// Whether the source says, or its silence, that there is no such resource.
    pub fn is_absence(self) -> bool {
        matches!(self, Self::DoesNotExist | Self::NotSent)
    }
}

/// Kinds of [`SourceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// The source says that there is no such resource for this node.
    DoesNotExist,
    /// The source was asked on a stream that works, and has not sent it in time: that is taken to mean
    /// that there is none (gRFC A57), as it may be that the source is slow.
    NotSent,
    /// The source sent something that was refused.
    Invalid,
    /// The source could not be reached, or its stream ended before it answered.
    Unreachable,
    /// The source is within reach, and has an error of its own in place of the resource, or is silent
    /// about it where silence says nothing (gRFC A88).
    Transient,
    /// Nobody follows the source any more, and nothing will come of waiting: the tokio runtime in
    /// which the mesh was built has been shut down.
    Lost,
}
