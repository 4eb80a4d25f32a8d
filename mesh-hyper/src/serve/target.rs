use std::borrow::Cow;

use http::{HeaderValue, header::HOST, request::Parts};
use mesh_core::{
    authz::{self, Ambiguity},
    route::{Head, first_value},
};

/// What a request asks for, in its one form. Owns what the request's headers could lose.
pub(super) struct Target {
    /// The `Host` header, where the request's target has no authority.
    host: Option<HeaderValue>,
    /// The authority, where it was not in its one form.
    lowered: Option<String>,
    /// How much of it counts: not a dot at its end.
    length: usize,
}

// === impl Target ===

impl Target {
    /// Reads the target of a request: before anything else looks at it.
    ///
    /// # Errors
    /// If it can be read in more than one way.
    #[inline]
    pub(super) fn read(head: &Parts) -> Result<Self, Ambiguity> {
        let host = match head.uri.authority() {
            Some(_) => None,
            None => first_value(&head.headers, &HOST).cloned(),
        };
        let target = head.uri.path_and_query();
        let normal = authz::normalise(
            &head.method,
            target.map_or("", |target| target.as_str()).as_bytes(),
            head.uri
                .authority()
                .map(|authority| authority.as_str().as_bytes()),
            &head.headers,
        )?;
        let length = normal.authority.len();
        let lowered = match normal.authority {
            Cow::Borrowed(_) => None,
            Cow::Owned(lowered) => Some(lowered),
        };
        Ok(Self {
            host,
            lowered,
            length,
        })
    }

    /// The authority, in its one form.
    #[inline]
    pub(super) fn authority<'a>(&'a self, uri: &'a http::Uri) -> &'a str {
        if let Some(lowered) = &self.lowered {
            return lowered;
        }
        let sent = match (uri.authority(), &self.host) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => host.to_str().unwrap_or_default(),
            (None, None) => "",
        };
        sent.get(..self.length).unwrap_or(sent)
    }

    /// What routes look at.
    #[inline]
    pub(super) fn head<'a>(&'a self, head: &'a Parts, scheme: &'a str) -> Head<'a> {
        Head {
            method: &head.method,
            scheme,
            authority: self.authority(&head.uri),
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn authority(uri: &str, host: Option<&str>) -> Result<String, Ambiguity> {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let target = Target::read(&head)?;
        Ok(target.authority(&head.uri).to_owned())
    }

    #[test]
    fn the_authority_has_one_form() {
        let ok = |uri, host| authority(uri, host).unwrap();
        assert_eq!(ok("http://a.shop:80/x", None), "a.shop:80");
        assert_eq!(ok("http://A.Shop/x", None), "a.shop");
        assert_eq!(ok("http://a.shop./x", None), "a.shop");
        assert_eq!(ok("/x", Some("A.shop:81")), "a.shop:81");
        assert_eq!(ok("http://a.shop/x", Some("A.SHOP")), "a.shop");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let differs = authority("http://a.shop/x", Some("b.shop"));
        assert_eq!(differs, Err(Ambiguity::HostDiffers));
        assert_eq!(authority("/x", None), Err(Ambiguity::NoAuthority));
        let dots = authority("http://a.shop/x/../y", None);
        assert_eq!(dots, Err(Ambiguity::DotSegment));
    }
}
