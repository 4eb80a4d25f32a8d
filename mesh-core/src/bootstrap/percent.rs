//! Percent-encoding (RFC 3986 section 2.1).

use std::borrow::Cow;

/// Encodes what may not stand in the path of a URI (section 3.3); `/` stays.
pub(super) fn encode_path(text: &str) -> Cow<'_, str> {
    encode(text, b":@/")
}

/// Encodes what may not stand in the authority of a URI (section 3.2).
pub(super) fn encode_authority(text: &str) -> Cow<'_, str> {
    encode(text, b":@[]")
}

/// Decodes `text`; `None` if an escape is incomplete or the result is not UTF-8.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn encode<'a>(text: &'a str, also: &[u8]) -> Cow<'a, str> {
    let stays = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || b"-._~".contains(&byte)
            || b"!$&'()*+,;=".contains(&byte)
            || also.contains(&byte)
    };
    if text.bytes().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(encoded)
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}
