use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header::HOST};

use crate::{Code, filter::Reply, route::first_value, telemetry::Cause};

/// The parts of a request that routes and rules read, in the one form they can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normal<'a> {
    /// The host in lower case, without a dot at its end, and the port as it was sent.
    pub authority: Cow<'a, str>,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without the question mark.
    pub query: Option<&'a str>,
}

/// The authority of requests that come one after another on a connection: read once where it stays
/// the same, as it nearly always does.
#[derive(Debug, Default)]
pub struct LastAuthority {
    /// As it was sent; empty before there was one.
    sent: Vec<u8>,
    /// In its one form.
    normal: String,
}

/// Why a request is refused: it can be read in more than one way, so that who checks it and who
/// serves it could each read another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Ambiguity {
    /// The host or its port cannot be read.
    #[error("the authority is not a host with or without a port")]
    Authority,
    /// There is more than one `Host` header.
    #[error("there is more than one Host header")]
    DuplicateHost,
    /// `:authority` and `Host` name different hosts.
    #[error(":authority and Host name different hosts")]
    HostDiffers,
    /// There is neither `:authority` nor `Host`.
    #[error("there is neither :authority nor Host")]
    NoAuthority,
    /// The authority carries credentials.
    #[error("the authority carries user information")]
    UserInfo,
    /// The path has a segment `.` or `..`.
    #[error("the path has a segment of dots")]
    DotSegment,
    /// The path has an empty segment, which is not its last.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// The path has a percent-encoding that has another form, or hides a delimiter.
    #[error("the path has a percent-encoding that is malformed, not needed, or hides a delimiter")]
    Encoding,
    /// The path or the query has a byte that may not be there, such as a backslash.
    #[error("the path has a character that may not stand in one")]
    Character,
    /// The path has a parameter.
    #[error("the path has a parameter (;)")]
    Parameter,
    /// The path does not begin with a slash. Neither do an absolute URI and the `*` of a method
    /// that is not OPTIONS, and CONNECT has no path.
    #[error("the path does not begin with a slash")]
    NoSlash,
}

/// Reads a request's target and authority, or refuses it. To be called before it is routed.
///
/// - `target` is the path with its query, as received (`:path`; in HTTP/1.1 the request line
///   without scheme and authority). `*` is accepted for OPTIONS.
/// - `authority` is `:authority`, or the authority of an absolute URI in HTTP/1.1.
/// - of `headers`, only `Host` is looked at. It stands in for a missing `authority`, and must
///   otherwise name the same: gRFC A41 would discard it, RFC 9113 section 8.3.1 refuses.
///
/// Every path has one accepted form (RFC 3986 section 6.2.2): characters that may stand for
/// themselves do; others are `%XX` in upper case; delimiters, controls and the percent sign cannot
/// be encoded. Nothing is rewritten, so the service reads what was checked. It is for semantics of
/// both kinds: no method of gRPC has any such character.
///
/// A request without anything to change, which is one whose host is in lower case and has no dot at
/// its end, allocates nothing.
///
/// # Errors
/// If the request can be read in more than one way.
pub fn normalise<'a>(
    method: &Method,
    target: &'a [u8],
    authority: Option<&'a [u8]>,
    headers: &'a HeaderMap,
) -> Result<Normal<'a>, Ambiguity> {
    let authority = match (authority, host_of(headers)?) {
        (None, None) => return Err(Ambiguity::NoAuthority),
        (Some(one), None) | (None, Some(one)) => lower(one)?,
        (Some(authority), Some(host)) => {
            let authority = lower(authority)?;
            match authority == lower(host)? {
                true => authority,
                false => return Err(Ambiguity::HostDiffers),
            }
        }
    };
    check_target(method, target)?;
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    };
    Ok(Normal {
        authority,
        path: text(path)?,
        query: query.map(text).transpose()?,
    })
}

/// Of [`normalise`] what it does with the target: says whether it can be read in one way only.
///
/// # Errors
/// If it cannot.
#[inline]
pub fn check_target(method: &Method, target: &[u8]) -> Result<(), Ambiguity> {
    let (plain, rest) = target.split_at(plain_path(target));
    match rest {
        _ if plain.is_empty() || method == Method::CONNECT => check_rare_target(method, target),
        [] => Ok(()),
        [b'?', query @ ..] => check_query(query),
        _ => check_rare_target(method, target),
    }
}

fn check_rare_target(method: &Method, target: &[u8]) -> Result<(), Ambiguity> {
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    };
    let asterisk = method == Method::OPTIONS && target == b"*";
    if !asterisk {
        check_path(path)?;
    }
    if method == Method::CONNECT {
        return Err(Ambiguity::NoSlash);
    }
    query.map_or(Ok(()), check_query)
}

// === impl LastAuthority ===

impl LastAuthority {
    /// Of [`normalise`] what it does with the authority; `host` is the only `Host`: who calls this
    /// has refused a request with two ([`Ambiguity::DuplicateHost`]).
    ///
    /// # Errors
    /// If there is neither, or they can be read in more than one way.
    #[inline]
    pub fn read(
        &mut self,
        authority: Option<&[u8]>,
        host: Option<&[u8]>,
    ) -> Result<&str, Ambiguity> {
        let (sent, other) = match (authority, host) {
            (None, None) => return Err(Ambiguity::NoAuthority),
            (Some(one), None) | (None, Some(one)) => (one, None),
            (Some(authority), Some(host)) => (authority, Some(host)),
        };
        if sent.is_empty() || *self.sent != *sent {
            self.learn(sent)?;
        }
        if let Some(other) = other
            && self.sent != other
            && lower(other)? != self.normal
        {
            return Err(Ambiguity::HostDiffers);
        }
        Ok(&self.normal)
    }

    /// The last one that was read without an error.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.normal
    }

    #[cold]
    fn learn(&mut self, sent: &[u8]) -> Result<(), Ambiguity> {
        let normal = lower(sent)?;
        self.sent.clear();
        self.sent.extend_from_slice(sent);
        self.normal.clear();
        self.normal.push_str(&normal);
        Ok(())
    }
}

// === impl Ambiguity ===

impl Ambiguity {
    /// The answer to the request: HTTP 400. In gRPC, UNIMPLEMENTED if there can be no such method,
    /// as gRPC servers say of a malformed one, and INTERNAL for the authority (gRFC A41).
    pub fn reply(self) -> Reply {
        use Ambiguity::*;
        let (grpc, message) = match self {
            Authority => (Code::Internal, "the authority is malformed"),
            DuplicateHost => (Code::Internal, "more than one Host header"),
            HostDiffers => (Code::Internal, ":authority and Host differ"),
            NoAuthority => (Code::Internal, "no authority"),
            UserInfo => (Code::Internal, "the authority carries user information"),
            DotSegment | EmptySegment | Encoding | Character | Parameter | NoSlash => {
                (Code::Unimplemented, "the path is malformed")
            }
        };
        Reply {
            http: StatusCode::BAD_REQUEST,
            grpc,
            message: Cow::Borrowed(message),
            cause: Cause::Denied,
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Ambiguity> {
    std::str::from_utf8(bytes).map_err(|_| Ambiguity::Character)
}

/// Marks the bytes of `pchar` (RFC 3986) that stand for themselves and mean nothing else: all but
/// the semicolon and the percent sign.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~!$&'()*+,=:@";
    let mut at = 0;
    while at < marks.len() {
        plain[marks[at] as usize] = true;
        at += 1;
    }
    plain
};

/// How many bytes at the beginning are what nearly all paths are made of: a slash, and characters
/// that need no second look. What comes after them may yet be accepted.
fn plain_path(target: &[u8]) -> usize {
    if target.first() != Some(&b'/') {
        return 0;
    }
    let mut after_slash = false;
    let odd = target.iter().position(|&byte| {
        // An empty segment, or one that begins with a dot?
        let odd = match byte {
            b'/' | b'.' => after_slash,
            byte => !stands_for_itself(byte),
        };
        after_slash = byte == b'/';
        odd
    });
    odd.unwrap_or(target.len())
}

fn check_path(path: &[u8]) -> Result<(), Ambiguity> {
    let Some((b'/', rest)) = path.split_first() else {
        return Err(Ambiguity::NoSlash);
    };
    let mut segment = rest;
    loop {
        let end = segment.iter().position(|&byte| byte == b'/');
        let (this, next) = match end {
            Some(at) => (&segment[..at], Some(&segment[at + 1..])),
            None => (segment, None),
        };
        match this {
            b"." | b".." => return Err(Ambiguity::DotSegment),
            // The last one may be empty: the path ends with a slash.
            b"" if next.is_some() => return Err(Ambiguity::EmptySegment),
            this => check_segment(this)?,
        }
        match next {
            Some(next) => segment = next,
            None => return Ok(()),
        }
    }
}

fn check_segment(segment: &[u8]) -> Result<(), Ambiguity> {
    let plain = segment.iter().position(|&byte| !stands_for_itself(byte));
    let Some(plain) = plain else {
        return Ok(());
    };
    let mut rest = &segment[plain..];
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'%' => {
                let [high, low, after @ ..] = after else {
                    return Err(Ambiguity::Encoding);
                };
                let (Some(high), Some(low)) = (upper_hex(*high), upper_hex(*low)) else {
                    return Err(Ambiguity::Encoding);
                };
                if !must_be_encoded(high << 4 | low) {
                    return Err(Ambiguity::Encoding);
                }
                after
            }
            b';' => return Err(Ambiguity::Parameter),
            byte if stands_for_itself(byte) => after,
            _ => return Err(Ambiguity::Character),
        }
    }
    Ok(())
}

fn upper_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn stands_for_itself(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

/// Can only be encoded, and means nothing to anybody who decodes it too early.
fn must_be_encoded(byte: u8) -> bool {
    !(stands_for_itself(byte) || byte.is_ascii_control() || b"/\\;%".contains(&byte))
}

/// A query is read by nobody before the service: only what ends it, or cannot be sent, is refused.
fn check_query(query: &[u8]) -> Result<(), Ambiguity> {
    let sound = query
        .iter()
        .all(|&byte| byte.is_ascii_graphic() && byte != b'#');
    match sound {
        true => Ok(()),
        false => Err(Ambiguity::Character),
    }
}

/// The only `Host`.
fn host_of(headers: &HeaderMap) -> Result<Option<&[u8]>, Ambiguity> {
    let host = first_value(headers, &HOST).map(HeaderValue::as_bytes);
    // Names with several values are rare, and told by the counts.
    let repeats = headers.len() != headers.keys_len();
    if host.is_some() && repeats && headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Ambiguity::DuplicateHost);
    }
    Ok(host)
}

/// An authority in its one form. A port stays, and so does the default one: whether it matters is
/// for the rules to say, as in Envoy.
fn lower(authority: &[u8]) -> Result<Cow<'_, str>, Ambiguity> {
    let text = std::str::from_utf8(authority).map_err(|_| Ambiguity::Authority)?;
    match is_in_form(authority) {
        true => Ok(Cow::Borrowed(text)),
        false => canonical(text),
    }
}

fn canonical(text: &str) -> Result<Cow<'_, str>, Ambiguity> {
    if text.contains('@') {
        return Err(Ambiguity::UserInfo);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (v6, after) = rest.split_once(']').ok_or(Ambiguity::Authority)?;
            v6.parse::<std::net::Ipv6Addr>()
                .map_err(|_| Ambiguity::Authority)?;
            (&text[..v6.len() + 2], after)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            check_name(&text[..end])?;
            text.split_at(end)
        }
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && !port.starts_with('0')
            && port.parse::<u16>().is_ok()
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => {}
        Some(port) if is_port(port) => {}
        _ => return Err(Ambiguity::Authority),
    }
    let bare = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) || (bare != host && !port.is_empty()) {
        let mut owned = bare.to_ascii_lowercase();
        owned.push_str(port);
        return Ok(Cow::Owned(owned));
    }
    Ok(Cow::Borrowed(match port.is_empty() {
        true => bare,
        false => text,
    }))
}

/// Whether this is what nearly all authorities are: labels in lower case, with a port or without.
/// What is not may yet be accepted.
fn is_in_form(authority: &[u8]) -> bool {
    let mut label = 0;
    for (at, &byte) in authority.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'.' if label > 0 => label = 0,
            b':' if label > 0 => {
                let port = &authority[at + 1..];
                let digits = port.iter().all(u8::is_ascii_digit) && !port.starts_with(b"0");
                // Of equal length, digits compare as numbers do.
                return digits
                    && (matches!(port.len(), 1..5) || port.len() == 5 && *port <= b"65535"[..]);
            }
            _ => return false,
        }
    }
    label > 0
}

/// Labels of letters, digits, hyphens and underscores; one dot may end them.
fn check_name(name: &str) -> Result<(), Ambiguity> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_sound = |label: &str| {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(sound)
    };
    match name.split('.').all(is_sound) {
        true => Ok(()),
        false => Err(Ambiguity::Authority),
    }
}

#[cfg(test)]
mod tests;
