//! Checks a directory without using it: for CI.

use std::{fmt, io, path::Path, sync::Arc};

use super::{FileError, FileStatus, Position, Shared, directory::scan};
use crate::{
    config::{Finding, ResourceId},
    control::xds::{
        FilterRegistry, PolicyRegistry,
        decode::{Decode, Decoder},
    },
};

/// Checks the resources in `directory` as a mesh would read them that has the filters and policies
/// of this crate, and no certificate providers. See [`Checker`] for others.
///
/// # Errors
/// If the directory cannot be read.
pub fn check(directory: impl AsRef<Path>) -> io::Result<Report> {
    Checker::new().check(directory)
}

/// Checks resources as a mesh would read them.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Checker {
    filters: FilterRegistry,
    policies: Option<PolicyRegistry>,
    providers: Vec<String>,
}

/// What is in a directory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// Its files, sorted by name.
    pub files: Vec<FileStatus>,
    /// Fields that are accepted and not fully in force.
    pub findings: Vec<FileFinding>,
}

/// A field of a file that is accepted and not fully in force.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileFinding {
    /// The file's name.
    pub file: Arc<str>,
    /// Where the field is.
    pub at: Position,
    /// The resource that it belongs to.
    pub resource: ResourceId,
    /// The field, and what becomes of it.
    pub finding: Finding,
}

// === impl Checker ===

impl Checker {
    /// With the filters and policies of this crate, and without certificate providers.
    pub fn new() -> Self {
        Self::default()
    }

    /// With these filters.
    pub fn filters(mut self, filters: FilterRegistry) -> Self {
        self.filters = filters;
        self
    }

    /// With these endpoint-picking policies.
    pub fn policies(mut self, policies: PolicyRegistry) -> Self {
        self.policies = Some(policies);
        self
    }

    /// With a certificate provider instance of this name, which the mesh will have.
    pub fn certificate_provider(mut self, instance: impl Into<String>) -> Self {
        self.providers.push(instance.into());
        self
    }

    /// Checks the resources in `directory`.
    ///
    /// # Errors
    /// If the directory cannot be read. What is wrong with its files is in the report.
    pub fn check(self, directory: impl AsRef<Path>) -> io::Result<Report> {
        let policies = self.policies.unwrap_or_else(PolicyRegistry::standard);
        let decode: Arc<dyn Decode> =
            Arc::new(Decoder::new(self.filters, policies, self.providers));
        let shared = Shared::new(decode, "checked resources".into(), "".into());
        shared.replace_directory(&scan(directory.as_ref())?);
        let store = shared.store.lock();
        let mut findings: Vec<_> = store
            .found()
            .flat_map(|(file, id, found)| {
                found.findings.iter().map(|(at, finding)| FileFinding {
                    file: Arc::clone(file),
                    at: *at,
                    resource: id.clone(),
                    finding: finding.clone(),
                })
            })
            .collect();
        findings.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
        Ok(Report {
            files: store.status(),
            findings,
        })
    }
}

// === impl Report ===

impl Report {
    /// What is wrong, file by file.
    pub fn errors(&self) -> impl Iterator<Item = &FileError> {
        self.files.iter().flat_map(|file| &file.errors)
    }

    /// Whether every file is good.
    pub fn is_good(&self) -> bool {
        self.errors().next().is_none()
    }
}

impl fmt::Display for FileFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            at: Position { line, column },
            resource,
            finding,
        } = self;
        let Finding {
            path,
            treatment,
            note,
        } = finding;
        write!(
            f,
            "{file}:{line}:{column}: {resource}: {path}: {treatment:?}: {note}"
        )
    }
}
