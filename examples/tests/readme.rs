//! What the README shows besides code is true as well.

use mesh_core::bootstrap::Bootstrap;

const README: &str = include_str!("../../README.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README
        .split(&fence)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("\n```")?.0))
        .collect()
}

#[test]
fn its_bootstraps_are_valid() {
    let bootstraps = blocks("json");
    assert_eq!(bootstraps.len(), 2);
    for json in bootstraps {
        let bootstrap = Bootstrap::from_json(json).unwrap();
        assert_eq!(bootstrap.servers.len(), 1);
    }
}

#[test]
fn it_says_what_a_missing_bootstrap_is_told_as() {
    let error = Bootstrap::from_lookup(|_| None).unwrap_err();
    assert_eq!(blocks("text"), [error.to_string()]);
}

#[test]
fn nothing_is_left_to_be_filled_in() {
    assert!(!README.contains("@@") && !README.contains("TODO"));
}

#[test]
fn its_links_lead_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let links = README
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    for (link, _) in links.filter(|(link, _)| !link.starts_with("http")) {
        assert!(root.join(link).exists(), "{link}");
    }
}
