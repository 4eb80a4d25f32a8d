//! Regular expressions in the syntax of RE2, which is what control planes write.

use std::fmt;

use regex_syntax::ast::{Ast, Flag, FlagsItemKind, GroupKind, RepetitionKind, RepetitionRange};
use regex_syntax::ast::{Flags, parse::ParserBuilder};

use super::{Context, FieldError, bounds::quote, limits::Limit};
use crate::config::Regex;

/// The largest count of a repetition, also of nested ones multiplied: the limit of RE2.
const MAX_REPEAT: usize = 1_000;

/// What an expression costs whatever it says.
const BASE_SIZE: usize = 64;

/// What a class costs that is compiled with Unicode tables.
const UNICODE_CLASS_SIZE: usize = 256;

/// Compiles an expression, and counts its size against that of the whole resource.
pub(super) fn regex(source: &str, cx: &mut Context<'_>) -> Result<Regex, FieldError> {
    let ast = ParserBuilder::new()
        .nest_limit(Regex::NEST_LIMIT)
        .build()
        .parse(source)
        .map_err(|error| invalid(source, error.kind()))?;
    let unicode = !source.is_ascii() || source.contains(r"\p") || source.contains(r"\P");
    let class = if unicode { UNICODE_CLASS_SIZE } else { 1 };
    let size = size(&ast, 1, class).map_err(|problem| invalid(source, problem))?;
    cx.count(Limit::RegexSize, BASE_SIZE.saturating_add(size))?;
    Regex::new(source).map_err(|error| FieldError::new(error.to_string()))
}

fn invalid(source: &str, problem: impl fmt::Display) -> FieldError {
    let source = quote(source);
    FieldError::new(format!("invalid regular expression {source:?}: {problem}"))
}

/// Characters to match in `ast` with its repetitions written out, inside `repeat` repetitions.
///
/// The depth of the recursion is bounded by the parser's nest limit.
fn size(ast: &Ast, repeat: usize, class: usize) -> Result<usize, String> {
    let all = |asts: &[Ast]| {
        asts.iter().try_fold(0usize, |sum, ast| {
            Ok(sum.saturating_add(size(ast, repeat, class)?))
        })
    };
    match ast {
        Ast::Empty(_) | Ast::Assertion(_) => Ok(0),
        Ast::Flags(set) => check_flags(&set.flags).map(|()| 0),
        Ast::Literal(_) => Ok(repeat),
        Ast::Dot(_) | Ast::ClassPerl(_) | Ast::ClassUnicode(_) => Ok(repeat * class),
        Ast::ClassBracketed(bracketed) => {
            let written = bracketed.span.end.offset - bracketed.span.start.offset;
            Ok(repeat.saturating_mul(class.saturating_add(written)))
        }
        Ast::Repetition(repetition) => {
            let count = match repetition.op.kind {
                RepetitionKind::Range(
                    RepetitionRange::Exactly(most)
                    | RepetitionRange::AtLeast(most)
                    | RepetitionRange::Bounded(_, most),
                ) => usize::try_from(most).unwrap_or(usize::MAX).max(1),
                RepetitionKind::ZeroOrOne
                | RepetitionKind::ZeroOrMore
                | RepetitionKind::OneOrMore => 1,
            };
            let repeat = repeat.saturating_mul(count);
            if repeat > MAX_REPEAT {
                return Err(format!(
                    "repetition counts, nested ones multiplied, may not pass {MAX_REPEAT}"
                ));
            }
            size(&repetition.ast, repeat, class)
        }
        Ast::Group(group) => {
            if let GroupKind::NonCapturing(flags) = &group.kind {
                check_flags(flags)?;
            }
            size(&group.ast, repeat, class)
        }
        Ast::Alternation(alternation) => all(&alternation.asts),
        Ast::Concat(concat) => all(&concat.asts),
    }
}

/// RE2 knows `i`, `m`, `s` and `U`. The others would change what the size above says.
fn check_flags(flags: &Flags) -> Result<(), String> {
    for item in &flags.items {
        match item.kind {
            FlagsItemKind::Flag(Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace) => {
                return Err("only the flags i, m, s and U of RE2 are accepted".to_owned());
            }
            FlagsItemKind::Flag(_) | FlagsItemKind::Negation => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::xds::FilterRegistry;

    fn compile(source: &str) -> Result<Regex, FieldError> {
        regex(source, &mut Context::new(&FilterRegistry::standard()))
    }

    #[test]
    fn accepts_what_re2_accepts() {
        for source in [
            "",
            "/service/.*",
            "(?i)a{1000}",
            "(a{10}){100}",
            "(?:a|b)+?",
            r"\pL{20}",
            "[[:alpha:]]*",
            "é{3}",
        ] {
            assert!(compile(source).is_ok(), "{source}");
        }
        assert!(compile("a{2}").unwrap().is_match(b"aa"));
    }

    #[test]
    fn refuses_with_a_reason_on_one_line() {
        for (source, problem) in [
            ("(", "unclosed group"),
            ("a)(b", "unopened group"),
            ("*", "missing expression"),
            ("a{1001}", "may not pass 1000"),
            ("a{1001,}", "may not pass 1000"),
            ("((a{11}){10}){10}", "may not pass 1000"),
            (r"(?u)\w", "flags"),
            ("(?x:a)", "flags"),
            (r"(\pL{500}){2}", "size limit"),
            (r"\1", "backreferences"),
        ] {
            let error = compile(source).unwrap_err();
            assert!(error.problem().contains(problem), "{source}: {error}");
            assert!(!error.problem().contains('\n'), "{source}: {error}");
        }
        let deep = "(".repeat(100) + &")".repeat(100);
        assert!(compile(&deep).unwrap_err().problem().contains("nest"));
    }

    #[test]
    fn all_expressions_of_a_resource_count() {
        let filters = FilterRegistry::standard();
        let mut cx = Context::new(&filters);
        cx.count(
            Limit::RegexSize,
            Limit::RegexSize.most() - 2 * BASE_SIZE - 5,
        )
        .unwrap();
        regex("a{2}", &mut cx).unwrap();
        regex("abc", &mut cx).unwrap();
        let error = regex("", &mut cx).unwrap_err();
        let limit = "the limit of total size of regular expressions is 1000000";
        assert!(error.problem().contains(limit), "{error}");
    }
}
