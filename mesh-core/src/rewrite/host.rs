use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, uri::Authority};

use super::{headers::put, substitute::Substitution};
use crate::config::HostRewrite;

const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What becomes of an authority before an endpoint is known, compiled.
#[derive(Debug)]
pub(super) enum HostEdit {
    Literal(Authority),
    Header(HeaderName),
    PathRegex(Substitution),
}

// === impl HostEdit ===

impl HostEdit {
    /// `None`: it stays.
    pub(super) fn compile(rewrite: &HostRewrite) -> Option<Self> {
        match rewrite {
            HostRewrite::Literal(host) => read(host.as_bytes()).map(Self::Literal),
            HostRewrite::Header(name) => Some(Self::Header(name.clone())),
            HostRewrite::PathRegex(rewrite) => Substitution::compile(rewrite).map(Self::PathRegex),
            HostRewrite::Endpoint => None,
        }
    }

    /// The new authority of a request; `None`: the old one stays.
    pub(super) fn authority(&self, headers: &HeaderMap, path: &str) -> Option<Authority> {
        match self {
            Self::Literal(host) => Some(host.clone()),
            // Of several, the first.
            Self::Header(name) => read(headers.get(name)?.as_bytes()),
            Self::PathRegex(substitution) => read(&substitution.replace(path)),
        }
    }
}

/// Reads an authority, which has no business naming users: some of these texts come with requests.
pub(super) fn read(text: &[u8]) -> Option<Authority> {
    match text.contains(&b'@') {
        true => None,
        false => Authority::from_maybe_shared(Bytes::copy_from_slice(text)).ok(),
    }
}

/// Puts `new` in place of `authority`, which is kept in `x-envoy-original-host`, and at the end of
/// `x-forwarded-host` if that is wanted.
pub(super) fn replace(
    authority: &mut Authority,
    new: Authority,
    headers: &mut HeaderMap,
    append_x_forwarded_host: bool,
) {
    let before = std::mem::replace(authority, new);
    if append_x_forwarded_host {
        append_forwarded(headers, before.as_str());
    }
    put(headers, ORIGINAL_HOST, before.as_str());
}

/// Adds `host` to the list, unless it is the last there already.
fn append_forwarded(headers: &mut HeaderMap, host: &str) {
    let mut list = Vec::new();
    for value in headers.get_all(FORWARDED_HOST) {
        list.extend((!list.is_empty()).then_some(b','));
        list.extend_from_slice(value.as_bytes());
    }
    let mut tokens = list.split(|byte| *byte == b',');
    if tokens.rfind(|token| !token.is_empty()) == Some(host.as_bytes()) {
        return;
    }
    list.extend((!list.is_empty()).then_some(b','));
    list.extend_from_slice(host.as_bytes());
    if let Ok(list) = HeaderValue::from_maybe_shared(Bytes::from(list)) {
        drop(headers.try_insert(FORWARDED_HOST, list));
    }
}
