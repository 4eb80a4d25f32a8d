//! Checks a directory without using it: for CI.

use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
    path::Path,
    sync::Arc,
};

use super::{
    FileError, FileStatus, Position, Shared,
    directory::{not_read, scan},
    references::Reference,
    store::Store,
};
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
    texts: BTreeMap<Arc<str>, String>,
}

/// What is in a directory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// Its files, sorted by name.
    pub files: Vec<FileStatus>,
    /// References of good resources to others that are in no good file, with the field that refers: a
    /// mesh accepts them, and calls that need what is missing fail.
    pub dangling: Vec<FileError>,
    /// Fields that are accepted and not fully in force.
    pub findings: Vec<FileFinding>,
    /// Names in the directory that are not read, as directories are not, or files that end otherwise;
    /// hidden ones and what editors leave behind are not among them.
    pub not_read: Vec<String>,
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

    /// With the text of a file called `name` given in code, which the mesh will have as well
    /// ([`MeshBuilder::resources`](crate::MeshBuilder::resources)).
    pub fn resources(mut self, name: impl Into<Arc<str>>, text: impl Into<String>) -> Self {
        self.texts.insert(name.into(), text.into());
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
        for (name, text) in self.texts {
            // What is wrong with it is in its status.
            let _ = shared.set(name, &text);
        }
        let directory = directory.as_ref();
        shared.replace_directory(&scan(directory)?);
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
            dangling: dangling(&store),
            findings,
            not_read: not_read(directory)?,
        })
    }
}

// === impl Report ===

impl Report {
    /// What is wrong, file by file, then what is missing.
    pub fn errors(&self) -> impl Iterator<Item = &FileError> {
        let files = self.files.iter().flat_map(|file| &file.errors);
        files.chain(&self.dangling)
    }

    /// Whether every file is good, and nothing is missing.
    pub fn is_good(&self) -> bool {
        self.errors().next().is_none()
    }
}

/// What is referred to, and in no file that is good.
fn dangling(store: &Store) -> Vec<FileError> {
    let status = store.status();
    // One that is there and bad is told of already.
    let bad = status.iter().flat_map(|file| &file.errors);
    let bad = bad.filter_map(|error| error.resource.as_ref());
    let known: HashSet<&ResourceId> = store.found().map(|(_, id, _)| id).chain(bad).collect();
    let mut dangling = Vec::new();
    for (file, id, found) in store.found() {
        let missing = |reference: &&Reference| !known.contains(&reference.to);
        for reference in found.references.iter().filter(missing) {
            dangling.push(FileError {
                file: Arc::clone(file),
                at: Some(reference.at),
                resource: Some(id.clone()),
                field: reference.field.clone(),
                problem: format!(
                    "refers to {}, which is in no file that is good",
                    reference.to
                ),
            });
        }
    }
    dangling.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
    dangling
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
