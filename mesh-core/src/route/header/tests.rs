use http::{HeaderMap, HeaderValue, Method};

use super::*;
use crate::config::{Regex, StringMatch, StringMatcher};

fn exact(value: &str) -> HeaderMatch {
    HeaderMatch::Value(StringMatcher::new(
        StringMatch::Exact(value.to_owned()),
        false,
    ))
}

fn range(start: i64, end: i64) -> HeaderMatch {
    HeaderMatch::Range { start, end }
}

fn matcher(name: &str, test: HeaderMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        test,
        invert: false,
        treat_missing_as_empty: false,
    }
}

fn inverted(name: &str, test: HeaderMatch) -> HeaderMatcher {
    HeaderMatcher {
        invert: true,
        ..matcher(name, test)
    }
}

fn passes(semantics: Semantics, matcher: &HeaderMatcher, headers: &[(&str, &str)]) -> bool {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let head = Head {
        method: &Method::POST,
        scheme: "https",
        authority: "Shop:8080",
        path: "/a/b",
        query: Some("q=1"),
        headers: &map,
    };
    HeaderTest::compile(semantics, matcher).is_match(&head)
}

fn grpc(matcher: &HeaderMatcher, headers: &[(&str, &str)]) -> bool {
    passes(Semantics::Grpc, matcher, headers)
}

fn http(matcher: &HeaderMatcher, headers: &[(&str, &str)]) -> bool {
    passes(Semantics::Http, matcher, headers)
}

#[test]
fn an_absent_header_fails_even_inverted_except_for_presence() {
    for check in [grpc, http] {
        for test in [exact(""), exact("x"), range(i64::MIN, i64::MAX)] {
            assert!(!check(&matcher("x", test.clone()), &[]));
            assert!(!check(&inverted("x", test), &[]));
        }
        for present in [true, false] {
            let test = HeaderMatch::Present(present);
            assert_eq!(check(&matcher("x", test.clone()), &[]), !present);
            assert_eq!(check(&inverted("x", test.clone()), &[]), present);
            assert_eq!(check(&matcher("x", test.clone()), &[("x", "")]), present);
            assert_eq!(check(&inverted("x", test), &[("x", "")]), !present);
        }
    }
}

#[test]
fn a_missing_header_can_be_empty_under_http_only() {
    let empty = |matcher: HeaderMatcher| HeaderMatcher {
        treat_missing_as_empty: true,
        ..matcher
    };
    let cases = [
        (matcher("x", exact("")), true),
        (inverted("x", exact("")), false),
        (matcher("x", range(0, 10)), false),
        (inverted("x", range(0, 10)), true),
        (matcher("x", HeaderMatch::Present(true)), true),
        (matcher("x", HeaderMatch::Present(false)), false),
    ];
    for (matcher, expected) in cases {
        assert_eq!(http(&empty(matcher.clone()), &[]), expected, "{matcher:?}");
        assert_eq!(
            grpc(&empty(matcher.clone()), &[]),
            grpc(&matcher, &[]),
            "{matcher:?}"
        );
    }
}

#[test]
fn grpc_joins_values_by_a_comma_alone() {
    let headers = [("x", "a"), ("y", "-"), ("x", "b"), ("x", "")];
    assert!(grpc(&matcher("x", exact("a,b,")), &headers));
    assert!(!grpc(&matcher("x", exact("a")), &headers));
    let numbers = [("x", "1"), ("x", "2")];
    assert!(!grpc(&matcher("x", range(0, 9)), &numbers));
    let long = "v".repeat(300);
    let headers = [("x", long.as_str()), ("x", "end")];
    assert!(grpc(&matcher("x", exact(&format!("{long},end"))), &headers));
}

#[test]
fn http_looks_at_each_value() {
    let headers = [("x", "a"), ("y", "-"), ("x", "b"), ("x", "1")];
    let there = HeaderMatch::Present(true);
    for (test, expected) in [
        (exact("a"), true),
        (exact("b"), true),
        (exact("a,b,1"), false),
        (exact(""), false),
        (range(0, 9), true),
        (range(5, 9), false),
        (there, true),
    ] {
        assert_eq!(http(&matcher("x", test.clone()), &headers), expected);
        assert_eq!(http(&inverted("x", test), &headers), !expected);
    }
    // In one line it is one value.
    assert!(!http(&matcher("x", exact("a")), &[("x", "a,b")]));
}

#[test]
fn ranges_are_half_open_and_in_base_10() {
    let ten_to_20 = matcher("x", range(10, 20));
    for (value, expected) in [
        ("9", false),
        ("10", true),
        ("+10", true),
        ("019", true),
        ("20", false),
        ("-10", false),
        ("0x0f", false),
        ("15.0", false),
        ("", false),
        ("9223372036854775808", false),
    ] {
        assert_eq!(grpc(&ten_to_20, &[("x", value)]), expected, "{value}");
    }
    assert!(grpc(&inverted("x", range(10, 20)), &[("x", "abc")]));
    let negative = matcher("x", range(i64::MIN, 0));
    assert!(grpc(&negative, &[("x", "-9223372036854775808")]));
    assert!(!grpc(&matcher("x", range(5, 5)), &[("x", "5")]));
}

#[test]
fn grpc_sees_application_metadata_only() {
    let there = |name| matcher(name, HeaderMatch::Present(true));
    let headers = [
        ("x-bin", "AAAA"),
        ("te", "trailers"),
        ("grpc-timeout", "1S"),
        ("user-agent", "mine"),
    ];
    for name in [
        "x-bin",
        "te",
        "grpc-timeout",
        ":path",
        ":authority",
        ":method",
        "",
        "no name",
    ] {
        assert!(!grpc(&there(name), &headers), "{name}");
        assert!(grpc(&inverted(name, HeaderMatch::Present(true)), &headers));
    }
    assert!(grpc(&there("user-agent"), &headers));
    assert!(http(&there("x-bin"), &headers));
    assert!(http(&there("te"), &headers));
}

#[test]
fn grpc_has_a_content_type_by_default() {
    let default = matcher("content-type", exact("application/grpc"));
    assert!(grpc(&default, &[]));
    assert!(grpc(&default, &[("content-type", "application/grpc")]));
    assert!(!grpc(
        &default,
        &[("content-type", "application/grpc+json")]
    ));
    assert!(grpc(
        &matcher("content-type", HeaderMatch::Present(true)),
        &[]
    ));
    assert!(!grpc(
        &inverted("content-type", exact("application/grpc")),
        &[]
    ));
    assert!(!http(&default, &[]));
}

#[test]
fn http_sees_pseudo_headers() {
    for (name, value) in [
        (":method", "POST"),
        (":authority", "Shop:8080"),
        ("host", "Shop:8080"),
        (":scheme", "https"),
        (":path", "/a/b?q=1"),
    ] {
        assert!(http(&matcher(name, exact(value)), &[]), "{name}");
    }
    assert!(!http(&matcher(":status", HeaderMatch::Present(true)), &[]));
}

#[test]
fn strings_are_tested_as_bytes_and_case_is_kept_for_expressions() {
    let value = |pattern, ignore_case| {
        matcher(
            "x",
            HeaderMatch::Value(StringMatcher::new(pattern, ignore_case)),
        )
    };
    let text = |s: &str| s.to_owned();
    for (pattern, ignore_case, expected) in [
        (StringMatch::Exact(text("AbC")), false, true),
        (StringMatch::Exact(text("aBc")), false, false),
        (StringMatch::Exact(text("aBc")), true, true),
        (StringMatch::Prefix(text("Ab")), false, true),
        (StringMatch::Prefix(text("aB")), true, true),
        (StringMatch::Suffix(text("bC")), false, true),
        (StringMatch::Contains(text("B")), true, true),
        (StringMatch::Contains(text("B")), false, false),
        (StringMatch::Regex(Regex::new("A.C").unwrap()), true, true),
        (StringMatch::Regex(Regex::new("a.c").unwrap()), true, false),
        (StringMatch::Regex(Regex::new("A.").unwrap()), false, false),
    ] {
        let matcher = value(pattern, ignore_case);
        assert_eq!(grpc(&matcher, &[("x", "AbC")]), expected, "{matcher:?}");
    }
}
