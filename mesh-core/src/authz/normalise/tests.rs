use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;

fn hosts(values: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(HOST, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

fn path_of(method: Method, target: &[u8]) -> Result<(String, Option<String>), Ambiguity> {
    let headers = HeaderMap::new();
    let normal = normalise(&method, target, Some(b"a"), &headers)?;
    Ok((normal.path.to_owned(), normal.query.map(str::to_owned)))
}

fn authority_of(authority: Option<&str>, host: &[&[u8]]) -> Result<String, Ambiguity> {
    let headers = hosts(host);
    let authority = authority.map(str::as_bytes);
    normalise(&Method::POST, b"/", authority, &headers).map(|n| n.authority.into_owned())
}

#[test]
fn clean_paths_pass_as_they_are() {
    for path in [
        "/",
        "/pkg.Service/Method",
        "/a/",
        "/a/b-c_d.e~f",
        "/.well-known/x",
        "/a/...",
        "/a/..b",
        "/!$&'()*+,=:@",
        "/caf%C3%A9",
        "/a%20b",
        "/a%3Fb%23c",
    ] {
        assert_eq!(
            path_of(Method::POST, path.as_bytes()),
            Ok((path.to_owned(), None))
        );
    }
    for (target, path, query) in [
        ("/a?b=c", "/a", "b=c"),
        ("/a?", "/a", ""),
        ("/a?b?c/../%2f;x//", "/a", "b?c/../%2f;x//"),
    ] {
        let expected = (path.to_owned(), Some(query.to_owned()));
        assert_eq!(path_of(Method::GET, target.as_bytes()), Ok(expected));
    }
}

#[test]
fn a_path_with_two_readings_is_refused() {
    use Ambiguity::*;
    for (target, why) in [
        (&b""[..], NoSlash),
        (b"a/b", NoSlash),
        (b"*", NoSlash),
        (b"?a", NoSlash),
        (b"http://a/b", NoSlash),
        (b"a:443", NoSlash),
        (b"//a", EmptySegment),
        (b"/a//b", EmptySegment),
        (b"/a//", EmptySegment),
        (b"/.", DotSegment),
        (b"/..", DotSegment),
        (b"/a/../b", DotSegment),
        (b"/a/./b", DotSegment),
        (b"/a/..?b", DotSegment),
        (b"/a;x/b", Parameter),
        (b"/..;/b", Parameter),
        (b"/a/;", Parameter),
        (b"/a%2fb", Encoding),
        (b"/a%2Fb", Encoding),
        (b"/a%5Cb", Encoding),
        (b"/a%5cb", Encoding),
        (b"/a%3Bx", Encoding),
        (b"/a%00", Encoding),
        (b"/a%0A", Encoding),
        (b"/a%7F", Encoding),
        (b"/%2E%2E/b", Encoding),
        (b"/%2e./b", Encoding),
        (b"/%61dmin", Encoding),
        (b"/a%252Fb", Encoding),
        (b"/caf%c3%a9", Encoding),
        (b"/a%", Encoding),
        (b"/a%2", Encoding),
        (b"/a%GG", Encoding),
        (b"/a%2/b", Encoding),
        (b"/a\\b", Character),
        (b"/a#f", Character),
        (b"/a?b#f", Character),
        (b"/a\0", Character),
        (b"/a\r\n", Character),
        (b"/a?b\n", Character),
        (b"/a b", Character),
        (b"/a\x7f", Character),
        (b"/caf\xc3\xa9", Character),
        (b"/a\xff", Character),
        (b"/a?\xff", Character),
        (b"/a\"b", Character),
    ] {
        let result = path_of(Method::POST, target);
        assert_eq!(result, Err(why), "{}", target.escape_ascii());
    }
}

#[test]
fn an_asterisk_is_for_options_and_connect_for_nobody() {
    assert_eq!(path_of(Method::OPTIONS, b"*"), Ok(("*".into(), None)));
    assert_eq!(path_of(Method::OPTIONS, b"*?a"), Err(Ambiguity::NoSlash));
    assert_eq!(path_of(Method::GET, b"*"), Err(Ambiguity::NoSlash));
    assert_eq!(path_of(Method::CONNECT, b"a:443"), Err(Ambiguity::NoSlash));
    assert_eq!(path_of(Method::CONNECT, b"/"), Err(Ambiguity::NoSlash));
}

#[test]
fn a_host_has_one_form() {
    for (given, expected) in [
        ("service.example", "service.example"),
        ("Service.EXAMPLE", "service.example"),
        ("service.example.", "service.example"),
        ("Service.example.:80", "service.example:80"),
        ("service.example:443", "service.example:443"),
        ("localhost:8080", "localhost:8080"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("my_service", "my_service"),
        ("[::1]:80", "[::1]:80"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
    ] {
        assert_eq!(authority_of(Some(given), &[]).as_deref(), Ok(expected));
        assert_eq!(
            authority_of(None, &[given.as_bytes()]).as_deref(),
            Ok(expected)
        );
        assert_eq!(
            authority_of(Some(given), &[expected.as_bytes()]).as_deref(),
            Ok(expected)
        );
    }
}

#[test]
fn an_authority_with_two_readings_is_refused() {
    use Ambiguity::*;
    for bad in [
        "",
        ".",
        "a..",
        "a..b",
        ".a",
        "a:",
        "a:b",
        "a:0",
        "a:080",
        "a:65536",
        "a:80:80",
        "a,b",
        "a b",
        "a/b",
        "a%2eb",
        "[::1",
        "[::1]80",
        "[::g]",
        "[a]",
        "::1",
        "caf\u{e9}",
        "a:80.",
    ] {
        assert_eq!(authority_of(Some(bad), &[]), Err(Authority), "{bad}");
    }
    for (authority, host, why) in [
        (None, &[][..], NoAuthority),
        (None, &[&b"a"[..], b"a"], DuplicateHost),
        (Some("a"), &[b"a", b"b"], DuplicateHost),
        (Some("a"), &[b"b"], HostDiffers),
        (Some("a"), &[b"a:80"], HostDiffers),
        (Some("a"), &[b""], Authority),
        (Some("a"), &[b"\xff"], Authority),
        (Some("user@a"), &[], UserInfo),
        (None, &[b"user:password@a"], UserInfo),
    ] {
        assert_eq!(
            authority_of(authority, host),
            Err(why),
            "{authority:?} {host:?}"
        );
    }
}

#[test]
fn a_clean_request_is_borrowed() {
    let headers = hosts(&[b"service.example:80"]);
    for authority in [None, Some(&b"service.example:80"[..])] {
        let normal = normalise(&Method::POST, b"/a/b?c", authority, &headers).unwrap();
        assert!(matches!(normal.authority, Cow::Borrowed(_)));
    }
}

#[test]
fn the_last_authority_does_not_stand_for_another() {
    let mut last = LastAuthority::default();
    let mut read = |authority: &str, host: Option<&str>| {
        let read = last.read(Some(authority.as_bytes()), host.map(str::as_bytes));
        read.map(str::to_owned)
    };
    assert_eq!(read("", None), Err(Ambiguity::Authority));
    for _ in 0..2 {
        assert_eq!(read("A.shop.:80", None).as_deref(), Ok("a.shop:80"));
        let same = read("A.shop.:80", Some("a.shop:80"));
        assert_eq!(same.as_deref(), Ok("a.shop:80"));
        let other = read("A.shop.:80", Some("b.shop:80"));
        assert_eq!(other, Err(Ambiguity::HostDiffers));
        assert_eq!(read("a..shop", None), Err(Ambiguity::Authority));
        assert_eq!(read("", None), Err(Ambiguity::Authority));
        assert_eq!(read("b.shop", None).as_deref(), Ok("b.shop"));
    }
    assert_eq!(last.read(None, None), Err(Ambiguity::NoAuthority));
}

#[test]
fn answers_fit_both_protocols() {
    for (ambiguity, grpc) in [
        (Ambiguity::DotSegment, Code::Unimplemented),
        (Ambiguity::NoSlash, Code::Unimplemented),
        (Ambiguity::DuplicateHost, Code::Internal),
        (Ambiguity::NoAuthority, Code::Internal),
    ] {
        let reply = ambiguity.reply();
        assert_eq!((reply.http, reply.grpc), (StatusCode::BAD_REQUEST, grpc));
        assert_eq!(reply.cause, Cause::Denied);
    }
}

/// What a lenient server might make of a path: decoded twice, parameters dropped, backslashes
/// turned, segments joined.
fn leniently(path: &str) -> String {
    let decode = |path: &[u8]| {
        let mut decoded = Vec::new();
        let mut rest = path;
        while let Some((&byte, after)) = rest.split_first() {
            let code = after
                .get(..2)
                .filter(|_| byte == b'%')
                .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
            decoded.push(code.unwrap_or(byte));
            rest = if code.is_some() { &after[2..] } else { after };
        }
        decoded
    };
    let decoded = decode(&decode(path.as_bytes()));
    let decoded = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut segments = Vec::new();
    for segment in decoded.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment.to_owned()),
        }
    }
    segments.join("/")
}

proptest! {
    #[test]
    fn what_passes_is_a_fixed_point(
        target in "(/|//|a|b|[.]|%2[ef5F]|%41|%C3|;|\\\\|[?]|#|%|\u{e9}|\u{0}| ){1,8}",
        authority in "(a|B|[.]|:|80|@|\\[::1\\]|_|%){0,5}",
    ) {
        let none = HeaderMap::new();
        let read = |target: &str, authority: &str| {
            normalise(&Method::GET, target.as_bytes(), Some(authority.as_bytes()), &none)
                .map(|n| (n.authority.into_owned(), n.path.to_owned(), n.query.map(str::to_owned)))
        };
        if let Ok((host, path, query)) = read(&target, &authority) {
            let again = match &query {
                Some(query) => format!("{path}?{query}"),
                None => path.clone(),
            };
            prop_assert_eq!(&again, &target, "nothing is rewritten");
            prop_assert_eq!(read(&again, &host), Ok((host, path, query)));
        }
    }

    #[test]
    fn no_lenient_server_reads_another_path(
        path in "(/|//|a|[.]|[.][.]|%2[ef5F]|%6[1f]|%C3|%3[Bb]|;|\\\\|%5C|%25|%){1,8}",
    ) {
        if let Ok((path, None)) = path_of(Method::GET, format!("/{path}").as_bytes()) {
            // But for what has to be encoded, a lenient server reads what was checked.
            let strict = path.replace("%C3", "\u{fffd}");
            let lenient = leniently(&path);
            prop_assert_eq!(lenient, strict.trim_matches('/'));
        }
    }

    #[test]
    fn any_bytes_are_answered(target: Vec<u8>, authority: Option<Vec<u8>>) {
        let none = HeaderMap::new();
        let _ = normalise(&Method::GET, &target, authority.as_deref(), &none);
    }
}

proptest! {
    #[test]
    fn what_needs_no_second_look_would_pass_one(
        path in "(/|//|a|[.]|%2F|%C3|;|#|\\\\| |\u{e9}){0,8}",
        query in "([?](a|[?]|/|#| |\u{e9}){0,3})?",
    ) {
        let target = format!("{path}{query}");
        for method in [Method::GET, Method::CONNECT, Method::OPTIONS] {
            let target = target.as_bytes();
            prop_assert_eq!(check_target(&method, target), check_rare_target(&method, target));
        }
    }

    #[test]
    fn the_last_authority_is_read_as_each_is(
        authorities in proptest::collection::vec("(a|B|[.]|:|80|@|_|%){0,3}", 1..6),
    ) {
        let none = HeaderMap::new();
        let mut last = LastAuthority::default();
        for authority in &authorities {
            let authority = Some(authority.as_bytes());
            let each = normalise(&Method::GET, b"/", authority, &none);
            let each = each.map(|normal| normal.authority.into_owned());
            prop_assert_eq!(last.read(authority, None).map(str::to_owned), each);
        }
    }

    #[test]
    fn the_short_way_accepts_nothing_else(authority in "[a-zA-Z0-9._:@-]{0,12}(:[0-9]{0,6})?") {
        if is_in_form(authority.as_bytes()) {
            prop_assert_eq!(canonical(&authority), Ok(Cow::Borrowed(&*authority)));
        }
    }
}
