//! What a decoder carries along: the filters it knows, what it found, and how much it has read.

use std::sync::Arc;

use super::{FieldError, Tally, bounds::MAX_FINDINGS, fields::Findings, limits::Limit};
use crate::{
    config::{Finding, Treatment},
    control::xds::FilterRegistry,
};

/// The decoding of one resource.
///
/// [`field`](Self::field), [`index`](Self::index) and [`key`](Self::key) go one step into it and
/// put that step in front of the path of an error and of all findings made inside. Nothing is
/// allocated for paths where nothing is wrong.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// The filters that can be configured.
    pub(super) filters: &'a FilterRegistry,
    /// Variables of this process that configuration may read.
    pub(super) environment: &'a [String],
    /// How much of each [`Limit`] is used.
    pub(super) used: [usize; Limit::COUNT],
    /// One more than the limit at most: more would be left out anyway.
    findings: Vec<Finding>,
}

impl<'a> Context<'a> {
    pub(super) fn new(filters: &'a FilterRegistry) -> Self {
        Self {
            filters,
            environment: &[],
            used: [0; Limit::COUNT],
            findings: Vec::new(),
        }
    }

    /// Configuration may read these variables of this process: none otherwise.
    pub(super) fn reading(self, environment: &'a [String]) -> Self {
        Self {
            environment,
            ..self
        }
    }

    /// Counts on from what another resource uses, but for what is counted without a look inside: parts
    /// of it are taken over.
    pub(super) fn continuing(self, tally: &Tally) -> Self {
        let Tally { mut used, .. } = *tally;
        for limit in [Limit::VirtualHosts, Limit::Domains, Limit::Routes] {
            used[limit as usize] = 0;
        }
        Self { used, ..self }
    }

    /// What was counted, unless something was found: what is shared is never looked at again, and
    /// the next resource would lack it. `fields`: see [`Tally`].
    pub(super) fn tally(&self, fields: Option<usize>) -> Option<Arc<Tally>> {
        let used = self.used;
        self.findings
            .is_empty()
            .then(|| Arc::new(Tally { used, fields }))
    }

    /// Hands over what was found, in the order in which it was read.
    pub(super) fn finish(self, findings: &mut Findings) {
        for Finding {
            path,
            treatment,
            note,
        } in self.findings
        {
            findings.note(path, treatment, note);
        }
    }

    /// Decodes the field `name` with `decode`.
    pub(super) fn field<T>(
        &mut self,
        name: &str,
        decode: impl FnOnce(&mut Self) -> Result<T, FieldError>,
    ) -> Result<T, FieldError> {
        self.step(decode, |error| error.field(name))
    }

    /// Decodes entry `index` of the repeated field `name` with `decode`.
    pub(super) fn index<T>(
        &mut self,
        name: &str,
        index: usize,
        decode: impl FnOnce(&mut Self) -> Result<T, FieldError>,
    ) -> Result<T, FieldError> {
        self.step(decode, |error| error.index(name, index))
    }

    /// Decodes the entry `key` of the map `name` with `decode`.
    pub(super) fn key<T>(
        &mut self,
        name: &str,
        key: &str,
        decode: impl FnOnce(&mut Self) -> Result<T, FieldError>,
    ) -> Result<T, FieldError> {
        self.step(decode, |error| error.key(name, key))
    }

    /// Reports the field `path`, relative to the message at hand.
    pub(super) fn report(&mut self, path: &str, treatment: Treatment, note: impl Into<String>) {
        if self.findings.len() <= MAX_FINDINGS {
            self.findings.push(Finding {
                path: path.to_owned(),
                treatment,
                note: note.into(),
            });
        }
    }

    /// Reports a field that has no effect.
    pub(super) fn ignored(&mut self, path: &str, note: impl Into<String>) {
        self.report(path, Treatment::Ignored, note);
    }

    /// Reports a field that is in force under HTTP semantics alone; says what gRPC's do instead.
    pub(super) fn http_only(&mut self, path: &str, note: impl Into<String>) {
        self.report(path, Treatment::HttpOnly, note);
    }

    fn step<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, FieldError>,
        prefix: impl Fn(FieldError) -> FieldError,
    ) -> Result<T, FieldError> {
        let first = self.findings.len();
        let result = decode(self);
        for finding in &mut self.findings[first..] {
            // The same step as for an error, so that both name a field alike.
            let inner = FieldError::at(std::mem::take(&mut finding.path));
            (finding.path, _) = prefix(inner).into_parts();
        }
        result.map_err(prefix)
    }
}
