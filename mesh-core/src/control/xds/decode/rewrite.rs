//! How routes change paths and authorities, under HTTP semantics (Envoy).

use envoy_types::pb::envoy::{
    config::route::v3::route_action::HostRewriteSpecifier,
    r#type::matcher::v3::RegexMatchAndSubstitute,
};
use http::{HeaderName, HeaderValue, uri::Authority};

use super::{
    Context, FieldError, ResultExt,
    bounds::quote,
    fields::{Field, Message},
    matcher::{REGEX_MATCHER, safe_regex},
};
use crate::config::{HostRewrite, PathRewrite, RegexRewrite};

/// What becomes of a path: an empty prefix is none.
pub(super) fn path(
    prefix_rewrite: String,
    regex_rewrite: Option<RegexMatchAndSubstitute>,
    cx: &mut Context<'_>,
) -> Result<Option<PathRewrite>, FieldError> {
    match (prefix_rewrite.is_empty(), regex_rewrite) {
        (true, None) => Ok(None),
        (false, None) => {
            visible(&prefix_rewrite).field("prefix_rewrite")?;
            Ok(Some(PathRewrite::Prefix(prefix_rewrite)))
        }
        (true, Some(wire)) => {
            let rewrite = cx.field("regex_rewrite", |cx| regex(wire, cx))?;
            Ok(Some(PathRewrite::Regex(rewrite)))
        }
        (false, Some(_)) => {
            let problem = "only one of prefix_rewrite and regex_rewrite may be set";
            Err(FieldError::new(problem).field("regex_rewrite"))
        }
    }
}

/// What becomes of an authority: an empty one is left as it is.
pub(super) fn host(
    wire: HostRewriteSpecifier,
    cx: &mut Context<'_>,
) -> Result<Option<HostRewrite>, FieldError> {
    match wire {
        HostRewriteSpecifier::HostRewriteLiteral(wire) => {
            Ok(literal(&wire)?.map(HostRewrite::Literal))
        }
        HostRewriteSpecifier::AutoHostRewrite(wanted) if wanted.value => {
            Ok(Some(HostRewrite::Endpoint))
        }
        HostRewriteSpecifier::HostRewriteHeader(name) if name.starts_with(':') => {
            cx.ignored("host_rewrite_header", "no pseudo-header is read for it");
            Ok(None)
        }
        HostRewriteSpecifier::HostRewriteHeader(name) if !name.is_empty() => {
            let name = header_name(&name).field("host_rewrite_header")?;
            Ok(Some(HostRewrite::Header(name)))
        }
        HostRewriteSpecifier::HostRewritePathRegex(wire) => {
            let rewrite = cx.field("host_rewrite_path_regex", |cx| regex(wire, cx))?;
            Ok(Some(HostRewrite::PathRegex(rewrite)))
        }
        // `host_rewrite` is reported by the table.
        HostRewriteSpecifier::HostRewrite(_)
        | HostRewriteSpecifier::HostRewriteHeader(_)
        | HostRewriteSpecifier::AutoHostRewrite(_) => Ok(None),
    }
}

/// A `host_rewrite_literal`: an empty one is none.
pub(super) fn literal(wire: &str) -> Result<Option<HeaderValue>, FieldError> {
    match wire.is_empty() {
        true => Ok(None),
        false => authority(wire).field("host_rewrite_literal").map(Some),
    }
}

/// A replacement by expression. Envoy finds out at the first request whether the substitution fits
/// the expression; here it is refused.
pub(super) fn regex(
    wire: RegexMatchAndSubstitute,
    cx: &mut Context<'_>,
) -> Result<RegexRewrite, FieldError> {
    let RegexMatchAndSubstitute {
        pattern,
        substitution,
    } = wire;
    let pattern = match pattern {
        Some(wire) => cx.field("pattern", |cx| safe_regex(&wire, cx))?,
        None => return Err(FieldError::new("must be set").field("pattern")),
    };
    check_substitution(&substitution, pattern.groups()).field("substitution")?;
    Ok(RegexRewrite {
        pattern,
        substitution,
    })
}

/// A backslash is followed by a group of the expression or by another one (RE2).
fn check_substitution(text: &str, groups: usize) -> Result<(), FieldError> {
    visible(text)?;
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            continue;
        }
        match rest.next().map(|next| (next, next.to_digit(10))) {
            Some(('\\', _)) => {}
            Some((_, Some(group))) if group as usize <= groups => {}
            Some((_, Some(group))) => {
                return Err(FieldError::new(format!(
                    "refers to group {group}: the last one of the expression is {groups}"
                )));
            }
            _ => {
                let problem = "a backslash must be followed by a digit or by another one";
                return Err(FieldError::new(problem));
            }
        }
    }
    Ok(())
}

/// An authority that a request can have.
pub(super) fn authority(text: &str) -> Result<HeaderValue, FieldError> {
    let invalid = || FieldError::new(format!("{:?} is not an authority", quote(text)));
    match Authority::try_from(text) {
        Ok(authority) if !authority.as_str().contains('@') => {
            HeaderValue::from_str(text).map_err(|_| invalid())
        }
        _ => Err(invalid()),
    }
}

/// A header's name, in lower case.
pub(super) fn header_name(name: &str) -> Result<HeaderName, FieldError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| FieldError::new(format!("{:?} is not a header's name", quote(name))))
}

/// Text that may stand in a header: without control characters.
pub(super) fn visible(text: &str) -> Result<(), FieldError> {
    match HeaderValue::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => Err(FieldError::new(format!(
            "{:?} has a control character, which no header may have",
            quote(text)
        ))),
    }
}

pub(super) static REGEX_REWRITE: Message = Message {
    name: "envoy.type.matcher.v3.RegexMatchAndSubstitute",
    fields: &[
        Field::message(1, "pattern", &REGEX_MATCHER),
        Field::enforced(2, "substitution"),
    ],
};

#[cfg(test)]
mod tests;
