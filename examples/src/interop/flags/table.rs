//! How any command line is read: a table of flags.

use std::fmt::Write;

use super::FlagError;

/// A flag of a program whose flags together are an `F`.
pub(super) struct Flag<F> {
    pub(super) name: &'static str,
    pub(super) value: &'static str,
    pub(super) help: &'static str,
    pub(super) set: fn(&mut F, &str) -> Result<(), String>,
}

/// The value of flags that are true or false.
pub(super) const BOOL: &str = "BOOL";

/// Reads a command line; `None`: it asks for help.
pub(super) fn read<F: Default>(
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
pub(super) fn list<F>(table: &[Flag<F>]) -> String {
    let mut text = String::new();
    for flag in table {
        let head = format!("--{}={}", flag.name, flag.value);
        let _ = writeln!(text, "  {head}\n        {}", flag.help);
    }
    text.push_str("  --help\n        Says this.\n");
    text
}

pub(super) fn number<N>(value: &str, min: N, max: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = value
        .parse()
        .ok()
        .filter(|number| (&min..=&max).contains(&number));
    number.ok_or_else(|| format!("use a whole number from {min} to {max}"))
}

pub(super) fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("use true or false".to_owned()),
    }
}
