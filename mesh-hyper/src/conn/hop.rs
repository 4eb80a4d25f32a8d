//! What of a message is for one connection only (RFC 9110 section 7.6.1), and the form a request
//! takes on HTTP/1.1 (RFC 9112 section 3.2). For HTTP/2 hyper removes these headers itself.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, Parts, PathAndQuery},
};
use mesh_core::route::first_value;

use crate::body::Outgoing;

/// What a request was before it took the form of HTTP/1.1, should it be given back.
pub(super) struct Original {
    uri: Uri,
    version: Version,
    /// The `host` header is ours.
    host: bool,
}

/// In the extensions of a request that is to have its connection become what its `upgrade` header
/// says. No other keeps that header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upgrading;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

// === impl Original ===

impl Original {
    /// Gives `request` the form of HTTP/1.1: origin-form (authority-form for CONNECT), a `host`
    /// header unless the caller set one, and no header that is meant for another connection. One
    /// that is [`Upgrading`] stays so; `te` says `trailers` or nothing.
    pub(super) fn dress(request: &mut Request<Outgoing>) -> Self {
        let version = std::mem::replace(request.version_mut(), Version::HTTP_11);
        let form = form(request.uri(), request.method() == Method::CONNECT);
        let uri = std::mem::replace(request.uri_mut(), form);
        let may_upgrade = request.extensions().get::<Upgrading>().is_some();
        let headers = request.headers_mut();
        let (mut trailers, mut upgrade) = (false, false);
        if has_any(headers) {
            trailers = has_token(headers, &TE, "trailers");
            upgrade = strip(headers, may_upgrade);
            headers.remove(TE);
        }
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        let connection = match (trailers, upgrade) {
            (false, false) => None,
            (true, false) => Some("te"),
            (false, true) => Some("upgrade"),
            (true, true) => Some("te, upgrade"),
        };
        if let Some(connection) = connection {
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
        }
        let host = match uri.authority().and_then(host_of) {
            Some(host) if first_value(headers, &HOST).is_none() => {
                headers.insert(HOST, host);
                true
            }
            _ => false,
        };
        Self { uri, version, host }
    }

    /// Takes the form of HTTP/1.1 from `request`.
    pub(super) fn undress(self, request: &mut Request<Outgoing>) {
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        if self.host {
            request.headers_mut().remove(HOST);
        }
    }
}

/// Removes from a response what was meant for its connection. One that switches protocols keeps
/// what it switches to.
pub(super) fn strip_response<B>(response: &mut Response<B>) {
    let upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    if has_any(headers) && strip(headers, upgrade) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// `uri` as a request line has it.
fn form(uri: &Uri, connect: bool) -> Uri {
    let mut parts = Parts::default();
    if connect {
        parts.authority = uri.authority().cloned();
    } else {
        let path = uri.path_and_query().cloned();
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    Uri::from_parts(parts).unwrap_or_default()
}

/// Without user and password.
fn host_of(authority: &Authority) -> Option<HeaderValue> {
    let host = authority.as_str();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    HeaderValue::from_str(host).ok()
}

/// Whether there is any header that is for one connection. Few messages have one, and a look at each
/// name costs less than to hash all of ours.
fn has_any(headers: &HeaderMap) -> bool {
    let is_one = |name: &HeaderName| {
        matches!(
            name.as_str(),
            "connection"
                | "te"
                | "transfer-encoding"
                | "upgrade"
                | "keep-alive"
                | "proxy-connection"
        )
    };
    headers.keys().any(is_one)
}

/// Removes all headers that are for one connection, those that `connection` names included; whether
/// this is an upgrade, whose `upgrade` header is kept if `upgrade` allows it.
fn strip(headers: &mut HeaderMap, upgrade: bool) -> bool {
    let upgrade =
        upgrade && headers.contains_key(UPGRADE) && has_token(headers, &CONNECTION, "upgrade");
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|name| name.parse().ok())
            .filter(|name| *name != UPGRADE)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    if !upgrade {
        headers.remove(UPGRADE);
    }
    upgrade
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> Request<Outgoing> {
        let mut request = Request::builder()
            .uri("http://me:secret@shop:81/a?b")
            .version(Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Outgoing::empty()).expect("valid")
    }

    fn headers(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let mut all: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_request_takes_the_form_of_http_1_and_gets_its_own_back() {
        let mut request = request(&[("x-a", "1")]);
        let original = Original::dress(&mut request);
        assert_eq!(request.uri(), "/a?b");
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(
            headers(request.headers()),
            [("host", "shop:81"), ("x-a", "1")]
        );
        original.undress(&mut request);
        assert_eq!(request.uri(), "http://me:secret@shop:81/a?b");
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(headers(request.headers()), [("x-a", "1")]);
    }

    #[test]
    fn what_is_for_one_connection_is_not_passed_on() {
        let mut request = request(&[
            ("host", "other"),
            ("connection", "keep-alive, x-mine"),
            ("connection", "te"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("x-mine", "1"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
        ]);
        let original = Original::dress(&mut request);
        assert_eq!(
            headers(request.headers()),
            [("connection", "te"), ("host", "other"), ("te", "trailers")]
        );
        original.undress(&mut request);
        assert_eq!(request.headers()["host"], "other");
    }

    #[test]
    fn a_request_to_upgrade_stays_one_where_it_may() {
        let asks = [("connection", "Upgrade"), ("upgrade", "websocket")];
        let mut denied = request(&asks);
        Original::dress(&mut denied);
        assert_eq!(headers(denied.headers()), [("host", "shop:81")]);
        let mut request = request(&asks);
        request.extensions_mut().insert(Upgrading);
        Original::dress(&mut request);
        let expected = [
            ("connection", "upgrade"),
            ("host", "shop:81"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(headers(request.headers()), expected);
    }

    #[test]
    fn a_response_says_nothing_of_its_connection() {
        let response = |status: u16| {
            let mut response = Response::builder()
                .status(status)
                .header("connection", "upgrade, x-mine")
                .header("upgrade", "websocket")
                .header("x-mine", "1")
                .header("trailer", "x-sum")
                .body(())
                .expect("valid");
            strip_response(&mut response);
            response
        };
        assert_eq!(headers(response(200).headers()), [("trailer", "x-sum")]);
        assert_eq!(
            headers(response(101).headers()),
            [
                ("connection", "upgrade"),
                ("trailer", "x-sum"),
                ("upgrade", "websocket")
            ]
        );
    }
}
