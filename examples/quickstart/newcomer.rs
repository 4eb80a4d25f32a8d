//! A client that starts while the control plane is down: this program once more, as a process of its
//! own, with what the one before it has saved.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use mesh_core::{Mesh, control::snapshot::SnapshotOptions};
use tokio::{process::Command, time::timeout};

use crate::{SERVICE, traffic::Traffic};

/// The argument that makes this program the newcomer.
pub(crate) const ARGUMENT: &str = "newcomer";

/// A newcomer that takes longer than this has stalled.
const STALLED: Duration = Duration::from_secs(10);

/// Where resources are saved; removed with this.
pub(crate) struct Saved(PathBuf);

impl Saved {
    pub(crate) fn new() -> Self {
        let name = format!("mesh-quickstart-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub(crate) fn options(&self) -> SnapshotOptions {
        SnapshotOptions::new(&self.0)
    }

    /// Runs the newcomer to its end, under the bootstrap that `mesh` has as JSON.
    pub(crate) async fn start(&self, mesh: &Mesh, bootstrap: String) -> Result<(), Box<dyn Error>> {
        let snapshot = mesh.snapshot().ok_or("the client saves what it has")?;
        // Done by itself a second after a change: this is no place to wait for it.
        snapshot.save().await?;
        let newcomer = run_again(&self.0, bootstrap)?.wait_with_output();
        let output = timeout(STALLED, newcomer)
            .await
            .map_err(|_| "the newcomer stalled")??;
        print!("{}", String::from_utf8_lossy(&output.stdout));
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    }
}

fn run_again(directory: &Path, bootstrap: String) -> std::io::Result<tokio::process::Child> {
    Command::new(std::env::current_exe()?)
        .arg(ARGUMENT)
        // What a deployment would set, too.
        .env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap)
        .env_remove("GRPC_XDS_BOOTSTRAP")
        .env("MESH_SNAPSHOT_DIRECTORY", directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

impl Drop for Saved {
    fn drop(&mut self) {
        // What is left is the system's to remove.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The newcomer itself: any client, whose environment says where its predecessor has saved.
pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let mesh = Mesh::from_env().await?;
    let traffic = Traffic::start(mesh_tonic::channel(&mesh, SERVICE)?);
    traffic
        .act("and a new client starts meanwhile", 500)
        .await?;
    let dump = mesh.config_dump().await;
    let accepted = dump
        .resources
        .iter()
        .filter_map(|found| found.accepted.as_ref());
    let (all, stale) = accepted.fold((0, 0), |(all, stale), found| {
        (all + 1, stale + usize::from(found.stale))
    });
    println!(
        "{:34}  resources in force: {all}, saved by the last one: {stale}",
        ""
    );
    if all == 0 || stale < all {
        return Err("a control plane that is down has answered".into());
    }
    let (failed, _) = traffic.stop(Duration::from_secs(5)).await?;
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} calls of the newcomer failed").into()),
    }
}
