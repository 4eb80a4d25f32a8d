use proptest::prelude::*;
use prost::Message as _;

use super::{super::test_support::lines, *};

static LEAF: Message = Message {
    name: "test.Leaf",
    fields: &[
        Field::enforced(1, "kept"),
        Field::approximated(2, "nearly", "by half"),
        Field::ignored(3, "left", "no need"),
        Field::enforced(5, "web").http_only("unseen"),
        Field::repeated(6, "webs", &TREE).http_only("unseen"),
        Field::restricts(4, "guarded", "who may enter"),
    ],
};

/// Holds itself, so that it can be as deep as one likes.
static TREE: Message = Message {
    name: "test.Tree",
    fields: &[
        Field::message(1, "one", &TREE),
        Field::repeated(2, "many", &TREE),
        Field::map(3, "named", &LEAF),
        Field::message(4, "leaf", &LEAF),
        Field::message(5, "any", &ANY),
        Field::map(6, "named_any", &ANY),
    ],
};

struct Known;

impl Extensions for Known {
    fn message(&self, name: &str) -> Option<&'static Message> {
        [&LEAF, &TREE].into_iter().find(|table| table.name == name)
    }

    fn structure(&self, name: &str) -> bool {
        name == "test.Leaf"
    }
}

fn walked(bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut findings = Findings::default();
    walk(&TREE, bytes, &Known, &mut findings).map_err(|error| error.to_string())?;
    Ok(lines(&findings.finish()))
}

fn number(field: u32, value: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(u64::from(field << 3), &mut bytes);
    bytes.push(value);
    bytes
}

fn bytes(field: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(u64::from(field << 3 | 2), &mut bytes);
    prost::encoding::encode_varint(value.len() as u64, &mut bytes);
    bytes.extend_from_slice(value);
    bytes
}

fn any_of(name: &str, value: &[u8]) -> Vec<u8> {
    [
        bytes(1, format!("x.com/{name}").as_bytes()),
        bytes(2, value),
    ]
    .concat()
}

#[test]
fn paths_lead_through_messages_lists_and_maps() {
    let leaf = [number(1, 1), number(2, 1), number(3, 0)].concat();
    let entry = [bytes(1, b"k\"1"), bytes(2, &leaf)].concat();
    let message = [
        bytes(2, b""),
        bytes(2, &bytes(1, &bytes(4, &leaf))),
        bytes(3, &entry),
        number(99, 1),
    ]
    .concat();
    assert_eq!(
        walked(&message).unwrap(),
        [
            "many[1].one.leaf.nearly ~ by half",
            "many[1].one.leaf.left - no need",
            "named[\"k\\\"1\"].nearly ~ by half",
            "named[\"k\\\"1\"].left - no need",
            "#99 - not known to this version",
        ]
    );
}

#[test]
fn a_field_is_reported_once_per_message() {
    let leaf = [number(3, 1), number(3, 2), number(9, 1), number(9, 1)].concat();
    let message = [bytes(4, &leaf), bytes(2, &bytes(4, &leaf))].concat();
    assert_eq!(
        walked(&message).unwrap(),
        [
            "leaf.left - no need",
            "leaf.#9 - not known to this version",
            "many[0].leaf.left - no need",
            "many[0].leaf.#9 - not known to this version",
        ]
    );
}

#[test]
fn extensions_are_walked_with_their_own_table() {
    let typed_struct = |name| any_of("xds.type.v3.TypedStruct", &any_of(name, b""));
    let message = [
        bytes(5, &any_of("test.Leaf", &number(3, 1))),
        bytes(
            6,
            &[bytes(1, b"a"), bytes(2, &any_of("a.B", b"\xff"))].concat(),
        ),
        bytes(
            6,
            &[bytes(1, b"b"), bytes(2, &typed_struct("test.Leaf"))].concat(),
        ),
        bytes(
            6,
            &[bytes(1, b"c"), bytes(2, &typed_struct("test.Tree"))].concat(),
        ),
    ]
    .concat();
    assert_eq!(
        walked(&message).unwrap(),
        [
            "any.left - no need",
            "named_any[\"a\"] - extension \"a.B\" is not known here",
            "named_any[\"c\"] - extension \"test.Tree\" is not known here",
        ]
    );
}

#[test]
fn what_restricts_is_refused() {
    let message = bytes(2, &bytes(4, &number(4, 0)));
    assert_eq!(
        walked(&message).unwrap_err(),
        "many[0].leaf.guarded: not supported, and it restricts who may enter"
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |levels| (0..levels).fold(Vec::new(), |inner, _| bytes(1, &inner));
    assert!(walked(&nested(MAX_DEPTH - 1)).is_ok());
    let error = walked(&nested(MAX_DEPTH)).unwrap_err();
    assert!(
        error.ends_with("one: nested deeper than 64 levels"),
        "{error}"
    );
    // Each extension is a level of its own too.
    let extensions = (0..MAX_DEPTH).fold(Vec::new(), |inner, _| {
        bytes(5, &any_of("test.Tree", &inner))
    });
    assert!(walked(&extensions).unwrap_err().contains("64 levels"));
    // Long before a stack would end.
    assert!(walked(&nested(10_000)).is_err());
}

#[test]
fn the_number_of_fields_is_bounded() {
    let message = [number(99, 1), bytes(2, &number(99, 1))].concat();
    let with_earlier_fields = |fields| {
        let mut walk = Walk {
            extensions: &Known,
            findings: &mut Findings::default(),
            path: Vec::new(),
            fields,
        };
        walk.message(&TREE, &message)
    };
    assert_eq!(with_earlier_fields(MAX_FIELDS - 3), Ok(()));
    assert_eq!(
        with_earlier_fields(MAX_FIELDS - 2).unwrap_err().to_string(),
        format!("the resource has more than {MAX_FIELDS} fields")
    );
}

#[test]
fn the_number_of_findings_is_bounded() {
    let many: Vec<u8> = (100..100 + 2 * MAX_FINDINGS as u32)
        .flat_map(|field| number(field, 1))
        .collect();
    let findings = walked(&many).unwrap();
    assert_eq!(findings.len(), MAX_FINDINGS + 1);
    assert_eq!(
        findings.last().unwrap(),
        " - 128 more findings are left out: 128 are listed, 8 of each field"
    );
}

#[test]
fn a_note_takes_the_place_of_what_the_table_says() {
    let mut findings = Findings::default();
    walk(&TREE, &bytes(4, &number(3, 1)), &Known, &mut findings).unwrap();
    findings.note("leaf.left", Treatment::Approximated, "after all".into());
    findings.note("leaf.kept", Treatment::Ignored, "not now".into());
    assert_eq!(
        lines(&findings.finish()),
        ["leaf.left ~ after all", "leaf.kept - not now"]
    );
}

#[test]
fn errors_of_the_wire_name_the_place() {
    for (message, expected) in [
        (bytes(2, &[0x08]), "many[0]: truncated protobuf"),
        (
            number(1, 1),
            "one: malformed protobuf: a number where a message belongs",
        ),
        (bytes(4, &[0x0b]), "leaf: protobuf groups are not supported"),
        (bytes(3, &[0x0f]), "malformed protobuf: wire type 7"),
        (
            bytes(5, &[0x00]),
            "any: malformed protobuf: field number 0 is out of range",
        ),
    ] {
        assert_eq!(walked(&message).unwrap_err(), expected);
    }
}

proptest! {
    /// The reader accepts exactly what prost does, but for groups.
    #[test]
    fn the_reader_agrees_with_prost(message in proptest::collection::vec(any_byte(), 0..40)) {
        let ours = Reader::new(&message).find_map(Result::err);
        if ours != Some(wire::WireError::Group) {
            let theirs = <()>::decode(message.as_slice());
            prop_assert_eq!(ours.is_none(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
        }
    }

    #[test]
    fn walking_never_panics(message in proptest::collection::vec(any_byte(), 0..60)) {
        let _ = walked(&message);
    }
}

/// Bytes with a liking for small numbers: keys and lengths that fit.
fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        3 => 0u8..48,
        1 => proptest::prelude::any::<u8>(),
    ]
}

#[test]
fn what_http_semantics_alone_enforce_is_told_once_and_walked() {
    let inner = bytes(4, &number(3, 1));
    let leaf = [number(5, 1), bytes(6, &[]), bytes(6, &inner)].concat();
    assert_eq!(
        walked(&bytes(4, &leaf)).unwrap(),
        [
            "leaf.web h unseen",
            "leaf.webs h unseen",
            "leaf.webs[1].leaf.left - no need",
        ]
    );
}

#[test]
fn what_is_in_force_somewhere_leaves_room_for_what_is_not() {
    let mut findings = Findings::default();
    for index in 0..MAX_FINDINGS {
        findings.push(format!("h{index}"), Treatment::HttpOnly, String::new());
    }
    for index in 0..MAX_FINDINGS - MAX_HTTP_ONLY_FINDINGS {
        findings.push(format!("i{index}"), Treatment::Ignored, String::new());
    }
    let listed = findings.finish();
    let ignored = listed
        .iter()
        .filter(|finding| finding.path.starts_with('i'));
    assert_eq!(ignored.count(), MAX_FINDINGS - MAX_HTTP_ONLY_FINDINGS);
    let left_out = MAX_FINDINGS - MAX_HTTP_ONLY_FINDINGS;
    let last = &listed.last().unwrap().note;
    assert!(
        last.starts_with(&format!("{left_out} more findings")),
        "{last}"
    );
}
