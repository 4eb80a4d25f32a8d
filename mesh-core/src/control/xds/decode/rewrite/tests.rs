use envoy_types::pb::google::protobuf::BoolValue;

use super::{super::fixtures::wire_regex, *};
use crate::{config::Regex, control::xds::FilterRegistry};

fn substitute(pattern: &str, substitution: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(wire_regex(pattern)),
        substitution: substitution.to_owned(),
    }
}

fn with<T>(decode: impl FnOnce(&mut Context<'_>) -> T) -> T {
    decode(&mut Context::new(&FilterRegistry::standard()))
}

#[test]
fn paths() {
    let decode = |prefix: &str, regex| with(|cx| path(prefix.to_owned(), regex, cx));
    assert_eq!(decode("", None), Ok(None));
    assert_eq!(
        decode("/v2", None),
        Ok(Some(PathRewrite::Prefix("/v2".into())))
    );
    let expected = RegexRewrite {
        pattern: Regex::new("^/(a)/(b)").unwrap(),
        substitution: r"/\2/\1\0\\".into(),
    };
    assert_eq!(
        decode("", Some(substitute("^/(a)/(b)", r"/\2/\1\0\\"))),
        Ok(Some(PathRewrite::Regex(expected)))
    );
    for (prefix, regex, at, problem) in [
        ("/a\nb", None, "prefix_rewrite", "control character"),
        (
            "/a",
            Some(substitute("a", "b")),
            "regex_rewrite",
            "only one of",
        ),
        (
            "",
            Some(substitute("(", "b")),
            "regex_rewrite.pattern.regex",
            "unclosed group",
        ),
        (
            "",
            Some(RegexMatchAndSubstitute::default()),
            "regex_rewrite.pattern",
            "must be set",
        ),
        (
            "",
            Some(substitute("(a)(?:b)", r"\2")),
            "regex_rewrite.substitution",
            "refers to group 2: the last one of the expression is 1",
        ),
        (
            "",
            Some(substitute("a", r"\n")),
            "regex_rewrite.substitution",
            "a backslash must be followed by",
        ),
        (
            "",
            Some(substitute("a", r"b\")),
            "regex_rewrite.substitution",
            "a backslash must be followed by",
        ),
        (
            "",
            Some(substitute("a", "\r")),
            "regex_rewrite.substitution",
            "control character",
        ),
    ] {
        let error = decode(prefix, regex).unwrap_err();
        assert_eq!(error.path(), at);
        assert!(error.problem().contains(problem), "{error}");
    }
}

#[test]
fn hosts() {
    use HostRewriteSpecifier as Wire;
    let auto = |value| Wire::AutoHostRewrite(BoolValue { value });
    let regex = RegexRewrite {
        pattern: Regex::new("^/(.+)/").unwrap(),
        substitution: r"\1".into(),
    };
    for (wire, expected) in [
        (
            Wire::HostRewriteLiteral("b.shop:80".into()),
            Some(HostRewrite::Literal(HeaderValue::from_static("b.shop:80"))),
        ),
        (Wire::HostRewriteLiteral("".into()), None),
        (auto(true), Some(HostRewrite::Endpoint)),
        (auto(false), None),
        (
            Wire::HostRewriteHeader("X-Host".into()),
            Some(HostRewrite::Header(HeaderName::from_static("x-host"))),
        ),
        (Wire::HostRewriteHeader("".into()), None),
        (Wire::HostRewriteHeader(":path".into()), None),
        (
            Wire::HostRewritePathRegex(substitute("^/(.+)/", r"\1")),
            Some(HostRewrite::PathRegex(regex)),
        ),
        (Wire::HostRewrite("x".into()), None),
    ] {
        assert_eq!(with(|cx| host(wire.clone(), cx)), Ok(expected), "{wire:?}");
    }
    for (wire, at) in [
        (
            Wire::HostRewriteLiteral("a/b".into()),
            "host_rewrite_literal",
        ),
        (
            Wire::HostRewriteLiteral("me@a".into()),
            "host_rewrite_literal",
        ),
        (
            Wire::HostRewriteLiteral("a b".into()),
            "host_rewrite_literal",
        ),
        (Wire::HostRewriteHeader("a b".into()), "host_rewrite_header"),
        (
            Wire::HostRewritePathRegex(substitute("a", r"\1")),
            "host_rewrite_path_regex.substitution",
        ),
    ] {
        assert_eq!(with(|cx| host(wire, cx)).unwrap_err().path(), at);
    }
}
