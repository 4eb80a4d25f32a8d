//! What is wrong with a file, and where.

use std::{fmt, sync::Arc};

use saphyr_parser::Marker;

use crate::config::ResourceId;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

/// What is wrong with a file, or with a resource in it: written as
/// `greeter.yaml:12:9: cluster "greeter": connect_timeout: a negative duration`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct FileError {
    /// The file's name in its directory, or the name that a text was given in code.
    pub file: Arc<str>,
    /// Where; `None` if it is the file as a whole.
    pub at: Option<Position>,
    /// The resource at fault, where its name could be read.
    pub resource: Option<ResourceId>,
    /// The field at fault, such as `virtual_hosts[0].routes[2].match`; empty if it is not one field.
    pub field: String,
    /// What is wrong with it. Of a resource that can be read and not accepted, the text that a
    /// control plane would get (NACK).
    pub problem: String,
}

/// The same before it is known which file and which resource.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub(super) at: Option<Position>,
    pub(super) field: String,
    pub(super) problem: String,
}

// === impl Position ===

impl Position {
    pub(super) fn of(marker: Marker) -> Self {
        Self {
            line: marker.line(),
            column: marker.col() + 1,
        }
    }
}

// === impl FileError ===

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(id) = &self.resource {
            write!(f, ": {id}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.problem)
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self {
            at: None,
            field: String::new(),
            problem: problem.into(),
        }
    }

    /// Where it is, unless that is known better.
    pub(super) fn at(mut self, at: Position) -> Self {
        self.at.get_or_insert(at);
        self
    }

    /// Puts a step in front of the path.
    pub(super) fn inside(mut self, step: &str) -> Self {
        let rest = std::mem::take(&mut self.field);
        self.field = match rest.as_bytes().first() {
            None => step.to_owned(),
            Some(b'[') => step.to_owned() + &rest,
            Some(_) => format!("{step}.{rest}"),
        };
        self
    }

    /// The error of `file`.
    pub(super) fn of(self, file: &Arc<str>, resource: Option<ResourceId>) -> FileError {
        FileError {
            file: Arc::clone(file),
            at: self.at,
            resource,
            field: self.field,
            problem: self.problem,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::new(problem.to_string())
    }
}
