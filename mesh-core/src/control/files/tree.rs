//! Text to values that know where they stand. JSON is read as the part of YAML that it is.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::error::{Fault, Position};

/// Levels of lists and maps within each other.
const MAX_DEPTH: usize = 160;
/// Values that one file may have; what an alias stands for counts each time.
const MAX_VALUES: usize = 4 << 20;

/// A value of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// What it is, by the core schema of YAML 1.2.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map; always text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) at: Position,
    pub(super) text: String,
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    values: usize,
}

/// The documents in `text`.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Fault> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        values: 0,
    };
    let mut documents = Vec::new();
    loop {
        match builder.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                let first = builder.next()?;
                documents.push(builder.node(first, MAX_DEPTH)?);
                builder.anchors.clear();
            }
            _ => {}
        }
    }
}

// === impl Node ===

impl Node {
    /// The entry `key` of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => {
                let entry = entries.iter().find(|(known, _)| known.text == key);
                entry.map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// How many values it has, itself included.
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
            _ => 0,
        }
    }
}

// === impl Builder ===

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = Position::of(*error.marker());
                Err(Fault::new(error.info()).at(at))
            }
            None => Err(Fault::new("ends too early")),
        }
    }

    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Node, Fault> {
        let at = Position::of(span.start);
        if depth == 0 {
            let problem = format!("more than {MAX_DEPTH} levels within each other");
            return Err(Fault::new(problem).at(at));
        }
        self.count(1, at)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref();
                let value = scalar(&text, style, tag).map_err(|fault| fault.at(at))?;
                (value, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                untagged(tag.as_deref(), "seq").map_err(|fault| fault.at(at))?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                untagged(tag.as_deref(), "map").map_err(|fault| fault.at(at))?;
                (self.map(depth)?, anchor)
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                // One that is not finished yet would hold itself.
                let node = known.ok_or_else(|| Fault::new("an alias of nothing").at(at))?;
                self.count(node.size(), at)?;
                return Ok(node);
            }
            _ => return Err(Fault::new("a value is missing").at(at)),
        };
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                item => items.push(self.node(item, depth - 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            let at = Position::of(span.start);
            let text = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Fault::new("a key must be text").at(at)),
            };
            if !seen.insert(text.clone()) {
                return Err(Fault::new(format!("{text:?} is there twice")).at(at));
            }
            let value = self.next()?;
            let node = self.node(value, depth - 1)?;
            entries.push((Key { at, text }, node));
        }
    }

    fn count(&mut self, more: usize, at: Position) -> Result<(), Fault> {
        self.values += more;
        match self.values {
            ..=MAX_VALUES => Ok(()),
            _ => Err(Fault::new(format!("more than {MAX_VALUES} values")).at(at)),
        }
    }
}

fn untagged(tag: Option<&Tag>, expected: &str) -> Result<(), Fault> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => {
            Err(Fault::new(format!("the tag {tag} is not supported")))
        }
        _ => Ok(()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Fault> {
    if tag.is_some() || style != ScalarStyle::Plain {
        untagged(tag, "str")?;
        return Ok(Value::Text(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    })
}

fn number(text: &str) -> Option<Value> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().map(Value::Unsigned);
        }
    }
    if let Ok(integer) = text.parse() {
        return Some(Value::Integer(integer));
    }
    if let Ok(unsigned) = text.parse() {
        return Some(Value::Unsigned(unsigned));
    }
    match text.strip_prefix(['+', '-']).unwrap_or(text) {
        ".inf" | ".Inf" | ".INF" => {
            let infinite = f64::INFINITY;
            return Some(Value::Float(if text.starts_with('-') {
                -infinite
            } else {
                infinite
            }));
        }
        // Rust knows other names for what is no number.
        digits if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => return None,
        _ => {}
    }
    match text {
        ".nan" | ".NaN" | ".NAN" => Some(Value::Float(f64::NAN)),
        _ => text.parse().ok().map(Value::Float),
    }
}
