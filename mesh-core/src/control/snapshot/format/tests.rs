use super::*;
use crate::config::Kind;

fn identity(node: &str) -> Identity {
    Identity {
        node_id: node.to_owned(),
        node_cluster: "shop".to_owned(),
        servers: vec!["xds.test:1".to_owned()],
    }
}

fn resources() -> Vec<(ResourceId, Saved)> {
    let saved = |kind: Kind, value: &[u8]| Saved {
        raw: Arc::new(Any {
            type_url: type_url::type_url(kind).to_owned(),
            value: value.to_vec(),
        }),
        version: "7".into(),
        server: "xds.test:1".into(),
        updated: SystemTime::UNIX_EPOCH + Duration::from_secs(5),
        confirmed: SystemTime::UNIX_EPOCH + Duration::from_secs(9),
    };
    Vec::from([
        (
            ResourceId::new(Kind::Listener, "greeter.shop:8080"),
            saved(Kind::Listener, b"listener"),
        ),
        (
            ResourceId::new(Kind::Cluster, "c"),
            saved(Kind::Cluster, &[0xff; 300]),
        ),
    ])
}

#[cfg(feature = "aws-lc-rs")]
fn key(byte: u8) -> Key {
    let crypto = crate::identity::default_crypto_provider();
    Key::new(&[byte; 32], crypto.as_ref()).expect("a key of 32 bytes")
}

#[track_caller]
fn refused(bytes: &[u8], key: Option<&Key>) -> SnapshotErrorKind {
    decode(bytes, &identity("a"), key)
        .expect_err("it is refused")
        .kind()
}

#[test]
fn what_goes_out_comes_back() {
    let all = resources();
    let bytes = encode(&identity("a"), &all, None);
    assert_eq!(decode(&bytes, &identity("a"), None), Ok(all.clone()));
    let sizes: u64 = all.iter().map(|(id, saved)| size(id, saved)).sum();
    assert!(bytes.len() as u64 <= overhead(&identity("a")) + sizes);

    let none = encode(&identity("a"), &[], None);
    assert_eq!(decode(&none, &identity("a"), None), Ok(Vec::new()));
}

#[test]
fn any_byte_that_is_missing_added_or_changed_is_noticed() {
    let bytes = encode(&identity("a"), &resources(), None);
    for length in 0..bytes.len() {
        assert_eq!(
            refused(&bytes[..length], None),
            SnapshotErrorKind::Corrupt,
            "{length}"
        );
    }
    assert_eq!(
        refused(&[&bytes[..], b"x"].concat(), None),
        SnapshotErrorKind::Corrupt
    );
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let kind = refused(&changed, None);
            let expected = match at {
                ..16 => [SnapshotErrorKind::Format, SnapshotErrorKind::Corrupt],
                _ => [SnapshotErrorKind::Corrupt; 2],
            };
            assert!(expected.contains(&kind), "byte {at}: {kind:?}");
        }
    }
}

#[test]
fn what_is_not_a_snapshot_says_so() {
    for text in [&b"{\"xds_servers\": []}"[..], b"MESHSNAQ", &[0; 64]] {
        assert_eq!(refused(text, None), SnapshotErrorKind::Format);
    }
    let mut newer = encode(&identity("a"), &resources(), None);
    newer[8] = 2;
    let error = decode(&newer, &identity("a"), None).unwrap_err();
    assert!(error.to_string().contains("format 2"), "{error}");
}

#[test]
fn resources_of_others_are_foreign() {
    let bytes = encode(&identity("b"), &resources(), None);
    let error = decode(&bytes, &identity("a"), None).unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::Foreign);
    let text = error.to_string();
    assert!(
        text.contains("of node \"b\"") && text.contains("we are node \"a\""),
        "{text}"
    );
    let servers = |servers: &[&str]| Identity {
        servers: servers.iter().map(ToString::to_string).collect(),
        ..identity("a")
    };
    let all = [
        identity("a"),
        identity("b"),
        servers(&["xds.test:2"]),
        servers(&["xds.test:1", "xds.test:2"]),
    ];
    let names: std::collections::BTreeSet<_> = all.iter().map(Identity::fingerprint).collect();
    assert_eq!(names.len(), all.len());
}

/// The checksum is right, and what it is of is not: made by nobody, but by one who means harm.
#[test]
fn a_body_that_cannot_be_read_is_refused() {
    let opening = |records| {
        let mut body = Vec::new();
        let identity = Some(identity("a"));
        write(&Opening { identity, records }, &mut body);
        body
    };
    let with = |change: &dyn Fn(&mut Record)| {
        let (id, saved) = &resources()[0];
        let mut record = record(id, saved);
        change(&mut record);
        let mut body = opening(1);
        write(&record, &mut body);
        refused(&sealed(&body), None)
    };
    assert_eq!(refused(&sealed(b""), None), SnapshotErrorKind::Corrupt);
    assert_eq!(
        refused(&sealed(&[0xff; 40]), None),
        SnapshotErrorKind::Corrupt
    );
    assert_eq!(
        refused(&sealed(&opening(1)), None),
        SnapshotErrorKind::Corrupt
    );
    assert_eq!(
        refused(&sealed(&opening(u64::MAX)), None),
        SnapshotErrorKind::TooLarge
    );
    assert_eq!(
        with(&|record| record.name.clear()),
        SnapshotErrorKind::Corrupt
    );
    assert_eq!(
        with(&|record| record.type_url = "type.googleapis.com/x".into()),
        SnapshotErrorKind::Corrupt
    );
    assert_eq!(
        with(&|record| record.confirmed = u64::MAX),
        SnapshotErrorKind::Corrupt
    );
}

#[cfg(feature = "aws-lc-rs")]
#[test]
fn with_a_key_only_what_it_has_made_is_read() {
    let all = resources();
    let ours = encode(&identity("a"), &all, Some(&key(1)));
    assert_eq!(
        decode(&ours, &identity("a"), Some(&key(1))),
        Ok(all.clone())
    );
    assert!(
        ours.len() as u64
            <= overhead(&identity("a"))
                + all.iter().map(|(id, saved)| size(id, saved)).sum::<u64>()
    );
    // Who has no key takes what the checksum says.
    assert_eq!(decode(&ours, &identity("a"), None), Ok(all.clone()));

    let unauthentic = SnapshotErrorKind::Unauthentic;
    assert_eq!(refused(&ours, Some(&key(2))), unauthentic);
    assert_eq!(
        refused(&encode(&identity("a"), &all, None), Some(&key(1))),
        unauthentic
    );
    // A key comes before the question whose it is: it may have been made up.
    let others = encode(&identity("b"), &all, Some(&key(2)));
    assert_eq!(refused(&others, Some(&key(1))), unauthentic);
    let mut changed = ours.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&changed, Some(&key(1))), unauthentic);
}
