use regex::bytes::{Captures, Regex as Compiled, RegexBuilder, Replacer};

use crate::config::{Regex, RegexRewrite};

/// A replacement by expression, compiled: RE2's `GlobalReplace`.
#[derive(Debug)]
pub(super) struct Substitution {
    pattern: Compiled,
    by: Box<[Piece]>,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

// === impl Substitution ===

impl Substitution {
    /// `None`: the expression is beyond the limits, within which its decoder compiled it.
    pub(super) fn compile(rewrite: &RegexRewrite) -> Option<Self> {
        let build = |unicode| {
            RegexBuilder::new(rewrite.pattern.as_str())
                .unicode(unicode)
                .size_limit(Regex::SIZE_LIMIT)
                .dfa_size_limit(Regex::SIZE_LIMIT)
                .nest_limit(Regex::NEST_LIMIT)
                .build()
        };
        Some(Self {
            pattern: build(false).or_else(|_| build(true)).ok()?,
            by: pieces(&rewrite.substitution),
        })
    }

    /// `text` with every match replaced.
    pub(super) fn replace(&self, text: &str) -> Vec<u8> {
        self.pattern.replace_all(text.as_bytes(), self).into_owned()
    }
}

/// A backslash before a digit is a group, before another backslash is one, and before anything
/// else itself: its decoder has refused that.
fn pieces(substitution: &str) -> Box<[Piece]> {
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut rest = substitution.chars();
    while let Some(next) = rest.next() {
        let escaped = match next {
            '\\' => rest.next(),
            _ => None,
        };
        match escaped.and_then(|digit| Some((digit, digit.to_digit(10)? as usize))) {
            Some((_, group)) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Group(group));
            }
            None => {
                text.push(next);
                text.extend(escaped.filter(|other| *other != '\\'));
            }
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces.into()
}

impl Replacer for &Substitution {
    fn replace_append(&mut self, groups: &Captures<'_>, out: &mut Vec<u8>) {
        for piece in &self.by {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                // One that took no part in the match is empty.
                Piece::Group(number) => {
                    out.extend_from_slice(
                        groups.get(*number).map_or(b"", |group| group.as_bytes()),
                    );
                }
            }
        }
    }
}
