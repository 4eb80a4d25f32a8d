use std::{fmt, path::PathBuf};

use super::source::{CONFIG_VARIABLE, FILE_VARIABLE};

/// Why there is no bootstrap: where it came from, the field at fault, its value, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {fault}")]
pub struct BootstrapError {
    origin: Origin,
    fault: Box<Fault>,
}

impl BootstrapError {
    pub(super) fn new(origin: Origin, fault: Fault) -> Self {
        Self {
            origin,
            fault: Box::new(fault),
        }
    }

    /// The bootstrap that neither variable gives.
    pub(super) fn not_configured() -> Self {
        let problem = format!(
            "no bootstrap: set {FILE_VARIABLE} to the path of a bootstrap file, or \
             {CONFIG_VARIABLE} to its JSON text, or build one in code with Bootstrap::builder()"
        );
        Self::new(Origin::Environment, Fault::new("", problem))
    }

    /// The bootstrap without servers of a mesh that has no other source of configuration.
    pub(crate) fn without_servers() -> Self {
        let problem = "empty, and the mesh was given no other source of configuration";
        Self::new(Origin::Builder, Fault::new("xds_servers", problem))
    }

    /// Where the bootstrap came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The path of the field at fault, such as
    /// `xds_servers[1].channel_creds[0].config.refresh_interval`; `None` if it is not one field.
    pub fn field(&self) -> Option<&str> {
        Some(self.fault.path.as_str()).filter(|path| !path.is_empty())
    }

    /// Whether the environment asks for no bootstrap at all, so that a program may go without.
    pub fn is_not_configured(&self) -> bool {
        self.origin == Origin::Environment
    }
}

/// Where a bootstrap came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// [`BootstrapBuilder`](super::BootstrapBuilder) or a builder of its parts.
    Builder,
    /// The environment, none of whose variables is set.
    Environment,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The environment variable that named it, if one did.
        variable: Option<&'static str>,
    },
    /// A text given to [`Bootstrap::from_json`](super::Bootstrap::from_json).
    Text,
    /// The content of this environment variable.
    Variable(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Builder => f.write_str("bootstrap built in code"),
            Origin::Environment => f.write_str("environment"),
            Origin::File { path, variable } => {
                write!(f, "bootstrap file {path:?}")?;
                match variable {
                    Some(variable) => write!(f, " (named by {variable})"),
                    None => Ok(()),
                }
            }
            Origin::Text => f.write_str("bootstrap text"),
            Origin::Variable(variable) => write!(f, "bootstrap in {variable}"),
        }
    }
}

/// What is wrong, before it is known where the bootstrap came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    path: String,
    value: Option<String>,
    problem: String,
}

impl Fault {
    /// Characters of a value that a message repeats.
    const SHOWN: usize = 200;

    pub(super) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: None,
            problem: problem.into(),
        }
    }

    /// Adds the value at fault, written as JSON. A long one is cut.
    pub(super) fn with_value(mut self, value: &serde_json::Value) -> Self {
        let mut text = value.to_string();
        if let Some((end, _)) = text.char_indices().nth(Self::SHOWN) {
            text.truncate(end);
            text.push_str("...");
        }
        self.value = Some(text);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.as_str(), &self.value) {
            ("", None) => {}
            ("", Some(value)) => write!(f, "{value}: ")?,
            (path, None) => write!(f, "{path}: ")?,
            (path, Some(value)) => write!(f, "{path} is {value}: ")?,
        }
        f.write_str(&self.problem)
    }
}
