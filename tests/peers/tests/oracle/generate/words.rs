//! The words of configurations and requests: few, so that they meet.

pub(crate) const DOMAINS: &[&str] = &[
    "a.test",
    "b.a.test",
    "A.b.Test",
    "a.test:8080",
    "a.test:80",
    "10.0.0.1",
    "[::1]:8080",
    "[::1]",
    "*.test",
    "*a.test",
    "*.a.test",
    "*.A.test",
    "*-x.test",
    "*.test:8080",
    "*:8080",
    "*t",
    "a.*",
    "a*",
    "A.te*",
    "b.a.*",
    "a.test:*",
    "10.*",
    "[::1]:*",
    "*",
];

pub(crate) const AUTHORITIES: &[&str] = &[
    "a.test",
    "A.TEST",
    "b.a.test",
    "c.b.a.test",
    "a.b.test",
    "a.test:8080",
    "a.test:80",
    "a.test:443",
    "q-x.test",
    "-x.test",
    ".test",
    "test",
    "a",
    "a.",
    "a.test.",
    "10.0.0.1",
    "10.0.0.1:8080",
    "[::1]:8080",
    "[::1]",
    "other",
];

pub(crate) const PATHS: &[&str] = &[
    "/",
    "/a",
    "/A",
    "/a/",
    "/a/b",
    "/a/B/c",
    "/ab",
    "/api",
    "/Api/v1",
    "/api/v1",
    "/api/v1/",
    "/api/v2/x.y",
    "/apis",
    "/a.b",
    "/a%2Fb",
    "/a%2fb",
    "/%61",
    "/a//b",
    "//a",
    "/a/./b",
    "/a/../b",
    "/a;p=1",
    "/a+b",
    "/~a-b_c",
];

/// Expressions for paths.
pub(crate) const PATH_REGEXES: &[&str] = &[
    "/a.*",
    "/[ab]/?",
    "(?i)/api/v1",
    "/api/v[0-9]+",
    "/(a|api)/[^/]+",
    "/a|/a/b",
    ".*b",
    "/a/.+/c",
    "/a\\.b",
    "/a(/b)?/?",
    "/.{1,3}",
    "",
    "^/a$",
    "/a//?b",
    "/%61|/a%2Fb",
    "/\\w+",
];

pub(crate) const HEADERS: &[&str] = &["x-a", "x-b", "x-num", "user-agent", "X-C", "cookie"];
/// Others that matchers ask about.
pub(crate) const PSEUDO_HEADERS: &[&str] = &[":method", ":path", ":authority", "host", ":scheme"];

pub(crate) const VALUES: &[&str] = &[
    "",
    "v",
    "V",
    "va",
    "vb",
    "val",
    "aval",
    "a,b",
    "v,v",
    "v, va",
    "1",
    "10",
    "010",
    "+5",
    "-5",
    "0",
    "5.0",
    "0x5",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "GET",
    "http",
    "a.test",
    "/a",
    "a b",
    "a=1; b=2",
];

pub(crate) const VALUE_REGEXES: &[&str] = &[
    "v",
    "v.*",
    "(?i)va?",
    "[0-9]+",
    "-?\\d{1,2}",
    "",
    ".*",
    ".+",
    "a|b|v",
    "a,b",
    "[^,]*",
    "^v$",
    "\\bv\\b",
];

pub(crate) const PARTS: &[&str] = &["v", "V", "va", "a", "l", ",", "1", "0", "T", "t", "/", "b"];

pub(crate) const QUERY_NAMES: &[&str] = &["q", "p", "Q", "q%20", "a b", "x-y"];
pub(crate) const QUERY_VALUES: &[&str] = &["", "v", "V", "va", "1", "a%20b", "a+b", "a=b", "%76"];

pub(crate) const CLUSTERS: &[&str] = &["red", "green", "blue"];
