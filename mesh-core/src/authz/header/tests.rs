use http::{HeaderMap, HeaderValue, Method};

use super::*;
use crate::config::{StringMatch, StringMatcher};

fn matcher(name: &str, test: HeaderMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.into(),
        test,
        invert: false,
        treat_missing_as_empty: false,
    }
}

fn exact(text: &str) -> HeaderMatch {
    HeaderMatch::Value(StringMatcher::new(StringMatch::Exact(text.into()), false))
}

/// The result where one reading is enough, and where all must pass.
fn test(matcher: &HeaderMatcher, query: Option<&str>) -> (bool, bool) {
    test_under(Semantics::Grpc, matcher, query)
}

fn test_under(semantics: Semantics, matcher: &HeaderMatcher, query: Option<&str>) -> (bool, bool) {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("data-bin", "AQI="),
        ("number", "7"),
        ("many", "a"),
        ("many", "b"),
        ("same", "a"),
        ("same", "a"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let head = RequestHead {
        method: &Method::POST,
        authority: "service.example:80",
        path: "/a/b",
        query,
        headers: &mut headers,
        peer: None,
    };
    let result = |every| HeaderTest::compile(semantics, matcher, every).is_match(&head);
    (result(false), result(true))
}

#[test]
fn values_come_from_where_the_grfc_says() {
    for (name, value, expected) in [
        (":method", "POST", true),
        (":path", "/a/b", true),
        (":authority", "service.example:80", true),
        ("host", "service.example:80", true),
        ("content-type", "application/grpc", true),
        // Binary headers are compared as they are sent.
        ("data-bin", "AQI=", true),
        ("te", "trailers", false),
        ("absent", "", false),
    ] {
        let result = test(&matcher(name, exact(value)), None);
        assert_eq!(result, (expected, expected), "{name}");
        let present = test(&matcher(name, HeaderMatch::Present(true)), None).0;
        assert_eq!(present, expected, "{name}");
    }
}

#[test]
fn an_absent_header_fails_even_inverted() {
    let absent = |invert, treat_missing_as_empty, test| HeaderMatcher {
        invert,
        treat_missing_as_empty,
        ..matcher("absent", test)
    };
    for (matcher, expected) in [
        (absent(true, false, exact("a")), false),
        (absent(true, true, exact("a")), true),
        (absent(false, true, exact("")), true),
        (absent(false, true, HeaderMatch::Present(true)), false),
        (absent(true, false, HeaderMatch::Present(true)), true),
        (absent(false, false, HeaderMatch::Present(false)), true),
        (
            absent(true, false, HeaderMatch::Range { start: 0, end: 1 }),
            false,
        ),
    ] {
        assert_eq!(test(&matcher, None), (expected, expected), "{matcher:?}");
    }
}

#[test]
fn under_http_a_header_that_is_read_as_empty_is_present() {
    for (present, invert) in [(true, false), (false, true), (true, true), (false, false)] {
        let matcher = HeaderMatcher {
            invert,
            treat_missing_as_empty: true,
            ..matcher("absent", HeaderMatch::Present(present))
        };
        let (http, grpc) = (present != invert, present == invert);
        let result = |semantics| test_under(semantics, &matcher, None);
        assert_eq!(result(Semantics::Http), (http, http), "{matcher:?}");
        assert_eq!(result(Semantics::Grpc), (grpc, grpc), "{matcher:?}");
    }
}

#[test]
fn each_value_and_the_join_are_readings() {
    for (name, test_of, expected) in [
        ("many", exact("a"), (true, false)),
        ("many", exact("a,b"), (true, false)),
        ("many", exact("c"), (false, false)),
        ("many", HeaderMatch::Present(true), (true, true)),
        ("same", exact("a"), (true, false)),
        (
            "number",
            HeaderMatch::Range { start: 7, end: 8 },
            (true, true),
        ),
        (
            "number",
            HeaderMatch::Range { start: 8, end: 9 },
            (false, false),
        ),
    ] {
        assert_eq!(test(&matcher(name, test_of), None), expected, "{name}");
    }
    let not_a = HeaderMatcher {
        invert: true,
        ..matcher("many", exact("a"))
    };
    assert_eq!(test(&not_a, None), (true, false));
}

#[test]
fn a_query_hides_no_path() {
    for (value, expected) in [
        ("/a/b", (true, false)),
        ("/a/b?x", (true, false)),
        ("/a", (false, false)),
    ] {
        assert_eq!(test(&matcher(":path", exact(value)), Some("x")), expected);
    }
    let prefix = StringMatcher::new(StringMatch::Prefix("/a/".into()), false);
    let prefix = matcher(":path", HeaderMatch::Value(prefix));
    assert_eq!(test(&prefix, Some("x")), (true, true));
}
