//! The allocation budget of a call.
//!
//! Allocations are counted for the whole process, so the server and the control plane are another:
//! this test, started again.

use std::{
    alloc::System,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use mesh_core::{Mesh, bootstrap::Bootstrap, testing::ControlPlane};
use mesh_tests::{
    backend::Backend,
    loaded,
    pb::{EchoReply, EchoRequest, echo_client::EchoClient},
};
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::{Builder, Runtime};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Says that this process is the server.
const SERVER: &str = "MESH_TESTS_ALLOCATIONS_SERVER";
/// What the server's line begins with.
const READY: &str = "READY ";

const WARM_UP: u32 = 1_000;
const CALLS: u32 = 2_000;
/// Allocations and reallocations of one call.
const BUDGET: f64 = 34.0;
/// What a call's share is of those that are not made by every call: buffers and tables that grow
/// now and then. Two thousand calls were seen to have up to a handful of them.
const RARE: f64 = 0.02;

/// What the server says of itself.
#[derive(Serialize, Deserialize)]
struct Ready {
    address: std::net::SocketAddr,
    bootstrap: String,
}

/// The server's process. Ends with its handle, and with this process.
struct Server(Child);

#[test]
fn a_call_with_everything_on_allocates_no_more_than_a_bare_channel() {
    if std::env::var_os(SERVER).is_some() {
        return serve();
    }
    let (_server, ready) = Server::start();
    let runtime = runtime();
    let mut bare = runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", ready.address));
        let channel = endpoint.expect("a valid address").connect().await;
        EchoClient::<Channel>::new(channel.expect("the server is there"))
    });
    let mut mesh = runtime.block_on(async {
        let bootstrap = Bootstrap::from_json(&ready.bootstrap).expect("the server's is valid");
        let mesh = Mesh::builder().bootstrap(bootstrap).build().await;
        let mesh = mesh.expect("a given bootstrap is all that a mesh needs");
        let channel = mesh_tonic::channel(&mesh, loaded::TARGET).expect("a valid target");
        EchoClient::new(channel.wait_for_ready(true))
    });
    let bare = allocations(&runtime, async |request| bare.unary(request).await);
    let mesh = allocations(&runtime, async |request| mesh.unary(request).await);
    println!("allocations per call: {mesh:.3}; tonic's channel: {bare:.3}");
    assert!(mesh <= BUDGET + RARE, "{mesh:.3} allocations per call");
    assert!(
        mesh <= bare + RARE,
        "{mesh:.3} allocations per call, and {bare:.3} of tonic's channel"
    );
}

/// Allocations per call, one call after the other.
fn allocations(
    runtime: &Runtime,
    mut call: impl AsyncFnMut(Request<EchoRequest>) -> Result<Response<EchoReply>, Status>,
) -> f64 {
    let metadata = loaded::metadata();
    let mut calls = |count: u32| {
        runtime.block_on(async {
            let before = ALLOCATOR.stats();
            for _ in 0..count {
                let reply = call(loaded::request(&metadata)).await;
                let reply = reply.expect("the call succeeds").into_inner();
                assert_eq!(reply.payload, loaded::PAYLOAD);
            }
            let stats = ALLOCATOR.stats() - before;
            (stats.allocations + stats.reallocations) as f64 / f64::from(count)
        })
    };
    calls(WARM_UP);
    calls(CALLS)
}

/// The other process: echoes until its input ends.
fn serve() {
    let runtime = runtime();
    let control_plane = runtime.block_on(ControlPlane::start());
    let backend = runtime.block_on(Backend::start("server"));
    runtime.block_on(async { loaded::configure(&control_plane, backend.address()) });
    let ready = Ready {
        address: backend.address(),
        bootstrap: control_plane.bootstrap_json("allocations"),
    };
    let ready = serde_json::to_string(&ready).expect("plain data");
    println!("\n{READY}{ready}");
    runtime.block_on(async {
        let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let _ = input.await;
    });
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

impl Server {
    fn start() -> (Self, Ready) {
        let name = "a_call_with_everything_on_allocates_no_more_than_a_bare_channel";
        let program = std::env::current_exe().expect("this test has a program");
        let mut child = Command::new(program)
            .args(["--exact", name, "--nocapture"])
            .env(SERVER, "yes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test can be started again");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let server = Self(child);
        let ready = output.lines().find_map(|line| {
            let line = line.expect("the server writes text");
            let ready = line.strip_prefix(READY)?;
            Some(serde_json::from_str(ready).expect("the server's own format"))
        });
        (server, ready.expect("the server starts"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
