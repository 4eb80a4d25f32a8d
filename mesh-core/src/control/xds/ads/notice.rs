//! What an operator must know.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Identity;
use crate::config::{Kind, ResourceId};

/// Something worth a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A whole response left out a watched resource.
    Deleted { id: ResourceId, kept: bool },
    /// A response was refused.
    Nacked {
        kind: Kind,
        version: Arc<str>,
        reason: String,
    },
    /// The control plane answers again.
    Recovered,
    /// A resource is back after it was left out.
    Returned { id: ResourceId },
    /// A resource was not sent in time.
    TimedOut { id: ResourceId },
    /// A message was ignored.
    Unusable { reason: String },
    /// The control plane cannot be reached, or does not answer.
    Unreachable { reason: String },
}

/// Writes notices, but not the same one all the time.
#[derive(Debug)]
pub(crate) struct Reporter {
    identity: Identity,
    nacked: Limiter,
    unusable: Limiter,
    unreachable: Limiter,
    resources: Limiter,
}

/// Lets through what is new, at most [`Limiter::BURST`] in each [`Limiter::WINDOW`].
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    window_start: Option<Instant>,
    written: u32,
    suppressed: u64,
    last: String,
}

// === impl Reporter ===

impl Reporter {
    /// Names `identity` in every line.
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            nacked: Limiter::default(),
            unusable: Limiter::default(),
            unreachable: Limiter::default(),
            resources: Limiter::default(),
        }
    }

    /// Writes `notice`.
    pub(crate) fn report(&mut self, notice: &Notice, now: Instant) {
        let Identity { server, node, .. } = &self.identity;
        match notice {
            Notice::Nacked {
                kind,
                version,
                reason,
            } => {
                if let Some(suppressed) = self.nacked.admit(reason, now) {
                    tracing::warn!(
                        %server, %node, %kind, %version, suppressed,
                        "refused an update from the control plane (NACK): {reason}"
                    );
                }
            }
            Notice::Unreachable { reason } => {
                if let Some(suppressed) = self.unreachable.admit(reason, now) {
                    tracing::warn!(%server, %node, suppressed, "control plane out of reach: {reason}");
                }
            }
            Notice::Recovered => {
                self.unreachable = Limiter::default();
                tracing::info!(%server, %node, "the control plane answers again");
            }
            Notice::Unusable { reason } => {
                if let Some(suppressed) = self.unusable.admit(reason, now) {
                    tracing::warn!(%server, %node, suppressed, "ignored a message of the control plane: {reason}");
                }
            }
            Notice::Deleted { id, kept } => {
                let text = format!("the control plane has deleted {id}");
                if let Some(suppressed) = self.resources.admit(&text, now) {
                    tracing::warn!(%server, %node, suppressed, kept, "{text}");
                }
            }
            Notice::Returned { id } => {
                let text = format!("the control plane sends {id} again");
                if let Some(suppressed) = self.resources.admit(&text, now) {
                    tracing::info!(%server, %node, suppressed, "{text}");
                }
            }
            Notice::TimedOut { id } => {
                let text = format!("the control plane has not sent {id} in time");
                if let Some(suppressed) = self.resources.admit(&text, now) {
                    tracing::warn!(%server, %node, suppressed, "{text}");
                }
            }
        }
    }
}

// === impl Limiter ===

impl Limiter {
    const WINDOW: Duration = Duration::from_secs(60);
    const BURST: u32 = 10;

    /// Whether `text` is to be written, and how many were not since the last that was.
    pub(crate) fn admit(&mut self, text: &str, now: Instant) -> Option<u64> {
        let fresh = self
            .window_start
            .is_none_or(|start| now.saturating_duration_since(start) >= Self::WINDOW);
        if fresh {
            self.window_start = Some(now);
            self.written = 0;
        }
        if !fresh && (self.written >= Self::BURST || self.last == text) {
            self.suppressed += 1;
            return None;
        }
        self.written += 1;
        text.clone_into(&mut self.last);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_written_once_a_minute() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        assert_eq!(limiter.admit("a", start), Some(0));
        for second in 1..60 {
            assert_eq!(
                limiter.admit("a", start + Duration::from_secs(second)),
                None
            );
        }
        assert_eq!(limiter.admit("a", start + Limiter::WINDOW), Some(59));
    }

    #[test]
    fn other_texts_are_written_up_to_a_burst() {
        let mut limiter = Limiter::default();
        let now = Instant::now();
        let written = (0..100)
            .filter(|n| limiter.admit(&n.to_string(), now).is_some())
            .count();
        assert_eq!(written, Limiter::BURST as usize);
        assert_eq!(limiter.admit("x", now + Limiter::WINDOW), Some(90));
    }
}
