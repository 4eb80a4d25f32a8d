//! Tests run again under another setting of the process.

use std::process::Command;

/// Whether this run is the one under the incremental protocol, in which a control plane can say of
/// what it never sent that it is not there.
pub fn is_delta() -> bool {
    std::env::var("MESH_TESTING_ADS").is_ok_and(|ads| ads == "delta")
}

/// Runs the tests of this executable whose names begin with one of `prefixes`, or all, once more
/// with the environment variable `name` set to `value`; without the one that asks for it.
///
/// # Panics
/// If one fails; shows what it said.
pub fn once_more(name: &str, value: &str, prefixes: &[&str]) {
    // This is the other run already.
    if std::env::var_os(name).is_some() {
        return;
    }
    let executable = std::env::current_exe().expect("a test has an executable");
    let output = Command::new(executable)
        .args(prefixes)
        .args(["--skip", "once_more", "--quiet"])
        .env(name, value)
        .output()
        .expect("what runs can be run again");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "with {name}={value}:\n{text}\n{errors}"
    );
    // A filter that finds nothing would succeed.
    assert!(!text.contains("running 0 tests"), "{text}");
}
