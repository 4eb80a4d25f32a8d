mod check;

use std::{fs, path::PathBuf, sync::Arc};

use tokio::sync::mpsc;

use super::*;
use crate::{
    config::{Kind, Resource},
    control::{
        Delivery, Event, SourceErrorKind,
        xds::{
            FilterRegistry, PolicyRegistry, ResourceStatus,
            decode::{Decoded, Decoder, Rejected},
        },
    },
};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

fn decode() -> Arc<dyn Decode> {
    Arc::new(Decoder::new(
        FilterRegistry::standard(),
        PolicyRegistry::standard(),
        ["default".to_owned()],
    ))
}

fn cluster(name: &str, timeout: &str) -> String {
    format!(
        "- \"@type\": {CLUSTER}\n  name: {name}\n  type: EDS\n  \
         eds_cluster_config: {{eds_config: {{ads: {{}}}}}}\n  connect_timeout: {timeout}\n"
    )
}

async fn in_code(texts: &[(&str, &str)]) -> Arc<Files> {
    let texts = texts
        .iter()
        .map(|&(name, text)| (name.into(), text.to_owned()));
    let seed = FilesSeed {
        directory: None,
        texts: texts.collect(),
    };
    Files::start(seed, decode(), "node")
        .await
        .expect("good texts")
}

async fn following(directory: &Scratch) -> Arc<Files> {
    let seed = FilesSeed {
        directory: Some(directory.0.clone()),
        texts: BTreeMap::new(),
    };
    Files::start(seed, decode(), "node")
        .await
        .expect("a directory")
}

fn errors(files: &Files) -> Vec<String> {
    let status = files.status();
    let errors = status.iter().flat_map(|file| &file.errors);
    errors.map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_cluster_whose_load_nobody_takes_has_a_finding() {
    let text = cluster("a", "1s") + "  lrs_server: {self: {}}\n";
    let files = in_code(&[("a.yaml", &text)]).await;
    assert_eq!(errors(&files), [""; 0]);
    let (inbox, _news) = mpsc::unbounded_channel();
    let _watch = files.watch(ResourceId::new(Kind::Cluster, "a"), inbox);
    let dump = files.dump();
    let accepted = dump.resources[0].accepted.as_ref().expect("it is good");
    let [finding] = &accepted.findings[..] else {
        panic!("one finding, not {:?}", accepted.findings);
    };
    assert_eq!(finding.path, "lrs_server");
    assert_eq!(finding.treatment, crate::config::Treatment::Ignored);
}

/// A directory that is removed with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// As editors and `git` do: beside it, then in its place.
    fn put(&self, name: &str, text: &str) {
        let beside = self.0.join(format!("{name}.tmp"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.0.join(name)).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Watching {
    news: mpsc::UnboundedReceiver<Delivery>,
    _watch: Watch,
}

impl Watching {
    fn new(files: &Files, name: &str) -> Self {
        let (inbox, news) = mpsc::unbounded_channel();
        let _watch = files.watch(ResourceId::new(Kind::Cluster, name), inbox);
        Self { news, _watch }
    }

    async fn next(&mut self) -> Event {
        self.news.recv().await.expect("news").event
    }

    /// The connect timeout in milliseconds of the next update.
    async fn update(&mut self) -> u128 {
        match self.next().await {
            Event::Update(Resource::Cluster(cluster)) => {
                cluster.connections.connect_timeout.as_millis()
            }
            other => panic!("{other:?}"),
        }
    }

    async fn ambient(&mut self) -> String {
        match self.next().await {
            Event::Ambient(error) => error.text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn is_silent(&mut self) -> bool {
        self.news.try_recv().is_err()
    }
}

#[tokio::test]
async fn yaml_and_json_in_either_spelling_are_the_same_resource() {
    let yaml = cluster("a", "2.5s");
    let json = format!(
        r#"{{"versionInfo": "7", "resources": [{{"@type": "{CLUSTER}",
        	"name": "a", "type": 3, "connectTimeout": "2.500s",
            "edsClusterConfig": {{"edsConfig": {{"ads": {{}}}}}}}}]}}"#
    );
    let wrapped = format!(
        "\"@type\": type.googleapis.com/envoy.service.discovery.v3.Resource\nname: a\nresource:\n  \
         \"@type\": {CLUSTER}\n  name: a\n  type: EDS\n  eds_cluster_config: {{eds_config: {{ads: {{}}}}}}\n  \
         connect_timeout: 2.5s\n---\n# nothing\n"
    );
    for text in [&yaml, &json, &wrapped] {
        let files = in_code(&[("a", text)]).await;
        assert_eq!(Watching::new(&files, "a").update().await, 2500, "{text}");
    }
    let files = in_code(&[("a", &json)]).await;
    assert_eq!(files.status()[0].version.as_deref(), Some("7"));
}

#[tokio::test]
async fn errors_say_file_line_and_field() {
    let files = in_code(&[]).await;
    let head = format!("- \"@type\": {CLUSTER}\n  name: a\n");
    for (text, error) in [
        ("a: [", "f:2:1: "),
        ("a: 1\na: 2", "f:2:1: \"a\" is there twice"),
        ("7", "f:1:1: must be a resource, or a list of them"),
        ("greeter: {}", "f:1:1: greeter: a file has a resource"),
        ("- name: a", "f:1:3: must have an \"@type\""),
        ("- \"@type\": type.googleapis.com/a.B", "f:1:3: "),
        (
            "- \"@type\": type.googleapis.com/google.protobuf.Empty\n  value: {}",
            "f:1:12: @type: ",
        ),
        (
            &format!("{head}  nam: b\n"),
            "f:3:3: cluster \"a\": nam: unrecognized field name 'nam'",
        ),
        (
            &format!("{head}  connect_timeout: soon\n"),
            "f:3:20: cluster \"a\": connect_timeout: ",
        ),
        (
            &format!("{head}  circuit_breakers: {{thresholds: [{{}}, {{max_requests: -1}}]}}\n"),
            "f:3:54: cluster \"a\": circuit_breakers.thresholds[1].max_requests: ",
        ),
        (
            &format!("{head}  type: EDD\n"),
            "f:3:9: cluster \"a\": type: ",
        ),
        (
            &format!("{head}  alt_stat_name: 1.10\n"),
            "f:3:18: cluster \"a\": alt_stat_name: invalid type: floating point",
        ),
        (
            &format!(
                "{head}  transport_socket:\n    name: tls\n    typed_config:\n      \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n      snii: x\n"
            ),
            "f:7:7: cluster \"a\": transport_socket.typed_config.snii: unrecognized",
        ),
        // What a control plane would get as a NACK.
        (
            &format!(
                "{head}  type: EDS\n  eds_cluster_config: {{eds_config: {{ads: {{}}}}}}\n  connectTimeout: 0s\n"
            ),
            "f:5:3: cluster \"a\": connect_timeout: must be more than zero",
        ),
    ] {
        let errors = files.set("f", text).expect_err(text);
        assert!(
            errors[0].to_string().starts_with(error),
            "{}: {text}",
            errors[0]
        );
    }
}

#[tokio::test]
async fn a_bad_text_leaves_what_is_in_force_and_a_removed_one_does_too() {
    let files = in_code(&[("a", &cluster("a", "1s")), ("b", &cluster("b", "1s"))]).await;
    let (mut a, mut b) = (Watching::new(&files, "a"), Watching::new(&files, "b"));
    assert_eq!((a.update().await, b.update().await), (1000, 1000));

    files.set("a", "nonsense").unwrap_err();
    assert!(
        a.ambient()
            .await
            .contains("rejected: a:1:1: must be a resource")
    );
    files.set("b", &cluster("b", "2s")).unwrap();
    assert_eq!(b.update().await, 2000);
    assert!(a.is_silent());
    let dump = files.dump();
    assert_eq!(dump.resources[0].status, ResourceStatus::Nacked);
    assert!(dump.resources[0].accepted.is_some());
    // Who comes now gets both.
    let mut late = Watching::new(&files, "a");
    assert_eq!(late.update().await, 1000);
    assert!(late.ambient().await.contains("must be a resource"));

    files.set("a", &cluster("a", "1s")).unwrap();
    assert_eq!(a.update().await, 1000);
    assert!(files.remove("a") && !files.remove("a"));
    assert!(a.ambient().await.contains("does not exist: in no file"));
    files.set("c", &cluster("a", "3s")).unwrap();
    assert_eq!(a.update().await, 3000);

    let mut nobody = Watching::new(&files, "nobody");
    match nobody.next().await {
        Event::Gone(error) => assert_eq!(error.kind, SourceErrorKind::DoesNotExist),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_belongs_to_the_file_that_has_it() {
    let files = in_code(&[("b", &cluster("x", "1s"))]).await;
    let taken = files
        .set("a", &(cluster("y", "1s") + &cluster("x", "2s")))
        .unwrap_err();
    assert_eq!(
        taken[0].to_string(),
        "a:6:3: cluster \"x\": b:1 has it, too: names are unique"
    );
    // As a whole: not its good part either.
    assert_eq!(files.status()[0].resources, []);
    // A resource that is handed over in one change.
    let directory = Scratch::new("moves");
    directory.put("a.yaml", &cluster("x", "1s"));
    directory.put("b.yaml", &cluster("y", "1s"));
    let errors = || -> Vec<String> {
        let report = check(&directory.0).unwrap();
        let errors = report.files.iter().flat_map(|file| &file.errors);
        errors.map(ToString::to_string).collect()
    };
    assert_eq!(errors(), [""; 0]);
    directory.put("c.yaml", &cluster("y", "1s"));
    assert_eq!(
        errors(),
        ["c.yaml:1:3: cluster \"y\": b.yaml:1 has it, too: names are unique"]
    );
}

#[tokio::test]
async fn a_directory_is_followed_and_what_editors_leave_is_not_read() {
    let directory = Scratch::new("followed");
    directory.put("a.yaml", &cluster("a", "1s"));
    for name in [
        ".a.yaml.swp",
        "a.yaml~",
        "4913",
        "#a.yaml#",
        "a.txt",
        ".hidden.yaml",
    ] {
        fs::write(directory.0.join(name), "nonsense").unwrap();
    }
    let files = following(&directory).await;
    assert_eq!(files.status().len(), 1);
    let mut a = Watching::new(&files, "a");
    assert_eq!(a.update().await, 1000);

    directory.put("a.yaml", &cluster("a", "2s"));
    assert_eq!(a.update().await, 2000);
    directory.put("a.yaml", "- half: [");
    assert!(a.ambient().await.contains("a.yaml:"));
    assert_eq!(errors(&files).len(), 1);
    directory.put("a.yaml", &cluster("a", "3s"));
    assert_eq!(a.update().await, 3000);
    fs::remove_file(directory.0.join("a.yaml")).unwrap();
    assert!(a.ambient().await.contains("in no file"));
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_followed_as_kubernetes_swaps_them() {
    use std::os::unix::fs::symlink;

    let directory = Scratch::new("links");
    let version = |name: &str, timeout: &str| {
        fs::create_dir(directory.0.join(name)).unwrap();
        fs::write(directory.0.join(name).join("a.yaml"), cluster("a", timeout)).unwrap();
        fs::write(directory.0.join(name).join("b.yaml"), cluster("b", timeout)).unwrap();
        symlink(name, directory.0.join("..data_tmp")).unwrap();
        fs::rename(directory.0.join("..data_tmp"), directory.0.join("..data")).unwrap();
    };
    version("..1", "1s");
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), directory.0.join(name)).unwrap();
    }
    let files = following(&directory).await;
    let (mut a, mut b) = (Watching::new(&files, "a"), Watching::new(&files, "b"));
    assert_eq!((a.update().await, b.update().await), (1000, 1000));
    version("..2", "2s");
    assert_eq!((a.update().await, b.update().await), (2000, 2000));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_and_one_that_goes_away_is_not() {
    let directory = Scratch::new("gone");
    directory.put("a.yaml", &cluster("a", "1s"));
    let files = following(&directory).await;
    let mut a = Watching::new(&files, "a");
    a.update().await;
    let mut changes = files.changes();
    fs::rename(&directory.0, directory.0.with_extension("away")).unwrap();
    // Its own removal of a file may be seen first.
    while files.trouble().is_none() {
        changes.changed().await.unwrap();
    }
    fs::rename(directory.0.with_extension("away"), &directory.0).unwrap();

    let seed = FilesSeed {
        directory: Some(directory.0.join("nowhere")),
        texts: BTreeMap::new(),
    };
    let error = Files::start(seed, decode(), "node").await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn a_text_given_while_a_file_of_its_name_is_judged_takes_its_place() {
    let directory = Scratch::new("race");
    let files = following(&directory).await;
    let file = BTreeMap::from([("a".into(), Ok(cluster("a", "1s").into_bytes().into()))]);
    let (judged, removed) = files.shared.judge_directory(&file);
    assert_eq!(judged.len(), 1);
    files.set("a", &cluster("a", "2s")).unwrap();
    let now = SystemTime::now();
    files.shared.apply(Origin::Directory, judged, &removed, now);
    assert_eq!(Watching::new(&files, "a").update().await, 2000);
    // Nor is it removed by a directory that had no such file.
    files
        .shared
        .apply(Origin::Directory, Vec::new(), &["a".into()], now);
    assert_eq!(files.status().len(), 1);
}

#[derive(Debug)]
struct Panics(Arc<dyn Decode>);

impl Decode for Panics {
    fn decode(&self, kind: Kind, raw: &Any) -> Result<Decoded, Rejected> {
        let decoded = self.0.decode(kind, raw);
        let is_to = decoded
            .as_ref()
            .is_ok_and(|decoded| &*decoded.name == "panics");
        assert!(!is_to, "told to");
        decoded
    }
}

#[tokio::test]
async fn a_panic_is_told_and_does_not_end_the_following() {
    let directory = Scratch::new("panics");
    let seed = FilesSeed {
        directory: Some(directory.0.clone()),
        texts: BTreeMap::new(),
    };
    let files = Files::start(seed, Arc::new(Panics(decode())), "node")
        .await
        .unwrap();
    let mut changes = files.changes();
    directory.put("a.yaml", &cluster("panics", "1s"));
    while files.trouble().is_none() {
        changes.changed().await.unwrap();
    }
    let trouble = files.trouble().unwrap();
    assert!(trouble.contains("a panic, which is a bug"), "{trouble}");
    directory.put("a.yaml", &cluster("a", "2s"));
    while files.trouble().is_some() || files.status().is_empty() {
        changes.changed().await.unwrap();
    }
    assert_eq!(Watching::new(&files, "a").update().await, 2000);
}

#[tokio::test]
async fn an_emptied_file_is_refused_and_a_removed_one_is_not() {
    let directory = Scratch::new("emptied");
    directory.put("a.yaml", &cluster("a", "1s"));
    directory.put("never.yaml", "");
    let files = following(&directory).await;
    assert_eq!(errors(&files), [""; 0]);
    let mut a = Watching::new(&files, "a");
    assert_eq!(a.update().await, 1000);
    fs::write(directory.0.join("a.yaml"), "").unwrap();
    let told = a.ambient().await;
    let problem = "a.yaml: is empty: remove the file to remove its resources";
    assert!(told.contains(problem), "{told}");
    assert_eq!(errors(&files), [problem]);
    assert_eq!(Watching::new(&files, "a").update().await, 1000);
    fs::remove_file(directory.0.join("a.yaml")).unwrap();
    assert!(a.ambient().await.contains("in no file"));
}

#[tokio::test]
async fn watches_and_what_is_known_of_them_end_together() {
    let files = in_code(&[("a", &cluster("a", "1s"))]).await;
    drop(Watching::new(&files, "a"));
    assert!(files.dump().resources.is_empty());
}

mod reader {
    use proptest::prelude::*;

    use super::*;
    use crate::control::files::document::read;

    fn text() -> String {
        cluster("a", "1s") + &cluster("b", "2s") + "- \"@type\": x\n  y: &z [1, {a: *z}]\n"
    }

    #[test]
    fn no_beginning_of_a_file_is_more_than_refused() {
        let (text, decode) = (text(), decode());
        for end in 0..text.len() {
            let _ = read(&"f".into(), &text.as_bytes()[..end], &*decode);
        }
    }

    proptest! {
        #[test]
        fn bytes_that_are_changed_are_read_or_refused(at in 0usize..400, byte: u8) {
            let mut text = text().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            if let Err(errors) = read(&"f".into(), &text, &*decode()) {
                prop_assert!(!errors.is_empty());
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = read(&"f".into(), text.as_bytes(), &*decode());
        }
    }
}

/// What is below the directory is not read, and what is no file neither: opening it may never end.
#[tokio::test]
async fn directories_and_sockets_in_it_are_not_read() {
    let scratch = Scratch::new("below");
    let text = |name: &str| {
        format!(
            "- \"@type\": {CLUSTER}\n  name: {name}\n  type: STATIC\n  load_assignment: {{cluster_name: {name}}}\n"
        )
    };
    scratch.put("a.yaml", &text("a"));
    fs::create_dir(scratch.0.join("below")).unwrap();
    fs::write(scratch.0.join("below/b.yaml"), text("b")).unwrap();
    fs::create_dir(scratch.0.join("c.yaml")).unwrap();
    #[cfg(unix)]
    let _socket = std::os::unix::net::UnixListener::bind(scratch.0.join("d.yaml")).unwrap();
    let files = following(&scratch).await;
    let status = files.status();
    let names: Vec<_> = status
        .iter()
        .map(|file| (&*file.file, file.errors.len()))
        .collect();
    assert_eq!(names, [("a.yaml", 0)]);
    fs::write(scratch.0.join("read-me.txt"), "").unwrap();
    fs::write(scratch.0.join(".a.yaml.swp"), "").unwrap();
    let report = check(&scratch.0).unwrap();
    let unread: &[&str] = match cfg!(unix) {
        true => &["below", "c.yaml", "d.yaml", "read-me.txt"],
        false => &["below", "c.yaml", "read-me.txt"],
    };
    assert_eq!(report.not_read, unread);
    assert!(report.is_good());
}
