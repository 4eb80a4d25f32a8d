use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::full;
use crate::bootstrap::{Bootstrap, BootstrapError, Origin};

/// A file that goes with its owner.
struct TempFile(PathBuf);

impl TempFile {
    fn new(content: impl AsRef<[u8]>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mesh-bootstrap-{}-{number}.json", process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn lookup(file: Option<&str>, config: Option<&str>) -> Result<Bootstrap, BootstrapError> {
    Bootstrap::from_lookup(|name| match name {
        "GRPC_XDS_BOOTSTRAP" => file.map(str::to_owned),
        "GRPC_XDS_BOOTSTRAP_CONFIG" => config.map(str::to_owned),
        other => panic!("{other} was looked up"),
    })
}

fn named(id: &str) -> String {
    let mut json = full();
    json["node"]["id"] = id.into();
    json.to_string()
}

#[test]
fn the_file_wins_over_the_text() {
    let file = TempFile::new(named("file"));
    let text = named("text");
    let id = |file, config| lookup(file, config).unwrap().node.id;

    assert_eq!(id(Some(file.path()), Some(&text)), "file");
    assert_eq!(id(Some(file.path()), None), "file");
    assert_eq!(id(None, Some(&text)), "text");
    assert_eq!(id(Some(""), Some(&text)), "text", "empty is not set");
    assert_eq!(Bootstrap::from_file(file.path()).unwrap().node.id, "file");
}

#[test]
fn a_bad_file_is_not_made_up_for_by_the_text() {
    let good = named("text");
    let missing = std::env::temp_dir().join("mesh-bootstrap-that-is-not-there.json");
    let missing = missing.to_str().unwrap();
    let bad = TempFile::new("{\"xds_servers\": []}");
    let directory = std::env::temp_dir();

    for (path, words) in [
        (missing, "cannot be read"),
        (directory.to_str().unwrap(), "cannot be read"),
        (bad.path(), "xds_servers: empty"),
    ] {
        let error = lookup(Some(path), Some(&good)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        assert!(text.contains(&format!("{path:?}")), "{text}");
        assert!(text.contains("named by GRPC_XDS_BOOTSTRAP"), "{text}");
        let origin = Origin::File {
            path: path.into(),
            variable: Some("GRPC_XDS_BOOTSTRAP"),
        };
        assert_eq!(error.origin(), &origin);
    }
}

#[test]
fn without_either_variable_the_error_says_what_to_set() {
    for unset in [None, Some("")] {
        let error = lookup(unset, unset).unwrap_err();
        assert!(error.is_not_configured());
        assert_eq!(error.field(), None);
        let text = error.to_string();
        for word in [
            "GRPC_XDS_BOOTSTRAP ",
            "GRPC_XDS_BOOTSTRAP_CONFIG",
            "Bootstrap::builder()",
        ] {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
    }
}

#[test]
fn the_process_environment_is_read_at_the_call() {
    let here = Bootstrap::from_lookup(|name| std::env::var(name).ok());
    assert_eq!(Bootstrap::from_env(), here);
}

#[test]
fn syntax_errors_have_line_and_column() {
    let json = "{\n  \"xds_servers\": [\n    nonsense\n  ]\n}";
    let error = lookup(None, Some(json)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("bootstrap in GRPC_XDS_BOOTSTRAP_CONFIG: not valid JSON"),
        "{text}"
    );
    assert!(text.contains("line 3 column"), "{text}");

    let file = TempFile::new(b"{\"node\":\n\"\xff\"}");
    let text = Bootstrap::from_file(file.path()).unwrap_err().to_string();
    assert!(text.contains("line 2 column"), "{text}");
    assert!(!text.contains("GRPC_XDS_BOOTSTRAP"), "{text}");

    let nested = "[".repeat(100_000);
    assert!(
        Bootstrap::from_json(&nested)
            .unwrap_err()
            .to_string()
            .contains("recursion limit")
    );
    for text in ["[]", "null", "7"] {
        let error = Bootstrap::from_json(text).unwrap_err();
        assert!(
            error.to_string().contains("must be a JSON object"),
            "{error}"
        );
    }
}

#[test]
fn what_is_too_long_is_refused_by_the_limit_s_name() {
    let mut json = named("me");
    json.extend(std::iter::repeat_n(' ', Bootstrap::MAX_BYTES - json.len()));
    let file = TempFile::new(&json);
    assert!(Bootstrap::from_file(Path::new(file.path())).is_ok());

    json.push(' ');
    let file = TempFile::new(&json);
    for error in [
        Bootstrap::from_file(file.path()),
        Bootstrap::from_json(&json),
    ] {
        let text = error.unwrap_err().to_string();
        assert!(text.contains("limit of 4194304 bytes"), "{text}");
    }
}
