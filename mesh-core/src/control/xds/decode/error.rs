use std::fmt;

/// A problem of one field of a message, and the path that leads to it.
///
/// Built at the field and passed outwards: each level puts its own step in front. Nothing is
/// allocated where nothing is wrong.
///
/// ```
/// use mesh_core::control::xds::decode::{FieldError, ResultExt};
///
/// fn route(name: &str) -> Result<(), FieldError> {
///     match name {
///         "" => Err(FieldError::new("must not be empty").field("name")),
///         _ => Ok(()),
///     }
/// }
///
/// let error = route("").index("routes", 2).field("virtual_host").unwrap_err();
/// assert_eq!(error.to_string(), "virtual_host.routes[2].name: must not be empty");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    path: String,
    problem: String,
}

impl FieldError {
    /// A problem with the message at hand; the steps that lead to it are added on the way out.
    pub fn new(problem: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            problem: problem.into(),
        }
    }

    /// A path without a problem yet.
    pub(super) fn at(path: String) -> Self {
        Self {
            path,
            problem: String::new(),
        }
    }

    /// Puts the field `name` in front of the path.
    #[must_use]
    pub fn field(self, name: &str) -> Self {
        self.step(format_args!("{name}"))
    }

    /// Puts entry `index` of the repeated field `name` in front of the path.
    #[must_use]
    pub fn index(self, name: &str, index: usize) -> Self {
        self.step(format_args!("{name}[{index}]"))
    }

    /// Puts the entry `key` of the map `name` in front of the path.
    #[must_use]
    pub fn key(self, name: &str, key: &str) -> Self {
        self.step(format_args!("{name}[{key:?}]"))
    }

    /// The field at fault, such as `virtual_hosts[0].routes[2].match.path_specifier`. Empty if it
    /// is the message itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The path and the problem.
    pub fn into_parts(self) -> (String, String) {
        (self.path, self.problem)
    }

    fn step(mut self, step: fmt::Arguments<'_>) -> Self {
        self.path = match self.path.as_str() {
            "" => step.to_string(),
            rest => format!("{step}.{rest}"),
        };
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for FieldError {}

/// Adds steps to the path of a [`FieldError`] on its way out.
pub trait ResultExt: Sized {
    /// As [`FieldError::field`].
    #[must_use]
    fn field(self, name: &str) -> Self;

    /// As [`FieldError::index`].
    #[must_use]
    fn index(self, name: &str, index: usize) -> Self;

    /// As [`FieldError::key`].
    #[must_use]
    fn key(self, name: &str, key: &str) -> Self;
}

impl<T> ResultExt for Result<T, FieldError> {
    fn field(self, name: &str) -> Self {
        self.map_err(|error| error.field(name))
    }

    fn index(self, name: &str, index: usize) -> Self {
        self.map_err(|error| error.index(name, index))
    }

    fn key(self, name: &str, key: &str) -> Self {
        self.map_err(|error| error.key(name, key))
    }
}
