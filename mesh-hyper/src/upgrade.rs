//! What a request asks its connection to become (RFC 9110 section 7.8): one rule for both ways.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, UPGRADE},
};

/// What a request asks its connection to become.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing, or nothing that has to be answered.
    Nothing,
    /// This protocol, in lower case; empty where more than one value names some, none of which could
    /// be allowed alone.
    Protocol(String),
}

static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What `headers` ask for. A way to HTTP/2 (`h2c`) is not taken, as RFC 9113 section 3.1 has it and
/// Envoy does: the headers that ask for it are removed, and the request goes on as it is.
pub(crate) fn asked(headers: &mut HeaderMap) -> Asked {
    if !headers.contains_key(UPGRADE) || !says_upgrade(headers) {
        return Asked::Nothing;
    }
    let mut protocols = headers.get_all(UPGRADE).iter();
    let protocol = match (protocols.next(), protocols.next()) {
        (Some(one), None) => String::from_utf8_lossy(one.as_bytes()).to_ascii_lowercase(),
        _ => String::new(),
    };
    if protocol.trim() != "h2c" {
        return Asked::Protocol(protocol);
    }
    headers.remove(UPGRADE);
    headers.remove(&HTTP2_SETTINGS);
    let others: Vec<_> = tokens(headers).filter(|token| !asks(token)).collect();
    match HeaderValue::from_bytes(&others.join(&b", "[..])) {
        Ok(others) if !others.is_empty() => drop(headers.insert(CONNECTION, others)),
        _ => drop(headers.remove(CONNECTION)),
    }
    Asked::Nothing
}

/// Whether `Connection` names `Upgrade`, without which that says nothing.
fn says_upgrade(headers: &HeaderMap) -> bool {
    tokens(headers).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether `Connection` has this token for the sake of `h2c`.
fn asks(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"upgrade") || token.eq_ignore_ascii_case(b"http2-settings")
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(CONNECTION).iter();
    values
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(HeaderName, &'static str)]) -> (Asked, HeaderMap) {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(name, HeaderValue::from_static(value));
        }
        (asked(&mut all), all)
    }

    #[test]
    fn connection_has_to_name_upgrade() {
        let websocket = Asked::Protocol("websocket".to_owned());
        let asked = of(&[(CONNECTION, "keep-alive, Upgrade"), (UPGRADE, "WebSocket")]);
        assert_eq!(asked.0, websocket);
        let asked = of(&[(CONNECTION, "upgraded"), (UPGRADE, "websocket")]);
        assert_eq!(asked.0, Asked::Nothing);
        let asked = of(&[(UPGRADE, "websocket")]);
        assert_eq!(asked.0, Asked::Nothing);
    }

    #[test]
    fn a_way_to_http2_is_not_taken() {
        let (asked, headers) = of(&[
            (CONNECTION, "Upgrade, HTTP2-Settings"),
            (UPGRADE, "h2c"),
            (HTTP2_SETTINGS.clone(), "AAMAAABkAAQAAP__"),
        ]);
        assert_eq!(asked, Asked::Nothing);
        assert!(headers.is_empty(), "{headers:?}");
        let (asked, headers) = of(&[
            (CONNECTION, "upgrade, x-mine"),
            (CONNECTION, "te"),
            (UPGRADE, "H2C"),
        ]);
        assert_eq!(asked, Asked::Nothing);
        assert_eq!(headers.len(), 1, "{headers:?}");
        assert_eq!(headers[CONNECTION], "x-mine, te");
    }

    #[test]
    fn what_names_more_than_one_protocol_is_none_that_a_list_has() {
        for second in ["other", "websocket", "h2c"] {
            let headers = [
                (CONNECTION, "upgrade"),
                (UPGRADE, "websocket"),
                (UPGRADE, second),
            ];
            assert_eq!(of(&headers).0, Asked::Protocol(String::new()));
        }
        let (asked, _) = of(&[(CONNECTION, "upgrade"), (UPGRADE, "websocket, h2c")]);
        assert_eq!(asked, Asked::Protocol("websocket, h2c".to_owned()));
    }
}
