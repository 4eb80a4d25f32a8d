//! How much one resource may hold.

use super::{Context, FieldError};

/// Something that is counted over a whole resource. Far above what a control plane has reason to
/// send; there to keep a broken one from using up the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Combinations of prefixes and ports in the matches of filter chains.
    ChainMatches,
    /// Entries of weighted clusters.
    Clusters,
    /// Domains of virtual hosts.
    Domains,
    /// HTTP filters of a listener.
    Filters,
    /// Changes to headers, and the parts of the values that they put.
    HeaderMutations,
    /// Tests of headers and query parameters.
    Matchers,
    /// Entries of `typed_per_filter_config`.
    Overrides,
    /// The size of all regular expressions, in matched characters with repetitions written out,
    /// and 64 for each expression.
    RegexSize,
    /// Routes of all virtual hosts.
    Routes,
    /// Virtual hosts.
    VirtualHosts,
}

impl Limit {
    /// How many limits there are.
    pub(super) const COUNT: usize = Limit::VirtualHosts as usize + 1;

    /// What one resource may hold of it.
    pub(super) const fn most(self) -> usize {
        match self {
            Limit::ChainMatches => 100_000,
            Limit::Clusters => 250_000,
            Limit::Domains => 500_000,
            Limit::Filters => 1_000,
            Limit::HeaderMutations => 500_000,
            Limit::Matchers => 500_000,
            Limit::Overrides => 250_000,
            Limit::RegexSize => 1_000_000,
            Limit::Routes => 250_000,
            Limit::VirtualHosts => 100_000,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Limit::ChainMatches => "combinations in filter chain matches",
            Limit::Clusters => "weighted clusters",
            Limit::Domains => "domains",
            Limit::Filters => "HTTP filters",
            Limit::HeaderMutations => "changes to headers",
            Limit::Matchers => "header and query matchers",
            Limit::Overrides => "filter overrides",
            Limit::RegexSize => "total size of regular expressions",
            Limit::Routes => "routes",
            Limit::VirtualHosts => "virtual hosts",
        }
    }
}

impl Context<'_> {
    /// Counts `more` of `limit`.
    pub(super) fn count(&mut self, limit: Limit, more: usize) -> Result<(), FieldError> {
        let used = &mut self.used[limit as usize];
        *used = used.saturating_add(more);
        if *used > limit.most() {
            return Err(FieldError::new(format!(
                "too much for one resource: the limit of {} is {}",
                limit.name(),
                limit.most()
            )));
        }
        Ok(())
    }
}
