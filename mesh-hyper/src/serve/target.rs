//! What a request asks for, in its one form.

use std::sync::Arc;

use http::{HeaderValue, Uri, header::HOST, request::Parts, uri::PathAndQuery};
use mesh_core::{
    authz::{self, Ambiguity, LastAuthority},
    filter::RequestHead,
    identity::Peer,
    route::Head,
};

use super::Said;

/// Reads the target of a request, before anything else looks at it: then its authority is `last`.
///
/// # Errors
/// If it can be read in more than one way.
#[inline]
pub(super) fn read(
    head: &Parts,
    said: &Said<'_>,
    last: &mut LastAuthority,
) -> Result<(), Ambiguity> {
    if said.two_hosts {
        return Err(Ambiguity::DuplicateHost);
    }
    let authority = head.uri.authority();
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    last.read(authority, said.host.map(HeaderValue::as_bytes))?;
    let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    authz::check_target(&head.method, target.as_bytes())
}

/// Takes the port off wherever the request says its authority, which otherwise stays as it was written
/// (Envoy).
///
/// # Errors
/// If what is left is no authority: rules must not look at another than the service does.
#[cold]
pub(super) fn strip(head: &mut Parts, left: impl Fn(&str) -> &str) -> Result<(), Ambiguity> {
    let wrong = Ambiguity::Authority;
    if let Some(authority) = head.uri.authority() {
        let authority = left(authority.as_str()).parse().map_err(|_| wrong)?;
        let mut uri = std::mem::take(&mut head.uri).into_parts();
        uri.authority = Some(authority);
        head.uri = Uri::from_parts(uri).map_err(|_| wrong)?;
    }
    if let Some(host) = head.headers.get_mut(HOST) {
        let written = host.to_str().map_err(|_| wrong)?;
        *host = HeaderValue::from_str(left(written)).map_err(|_| wrong)?;
    }
    Ok(())
}

/// What routes look at.
#[inline]
pub(super) fn seen<'a>(head: &'a Parts, scheme: &'a str, authority: &'a str) -> Head<'a> {
    Head {
        method: &head.method,
        scheme,
        authority,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    }
}

/// What filters look at, and change.
#[inline]
pub(super) fn open<'a>(
    head: &'a mut Parts,
    authority: &'a str,
    peer: &'a Arc<Peer>,
) -> RequestHead<'a> {
    RequestHead {
        method: &head.method,
        authority,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &mut head.headers,
        peer: Some(peer),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use mesh_core::config::StripPort;

    use super::*;

    fn authority(uri: &str, hosts: &[&str]) -> Result<String, Ambiguity> {
        let mut request = Request::get(uri);
        for &host in hosts {
            request = request.header(HOST, host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut last = LastAuthority::default();
        read(&head, &Said::by(&head.headers), &mut last)?;
        Ok(last.as_str().to_owned())
    }

    #[test]
    fn the_authority_has_one_form() {
        let ok = |uri, hosts: &[&str]| authority(uri, hosts).unwrap();
        assert_eq!(ok("http://a.shop:80/x", &[]), "a.shop:80");
        assert_eq!(ok("http://A.Shop/x", &[]), "a.shop");
        assert_eq!(ok("http://a.shop./x", &[]), "a.shop");
        assert_eq!(ok("/x", &["A.shop:81"]), "a.shop:81");
        assert_eq!(ok("http://a.shop/x", &["A.SHOP"]), "a.shop");
    }

    #[test]
    fn a_port_goes_wherever_it_is_said_and_nothing_else_does() {
        let strip = |uri: &str, host: Option<&str>| {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            super::strip(&mut head, |said| StripPort::Any.strip(said, None)).unwrap();
            let host = head.headers.get(HOST);
            let host = host.map(|host| host.to_str().unwrap().to_owned());
            (head.uri.to_string(), host)
        };
        let is = |uri: &str, host: Option<&str>| (uri.to_owned(), host.map(str::to_owned));
        assert_eq!(
            strip("/x?y", Some("A.shop.:80")),
            is("/x?y", Some("A.shop."))
        );
        assert_eq!(strip("*", Some("[::1]:80")), is("*", Some("[::1]")));
        let found = strip("http://A.shop:81/x?y", None);
        assert_eq!(found, is("http://A.shop/x?y", None));
        let found = strip("http://a.shop:80/x", Some("A.shop:80"));
        assert_eq!(found, is("http://a.shop/x", Some("A.shop")));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let differs = authority("http://a.shop/x", &["b.shop"]);
        assert_eq!(differs, Err(Ambiguity::HostDiffers));
        for uri in ["http://a.shop/x", "/x"] {
            let two = authority(uri, &["a.shop", "a.shop"]);
            assert_eq!(two, Err(Ambiguity::DuplicateHost));
        }
        assert_eq!(authority("/x", &[]), Err(Ambiguity::NoAuthority));
        let dots = authority("http://a.shop/x/../y", &[]);
        assert_eq!(dots, Err(Ambiguity::DotSegment));
    }
}
