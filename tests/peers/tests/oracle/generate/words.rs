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

/// Expressions, and what they match.
pub(crate) type Regexes = &'static [(&'static str, &'static [&'static str])];

/// Those of paths.
pub(crate) const PATH_REGEXES: Regexes = &[
    ("/a.*", &["/a", "/ab", "/a/b"]),
    ("/[ab]/?", &["/a", "/b/"]),
    ("(?i)/api/v1", &["/api/v1", "/Api/V1"]),
    ("/api/v[0-9]+", &["/api/v1", "/api/v22"]),
    ("/(a|api)/[^/]+", &["/a/b", "/api/v1"]),
    ("/a|/a/b", &["/a", "/a/b"]),
    (".*b", &["/b", "/a/b"]),
    ("/a/.+/c", &["/a/B/c", "/a/b/b/c"]),
    ("/a\\.b", &["/a.b"]),
    ("/a(/b)?/?", &["/a", "/a/b/"]),
    ("/.{1,3}", &["/a", "/a/b"]),
    ("()", &["/"]),
    ("^/a$", &["/a"]),
    ("/a//?b", &["/a/b", "/a//b"]),
    ("/%61|/a%2Fb", &["/%61", "/a%2Fb"]),
    ("/\\w+", &["/a", "/api"]),
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

/// Those of headers and of query parameters.
pub(crate) const VALUE_REGEXES: Regexes = &[
    ("v", &["v"]),
    ("v.*", &["v", "va"]),
    ("(?i)va?", &["V", "va"]),
    ("[0-9]+", &["1", "010"]),
    ("-?\\d{1,2}", &["-5", "10"]),
    ("()", &[""]),
    (".*", &["", "v"]),
    (".+", &["v", "1"]),
    ("a|b|v", &["a", "v"]),
    ("a,b", &["a,b"]),
    ("[^,]*", &["", "vb"]),
    ("^v$", &["v"]),
    ("\\bv\\b", &["v"]),
];

pub(crate) const PARTS: &[&str] = &["v", "V", "va", "a", "l", ",", "1", "0", "T", "t", "/", "b"];

pub(crate) const QUERY_NAMES: &[&str] = &["q", "p", "Q", "q%20", "a b", "x-y"];
pub(crate) const QUERY_VALUES: &[&str] = &["", "v", "V", "va", "1", "a%20b", "a+b", "a=b", "%76"];

pub(crate) const CLUSTERS: &[&str] = &["red", "green", "blue"];

/// What this expression of one of the lists matches.
pub(crate) fn matched(regexes: Regexes, regex: &str) -> &'static [&'static str] {
    let known = regexes.iter().find(|(known, _)| *known == regex);
    known.map_or(&[""], |(_, matched)| matched)
}
