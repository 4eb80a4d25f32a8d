//! What a request asks for, in its one form.

use std::sync::Arc;

use http::{request::Parts, uri::PathAndQuery};
use mesh_core::{
    authz::{self, Ambiguity, LastAuthority},
    filter::RequestHead,
    identity::Peer,
    route::Head,
};

/// Reads the target of a request, before anything else looks at it: the authority, in its one form.
///
/// # Errors
/// If it can be read in more than one way.
#[inline]
pub(super) fn read<'a>(head: &Parts, last: &'a mut LastAuthority) -> Result<&'a str, Ambiguity> {
    let authority = head.uri.authority();
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    let authority = last.read(authority, &head.headers)?;
    let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    authz::check_target(&head.method, target.as_bytes())?;
    Ok(authority)
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
    use http::{Request, header::HOST};

    use super::*;

    fn authority(uri: &str, host: Option<&str>) -> Result<String, Ambiguity> {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        read(&head, &mut LastAuthority::default()).map(str::to_owned)
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
