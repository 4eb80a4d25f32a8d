use std::{env, path::Path, process::Stdio};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::PATIENCE;

/// A Python program of `python/` that talks in lines of JSON. It ends when this is dropped: its
/// standard input closes, and it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Process {
    /// Starts it as the node that this bootstrap describes, if any.
    pub(crate) fn start(name: &str, arguments: &[String], bootstrap: Option<&str>) -> Self {
        let python = env::var_os("MESH_PEERS_PYTHON")
            .expect("MESH_PEERS_PYTHON is not set: start the suite with tests/peers/run");
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("python")
            .join(name);
        let mut command = Command::new(python);
        command
            .arg(program)
            .args(arguments)
            .env_remove("GRPC_XDS_BOOTSTRAP")
            .env_remove("GRPC_XDS_BOOTSTRAP_CONFIG")
            // Neither a proxy nor the log is any part of the suite.
            .env_remove("http_proxy")
            .env_remove("grpc_proxy")
            .env(
                "GRPC_VERBOSITY",
                env::var("GRPC_VERBOSITY").unwrap_or("NONE".into()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(bootstrap) = bootstrap {
            command.env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap);
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self {
            name: name.to_owned(),
            input: child.stdin.take().expect("standard input is a pipe"),
            output: BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines(),
            child,
        }
    }

    pub(crate) async fn send(&mut self, line: &impl Serialize) {
        let mut line = serde_json::to_vec(line).expect("plain data is JSON");
        line.push(b'\n');
        if let Err(error) = self.input.write_all(&line).await {
            panic!("{}: {error}: {:?}", self.name, self.child.try_wait());
        }
    }

    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> T {
        let line = timeout(4 * PATIENCE, self.output.next_line()).await;
        match line {
            Ok(Ok(Some(line))) => serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("{}: {error}: {line}", self.name)),
            Ok(end) => panic!("{} ended: {end:?}: {:?}", self.name, self.child.try_wait()),
            Err(_) => panic!("{} says nothing", self.name),
        }
    }
}
