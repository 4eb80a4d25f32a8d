use proptest::prelude::*;

use super::*;

/// What is found in these bytes, when they come in pieces of so many.
fn read(bytes: &[u8], size: usize) -> Result<Scan, Fault> {
    let mut scan = Scan::default();
    for piece in bytes.chunks(size) {
        scan.read(piece).map_err(|(_, fault)| fault)?;
    }
    Ok(scan)
}

/// Whatever the pieces, the same is found.
fn fault(bytes: &[u8]) -> Option<Fault> {
    let whole = read(bytes, bytes.len()).err();
    for size in 1..bytes.len() {
        assert_eq!(read(bytes, size).err(), whole, "in pieces of {size}");
    }
    whole
}

fn with(headers: &str) -> Option<Fault> {
    fault(format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n").as_bytes())
}

#[test]
fn requests_that_have_one_meaning_pass() {
    let sound: &[&str] = &[
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: \t5 \r\n\r\nabcdeGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\n\n\n\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\na: b\r\n\r\n",
        "GET / HTTP/1.1\r\ncontent-lengthy: x\r\ntransfer-encodings: x\r\nhosts: x\r\nhost: a\r\n\r\n",
    ];
    for request in sound {
        assert_eq!(fault(request.as_bytes()), None, "{request:?}");
        let scan = read(request.as_bytes(), 7).unwrap();
        assert_eq!(scan.part, Part::Between, "{request:?}");
        assert!(!scan.in_head());
    }
}

#[test]
fn lines_end_with_cr_lf() {
    for request in [
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "\nGET / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(
            fault(request.as_bytes()),
            Some(Fault::LineEnd),
            "{request:?}"
        );
    }
    assert_eq!(with(" folded\r\n"), Some(Fault::Fold));
    assert_eq!(with("\tfolded\r\n"), Some(Fault::Fold));
}

#[test]
fn a_request_has_one_length() {
    for value in [
        "xchunked",
        "chunked, identity",
        "gzip, chunked",
        "identity",
        "",
        "\x0bchunked",
    ] {
        let header = format!("transfer-encoding: {value}\r\n");
        assert_eq!(with(&header), Some(Fault::TransferEncoding), "{value:?}");
    }
    let twice = "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n";
    assert_eq!(with(twice), Some(Fault::TransferEncoding));
    for value in [
        "",
        "+1",
        "-1",
        "1 1",
        "1,1",
        "0x1",
        "1.0",
        "99999999999999999999",
        "١",
    ] {
        let header = format!("content-length: {value}\r\n");
        assert_eq!(with(&header), Some(Fault::ContentLength), "{value:?}");
    }
    for second in ["5", "6"] {
        let header = format!("content-length: 5\r\nContent-Length: {second}\r\n");
        assert_eq!(with(&header), Some(Fault::ContentLength));
    }
    let both = ["content-length: 5\r\n", "transfer-encoding: chunked\r\n"];
    assert_eq!(with(&both.concat()), Some(Fault::TwoLengths));
    assert_eq!(with(&[both[1], both[0]].concat()), Some(Fault::TwoLengths));
    assert_eq!(with("Host: a\r\n"), Some(Fault::TwoHosts));
    let long = format!("transfer-encoding: chunked{}\r\n", " ".repeat(KEPT));
    let long = format!("GET / HTTP/1.1\r\n{long}\r\n");
    assert_eq!(
        read(long.as_bytes(), 100).unwrap_err(),
        Fault::TransferEncoding
    );
}

#[test]
fn a_chunk_has_one_size() {
    let chunked = |body: &str| {
        fault(format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{body}").as_bytes())
    };
    for size in [
        "",
        " 3",
        "3 ",
        "3\t;x",
        "0x3",
        "-3",
        "3\r",
        "00000000000000003",
        "g",
    ] {
        let body = format!("{size}\r\nabc\r\n0\r\n\r\n");
        assert_eq!(chunked(&body), Some(Fault::ChunkSize), "{size:?}");
    }
    assert_eq!(chunked("3\nabc\r\n0\r\n\r\n"), Some(Fault::LineEnd));
    assert_eq!(chunked("3\r\nabcd\r\n0\r\n\r\n"), Some(Fault::ChunkEnd));
    let extended = |length| chunked(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(length)));
    assert_eq!(extended(255), None);
    assert_eq!(extended(256), Some(Fault::ChunkExtensions));
    for name in ["Transfer-Encoding", "content-length", "Host"] {
        let body = format!("0\r\n{name}: 1\r\n\r\n");
        assert_eq!(chunked(&body), Some(Fault::Trailer));
    }
}

#[test]
fn what_is_wrong_is_not_let_through() {
    let sound = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let wrong = [&sound[..], b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"].concat();
    let (at, _) = Scan::default().read(&wrong).unwrap_err();
    assert_eq!(at, sound.len() + b"GET / HTTP/1.1\r\n".len());
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_judged_alike_and_little_is_kept(
        head in "(GET / HTTP/1.1\r\n)?([tTcChH][a-z-]{0,20}: ?[0-9a-z]{0,9}\r?\n){0,4}(\r\n)?",
        rest in proptest::collection::vec(any::<u8>(), 0..2000),
        size in 1..300_usize,
    ) {
        let bytes = [head.as_bytes(), &rest].concat();
        match (read(&bytes, size), read(&bytes, bytes.len().max(1))) {
            (Ok(a), Ok(b)) => {
                prop_assert_eq!(a.part, b.part);
                prop_assert!(a.begun.len() <= KEPT);
            }
            (Err(_), Err(_)) => {}
            (a, b) => prop_assert!(false, "{:?} and {:?}", a, b),
        }
    }
}
