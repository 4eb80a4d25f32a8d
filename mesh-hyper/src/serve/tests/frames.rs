//! HTTP/2 as frames, section by section of RFC 9113, in the manner of h2spec: what breaks the
//! protocol ends the stream or the connection with the code that the section asks for, and reaches
//! no handler.
//!
//! The crate `h2` is more general than the RFC in two ways, which cost a peer more than it asks for, and
//! nobody else anything: whatever it cannot decode ends the connection with PROTOCOL_ERROR, also where
//! a section has a code of its own, or where the end of the stream would do (section 5.4.2 lets it).
//! It is more lenient in two, which change no request: a preface without SETTINGS behind it, and
//! pseudo-headers in trailers, which nobody sees.
//!
//! Floods are in [`floods`](super::floods), limits in [`limits`](super::limits).

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};

use super::{floods::*, harness::Running, limits::try_frame_of};

const DATA: u8 = 0;
const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
const WHOLE: u8 = END_STREAM | END_HEADERS;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// The last thing that is sent: who answers it has read all that came before.
const LAST: &[u8] = b"the last";

/// What becomes of a connection and its only stream that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// GOAWAY with this code, and the connection is closed.
    Connection(u32),
    /// RST_STREAM with this code; the connection goes on.
    Stream(u32),
    /// A response, of which this is the first byte: the index of its status in the static table.
    Answer(u8),
    /// Nothing: the connection goes on.
    Ignored,
}

use End::{Answer, Connection, Ignored, Stream};

const OK: End = Answer(0x88);
const BAD_REQUEST: End = Answer(0x8c);

/// What is sent, in words and in frames, and how it may end.
type Row<'a> = (&'a str, Vec<Vec<u8>>, &'a [End]);

/// Sends these frames after the preface, and looks at all that comes back.
async fn end(running: &Running, frames: &[Vec<u8>]) -> End {
    end_of(open(running).await, &frames.concat()).await
}

async fn end_of(mut io: DuplexStream, bytes: &[u8]) -> End {
    // It may be closed before all is written.
    let _ = io.write_all(bytes).await;
    let _ = io.write_all(&frame(PING, 0, 0, LAST)).await;
    let mut end = Ignored;
    let (mut goes_on, mut closed) = (false, false);
    // In paused time: until nobody has anything to do.
    while let Ok(next) = timeout(Duration::from_secs(1), try_frame_of(&mut io)).await {
        match next {
            Some((PING, ACK, 0, payload)) if payload == LAST => goes_on = true,
            Some((GOAWAY, _, 0, payload)) => end = Connection(number(&payload[4..8])),
            Some((RST_STREAM, _, _, payload)) => end = Stream(number(&payload)),
            Some((HEADERS, _, _, payload)) if end == Ignored => end = Answer(payload[0]),
            Some(_) => {}
            None => {
                closed = true;
                break;
            }
        }
    }
    match end {
        Connection(_) => assert!(closed, "{end:?} leaves the connection open"),
        _ => assert!(goes_on && !closed, "{end:?}, and the connection is closed"),
    }
    end
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

/// Sends what each row says; the end must be one of the row's.
async fn table(rows: Vec<Row<'_>>) {
    let (running, handlers) = server().await;
    let mut wrong = Vec::new();
    for (what, frames, allowed) in rows {
        let begun = handlers.begun();
        let end = end(&running, &frames).await;
        let stricter = end == Connection(PROTOCOL_ERROR)
            && allowed
                .iter()
                .any(|end| matches!(end, Connection(_) | Stream(_)));
        if !allowed.contains(&end) && !stricter {
            wrong.push(format!("{what}: {end:?} instead of {allowed:?}"));
        }
        if end == BAD_REQUEST && handlers.begun() > begun {
            wrong.push(format!("{what}: reached the handler"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    is_served(&running).await;
}

/// The fields, as literals without indexing or Huffman coding (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short") & 0x7f);
            block.extend(text.as_bytes());
        }
    }
    block
}

const HEAD: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/good"),
    (":authority", "a"),
];

/// A request with more fields.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&HEAD, more].concat())
}

fn good(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &with(&[]))
}

/// A request whose body is still to come, and which nobody answers before that.
fn slow(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, REQUEST)
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

#[tokio::test(start_paused = true)]
async fn section_3_4_the_preface() {
    let (running, handlers) = server().await;
    let mut io = running.connect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // It has to have SETTINGS behind it. h2 does not insist on that.
    io.write_all(preface).await.unwrap();
    assert_eq!(end_of(io, &good(1)).await, OK);
    // Any other is none of HTTP/2's.
    let mut io = running.connect();
    let other = preface.map(|byte| if byte == b'M' { b'N' } else { byte });
    io.write_all(&other).await.unwrap();
    let mut got = Vec::new();
    io.read_to_end(&mut got).await.unwrap();
    let got = String::from_utf8_lossy(&got);
    assert!(got.is_empty() || got.starts_with("HTTP/1.1 400"), "{got}");
    assert_eq!(handlers.begun(), 1);
    is_served(&running).await;
}

#[tokio::test(start_paused = true)]
async fn section_4_frames_and_field_blocks() {
    let large = vec![0; (16 << 10) + 1];
    table(vec![
        (
            "4.1 an unknown type",
            vec![frame(0x16, 0, 0, b"x"), good(1)],
            &[OK],
        ),
        (
            "4.1 flags that are not defined",
            vec![frame(PING, 0xfe, 0, &[0; 8])],
            &[Ignored],
        ),
        (
            "4.1 the reserved bit",
            vec![frame(PING, 0, 1 << 31, &[0; 8])],
            &[Ignored],
        ),
        (
            "4.2 DATA that is too large",
            vec![slow(1), frame(DATA, END_STREAM, 1, &large)],
            &[Connection(FRAME_SIZE_ERROR), Stream(FRAME_SIZE_ERROR)],
        ),
        (
            "4.2 HEADERS that are too large",
            vec![frame(HEADERS, WHOLE, 1, &large)],
            &[Connection(FRAME_SIZE_ERROR)],
        ),
        (
            "4.3 an index that does not exist",
            vec![frame(HEADERS, WHOLE, 1, &[0xff, 0x80, 0x7f])],
            &[Connection(COMPRESSION_ERROR)],
        ),
        (
            "4.3 a literal that is cut short",
            vec![frame(HEADERS, WHOLE, 1, &[0, 5, b'a'])],
            &[Connection(COMPRESSION_ERROR)],
        ),
        (
            "4.3 a table larger than the settings say (RFC 7541 section 6.3)",
            vec![frame(HEADERS, WHOLE, 1, &[0x3f, 0xff, 0xff, 0x7f])],
            &[Connection(COMPRESSION_ERROR)],
        ),
        (
            "4.3 DATA within a field block",
            vec![
                frame(HEADERS, END_STREAM, 1, REQUEST),
                frame(DATA, 0, 1, b""),
            ],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "4.3 PING within a field block",
            vec![
                frame(HEADERS, END_STREAM, 1, REQUEST),
                frame(PING, 0, 0, &[0; 8]),
            ],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "4.3 an unknown type within a field block",
            vec![
                frame(HEADERS, END_STREAM, 1, REQUEST),
                frame(0x16, 0, 0, b""),
            ],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "4.3 HEADERS of another stream within a field block",
            vec![frame(HEADERS, END_STREAM, 1, REQUEST), good(3)],
            &[Connection(PROTOCOL_ERROR)],
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn section_5_streams() {
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let one = 1_u32.to_be_bytes();
    table(vec![
        (
            "5.1 DATA on an idle stream",
            vec![frame(DATA, END_STREAM, 1, b"x")],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "5.1 RST_STREAM on an idle stream",
            vec![reset(1)],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "5.1 WINDOW_UPDATE on an idle stream",
            vec![frame(WINDOW_UPDATE, 0, 1, &one)],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "5.1 CONTINUATION on an idle stream",
            vec![frame(CONTINUATION, END_HEADERS, 1, REQUEST)],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "5.1 DATA on a half-closed stream",
            vec![
                frame(HEADERS, WHOLE, 1, REQUEST),
                frame(DATA, END_STREAM, 1, b"x"),
            ],
            &[Stream(STREAM_CLOSED), Connection(STREAM_CLOSED)],
        ),
        (
            "5.1 HEADERS on a half-closed stream",
            vec![
                frame(HEADERS, WHOLE, 1, REQUEST),
                frame(HEADERS, WHOLE, 1, REQUEST),
            ],
            &[
                Stream(STREAM_CLOSED),
                Connection(STREAM_CLOSED),
                Connection(PROTOCOL_ERROR),
            ],
        ),
        (
            "5.1 CONTINUATION on a half-closed stream",
            vec![
                frame(HEADERS, WHOLE, 1, REQUEST),
                frame(CONTINUATION, END_HEADERS, 1, REQUEST),
            ],
            &[Connection(STREAM_CLOSED), Connection(PROTOCOL_ERROR)],
        ),
        (
            "5.1.1 an even number",
            vec![good(2)],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "5.1.1 a number that is not greater",
            vec![good(5), good(3)],
            &[Connection(PROTOCOL_ERROR), Connection(STREAM_CLOSED)],
        ),
        (
            "5.3 a stream that depends on itself",
            vec![slow(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 16])],
            // RFC 9113 has no dependencies any more.
            &[Ignored, Stream(PROTOCOL_ERROR), Connection(PROTOCOL_ERROR)],
        ),
        (
            "5.3 HEADERS that depend on themselves",
            vec![frame(
                HEADERS,
                WHOLE | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 16], &with(&[])[..]].concat(),
            )],
            &[OK, Stream(PROTOCOL_ERROR), Connection(PROTOCOL_ERROR)],
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn section_6_each_type_of_frame() {
    let cancel = 8_u32.to_be_bytes();
    let most = (u32::MAX >> 1).to_be_bytes();
    table(vec![
        (
            "6.1 DATA on stream 0",
            vec![frame(DATA, 0, 0, b"x")],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.1 padding longer than DATA",
            vec![slow(1), frame(DATA, PADDED | END_STREAM, 1, &[6, 0, 0])],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.2 HEADERS on stream 0",
            vec![good(0)],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.2 padding longer than HEADERS",
            vec![frame(HEADERS, WHOLE | PADDED, 1, &[200, 0x82])],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.3 PRIORITY on stream 0",
            vec![frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 16])],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.3 PRIORITY that is not 5 bytes long",
            vec![slow(1), frame(PRIORITY, 0, 1, &[0; 4])],
            &[Stream(FRAME_SIZE_ERROR), Connection(FRAME_SIZE_ERROR)],
        ),
        (
            "6.4 RST_STREAM on stream 0",
            vec![frame(RST_STREAM, 0, 0, &cancel)],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.4 RST_STREAM that is not 4 bytes long",
            vec![slow(1), frame(RST_STREAM, 0, 1, &cancel[1..])],
            &[Connection(FRAME_SIZE_ERROR)],
        ),
        (
            "6.5 SETTINGS on a stream",
            vec![frame(SETTINGS, 0, 1, &[])],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.5 ACK with a payload",
            vec![frame(SETTINGS, ACK, 0, &[0; 6])],
            &[Connection(FRAME_SIZE_ERROR)],
        ),
        (
            "6.5 a length that is no multiple of 6",
            vec![frame(SETTINGS, 0, 0, &[0; 5])],
            &[Connection(FRAME_SIZE_ERROR)],
        ),
        (
            "6.5.2 ENABLE_PUSH of 2",
            vec![setting(2, 2)],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.5.2 INITIAL_WINDOW_SIZE over 2^31-1",
            vec![setting(4, 1 << 31)],
            &[Connection(FLOW_CONTROL_ERROR)],
        ),
        (
            "6.5.2 MAX_FRAME_SIZE under 2^14",
            vec![setting(5, (1 << 14) - 1)],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.5.2 MAX_FRAME_SIZE over 2^24-1",
            vec![setting(5, 1 << 24)],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.5.2 an unknown setting",
            vec![setting(0xff, 7), good(1)],
            &[OK],
        ),
        (
            "6.6 PUSH_PROMISE of a client",
            vec![
                slow(1),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    &[&[0, 0, 0, 2], REQUEST].concat(),
                ),
            ],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.7 PING on a stream",
            vec![frame(PING, 0, 1, &[0; 8])],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.7 PING that is not 8 bytes long",
            vec![frame(PING, 0, 0, &[0; 6])],
            &[Connection(FRAME_SIZE_ERROR)],
        ),
        (
            "6.7 an answer to no PING",
            vec![frame(PING, ACK, 0, b"unasked!")],
            &[Ignored],
        ),
        (
            "6.8 GOAWAY on a stream",
            vec![frame(GOAWAY, 0, 1, &[0; 8])],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.9 WINDOW_UPDATE of 0 for the connection",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 4])],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.9 WINDOW_UPDATE of 0 for a stream",
            vec![slow(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])],
            &[Stream(PROTOCOL_ERROR), Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.9 WINDOW_UPDATE that is not 4 bytes long",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            &[Connection(FRAME_SIZE_ERROR)],
        ),
        (
            "6.9.1 a window of the connection over 2^31-1",
            vec![frame(WINDOW_UPDATE, 0, 0, &most)],
            &[Connection(FLOW_CONTROL_ERROR)],
        ),
        (
            "6.9.1 a window of a stream over 2^31-1",
            vec![slow(1), frame(WINDOW_UPDATE, 0, 1, &most)],
            &[Stream(FLOW_CONTROL_ERROR), Connection(FLOW_CONTROL_ERROR)],
        ),
        (
            "6.9.2 a window that a setting makes too large",
            vec![
                slow(1),
                frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
                setting(4, u32::MAX >> 1),
            ],
            &[Connection(FLOW_CONTROL_ERROR)],
        ),
        (
            "6.10 CONTINUATION on stream 0",
            vec![
                frame(HEADERS, END_STREAM, 1, REQUEST),
                frame(CONTINUATION, END_HEADERS, 0, &[]),
            ],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.10 CONTINUATION of another stream",
            vec![
                frame(HEADERS, END_STREAM, 1, REQUEST),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.10 CONTINUATION after the end",
            vec![good(1), frame(CONTINUATION, END_HEADERS, 1, &[])],
            &[Connection(PROTOCOL_ERROR)],
        ),
        (
            "6.10 a block in three frames",
            vec![
                frame(HEADERS, END_STREAM, 1, &with(&[])[..9]),
                frame(CONTINUATION, 0, 1, &with(&[])[9..20]),
                frame(CONTINUATION, END_HEADERS, 1, &with(&[])[20..]),
            ],
            &[OK],
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn section_8_requests() {
    // A stream error, or an answer of the 4xx kind (section 8.1.1).
    const MALFORMED: &[End] = &[Stream(PROTOCOL_ERROR), BAD_REQUEST];
    let request = |fields: &[(&str, &str)]| vec![frame(HEADERS, WHOLE, 1, &block(fields))];
    let more = |fields: &[(&str, &str)]| vec![frame(HEADERS, WHOLE, 1, &with(fields))];
    let length = |length: &str, data: &[u8]| {
        let head = with(&[("content-length", length)]);
        vec![
            frame(HEADERS, END_HEADERS, 1, &head),
            frame(DATA, END_STREAM, 1, data),
        ]
    };
    let slow = || frame(HEADERS, END_HEADERS, 1, REQUEST);
    table(vec![
        (
            "8.1 trailers",
            vec![slow(), frame(HEADERS, WHOLE, 1, &block(&[("x", "y")]))],
            &[Ignored],
        ),
        (
            "8.1 trailers that do not end the stream",
            vec![
                slow(),
                frame(HEADERS, END_HEADERS, 1, &block(&[("x", "y")])),
            ],
            &[Stream(PROTOCOL_ERROR), Connection(PROTOCOL_ERROR)],
        ),
        (
            "8.1 trailers with a pseudo-header",
            vec![slow(), frame(HEADERS, WHOLE, 1, &block(&[(":path", "/x")]))],
            // h2 leaves it out.
            &[Ignored],
        ),
        (
            "8.1.1 content-length over what comes",
            length("9", b"hello"),
            MALFORMED,
        ),
        (
            "8.1.1 content-length under what comes",
            length("3", b"hello"),
            MALFORMED,
        ),
        (
            "8.1.1 content-length that is none",
            length("x", b"hello"),
            MALFORMED,
        ),
        (
            "8.1.1 content-length and no body",
            more(&[("content-length", "3")]),
            MALFORMED,
        ),
        (
            "8.2.1 a name in upper case",
            more(&[("X-Upper", "a")]),
            MALFORMED,
        ),
        (
            "8.2.1 a name with a space",
            more(&[("x y", "a")]),
            MALFORMED,
        ),
        (
            "8.2.1 a name with a colon",
            more(&[("x:y", "a")]),
            MALFORMED,
        ),
        ("8.2.1 an empty name", more(&[("", "a")]), MALFORMED),
        ("8.2.1 a value with CR", more(&[("x", "a\rb")]), MALFORMED),
        ("8.2.1 a value with LF", more(&[("x", "a\nb")]), MALFORMED),
        ("8.2.1 a value with NUL", more(&[("x", "a\0b")]), MALFORMED),
        (
            "8.2.2 connection",
            more(&[("connection", "keep-alive")]),
            MALFORMED,
        ),
        ("8.2.2 keep-alive", more(&[("keep-alive", "1")]), MALFORMED),
        (
            "8.2.2 proxy-connection",
            more(&[("proxy-connection", "close")]),
            MALFORMED,
        ),
        (
            "8.2.2 transfer-encoding",
            more(&[("transfer-encoding", "chunked")]),
            MALFORMED,
        ),
        (
            "8.2.2 upgrade",
            more(&[("upgrade", "websocket")]),
            MALFORMED,
        ),
        ("8.2.2 te of trailers", more(&[("te", "trailers")]), &[OK]),
        (
            "8.2.2 te of anything else",
            more(&[("te", "gzip")]),
            MALFORMED,
        ),
        (
            "8.3 an unknown pseudo-header",
            request(&[&HEAD[..], &[(":x", "a")]].concat()),
            MALFORMED,
        ),
        (
            "8.3 that of a response",
            request(&[&HEAD[..], &[(":status", "200")]].concat()),
            MALFORMED,
        ),
        (
            "8.3 one after a regular field",
            request(&[&HEAD[..3], &[("x", "a")], &HEAD[3..]].concat()),
            MALFORMED,
        ),
        ("8.3.1 no :method", request(&HEAD[1..]), MALFORMED),
        (
            "8.3.1 no :scheme",
            request(&[&HEAD[..1], &HEAD[2..]].concat()),
            MALFORMED,
        ),
        (
            "8.3.1 no :path",
            request(&[&HEAD[..2], &HEAD[3..]].concat()),
            MALFORMED,
        ),
        (
            "8.3.1 an empty :path",
            request(&[HEAD[0], HEAD[1], (":path", ""), HEAD[3]]),
            MALFORMED,
        ),
        (
            "8.3.1 :method twice",
            request(&[&HEAD[..1], &HEAD[..]].concat()),
            MALFORMED,
        ),
        (
            "8.3.1 :scheme twice",
            request(&[&HEAD[1..2], &HEAD[..]].concat()),
            MALFORMED,
        ),
        (
            "8.3.1 :path twice",
            request(&[&HEAD[2..3], &HEAD[..]].concat()),
            MALFORMED,
        ),
        (
            "8.3.1 :authority twice",
            request(&[&HEAD[3..], &HEAD[..]].concat()),
            MALFORMED,
        ),
        ("8.3.1 another host", more(&[("host", "b")]), MALFORMED),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_whose_answers_nobody_reads_is_held_back() {
    let (running, _) = server().await;
    let mut io = open(&running).await;
    let ping = frame(PING, 0, 0, &[0; 8]);
    let mut written = 0;
    let all = async {
        while written < 1 << 22 && io.write_all(&ping).await.is_ok() {
            written += ping.len();
        }
    };
    // In paused time: until nobody has anything to do.
    let _ = timeout(Duration::from_secs(1), all).await;
    assert!(written < 1 << 20, "{written}");
    is_served(&running).await;
}
