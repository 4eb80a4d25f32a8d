use super::{super::test_support::lines, *};
use crate::{config::Finding, control::xds::FilterRegistry};

type Entry = (&'static str, Option<bool>, Option<&'static str>);

type Upgrades = Result<Vec<(Arc<str>, bool)>, FieldError>;

fn decode(entries: &[Entry]) -> (Upgrades, Vec<String>) {
    let filters = FilterRegistry::standard();
    let mut cx = Context::new(&filters);
    let wire = entries.iter().map(|&(kind, enabled, obstacle)| {
        let enabled = enabled.map(|value| BoolValue { value });
        (kind.to_owned(), enabled, obstacle)
    });
    let result = upgrades(wire, &mut cx);
    let mut findings = super::super::fields::Findings::default();
    cx.finish(&mut findings);
    let findings: Vec<Finding> = findings.finish();
    (result, lines(&findings))
}

#[test]
fn names_are_compared_in_lower_case() {
    let (upgrades, findings) = decode(&[
        ("WebSocket", None, None),
        ("h2c", Some(false), None),
        ("TLS/1.3", Some(true), None),
    ]);
    let expected = [
        ("websocket".into(), true),
        ("h2c".into(), false),
        ("tls/1.3".into(), true),
    ];
    assert_eq!(upgrades.unwrap(), expected);
    assert_eq!(findings, [""; 0]);
}

#[test]
fn what_cannot_be_enabled_is_told() {
    let (upgrades, findings) = decode(&[
        ("CONNECT", None, None),
        ("a", None, Some("no way")),
        ("b", Some(false), Some("no way")),
    ]);
    let expected = [
        ("connect".into(), false),
        ("a".into(), false),
        ("b".into(), false),
    ];
    assert_eq!(upgrades.unwrap(), expected);
    assert_eq!(
        findings,
        [
            "upgrade_configs[0] - CONNECT is not supported: such requests fail",
            "upgrade_configs[1] - no way",
        ]
    );
}

#[test]
fn names_that_are_refused() {
    for kind in ["", "a b", "a/", "/1", "a/b/c"] {
        let (result, _) = decode(&[("ok", None, None), (kind, None, None)]);
        let error = result.unwrap_err();
        assert_eq!(error.path(), "upgrade_configs[1].upgrade_type", "{kind}");
    }
    let (result, _) = decode(&[("websocket", None, None), ("WEBSOCKET", None, None)]);
    assert_eq!(
        result.unwrap_err().path(),
        "upgrade_configs[1].upgrade_type"
    );
}
