use super::*;

/// A directory that is removed with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-disk-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn disk(&self) -> Disk {
        Disk::new(self.0.join("a.snapshot"), 100, false)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_written_is_read_once_by_each() {
    let scratch = Scratch::new("once");
    let (mut writer, mut reader) = (scratch.disk(), scratch.disk());
    assert_eq!(reader.read().unwrap(), None);
    for text in ["one", "two"] {
        writer.write(text.as_bytes()).unwrap();
        assert_eq!(scratch.names(), ["a.snapshot"]);
        // It knows what it wrote.
        assert_eq!(writer.read().unwrap(), None);
        assert_eq!(reader.read().unwrap().unwrap(), text.as_bytes());
        assert_eq!(reader.read().unwrap(), None);
    }
}

#[test]
fn a_directory_that_is_not_there_is_made() {
    let scratch = Scratch::new("made");
    let file = scratch.0.join("a/b/c.snapshot");
    let mut disk = Disk::new(file.clone(), 100, false);
    assert_eq!(disk.read().unwrap(), None);
    disk.write(b"text").unwrap();
    assert_eq!(fs::read(file).unwrap(), b"text");
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_it_and_one_that_all_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let scratch = Scratch::new("mode");
    let mut disk = scratch.disk();
    disk.write(b"text").unwrap();
    let mode = fs::metadata(disk.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::set_permissions(disk.file(), fs::Permissions::from_mode(0o666)).unwrap();
    let error = scratch.disk().read().unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::Unreadable);
    assert!(error.to_string().contains("everybody may write"), "{error}");
    // A key says who made it.
    let mut with_key = Disk::new(disk.file().to_path_buf(), 100, true);
    assert_eq!(with_key.read().unwrap().unwrap(), b"text");
    // The group may: that is how volumes are shared with a pod.
    fs::set_permissions(disk.file(), fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(scratch.disk().read().unwrap().unwrap(), b"text");
}

#[cfg(unix)]
#[test]
fn a_file_of_another_user_is_refused() {
    let error = owned_by_us(1000, 2000).unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::Unreadable);
    assert!(
        error
            .to_string()
            .contains("of user 1000, and we are user 2000"),
        "{error}"
    );
    owned_by_us(1000, 0).unwrap_err();
    owned_by_us(0, 1000).expect("root may write anything anyway");
    owned_by_us(1000, 1000).unwrap();

    // As it is found, where we may give a file away.
    let scratch = Scratch::new("owner");
    let mut disk = scratch.disk();
    disk.write(b"text").unwrap();
    if std::os::unix::fs::chown(disk.file(), Some(12345), None).is_ok() {
        let error = scratch.disk().read().unwrap_err();
        assert!(error.to_string().contains("of user 12345"), "{error}");
        let mut with_key = Disk::new(disk.file().to_path_buf(), 100, true);
        assert_eq!(with_key.read().unwrap().unwrap(), b"text");
    }
}

#[test]
fn what_is_no_file_or_too_long_is_refused() {
    let scratch = Scratch::new("refused");
    let mut disk = scratch.disk();
    fs::write(disk.file(), [0; 101]).unwrap();
    let error = disk.read().unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::TooLarge);
    assert!(error.to_string().contains("limit of 100 bytes"), "{error}");
    fs::write(disk.file(), [0; 100]).unwrap();
    assert_eq!(disk.read().unwrap().unwrap().len(), 100);
    fs::remove_file(disk.file()).unwrap();
    fs::create_dir(disk.file()).unwrap();
    let error = disk.read().unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::Unreadable);

    let file = scratch.0.join("file");
    fs::write(&file, "").unwrap();
    let mut below = Disk::new(file.join("a.snapshot"), 100, false);
    assert_eq!(
        below.read().unwrap_err().kind(),
        SnapshotErrorKind::Unreadable
    );
    let error = below.write(b"text").unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::Unwritable);
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let scratch = Scratch::new("fails");
    let mut disk = scratch.disk();
    // Nothing can be renamed over a directory with something in it.
    fs::create_dir(disk.file()).unwrap();
    fs::write(disk.file().join("x"), "").unwrap();
    let error = disk.write(b"text").unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::Unwritable);
    assert!(error.to_string().contains("cannot replace it"), "{error}");
    assert_eq!(scratch.names(), ["a.snapshot"]);
}

#[test]
fn what_a_killed_process_left_is_removed_after_an_hour() {
    let scratch = Scratch::new("killed");
    let disk = scratch.disk();
    for name in [".a.snapshot.1.ab.tmp", ".b.snapshot.1.ab.tmp", "a.snapshot"] {
        fs::write(scratch.0.join(name), "").unwrap();
    }
    disk.tidy(Duration::MAX, SystemTime::now());
    assert_eq!(scratch.names().len(), 3);
    disk.tidy(
        Duration::MAX,
        SystemTime::now() + ABANDONED + Duration::from_secs(60),
    );
    assert_eq!(scratch.names(), [".b.snapshot.1.ab.tmp", "a.snapshot"]);
}

/// Whoever reads finds one of the two, whole.
#[test]
fn writers_do_not_get_in_each_others_way() {
    let scratch = Scratch::new("writers");
    let texts = [[b'a'; 100], [b'b'; 100]];
    std::thread::scope(|scope| {
        for text in &texts {
            let mut disk = scratch.disk();
            scope.spawn(move || {
                for _ in 0..50 {
                    disk.write(text).unwrap();
                }
            });
        }
        let mut reader = scratch.disk();
        for _ in 0..200 {
            if let Some(found) = reader.read().unwrap() {
                assert!(texts.iter().any(|text| found == text), "{found:?}");
            }
        }
    });
    assert_eq!(scratch.names(), ["a.snapshot"]);
}

#[test]
fn files_that_other_nodes_have_left_are_removed() {
    let scratch = Scratch::new("left");
    let ours = Disk::new(scratch.0.join(name(1)), 100, false);
    let others = [name(2), "mesh-.snapshot".into(), "mesh-notes".into()];
    for file in others.iter().chain([&name(1)]) {
        fs::write(scratch.0.join(file), "text").unwrap();
    }
    let week = Duration::from_secs(7 * 24 * 3600);
    ours.tidy(week, SystemTime::now() + week / 2);
    assert_eq!(scratch.names().len(), 4);
    ours.tidy(week, SystemTime::now() + week * 2);
    assert_eq!(
        scratch.names(),
        ["mesh-.snapshot".into(), name(1), "mesh-notes".into()],
        "our own, and what is not of this library, stays"
    );
}

/// As Kubernetes mounts volumes, and as someone may have moved the directory.
#[cfg(unix)]
#[test]
fn links_are_followed_and_a_linked_file_is_replaced() {
    use std::os::unix::fs::symlink;

    let scratch = Scratch::new("links");
    let real = scratch.0.join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, scratch.0.join("link")).unwrap();
    let mut disk = Disk::new(scratch.0.join("link/a.snapshot"), 100, false);
    disk.write(b"one").unwrap();
    assert_eq!(fs::read(real.join("a.snapshot")).unwrap(), b"one");

    let linked = scratch.0.join("b.snapshot");
    symlink(real.join("a.snapshot"), &linked).unwrap();
    let mut disk = Disk::new(linked.clone(), 100, false);
    assert_eq!(disk.read().unwrap().unwrap(), b"one");
    disk.write(b"two").unwrap();
    assert_eq!(fs::read(&linked).unwrap(), b"two");
    assert_eq!(
        fs::read(real.join("a.snapshot")).unwrap(),
        b"one",
        "what a link points to is not written through it"
    );
    // A link that leads nowhere, or around, is told.
    let around = scratch.0.join("around.snapshot");
    symlink(&around, &around).unwrap();
    let error = Disk::new(around, 100, false).read().unwrap_err();
    assert_eq!(error.kind(), SnapshotErrorKind::Unreadable);
}
