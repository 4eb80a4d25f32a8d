//! How any command line is read: a table of flags.

use std::fmt::Write;

/// A command line that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagError {
    /// A flag's value is not valid.
    #[error("--{flag}={value}: {reason}")]
    Invalid {
        /// The flag.
        flag: &'static str,
        /// The value as given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A flag that must be given is not.
    #[error("--{0} is required")]
    Missing(&'static str),
    /// A flag has no value.
    #[error("--{0} needs a value: --{0}=VALUE")]
    NoValue(&'static str),
    /// An argument is no flag.
    #[error("unexpected argument {0:?}: every argument is a --flag")]
    Unexpected(String),
    /// There is no such flag.
    #[error("unknown flag --{0}")]
    Unknown(String),
}

/// A flag of a program whose flags together are an `F`.
pub(crate) struct Flag<F> {
    pub(crate) name: &'static str,
    pub(crate) value: &'static str,
    pub(crate) help: &'static str,
    pub(crate) set: fn(&mut F, &str) -> Result<(), String>,
}

/// The value of flags that are true or false.
pub(crate) const BOOL: &str = "BOOL";

/// Reads a command line; `None`: it asks for help.
pub(crate) fn read<F: Default>(
    table: &[Flag<F>],
    arguments: impl IntoIterator<Item = impl Into<String>>,
) -> Result<Option<F>, FlagError> {
    let mut arguments = arguments.into_iter().map(Into::into).peekable();
    let mut flags = F::default();
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.strip_prefix("--").filter(|text| !text.is_empty()) else {
            return Err(FlagError::Unexpected(argument));
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name == "help" {
            return Ok(None);
        }
        let flag = table.iter().find(|flag| flag.name == name);
        let flag = flag.ok_or_else(|| FlagError::Unknown(name.to_owned()))?;
        let value = match value {
            Some(value) => value,
            None if flag.value == BOOL => arguments
                .next_if(|next| boolean(next).is_ok())
                .unwrap_or_else(|| "true".to_owned()),
            None => arguments
                .next_if(|next| !next.starts_with("--"))
                .ok_or(FlagError::NoValue(flag.name))?,
        };
        (flag.set)(&mut flags, &value).map_err(|reason| FlagError::Invalid {
            flag: flag.name,
            value,
            reason,
        })?;
    }
    Ok(Some(flags))
}

/// What there is to say about each flag.
pub(crate) fn list<F>(table: &[Flag<F>]) -> String {
    let mut text = String::new();
    for flag in table {
        let head = format!("--{}={}", flag.name, flag.value);
        let _ = writeln!(text, "  {head}\n        {}", flag.help);
    }
    text.push_str("  --help\n        Says this.\n");
    text
}

pub(crate) fn number<N>(value: &str, min: N, max: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = value
        .parse()
        .ok()
        .filter(|number| (&min..=&max).contains(&number));
    number.ok_or_else(|| format!("use a whole number from {min} to {max}"))
}

pub(crate) fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("use true or false".to_owned()),
    }
}
