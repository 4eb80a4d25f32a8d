//! The store: what is read, written and refused.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use envoy_types::pb::google::protobuf::Any;

use super::*;
use crate::{
    bootstrap::{Bootstrap, ServerConfig},
    config::{Kind, ResourceId},
    control::xds::{AcceptedDump, ConfigDump, ResourceDump, ResourceStatus, type_url::type_url},
};

/// A directory that is removed with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-saved-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn options(&self) -> SnapshotOptions {
        SnapshotOptions::new(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn seed(options: SnapshotOptions, node: &str) -> SnapshotSeed {
    let bootstrap = Bootstrap::builder()
        .server(ServerConfig::insecure("xds.test:1"))
        .node_id(node)
        .build()
        .expect("a server is enough");
    SnapshotSeed {
        options,
        identity: Identity::of(&bootstrap),
    }
}

/// A store that has read what there is.
fn store(options: SnapshotOptions, now: SystemTime) -> Snapshot {
    let store = Snapshot::new(seed(options, "node"), None).expect("options without a key");
    store.load(now);
    store
}

fn id(name: &str) -> ResourceId {
    ResourceId::new(Kind::Cluster, name)
}

/// What a control plane sent.
fn take(store: &Snapshot, name: &str, value: &[u8], now: SystemTime) {
    let resource = ResourceDump {
        id: id(name),
        server: "xds.test:1".into(),
        status: ResourceStatus::Acked,
        accepted: Some(AcceptedDump {
            version: "1".into(),
            last_updated: now,
            raw: Arc::new(Any {
                type_url: type_url(Kind::Cluster).into(),
                value: value.to_vec(),
            }),
            findings: Arc::new([]),
            stale: false,
        }),
        failure: None,
    };
    let dump = ConfigDump {
        server: "xds.test:1".into(),
        node_id: "node".into(),
        resources: vec![resource],
    };
    store.take(&dump, |_| true, now);
}

fn write(store: &Snapshot, now: SystemTime) {
    store
        .write(&BTreeSet::new(), now)
        .expect("it can be written");
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn processes_of_one_node_add_to_what_the_others_have_saved() {
    let scratch = Scratch::new("add");
    let now = SystemTime::now();
    let (first, second) = (store(scratch.options(), now), store(scratch.options(), now));
    take(&first, "first", b"1", now);
    write(&first, now);
    take(&second, "second", b"2", now);
    write(&second, now);
    write(&first, now);
    let third = store(scratch.options(), now);
    assert_eq!(third.status().loaded, 2);
    for name in ["first", "second"] {
        assert!(third.get(&id(name), now).is_some(), "{name}");
    }

    // What one takes away stays away, whatever another has saved of it.
    assert!(first.remove(&id("second"), now));
    write(&first, now);
    assert_eq!(store(scratch.options(), now).status().loaded, 1);
    // Others of another identity have a file of their own.
    let other = Snapshot::new(seed(scratch.options(), "other"), None).unwrap();
    other.load(now);
    let status = other.status();
    assert_eq!((status.loaded, status.refused), (0, None));
    assert_ne!(status.file, first.status().file);
}

#[test]
fn what_is_too_old_is_not_used_and_not_kept() {
    let scratch = Scratch::new("old");
    let now = SystemTime::now();
    let first = store(scratch.options(), now);
    take(&first, "old", b"1", now);
    take(&first, "young", b"1", now + 5 * DAY);
    write(&first, now + 5 * DAY);

    let second = store(scratch.options(), now + 8 * DAY);
    assert_eq!(second.status().loaded, 1);
    assert!(second.get(&id("old"), now + 8 * DAY).is_none());
    assert!(second.get(&id("young"), now + 8 * DAY).is_some());
    // A process may get old, too.
    assert!(second.get(&id("young"), now + 13 * DAY).is_none());

    let third = store(scratch.options(), now + 13 * DAY);
    let status = third.status();
    let refused = status.refused.expect("all of it is too old");
    assert_eq!(refused.kind(), SnapshotErrorKind::TooOld);
    assert!(
        refused
            .to_string()
            .contains("691200 s ago: at most 604800 s"),
        "{refused}"
    );
    assert_eq!(status.loaded, 0);
    let longer = scratch.options().max_age(14 * DAY);
    assert_eq!(store(longer, now + 13 * DAY).status().loaded, 2);
}

#[test]
fn what_is_too_large_is_not_written_and_what_was_there_stays() {
    let scratch = Scratch::new("large");
    let now = SystemTime::now();
    let options = || scratch.options().max_bytes(2000);
    let first = store(options(), now);
    take(&first, "small", &[1; 100], now);
    write(&first, now);
    let before = fs::read(first.status().file).unwrap();
    assert!(before.len() < 2000);

    take(&first, "large", &[1; 2000], now);
    let in_use = BTreeSet::from([id("large"), id("small")]);
    let error = first.write(&in_use, now).unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::TooLarge);
    assert_eq!(first.status().failed, Some(error));
    assert_eq!(fs::read(first.status().file).unwrap(), before);
    // Unused, it is left out in place of all.
    write(&first, now);
    assert_eq!(first.status().failed, None);
    assert_eq!(store(options(), now).status().loaded, 1);

    let small = store(scratch.options().max_bytes(100), now);
    let refused = small.status().refused.expect("more than it may have");
    assert_eq!(refused.kind(), SnapshotErrorKind::TooLarge);
}

#[test]
fn a_file_that_was_refused_is_replaced() {
    let scratch = Scratch::new("replaced");
    let now = SystemTime::now();
    let file = store(scratch.options(), now).status().file;
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(&file, "garbage").unwrap();
    let second = store(scratch.options(), now);
    let refused = second.status().refused.expect("not a snapshot");
    assert_eq!(refused.kind(), SnapshotErrorKind::Format);
    assert!(
        refused.to_string().contains(file.to_str().unwrap()),
        "{refused}"
    );
    assert_eq!(
        fs::read(&file).unwrap(),
        b"garbage",
        "reading changes nothing"
    );
    take(&second, "c", b"1", now);
    write(&second, now);
    assert_eq!(store(scratch.options(), now).status().loaded, 1);
}

#[test]
fn options() {
    let lookup = |value: &'static str| {
        SnapshotOptions::from_lookup(move |name| {
            assert_eq!(name, "MESH_SNAPSHOT_DIRECTORY");
            Some(value.into())
        })
    };
    assert!(lookup("").is_none());
    assert!(SnapshotOptions::from_lookup(|_| None).is_none());
    let options = lookup("/some/where").expect("it is set").key([7; 32]);
    let text = format!("{options:?}");
    assert!(
        text.contains("/some/where") && text.contains("67108864") && text.contains("604800s"),
        "{text}"
    );
    assert!(
        text.contains("has_key: true") && !text.contains("7, 7"),
        "{text}"
    );
    let error = Snapshot::new(seed(options.key("short"), "node"), None).unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::Options);
}

/// Nothing tells the last file from an earlier one, a key neither: its age does, and the documentation
/// says so.
#[test]
fn an_earlier_file_of_ours_that_is_put_back_is_used() {
    let scratch = Scratch::new("back");
    let now = SystemTime::now();
    let first = store(scratch.options(), now);
    take(&first, "c", b"1", now);
    write(&first, now);
    let earlier = fs::read(first.status().file).unwrap();
    take(&first, "c", b"2", now + DAY);
    write(&first, now + DAY);
    let second = store(scratch.options(), now + DAY);
    let value = |store: &Snapshot, now| {
        store
            .get(&id("c"), now)
            .map(|saved| saved.raw.value.clone())
    };
    assert_eq!(value(&second, now + DAY).unwrap(), b"2");

    fs::write(first.status().file, &earlier).unwrap();
    let third = store(scratch.options(), now + DAY);
    assert_eq!(value(&third, now + DAY).unwrap(), b"1");
    let late = store(scratch.options(), now + 8 * DAY);
    assert_eq!(
        late.status().refused.unwrap().kind(),
        SnapshotErrorKind::TooOld
    );
}
