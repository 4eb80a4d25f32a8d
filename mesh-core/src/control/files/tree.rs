//! Text to values that know where they stand. JSON is read as the part of YAML that it is.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::error::{Fault, Position};

/// Levels of lists and maps within each other.
const MAX_DEPTH: usize = 160;
/// Values that one file may have; what an alias stands for counts each time. So does text, as one for
/// so many bytes.
const MAX_VALUES: usize = 4 << 20;
const TEXT: usize = 32;

/// A value of a file. A clone shares what is in it: many may stand for the same (anchors).
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
    Text(Arc<str>),
    List(Arc<[Node]>),
    Map(Arc<[(Key, Node)]>),
}

/// A key of a map; always text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) at: Position,
    pub(super) text: String,
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, (Node, Extent)>,
    values: usize,
}

/// How much there is in a value, itself included.
#[derive(Debug, Clone, Copy)]
struct Extent {
    values: usize,
    levels: usize,
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
                documents.push(builder.node(first, MAX_DEPTH)?.0);
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
}

// === impl Extent ===

impl Extent {
    /// Of what has nothing in it yet.
    const ONE: Self = Self {
        values: 1,
        levels: 1,
    };

    fn of_text(text: &str) -> Self {
        Self {
            values: 1 + text.len() / TEXT,
            levels: 1,
        }
    }

    /// There is `inner` in it, too.
    fn add(&mut self, inner: Self) {
        self.values += inner.values;
        self.levels = self.levels.max(1 + inner.levels);
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

    /// A value that may have `depth` levels.
    fn node(
        &mut self,
        (event, span): (Event<'a>, Span),
        depth: usize,
    ) -> Result<(Node, Extent), Fault> {
        let at = Position::of(span.start);
        let too_deep = || {
            let problem = format!("more than {MAX_DEPTH} levels within each other");
            Fault::new(problem).at(at)
        };
        if depth == 0 {
            return Err(too_deep());
        }
        let (value, extent, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref();
                let value = scalar(&text, style, tag).map_err(|fault| fault.at(at))?;
                let extent = Extent::of_text(&text);
                self.count(extent.values, at)?;
                (value, extent, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                untagged(tag.as_deref(), "seq").map_err(|fault| fault.at(at))?;
                self.count(1, at)?;
                let (value, extent) = self.list(depth)?;
                (value, extent, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                untagged(tag.as_deref(), "map").map_err(|fault| fault.at(at))?;
                self.count(1, at)?;
                let (value, extent) = self.map(depth)?;
                (value, extent, anchor)
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                // One that is not finished yet would hold itself.
                let (node, extent) =
                    known.ok_or_else(|| Fault::new("an alias of nothing").at(at))?;
                if extent.levels > depth {
                    return Err(too_deep());
                }
                self.count(extent.values, at)?;
                return Ok((node, extent));
            }
            _ => return Err(Fault::new("a value is missing").at(at)),
        };
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), extent));
        }
        Ok((node, extent))
    }

    fn list(&mut self, depth: usize) -> Result<(Value, Extent), Fault> {
        let (mut items, mut extent) = (Vec::new(), Extent::ONE);
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok((Value::List(items.into()), extent)),
                item => {
                    let (item, inner) = self.node(item, depth - 1)?;
                    extent.add(inner);
                    items.push(item);
                }
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<(Value, Extent), Fault> {
        let (mut entries, mut extent) = (Vec::new(), Extent::ONE);
        let mut seen = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            let at = Position::of(span.start);
            let text = match event {
                Event::MappingEnd => return Ok((Value::Map(entries.into()), extent)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Fault::new("a key must be text").at(at)),
            };
            if !seen.insert(text.clone()) {
                return Err(Fault::new(format!("{text:?} is there twice")).at(at));
            }
            let key = Extent::of_text(&text).values - 1;
            self.count(key, at)?;
            extent.values += key;
            let value = self.next()?;
            let (node, inner) = self.node(value, depth - 1)?;
            extent.add(inner);
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
        return Ok(Value::Text(text.into()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::Text(text.into())),
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

/// `camelCase` and `snake_case` name the same field.
pub(super) fn same(key: &str, name: &str) -> bool {
    let letters = |text: &str| -> Vec<u8> {
        let bytes = text.bytes().filter(|&byte| byte != b'_');
        bytes.map(|byte| byte.to_ascii_lowercase()).collect()
    };
    key == name || letters(key) == letters(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse(text).expect_err("it is refused").problem
    }

    #[test]
    fn what_anchors_stand_for_is_shared() {
        let documents = parse("[&a [1, 2], *a, &b {c: *a}, *b]").unwrap();
        let Value::List(items) = &documents[0].value else {
            panic!("{documents:?}")
        };
        let (Value::List(first), Value::List(second)) = (&items[0].value, &items[1].value) else {
            panic!("{items:?}")
        };
        assert!(Arc::ptr_eq(first, second));
        let (Value::Map(first), Value::Map(second)) = (&items[2].value, &items[3].value) else {
            panic!("{items:?}")
        };
        assert!(Arc::ptr_eq(first, second));
    }

    /// Each one is ten of the one before.
    #[test]
    fn aliases_count_as_what_they_stand_for() {
        let mut text = "- &a0 [1]\n".to_owned();
        for level in 1..10 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("- &a{level} [{before}]\n");
        }
        assert_eq!(problem(&text), format!("more than {MAX_VALUES} values"));
        // Long text, too.
        let long = "x".repeat(1 << 20);
        let text = format!("- &a {long}\n- [{}]\n", "*a, ".repeat(200));
        assert_eq!(problem(&text), format!("more than {MAX_VALUES} values"));
    }

    /// Each one is a hundred levels above the one before.
    #[test]
    fn aliases_are_as_deep_as_what_they_stand_for() {
        let within = |inner: &str, levels| "[".repeat(levels) + inner + &"]".repeat(levels);
        let text = |levels| format!("- &a {}\n- {}\n", within("1", 100), within("*a", levels));
        parse(&text(50)).expect("as deep as is allowed");
        let expected = format!("more than {MAX_DEPTH} levels within each other");
        assert_eq!(problem(&text(60)), expected);
        let mut text = format!("- &a0 {}\n", within("1", 100));
        for level in 1..300 {
            let before = format!("*a{}", level - 1);
            text += &format!("- &a{level} {}\n", within(&before, 100));
        }
        assert_eq!(problem(&text), expected);
    }
}
