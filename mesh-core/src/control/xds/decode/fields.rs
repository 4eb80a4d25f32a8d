//! Tables of the fields that a decoder knows, and the walk that reports all others.

use std::collections::{HashMap, HashSet};

use super::{
    FieldError,
    bounds::{
        MAX_DEPTH, MAX_FIELDS, MAX_FINDINGS, MAX_FINDINGS_PER_FIELD, MAX_HTTP_ONLY_FINDINGS, quote,
    },
    extension,
    wire::{self, Reader, Value},
};
use crate::config::{Finding, Treatment};

/// The fields of one protobuf message, as a decoder treats them.
#[derive(Debug)]
pub struct Message {
    /// Its full name, such as `envoy.config.route.v3.Route`.
    pub name: &'static str,
    /// Fields that the decoder knows. One that is set and not listed is ignored, and reported.
    pub fields: &'static [Field],
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// What becomes of it when it is set.
    pub treat: Treat,
    /// What gRPC semantics do instead, where HTTP semantics alone put it in force.
    pub http_only: Option<&'static str>,
}

/// What becomes of a field that is set.
#[derive(Debug)]
pub enum Treat {
    /// In force, or its decoder rejects what it does not accept.
    Enforced,
    /// In force in another way; says how.
    Approximated(&'static str),
    /// Without effect; says why.
    Ignored(&'static str),
    /// A message with a table of its own; for a `google.protobuf.Any`, [`ANY`].
    Message(&'static Message),
    /// Messages with a table of their own.
    Repeated(&'static Message),
    /// A `map` whose values are messages with a table of their own.
    Map(&'static Message),
    /// Without effect here, and leaving it out would let through what it forbids: the resource is
    /// rejected. Says what it would restrict.
    Restricts(&'static str),
}

/// The table of a `google.protobuf.Any`: what it holds is walked with the table of its type, and
/// reported as ignored if there is none.
pub static ANY: Message = Message {
    name: "google.protobuf.Any",
    fields: &[],
};

/// The number of [`Field::others_restrict`]: no field has it.
const OTHERS: u32 = 0;

/// Knows the messages that an `Any` may hold.
pub(super) trait Extensions {
    /// The table of the message called `name`.
    fn message(&self, name: &str) -> Option<&'static Message>;

    /// Whether a `TypedStruct` called `name` is read by its decoder, which checks it whole.
    fn structure(&self, name: &str) -> bool;
}

/// Collects findings up to a limit, and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Findings {
    listed: Vec<Finding>,
    /// How many of them tell of what is in force under HTTP semantics.
    http_only: usize,
    left_out: usize,
    per_field: HashMap<(&'static str, u32), usize>,
}

/// Reports what `message`, an encoded `table`, sets and does not put in force. Says how many fields
/// were looked at.
///
/// # Errors
/// If the bytes are malformed, a limit is passed, or a field that restricts something is set.
pub(super) fn walk(
    table: &'static Message,
    message: &[u8],
    extensions: &dyn Extensions,
    findings: &mut Findings,
) -> Result<usize, FieldError> {
    walk_inside(0, table, message, extensions, findings)
}

/// As [`walk`], for a message so many levels inside the resource. Paths begin at the message.
pub(super) fn walk_inside(
    levels: usize,
    table: &'static Message,
    message: &[u8],
    extensions: &dyn Extensions,
    findings: &mut Findings,
) -> Result<usize, FieldError> {
    let mut walk = Walk {
        extensions,
        findings,
        path: vec![Step::Held; levels],
        fields: 0,
    };
    walk.message(table, message)?;
    Ok(walk.fields)
}

struct Walk<'a, 'f> {
    extensions: &'f dyn Extensions,
    findings: &'f mut Findings,
    path: Vec<Step<'a>>,
    fields: usize,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Field(&'static str),
    Index(&'static str, usize),
    Key(&'static str, &'a str),
    /// What an `Any` holds: a level, and nothing in the path.
    Held,
}

/// How often each repeated field of one message has occurred.
#[derive(Default)]
struct Counts(Vec<(u32, usize)>);

// === impl Field ===

impl Field {
    /// A field with a treatment.
    pub const fn new(number: u32, name: &'static str, treat: Treat) -> Self {
        Self {
            number,
            name,
            treat,
            http_only: None,
        }
    }

    /// As it is, under HTTP semantics alone: see [`Treatment::HttpOnly`]. `under_grpc` says what
    /// becomes of it under gRPC's.
    #[must_use]
    pub const fn http_only(mut self, under_grpc: &'static str) -> Self {
        self.http_only = Some(under_grpc);
        self
    }

    /// See [`Treat::Enforced`].
    pub const fn enforced(number: u32, name: &'static str) -> Self {
        Self::new(number, name, Treat::Enforced)
    }

    /// See [`Treat::Approximated`].
    pub const fn approximated(number: u32, name: &'static str, how: &'static str) -> Self {
        Self::new(number, name, Treat::Approximated(how))
    }

    /// See [`Treat::Ignored`].
    pub const fn ignored(number: u32, name: &'static str, why: &'static str) -> Self {
        Self::new(number, name, Treat::Ignored(why))
    }

    /// What becomes of all fields that the table does not list, in a message where a field that is
    /// left out lets through what it forbids: the resource is rejected.
    pub const fn others_restrict(what: &'static str) -> Self {
        Self::new(OTHERS, "", Treat::Restricts(what))
    }

    /// See [`Treat::Message`].
    pub const fn message(number: u32, name: &'static str, table: &'static Message) -> Self {
        Self::new(number, name, Treat::Message(table))
    }

    /// See [`Treat::Repeated`].
    pub const fn repeated(number: u32, name: &'static str, table: &'static Message) -> Self {
        Self::new(number, name, Treat::Repeated(table))
    }

    /// See [`Treat::Map`].
    pub const fn map(number: u32, name: &'static str, table: &'static Message) -> Self {
        Self::new(number, name, Treat::Map(table))
    }

    /// See [`Treat::Restricts`].
    pub const fn restricts(number: u32, name: &'static str, what: &'static str) -> Self {
        Self::new(number, name, Treat::Restricts(what))
    }
}

// === impl Findings ===

impl Findings {
    /// Adds what a table cannot say, such as a field that another one overrides. Takes the place
    /// of what a table said of the same field.
    pub(super) fn note(&mut self, path: impl Into<String>, treatment: Treatment, note: String) {
        let path = path.into();
        match self.listed.iter_mut().find(|listed| listed.path == path) {
            Some(listed) => {
                listed.treatment = treatment;
                listed.note = note;
            }
            None => self.push(path, treatment, note),
        }
    }

    /// How many there are, with those that are left out.
    pub(super) fn count(&self) -> usize {
        self.listed.len() + self.left_out
    }

    /// All that were listed, and a last one if any were left out.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        if self.left_out > 0 {
            self.listed.push(Finding {
                path: String::new(),
                treatment: Treatment::Ignored,
                note: format!(
                    "{} more findings are left out: {MAX_FINDINGS} are listed, \
                     {MAX_FINDINGS_PER_FIELD} of each field",
                    self.left_out
                ),
            });
        }
        self.listed
    }

    fn push(&mut self, path: String, treatment: Treatment, note: String) {
        let http_only = treatment == Treatment::HttpOnly;
        if self.listed.len() >= MAX_FINDINGS
            || http_only && self.http_only >= MAX_HTTP_ONLY_FINDINGS
        {
            self.left_out += 1;
            return;
        }
        self.http_only += usize::from(http_only);
        self.listed.push(Finding {
            path,
            treatment,
            note,
        });
    }

    /// Whether there is room for one more about this field; counts it as left out if not.
    fn admit(&mut self, table: &'static Message, number: u32) -> bool {
        let count = match self.per_field.get_mut(&(table.name, number)) {
            Some(count) => count,
            // Each entry has led to a listed finding, but for those after the last one.
            None if self.listed.len() >= MAX_FINDINGS => {
                self.left_out += 1;
                return false;
            }
            None => self.per_field.entry((table.name, number)).or_insert(0),
        };
        *count += 1;
        if *count > MAX_FINDINGS_PER_FIELD || self.listed.len() >= MAX_FINDINGS {
            self.left_out += 1;
            return false;
        }
        true
    }
}

// === impl Walk ===

impl<'a> Walk<'a, '_> {
    fn message(&mut self, table: &'static Message, bytes: &'a [u8]) -> Result<(), FieldError> {
        if self.path.len() >= MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if table.name == ANY.name {
            return self.any(bytes);
        }
        // A field is reported once, however often it is repeated.
        let mut reported = HashSet::new();
        let mut counts = Counts::default();
        for field in Reader::new(bytes) {
            let (number, value) = field.map_err(|error| self.error(error.to_string()))?;
            self.fields += 1;
            if self.fields > MAX_FIELDS {
                return Err(FieldError::new(format!(
                    "the resource has more than {MAX_FIELDS} fields"
                )));
            }
            let Some(field) = table.fields.iter().find(|field| field.number == number) else {
                if let Some(others) = table.fields.iter().find(|field| field.number == OTHERS)
                    && let Treat::Restricts(what) = others.treat
                {
                    let problem = format!("not known to this version, and may restrict {what}");
                    let error = FieldError::new(problem).field(&format!("#{number}"));
                    return Err(self.place(error));
                }
                if reported.insert(number) && self.findings.admit(table, number) {
                    let path = self.path_of(|error| error.field(&format!("#{number}")));
                    let note = "not known to this version".to_owned();
                    self.findings.push(path, Treatment::Ignored, note);
                }
                continue;
            };
            if let Some(under_grpc) = field.http_only {
                self.report(table, field, Treatment::HttpOnly, under_grpc, &mut reported);
            }
            let (treatment, note) = match &field.treat {
                Treat::Enforced => continue,
                Treat::Approximated(how) => (Treatment::Approximated, how),
                Treat::Ignored(why) => (Treatment::Ignored, why),
                Treat::Message(inner) => {
                    self.step(Step::Field(field.name), inner, value)?;
                    continue;
                }
                Treat::Repeated(inner) => {
                    let index = counts.next(number);
                    self.step(Step::Index(field.name, index), inner, value)?;
                    continue;
                }
                Treat::Map(inner) => {
                    self.entry(field.name, inner, value)?;
                    continue;
                }
                Treat::Restricts(what) => {
                    let problem = format!("not supported, and it restricts {what}");
                    return Err(self.place(FieldError::new(problem).field(field.name)));
                }
            };
            self.report(table, field, treatment, note, &mut reported);
        }
        Ok(())
    }

    /// Lists what becomes of `field`, once per message.
    fn report(
        &mut self,
        table: &'static Message,
        field: &'static Field,
        treatment: Treatment,
        note: &str,
        reported: &mut HashSet<u32>,
    ) {
        if reported.insert(field.number) && self.findings.admit(table, field.number) {
            let path = self.path_of(|error| error.field(field.name));
            self.findings.push(path, treatment, note.to_owned());
        }
    }

    fn step(
        &mut self,
        step: Step<'a>,
        table: &'static Message,
        value: Value<'a>,
    ) -> Result<(), FieldError> {
        self.path.push(step);
        let Value::Bytes(bytes) = value else {
            return Err(self.error("malformed protobuf: a number where a message belongs"));
        };
        self.message(table, bytes)?;
        self.path.pop();
        Ok(())
    }

    /// An entry of a map: a message of key (1) and value (2).
    fn entry(
        &mut self,
        name: &'static str,
        table: &'static Message,
        entry: Value<'a>,
    ) -> Result<(), FieldError> {
        let Value::Bytes(entry) = entry else {
            return self.step(Step::Field(name), table, entry);
        };
        let key = wire::string(entry, 1).unwrap_or_default();
        for field in Reader::new(entry) {
            match field.map_err(|error| self.error(error.to_string()))? {
                (2, value) => self.step(Step::Key(name, key), table, value)?,
                _ => self.fields += 1,
            }
        }
        Ok(())
    }

    /// What an `Any` (type URL 1, value 2) holds.
    fn any(&mut self, bytes: &'a [u8]) -> Result<(), FieldError> {
        let mut held: &[u8] = &[];
        for field in Reader::new(bytes) {
            if let (2, Value::Bytes(value)) =
                field.map_err(|error| self.error(error.to_string()))?
            {
                held = value;
            }
        }
        let name = extension::type_name(wire::string(bytes, 1).unwrap_or_default());
        if let Some(table) = self.extensions.message(name) {
            self.path.push(Step::Held);
            self.message(table, held)?;
            self.path.pop();
            return Ok(());
        }
        let (name, known) = match extension::is_typed_struct(name) {
            true => {
                let name = extension::type_name(wire::string(held, 1).unwrap_or_default());
                (name, self.extensions.structure(name))
            }
            false => (name, false),
        };
        if !known && self.findings.admit(&ANY, 0) {
            let path = self.path_of(|error| error);
            let note = format!("extension {:?} is not known here", quote(name));
            self.findings.push(path, Treatment::Ignored, note);
        }
        Ok(())
    }

    fn error(&self, problem: impl Into<String>) -> FieldError {
        self.place(FieldError::new(problem))
    }

    /// The path to here, with a last step of the caller's.
    fn path_of(&self, last: impl FnOnce(FieldError) -> FieldError) -> String {
        self.place(last(FieldError::new(""))).into_parts().0
    }

    fn place(&self, error: FieldError) -> FieldError {
        self.path
            .iter()
            .rev()
            .fold(error, |error, step| match *step {
                Step::Field(name) => error.field(name),
                Step::Index(name, index) => error.index(name, index),
                Step::Key(name, key) => error.key(name, &quote(key)),
                Step::Held => error,
            })
    }
}

// === impl Counts ===

impl Counts {
    fn next(&mut self, number: u32) -> usize {
        match self.0.iter_mut().find(|(at, _)| *at == number) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.0.push((number, 0));
                0
            }
        }
    }
}

#[cfg(test)]
mod tests;
