//! Programs of this crate, run as their users run them.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A program under way.
pub(crate) struct Program {
    process: Child,
    /// The first that it said.
    line: String,
    // Kept open: the program may write to it.
    _output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts `name` under this bootstrap; returns once it has said where it listens.
    pub(crate) async fn start(name: &str, bootstrap: &str, flags: &[&str]) -> Self {
        let mut process = command(name)
            .env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap)
            .args(flags)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        let read = output.read_line(&mut line);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        Self {
            process,
            line,
            _output: output,
        }
    }

    /// The port that its first line has after this text.
    pub(crate) fn port(&self, before: &str) -> u16 {
        let line = self.line.split_once(before);
        let (_, rest) = line.unwrap_or_else(|| panic!("no {before:?} in {:?}", self.line));
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    }

    /// Asks it to end by a signal, such as `-TERM`; the status it ends with.
    #[cfg(unix)]
    pub(crate) async fn end(mut self, signal: &str) -> Option<i32> {
        let id = self.process.id().unwrap().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await;
        assert!(sent.unwrap().success());
        let status = timeout(PATIENCE, self.process.wait()).await;
        status.unwrap().unwrap().code()
    }
}

/// What a program that ends by itself says under this bootstrap.
pub(crate) async fn output(name: &str, bootstrap: &str, arguments: &[&str]) -> String {
    output_within(PATIENCE, name, bootstrap, arguments).await
}

/// As [`output`], of one that may take so long.
pub(crate) async fn output_within(
    limit: Duration,
    name: &str,
    bootstrap: &str,
    arguments: &[&str],
) -> String {
    let mut command = command(name);
    command
        .env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap)
        .kill_on_drop(true);
    let output = timeout(limit, command.args(arguments).output()).await;
    let output = output.unwrap().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The status and the errors of a program that ends by itself, without a bootstrap.
pub(crate) async fn fails(name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(name).args(arguments).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), error)
}

/// The program: cargo puts examples beside the tests' directory, and builds them with it.
fn command(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let file = format!("examples/{name}{}", std::env::consts::EXE_SUFFIX);
    let program: PathBuf = tests.parent().unwrap().parent().unwrap().join(file);
    assert!(
        program.exists(),
        "{program:?} is missing: cargo build --example {name}"
    );
    let mut command = Command::new(program);
    command
        .env_remove("GRPC_XDS_BOOTSTRAP")
        .env_remove("GRPC_XDS_BOOTSTRAP_CONFIG");
    command
}
