//! A walk over JSON that knows where it is.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde_json::{Map, Value};

use super::error::Fault;

/// A value and the path to it.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Field<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self {
            value,
            path: String::new(),
        }
    }

    /// What is wrong with this value.
    pub(super) fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault::new(self.path.as_str(), problem).with_value(self.value)
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn bool(&self) -> Result<bool, Fault> {
        self.value
            .as_bool()
            .ok_or_else(|| self.fault("must be true or false"))
    }

    pub(super) fn str(&self) -> Result<&'a str, Fault> {
        self.value
            .as_str()
            .ok_or_else(|| self.fault("must be a string"))
    }

    /// The path of a file, which may not be empty: a template that was filled with nothing must
    /// not turn a setting off.
    pub(super) fn file(&self) -> Result<PathBuf, Fault> {
        match self.str()? {
            "" => Err(self.fault("must be the path of a file; remove the field to do without")),
            path => Ok(PathBuf::from(path)),
        }
    }

    /// A positive `google.protobuf.Duration` in its JSON form.
    pub(super) fn duration(&self) -> Result<Duration, Fault> {
        self.value.as_str().and_then(duration).ok_or_else(|| {
            self.fault("must be a positive number of seconds followed by `s`, such as \"600s\"")
        })
    }

    pub(super) fn list(&self) -> Result<Vec<Field<'a>>, Fault> {
        let values = self
            .value
            .as_array()
            .ok_or_else(|| self.fault("must be a list (JSON array)"))?;
        let field = |(index, value)| Field {
            value,
            path: format!("{}[{index}]", self.path),
        };
        Ok(values.iter().enumerate().map(field).collect())
    }

    pub(super) fn map(&self) -> Result<&'a Map<String, Value>, Fault> {
        self.value
            .as_object()
            .ok_or_else(|| self.fault("must be a JSON object"))
    }

    /// The members of an object whose names are free.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Field<'a>)>, Fault> {
        let entry = |(name, value): (&'a String, &'a Value)| {
            let path = member(&self.path, name);
            (name.as_str(), Field { value, path })
        };
        Ok(self.map()?.iter().map(entry).collect())
    }

    /// The members of an object whose names are given.
    pub(super) fn object(&self) -> Result<Object<'a>, Fault> {
        Ok(Object {
            members: self.map()?,
            path: self.path.clone(),
            known: BTreeSet::new(),
        })
    }
}

/// An object that is being read.
#[derive(Debug)]
pub(super) struct Object<'a> {
    members: &'a Map<String, Value>,
    path: String,
    known: BTreeSet<&'static str>,
}

impl<'a> Object<'a> {
    /// The member called `name`, unless there is none or it is `null`.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.insert(name);
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        Some(Field {
            value,
            path: member(&self.path, name),
        })
    }

    /// The member called `name`; `help` says what to write there.
    pub(super) fn require(&mut self, name: &'static str, help: &str) -> Result<Field<'a>, Fault> {
        self.get(name)
            .ok_or_else(|| Fault::new(member(&self.path, name), format!("missing; {help}")))
    }

    /// A file that may be named.
    pub(super) fn file(&mut self, name: &'static str) -> Result<Option<PathBuf>, Fault> {
        self.get(name).map(|field| field.file()).transpose()
    }

    /// A string that defaults to the empty one.
    pub(super) fn string(&mut self, name: &'static str) -> Result<String, Fault> {
        self.get(name)
            .map_or(Ok(String::new()), |field| field.str().map(str::to_owned))
    }

    /// Ends the reading: says which members nobody asked for.
    pub(super) fn finish(self) {
        for name in self.members.keys() {
            if !self.known.contains(name.as_str()) {
                let field = member(&self.path, name);
                tracing::debug!(field, "bootstrap field is not known and is ignored");
            }
        }
    }
}

/// The path of the member called `name` of the object at `path`.
pub(super) fn member(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match (path, plain) {
        ("", true) => name.to_owned(),
        (path, true) => format!("{path}.{name}"),
        (path, false) => format!("{path}[{name:?}]"),
    }
}

fn duration(text: &str) -> Option<Duration> {
    /// The largest that protobuf allows: about 10 000 years.
    const MAX_SECONDS: u64 = 315_576_000_000;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());

    let number = text.strip_suffix('s')?;
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds = seconds.parse().ok().filter(|&n| n <= MAX_SECONDS)?;
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds, nanos)).filter(|duration| !duration.is_zero())
}
