//! Distinguished names as text.

use std::fmt::Write;

use x509_parser::{
    asn1_rs::{Any, Tag, ToDer},
    x509::{AttributeTypeAndValue, X509Name},
};

/// `name` as RFC 2253 writes it, and as gRPC C-core and Envoy compare it, which is what OpenSSL
/// makes of it with `-nameopt RFC2253`: the last part first, `,` between parts and `+` within one;
/// control characters and bytes of UTF-8 beyond ASCII as `\C3`. Attributes that have no short name
/// are dotted numbers, with their DER in hexadecimal.
pub(super) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter().collect();
    for part in parts.iter().rev() {
        let attributes: Vec<_> = part.iter().collect();
        for (index, attribute) in attributes.iter().rev().enumerate() {
            if !text.is_empty() {
                text.push(if index == 0 { ',' } else { '+' });
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    let name = short_name(&oid);
    text.push_str(name.unwrap_or(&oid));
    text.push('=');
    match name.and_then(|_| string(value)) {
        Some(value) => push_escaped(text, &value),
        None => push_der(text, value),
    }
}

/// A value that is text; `None`: it is something else, or not valid.
fn string(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => String::from_utf8(value.data.to_vec()).ok(),
        // One byte a character.
        Tag::NumericString
        | Tag::PrintableString
        | Tag::T61String
        | Tag::Ia5String
        | Tag::UtcTime
        | Tag::GeneralizedTime
        | Tag::VisibleString => Some(value.data.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let (pairs, []) = value.data.as_chunks::<2>() else {
                return None;
            };
            let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair).into());
            units.map(char::from_u32).collect()
        }
        Tag::UniversalString => {
            let (quads, []) = value.data.as_chunks::<4>() else {
                return None;
            };
            let points = quads.iter().map(|quad| u32::from_be_bytes(*quad));
            points.map(char::from_u32).collect()
        }
        _ => None,
    }
}

/// RFC 2253 section 2.4.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(byte.into());
            }
            b' ' if index == 0 || index == last => text.push_str("\\ "),
            b'#' if index == 0 => text.push_str("\\#"),
            b' '..=b'~' => text.push(byte.into()),
            _ => push_hex(text, "\\", &[byte]),
        }
    }
}

fn push_der(text: &mut String, value: &Any<'_>) {
    text.push('#');
    // What was parsed can be written.
    let der = value.to_der_vec().unwrap_or_default();
    push_hex(text, "", &der);
}

fn push_hex(text: &mut String, prefix: &str, bytes: &[u8]) {
    for byte in bytes {
        // A string takes everything.
        let _ = write!(text, "{prefix}{byte:02X}");
    }
}

/// OpenSSL's names of attributes that stand in subjects.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.13" => "description",
        "2.5.4.15" => "businessCategory",
        "2.5.4.17" => "postalCode",
        "2.5.4.41" => "name",
        "2.5.4.42" => "GN",
        "2.5.4.43" => "initials",
        "2.5.4.44" => "generationQualifier",
        "2.5.4.46" => "dnQualifier",
        "2.5.4.65" => "pseudonym",
        "2.5.4.97" => "organizationIdentifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "1.2.840.113549.1.9.2" => "unstructuredName",
        "1.3.6.1.4.1.311.60.2.1.1" => "jurisdictionL",
        "1.3.6.1.4.1.311.60.2.1.2" => "jurisdictionST",
        "1.3.6.1.4.1.311.60.2.1.3" => "jurisdictionC",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    const CN: &[u8] = &[0x55, 4, 3];
    const O: &[u8] = &[0x55, 4, 10];
    const UTF8: u8 = 12;

    /// The number, the kind of string in DER, and the value.
    type Attribute<'a> = (&'a [u8], u8, &'a [u8]);

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).expect("short");
        assert!(length < 128);
        [&[tag, length], content].concat()
    }

    /// The text of a name of these parts.
    fn text(parts: &[&[Attribute<'_>]]) -> String {
        let part = |attributes: &&[Attribute<'_>]| {
            let attributes = attributes
                .iter()
                .flat_map(|(oid, tag, value)| tlv(0x30, &[tlv(6, oid), tlv(*tag, value)].concat()));
            tlv(0x31, &attributes.collect::<Vec<_>>())
        };
        of(&tlv(0x30, &parts.iter().flat_map(part).collect::<Vec<_>>()))
    }

    fn of(der: &[u8]) -> String {
        let (rest, name) = X509Name::from_der(der).expect("a name");
        assert!(rest.is_empty());
        rfc2253(&name)
    }

    /// Made by `openssl req -multivalue-rdn` of OpenSSL 3.0, and printed by `openssl x509 -subject
    /// -nameopt RFC2253`.
    #[test]
    fn a_name_reads_as_openssl_prints_it() {
        let der = concat!(
            "3066310b3009060355040613025553310b300906035504080c02434131133011060355040a0c",
            "0a41636d652c20496e632e311b3008060355040b0c0161300f060a0992268993f22c6401010c",
            "01623118301606035504030c0f237820c3a920227122203c7a3e3b20",
        );
        let bytes = |at| u8::from_str_radix(&der[at..at + 2], 16).expect("hexadecimal");
        let der: Vec<_> = (0..der.len()).step_by(2).map(bytes).collect();
        assert_eq!(
            of(&der),
            r#"CN=\#x \C3\A9 \"q\" \<z\>\;\ ,UID=b+OU=a,O=Acme\, Inc.,ST=CA,C=US"#
        );
    }

    #[test]
    fn parts_are_reversed() {
        assert_eq!(text(&[]), "");
        assert_eq!(
            text(&[&[(O, UTF8, b"shop")], &[(CN, UTF8, b"greeter")]]),
            "CN=greeter,O=shop"
        );
        assert_eq!(
            text(&[&[(O, UTF8, b"a"), (CN, UTF8, b"b")], &[(CN, UTF8, b"c")]]),
            "CN=c,CN=b+O=a"
        );
    }

    #[test]
    fn values_are_escaped() {
        let value = |value: &[u8]| text(&[&[(CN, UTF8, value)]]);
        assert_eq!(value(b""), "CN=");
        assert_eq!(value(b" "), r"CN=\ ");
        assert_eq!(value(b" a b "), r"CN=\ a b\ ");
        assert_eq!(value(b"#a#"), r"CN=\#a#");
        assert_eq!(value(b"a=b\\c+d,e"), r"CN=a=b\\c\+d\,e");
        assert_eq!(value(b"a\nb\x7f\0"), r"CN=a\0Ab\7F\00");
    }

    #[test]
    fn strings_of_all_kinds_are_read() {
        let value = |tag, value: &[u8]| text(&[&[(CN, tag, value)]]);
        assert_eq!(value(19, b"a"), "CN=a");
        // T61String, taken for Latin-1.
        assert_eq!(value(20, b"\xe9"), r"CN=\C3\A9");
        assert_eq!(value(30, b"\0a\x20\xac"), r"CN=a\E2\82\AC");
        assert_eq!(value(28, b"\0\0\0a"), "CN=a");
    }

    #[test]
    fn what_is_no_text_is_shown_in_der() {
        // 1.2.3.4 has no short name, and an OCTET STRING is no text.
        assert_eq!(
            text(&[&[(&[0x2a, 3, 4], UTF8, b"hi")], &[(CN, 4, b"\xab")]]),
            "CN=#0401AB,1.2.3.4=#0C026869"
        );
        assert_eq!(text(&[&[(CN, UTF8, b"\xff")]]), "CN=#0C01FF");
        assert_eq!(text(&[&[(CN, 30, b"a")]]), "CN=#1E0161");
    }
}
