use bytes::Bytes;
use http::uri::PathAndQuery;

use super::substitute::Substitution;
use crate::config::{PathMatcher, PathRewrite};

/// What becomes of a path, compiled for the path that its route matches.
#[derive(Debug)]
pub(super) enum PathEdit {
    Prefix {
        /// What is replaced at the path's beginning; `None`: all of it.
        matched: Option<Box<str>>,
        by: Box<str>,
    },
    Regex(Substitution),
}

// === impl PathEdit ===

impl PathEdit {
    /// `None`: the path stays.
    pub(super) fn compile(rewrite: &PathRewrite, matcher: &PathMatcher) -> Option<Self> {
        let by = match rewrite {
            // Nothing in place of a prefix is no rewrite to Envoy.
            PathRewrite::Prefix(by) if by.is_empty() => return None,
            PathRewrite::Prefix(by) => by,
            PathRewrite::Regex(rewrite) => return Substitution::compile(rewrite).map(Self::Regex),
        };
        let matched = match matcher {
            PathMatcher::Exact { path: matched, .. }
            | PathMatcher::Prefix {
                prefix: matched, ..
            }
            | PathMatcher::Segments {
                prefix: matched, ..
            } => Some(matched.as_str().into()),
            // An expression matches the path whole.
            PathMatcher::Regex(_) => None,
        };
        Some(Self::Prefix {
            matched,
            by: by.as_str().into(),
        })
    }

    /// The path and query that take the place of these. `None`: they stay.
    pub(super) fn rewrite(&self, target: &PathAndQuery) -> Option<PathAndQuery> {
        let mut path = self.path(target.path())?;
        if let Some(query) = target.query() {
            path.push(b'?');
            path.extend_from_slice(query.as_bytes());
        }
        // What no request could have is not sent.
        PathAndQuery::from_maybe_shared(Bytes::from(path)).ok()
    }

    /// What takes the place of this path, without its query: never empty, and with a slash at its
    /// beginning. What comes after a prefix is put behind the new one as it is: it is the
    /// configuration's affair that slashes meet, as Envoy's documentation of `prefix_rewrite` says.
    pub(super) fn path(&self, path: &str) -> Option<Vec<u8>> {
        let mut new = match self {
            Self::Regex(substitution) => substitution.replace(path),
            Self::Prefix { matched: None, by } => by.as_bytes().to_vec(),
            Self::Prefix {
                matched: Some(matched),
                by,
            } => {
                // A case that is ignored does not change the length.
                let (start, rest) = path.split_at_checked(matched.len())?;
                if !start.eq_ignore_ascii_case(matched) {
                    return None;
                }
                [by.as_bytes(), rest.as_bytes()].concat()
            }
        };
        match new.first() {
            None => None,
            Some(b'/') => Some(new),
            Some(_) => {
                new.insert(0, b'/');
                Some(new)
            }
        }
    }
}
