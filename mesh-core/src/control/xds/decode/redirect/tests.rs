use envoy_types::pb::envoy::{
    config::route::v3::route::Action, r#type::matcher::v3::RegexMatchAndSubstitute,
};

use super::{
    super::{fixtures::*, test_support::lines},
    *,
};
use crate::config::{Regex, RegexRewrite};

fn decode(wire: Wire) -> Result<(RouteAction, Vec<String>), FieldError> {
    let mut route = any_route();
    route.action = Some(Action::Redirect(wire));
    let (route, findings) = decode_one(route)?;
    Ok((route.unwrap().action, lines(&findings)))
}

const AT: &str = "virtual_hosts[0].routes[0].redirect";

#[test]
fn what_is_not_said_stays() {
    let plain = Redirect {
        scheme: None,
        host: None,
        port: None,
        path: None,
        status: StatusCode::MOVED_PERMANENTLY,
        strip_query: false,
    };
    let (action, findings) = decode(Wire::default()).unwrap();
    assert_eq!(action, RouteAction::Redirect(plain.clone()));
    let note = "in force under HTTP semantics; under gRPC's, requests that match fail as \
                unavailable (gRFC A28)";
    assert_eq!(findings, [format!("{AT} h {note}")]);
    let empty = Wire {
        scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::HttpsRedirect(false)),
        path_rewrite_specifier: Some(PathRewriteSpecifier::PrefixRewrite("".into())),
        ..Default::default()
    };
    assert_eq!(decode(empty).unwrap().0, RouteAction::Redirect(plain));
}

#[test]
fn redirects() {
    let regex = RegexMatchAndSubstitute {
        pattern: Some(wire_regex("a")),
        substitution: "b".into(),
    };
    let rewrite = RegexRewrite {
        pattern: Regex::new("a").unwrap(),
        substitution: "b".into(),
    };
    for (path, expected) in [
        (
            PathRewriteSpecifier::PathRedirect("/new?q=1".into()),
            PathRedirect::Full("/new?q=1".into()),
        ),
        (
            PathRewriteSpecifier::PrefixRewrite("/p".into()),
            PathRedirect::Rewrite(PathRewrite::Prefix("/p".into())),
        ),
        (
            PathRewriteSpecifier::RegexRewrite(regex),
            PathRedirect::Rewrite(PathRewrite::Regex(rewrite)),
        ),
    ] {
        let wire = Wire {
            host_redirect: "b.shop".into(),
            port_redirect: 8443,
            response_code: Code::PermanentRedirect as i32,
            strip_query: true,
            scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::SchemeRedirect("HTTPS".into())),
            path_rewrite_specifier: Some(path),
        };
        let redirect = Redirect {
            scheme: Some("HTTPS".into()),
            host: Some("b.shop".into()),
            port: Some(8443),
            path: Some(expected),
            status: StatusCode::PERMANENT_REDIRECT,
            strip_query: true,
        };
        assert_eq!(decode(wire).unwrap().0, RouteAction::Redirect(redirect));
    }
}

#[test]
fn redirects_that_are_refused() {
    let scheme = |scheme: &str| Some(SchemeRewriteSpecifier::SchemeRedirect(scheme.to_owned()));
    for (wire, at) in [
        (
            Wire {
                port_redirect: 65_536,
                ..Default::default()
            },
            "port_redirect",
        ),
        (
            Wire {
                response_code: 5,
                ..Default::default()
            },
            "response_code",
        ),
        (
            Wire {
                host_redirect: "a/b".into(),
                ..Default::default()
            },
            "host_redirect",
        ),
        (
            Wire {
                scheme_rewrite_specifier: scheme("a b"),
                ..Default::default()
            },
            "scheme_redirect",
        ),
        (
            Wire {
                path_rewrite_specifier: Some(PathRewriteSpecifier::PathRedirect("/\n".into())),
                ..Default::default()
            },
            "path_redirect",
        ),
        (
            Wire {
                path_rewrite_specifier: Some(PathRewriteSpecifier::PrefixRewrite("/\0".into())),
                ..Default::default()
            },
            "prefix_rewrite",
        ),
        (
            Wire {
                path_rewrite_specifier: Some(
                    PathRewriteSpecifier::RegexRewrite(Default::default()),
                ),
                ..Default::default()
            },
            "regex_rewrite.pattern",
        ),
    ] {
        assert_eq!(decode(wire).unwrap_err().path(), format!("{AT}.{at}"));
    }
}

#[test]
fn a_path_with_operators_fails_requests_and_keeps_the_route() {
    let wire = Wire {
        path_rewrite_specifier: Some(PathRewriteSpecifier::PathRewrite("/%REQ(a)%".into())),
        ..Default::default()
    };
    let (action, findings) = decode(wire).unwrap();
    assert_eq!(
        action,
        RouteAction::Unsupported("redirect with path_rewrite")
    );
    assert!(
        findings[1].starts_with(&format!("{AT}.path_rewrite ~ ")),
        "{findings:?}"
    );
}
