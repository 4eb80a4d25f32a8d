use std::time::Duration;

use mesh_core::{
    Code,
    config::RetryPolicy,
    resilience::{Pushback, RetryState, TransparentRetries},
};

/// The retries of one call: those of its route's policy, if it has one, and those that nobody sees.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    /// Made at the first failure: most calls have none.
    state: Option<Box<RetryState>>,
    transparent: TransparentRetries,
    /// Attempts that were decided on under HTTP semantics.
    http: u32,
    /// Attempts that were decided on and could not be made.
    undone: u32,
}

impl Retry {
    /// After a failure with `code`: the pause before the next attempt; `None` for no more.
    pub(crate) fn next(
        &mut self,
        policy: Option<&RetryPolicy>,
        code: Code,
        pushback: Option<Pushback>,
    ) -> Option<Duration> {
        let policy = policy?;
        self.state
            .get_or_insert_with(|| Box::new(RetryState::new(policy)))
            .next(code, pushback)
    }

    /// An attempt was decided on under HTTP semantics.
    pub(crate) fn decided(&mut self) {
        self.http += 1;
    }

    /// Whether a request that never left this process is sent again.
    pub(crate) fn unsent(&mut self) -> bool {
        self.transparent.unsent()
    }

    /// Whether a request that the server did not process is sent again.
    pub(crate) fn unprocessed(&mut self) -> bool {
        self.transparent.unprocessed()
    }

    /// The attempt decided on last was not made.
    pub(crate) fn undo(&mut self) {
        self.undone += 1;
    }

    /// Attempts that the policy made after the first.
    pub(crate) fn previous_attempts(&self) -> u32 {
        let made = self
            .state
            .as_ref()
            .map_or(0, |state| state.previous_attempts());
        (made + self.http).saturating_sub(self.undone)
    }

    /// Attempts that nobody saw.
    pub(crate) fn transparent_retries(&self) -> u32 {
        self.transparent.count()
    }
}
