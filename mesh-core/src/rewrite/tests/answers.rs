use bytes::Bytes;
use http::Response;

use super::*;
use crate::{
    config::{DirectResponse, PathRedirect, Redirect},
    route::Head,
};

fn redirect() -> Redirect {
    Redirect {
        scheme: None,
        host: None,
        port: None,
        path: None,
        status: StatusCode::MOVED_PERMANENTLY,
        strip_query: false,
    }
}

/// The answer to a request of this URL; that of `/*` is for `*` (RFC 9112 section 3.2.4).
fn answer(config: &Config, url: &str) -> Response<Bytes> {
    let uri: http::Uri = url.parse().unwrap();
    let headers = HeaderMap::new();
    let head = Head {
        method: &Method::GET,
        scheme: uri.scheme_str().unwrap(),
        authority: uri.authority().unwrap().as_str(),
        path: match uri.path() {
            "/*" => "*",
            path => path,
        },
        query: uri.query(),
        headers: &headers,
    };
    let cx = RequestCx {
        peer: None,
        version: Version::HTTP_11,
    };
    let answer = RouteAnswer::compile(&config.place()).unwrap();
    answer.respond(&head, &cx)
}

fn location(matcher: PathMatcher, redirect: Redirect, url: &str) -> String {
    let mut config = Config::new(matcher);
    let status = redirect.status;
    config.route.action = RouteAction::Redirect(redirect);
    let answer = answer(&config, url);
    assert_eq!(answer.status(), status);
    assert!(answer.body().is_empty() && answer.headers().len() == 1);
    answer.headers()["location"].to_str().unwrap().to_owned()
}

#[test]
fn what_a_redirect_does_not_say_stays() {
    let https = || Redirect {
        scheme: Some("https".into()),
        ..redirect()
    };
    let host = || Redirect {
        host: Some("new.example".into()),
        ..redirect()
    };
    let port = || Redirect {
        port: Some(8443),
        ..redirect()
    };
    let both = || Redirect {
        port: Some(8443),
        ..https()
    };
    for (redirect, url, expected) in [
        (https(), "http://a.example/x?y", "https://a.example/x?y"),
        // A port that is the old scheme's default goes with it; another stays.
        (https(), "http://a.example:80/", "https://a.example/"),
        (https(), "http://a.example:8080/", "https://a.example:8080/"),
        (https(), "http://a.example:443/", "https://a.example:443/"),
        (https(), "https://a.example:443/", "https://a.example:443/"),
        (https(), "http://[::1]:80/", "https://[::1]/"),
        (https(), "http://[::1]/", "https://[::1]/"),
        (host(), "http://a.example:8080/x", "http://new.example/x"),
        (host(), "http://a.example/*", "http://new.example"),
        (port(), "http://a.example:80/x", "http://a.example:8443/x"),
        (port(), "http://[fe80::2]:80/x", "http://[fe80::2]:8443/x"),
        (both(), "http://a.example/x", "https://a.example:8443/x"),
        (
            Redirect {
                status: StatusCode::PERMANENT_REDIRECT,
                strip_query: true,
                ..host()
            },
            "http://a/x?y",
            "http://new.example/x",
        ),
    ] {
        assert_eq!(location(prefix("/"), redirect, url), expected, "{url}");
    }
}

#[test]
fn the_path_of_a_redirect() {
    let full = |path: &str| PathRedirect::Full(path.into());
    let prefixed = |by: &str| PathRedirect::Rewrite(PathRewrite::Prefix(by.into()));
    let regex = |a, b| PathRedirect::Rewrite(PathRewrite::Regex(regex_rewrite(a, b)));
    for (path, strip_query, expected) in [
        (full("/new"), false, "http://a/new?q=1"),
        (full("/new"), true, "http://a/new"),
        // A query of its own stays, whatever becomes of the request's.
        (full("/new?own"), false, "http://a/new?own"),
        (full("/new?own"), true, "http://a/new?own"),
        (full("new"), false, "http://a/new?q=1"),
        (prefixed("/new"), false, "http://a/new/rest?q=1"),
        (prefixed("/new"), true, "http://a/new/rest"),
        (prefixed("/new?own"), true, "http://a/new"),
        (
            regex("/([a-z]+)$", r"/\1/\1"),
            false,
            "http://a/old/rest/rest?q=1",
        ),
        (regex(".*", ""), false, "http://a/old/rest?q=1"),
    ] {
        let redirect = Redirect {
            path: Some(path),
            strip_query,
            ..redirect()
        };
        let found = location(prefix("/old"), redirect.clone(), "http://a/old/rest?q=1");
        assert_eq!(found, expected, "{redirect:?}");
    }
}

#[test]
fn a_direct_response() {
    let direct = |status, body: &'static str| {
        let mut config = Config::new(prefix("/"));
        config.route.action = RouteAction::DirectResponse(DirectResponse {
            status,
            body: Bytes::from_static(body.as_bytes()),
        });
        config
    };
    let found = answer(&direct(StatusCode::NOT_FOUND, "gone"), "http://a/x");
    assert_eq!(found.status(), StatusCode::NOT_FOUND);
    assert_eq!(found.body(), "gone");
    assert_eq!(values(found.headers(), "content-type"), ["text/plain"]);
    assert_eq!(found.headers().len(), 1);

    let empty = answer(&direct(StatusCode::OK, ""), "http://a/x");
    assert!(empty.headers().is_empty() && empty.body().is_empty());

    let created = answer(&direct(StatusCode::CREATED, ""), "http://a:81/x?y");
    assert_eq!(values(created.headers(), "location"), ["http://a:81/x?y"]);
}

#[test]
fn answers_are_changed_as_responses_are() {
    let mut config = Config::new(prefix("/"));
    config.route.action = RouteAction::DirectResponse(DirectResponse {
        status: StatusCode::OK,
        body: Bytes::from_static(b"{}"),
    });
    // Those of requests have nothing to change.
    config.route.headers.request = vec![append("x-request", "1")];
    config.route.headers.response = vec![overwrite("content-type", text("application/json"))];
    let path = operator(request_header(":path", None, None));
    config.config.headers.response = vec![
        overwrite("x-path", path),
        overwrite("x-code", operator(FormatOperator::ResponseCode)),
        overwrite("content-length", text("7")),
    ];
    let found = answer(&config, "http://a/x?y");
    assert_eq!(
        values(found.headers(), "content-type"),
        ["application/json"]
    );
    assert_eq!(values(found.headers(), "x-path"), ["/x?y"]);
    assert_eq!(values(found.headers(), "x-code"), ["200"]);
    assert_eq!(found.headers().len(), 3);
}
