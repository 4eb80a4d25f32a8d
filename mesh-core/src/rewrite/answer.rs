use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};

use super::{RequestCx, RoutePlace, format::Asked, headers::ResponseEdit, path::PathEdit};
use crate::{
    config::{PathRedirect, Redirect, RouteAction},
    route::Head,
};

/// The answer that a route gives by itself, compiled: a redirect, or a direct response.
#[derive(Debug)]
pub struct RouteAnswer {
    status: StatusCode,
    body: Bytes,
    to: Location,
    response: Option<Box<ResponseEdit>>,
}

/// Where a `location` leads. What is `None` stays as it was requested.
#[derive(Debug, Default)]
struct Location {
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<Path>,
    strip_query: bool,
}

#[derive(Debug)]
enum Path {
    Full(Box<str>),
    Edit(PathEdit),
}

// === impl RouteAnswer ===

impl RouteAnswer {
    /// `None`: the route does not answer by itself.
    pub(crate) fn compile(place: &RoutePlace<'_>) -> Option<Self> {
        let (status, body, to) = match &place.route.action {
            RouteAction::Redirect(redirect) => {
                let path = redirect.path.as_ref().and_then(|path| match path {
                    PathRedirect::Full(path) if path.is_empty() => None,
                    PathRedirect::Full(path) => Some(Path::Full(path.as_str().into())),
                    PathRedirect::Rewrite(rewrite) => {
                        PathEdit::compile(rewrite, &place.route.matcher.path).map(Path::Edit)
                    }
                });
                let to = Location::compile(redirect, path);
                (redirect.status, Bytes::new(), to)
            }
            RouteAction::DirectResponse(direct) => {
                (direct.status, direct.body.clone(), Location::default())
            }
            RouteAction::Forward(_) | RouteAction::NonForwarding | RouteAction::Unsupported(_) => {
                return None;
            }
        };
        let (_, response) = place.edits(None);
        Some(Self {
            status,
            body,
            to,
            response,
        })
    }

    /// The answer to the request with this head.
    ///
    /// As Envoy's: a status of 201 or 3xx has a `location`, which a direct response leads to what
    /// was requested; the changes of the route, its virtual host and its configuration apply; a
    /// body that has no `content-type` by then is `text/plain`.
    pub fn respond(&self, head: &Head<'_>, cx: &RequestCx<'_>) -> Response<Bytes> {
        let mut headers = HeaderMap::new();
        if (self.status.is_redirection() || self.status == StatusCode::CREATED)
            && let Ok(location) = HeaderValue::from_maybe_shared(Bytes::from(self.to.write(head)))
        {
            headers.insert(LOCATION, location);
        }
        if let Some(response) = &self.response {
            let asked = Asked {
                method: head.method,
                scheme: head.scheme,
                authority: head.authority,
                path: head.path,
                query: head.query,
                cx: *cx,
            };
            let remembered = response.remember(&asked, head.headers);
            response.apply(self.status, &mut headers, &remembered, None);
        }
        // The body's length is for the one who sends it to say.
        headers.remove(CONTENT_LENGTH);
        if self.body.is_empty() {
            headers.remove(CONTENT_TYPE);
        } else if !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        let mut response = Response::new(self.body.clone());
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

// === impl Location ===

impl Location {
    fn compile(redirect: &Redirect, path: Option<Path>) -> Self {
        Self {
            scheme: redirect.scheme.as_deref().map(Box::from),
            host: redirect.host.as_deref().map(Box::from),
            port: redirect.port,
            path,
            strip_query: redirect.strip_query,
        }
    }

    fn write(&self, head: &Head<'_>) -> Vec<u8> {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme);
        let host = match self.host.as_deref() {
            Some(host) => host,
            None => self.requested_host(scheme, head),
        };
        let mut location = [scheme, "://", host].concat().into_bytes();
        if let Some(port) = self.port {
            location.extend_from_slice(format!(":{port}").as_bytes());
        }
        let (path, has_query) = match &self.path {
            Some(Path::Full(path)) => (path.as_bytes().to_vec(), path.contains('?')),
            // A rewrite that fails leaves the path as it was.
            Some(Path::Edit(edit)) => match edit.path(head.path) {
                // The query goes, wherever it comes from.
                Some(mut path) if self.strip_query => {
                    path.truncate(path.iter().position(|&b| b == b'?').unwrap_or(path.len()));
                    (path, false)
                }
                Some(path) => (path, false),
                None => (head.path.as_bytes().to_vec(), false),
            },
            None => (head.path.as_bytes().to_vec(), false),
        };
        // The asterisk of OPTIONS stands for no path at all (RFC 9112 section 3.3).
        let is_none = self.path.is_none() && head.path == "*";
        if !is_none {
            if path.first() != Some(&b'/') {
                location.push(b'/');
            }
            location.extend_from_slice(&path);
        }
        // A query of the redirect's own stays, and the request's goes.
        if !has_query
            && !self.strip_query
            && let Some(query) = head.query
        {
            location.push(b'?');
            location.extend_from_slice(query.as_bytes());
        }
        location
    }

    /// The requested host. Its port goes if the redirect has its own, or if it is the requested
    /// scheme's default and the scheme changes.
    fn requested_host<'a>(&self, scheme: &str, head: &Head<'a>) -> &'a str {
        let split = match head.authority.starts_with('[') {
            true => head.authority.rfind("]:").map(|bracket| bracket + 1),
            false => head.authority.rfind(':'),
        };
        let Some((host, port)) = split.and_then(|at| head.authority.split_at_checked(at)) else {
            return head.authority;
        };
        let default = matches!((head.scheme, port), ("http", ":80") | ("https", ":443"));
        match self.port.is_some() || (scheme != head.scheme && default) {
            true => host,
            false => head.authority,
        }
    }
}
