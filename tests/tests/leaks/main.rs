//! What is dropped is gone: watches, tasks, file descriptors, connections and memory.
//!
//! Counts are of the whole process, so the tests of this file run one at a time.

mod names;
mod servers;

use std::{alloc::System, collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use mesh_core::{
    Mesh,
    config::Kind,
    testing::{ControlPlane, Service},
};
use mesh_tests::{
    alone,
    backend::Backend,
    eventually, every_way,
    load::call,
    pb::{EchoRequest, echo_client::EchoClient},
    way::{Chat, Way},
};
use mesh_tonic::Channel;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Handle;
use tonic::Code;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What can be counted from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Usage {
    tasks: usize,
    files: usize,
    /// Connections to control plane and backend.
    connections: (usize, u64),
    /// Subscriptions to listeners, routes, clusters, endpoints and secrets.
    subscriptions: [BTreeSet<String>; 5],
}

impl Usage {
    fn now(control_plane: &ControlPlane, backend: &Backend) -> Self {
        Self {
            tasks: tasks(),
            files: files(),
            connections: (control_plane.connections(), backend.counts().open),
            subscriptions: [
                Kind::Listener,
                Kind::Route,
                Kind::Cluster,
                Kind::Endpoints,
                Kind::Secret,
            ]
            .map(|kind| control_plane.subscriptions(kind)),
        }
    }

    /// Whether no more is in use than `before`. Files may have been open by chance then.
    fn is_within(&self, before: &Self) -> bool {
        let files = before.files;
        self.files <= files
            && Self {
                files,
                ..self.clone()
            } == *before
    }

    /// Waits until what is in use is this again.
    async fn is_back(&self, control_plane: &ControlPlane, backend: &Backend) {
        let now = || Self::now(control_plane, backend);
        eventually(
            || now().is_within(self).then_some(()),
            || format!("in use before: {self:#?}\nnow: {:#?}", now()),
        )
        .await;
    }
}

/// Tasks of this test's runtime.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

fn files() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux has /proc");
    open.count()
}

/// Bytes allocated and not freed.
fn heap() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

fn client(mesh: &Mesh, target: &str) -> EchoClient<Channel> {
    EchoClient::new(mesh_tonic::channel(mesh, target).expect("a valid target"))
}

fn request() -> EchoRequest {
    EchoRequest::default()
}

/// A service with the backend as its only endpoint.
fn service(control_plane: &ControlPlane, name: &str, backend: &Backend) -> Service {
    control_plane.service(name).endpoint(backend.address())
}

/// Creates the targets of these numbers all at once, calls each and drops them.
async fn targets_come_and_go(
    numbers: std::ops::Range<usize>,
    control_plane: &ControlPlane,
    mesh: &Mesh,
    backend: &Backend,
) {
    // One in ten is connected and answers; the others have no endpoint, and fail at once.
    let connects = |number: usize| number.is_multiple_of(10);
    let names: Vec<_> = numbers
        .map(|number| (format!("target-{number}"), connects(number)))
        .collect();
    control_plane.hold();
    for (name, connects) in &names {
        match connects {
            true => service(control_plane, name, backend).apply(),
            false => control_plane.service(name).version("").apply(),
        };
    }
    control_plane.release();
    let calls = names.iter().map(|(name, connects)| async move {
        let code = client(mesh, name).unary(request()).await.err();
        let expected = (!connects).then_some(Code::Unavailable);
        assert_eq!(code.map(|status| status.code()), expected, "{name}");
    });
    join_all(calls).await;
    control_plane.hold();
    for (name, _) in &names {
        control_plane.service(name).remove();
    }
    control_plane.release();
}

#[test]
fn ten_thousand_targets_leave_everything_where_it_was() {
    alone(async {
        const BATCH: usize = 250;
        const TARGETS: usize = 10_000;
        // Enough to make all the series that metrics keep, and most tables as large as they get.
        const WARM_UP: usize = 2_000;
        // 26 bytes a target: less than the name of one that is left somewhere.
        const SLACK: i64 = 256 << 10;

        let control_plane = ControlPlane::start().await;
        let backend = Backend::start("one").await;
        let mesh = control_plane.mesh("leaks").await;
        // Keeps the stream to the control plane open throughout.
        service(&control_plane, "kept", &backend).apply();
        let mut kept = client(&mesh, "kept");
        kept.unary(request()).await.expect("the kept target works");

        let usage = Usage::now(&control_plane, &backend);
        let batches = async |targets: std::ops::Range<usize>| {
            for first in targets.clone().step_by(BATCH) {
                let batch = first..targets.end.min(first + BATCH);
                targets_come_and_go(batch, &control_plane, &mesh, &backend).await;
                usage.is_back(&control_plane, &backend).await;
                control_plane.clear_log();
            }
            heap()
        };
        let before = batches(0..WARM_UP).await;
        let after = batches(WARM_UP..WARM_UP + TARGETS).await;

        let grown = after - before;
        assert!(
            grown < SLACK,
            "{grown} bytes more are in use after {TARGETS} targets than before them",
        );
        let counts = mesh.metrics().totals();
        assert_eq!(counts.started(), (WARM_UP + TARGETS + 1) as u64);
        assert_eq!(counts.in_flight(), 0);
        kept.unary(request()).await.expect("the kept target works");
    });
}

#[test]
fn a_crowd_of_targets_leaves_only_room_behind() {
    const CROWD: usize = 4_000;
    // Tables keep the room that they once needed, some 120 bytes for each target; its names alone
    // would be more.
    const SLACK: i64 = CROWD as i64 * 200;

    alone(async {
        let control_plane = ControlPlane::start().await;
        let backend = Backend::start("one").await;
        let mesh = control_plane.mesh("leaks").await;
        service(&control_plane, "kept", &backend).apply();
        let mut kept = client(&mesh, "kept");
        kept.unary(request()).await.expect("the kept target works");
        let usage = Usage::now(&control_plane, &backend);
        let crowd = async |targets: std::ops::Range<usize>| {
            let clients: Vec<_> = targets
                .map(|number| client(&mesh, &format!("target-{number}")))
                .collect();
            let count = clients.len() + 1;
            control_plane
                .until("all are watched", |control_plane| {
                    control_plane.subscriptions(Kind::Listener).len() == count
                })
                .await;
            drop(clients);
            usage.is_back(&control_plane, &backend).await;
            control_plane.clear_log();
            heap()
        };
        let mut before = 0;
        // Metrics make all the series that they keep.
        for first in (0..1_000).step_by(50) {
            before = crowd(first..first + 50).await;
        }
        let after = crowd(1_000..1_000 + CROWD).await;
        let grown = after - before;
        assert!(grown < SLACK, "{grown} bytes more after a crowd of {CROWD}");
    });
}

async fn the_last_handle_of_a_mesh_takes_everything_with_it(way: Way) {
    let control_plane = ControlPlane::start().await;
    let backend = Backend::start("one").await;
    let [a, b] = ["a:80", "b:80"];
    for name in [a, b] {
        way.of(service(&control_plane, name, &backend)).apply();
    }
    let usage = Usage::now(&control_plane, &backend);

    let mesh = control_plane.mesh("leaks").await;
    let [a, b] = [a, b].map(|name| way.caller(&mesh, name));
    call(&a).await.expect("a works");
    call(&b).await.expect("b works");
    // One that waits for a configuration that never comes.
    let nothing = way.caller(&mesh, "nothing:80");
    let waiting = tokio::spawn(async move { call(&nothing).await });
    control_plane
        .until("all targets are watched", |control_plane| {
            control_plane.subscriptions(Kind::Listener).len() == 3
        })
        .await;
    assert_eq!((control_plane.streams(), backend.counts().open), (1, 2));

    // Whatever handle is the last: callers keep the mesh.
    drop(mesh);
    call(&b).await.expect("the caller keeps the mesh");
    drop((a, b));
    waiting.abort();
    usage.is_back(&control_plane, &backend).await;
    assert_eq!(control_plane.connections(), 0);
}

async fn calls_end_by_themselves_when_their_caller_is_dropped(way: Way) {
    let control_plane = ControlPlane::start().await;
    let backend = Backend::start("one").await;
    way.of(service(&control_plane, "echo:80", &backend)).apply();
    let usage = Usage::now(&control_plane, &backend);

    let mesh = control_plane.mesh("leaks").await;
    let echo = way.caller(&mesh, "echo:80");
    let mut chat = Chat::open(&echo).await.expect("the stream opens");
    backend.hold();
    let held = tokio::spawn({
        let echo = echo.clone();
        async move { call(&echo).await }
    });
    backend
        .until("the server has both calls", |counts| counts.active == 2)
        .await;
    let metrics = std::sync::Arc::clone(mesh.metrics());
    drop((mesh, echo));

    for _ in 0..3 {
        chat.say().await.expect("the stream is open");
    }
    backend.release();
    let reply = held.await.expect("no panic").expect("the call ends well");
    assert_eq!(reply, "one");
    chat.finish().await.expect("the stream ends well");
    let counts = metrics.totals();
    assert_eq!((counts.started(), counts.code(mesh_core::Code::Ok)), (2, 2));
    usage.is_back(&control_plane, &backend).await;
}

async fn a_retired_endpoint_is_closed_once_its_streams_have_ended(way: Way) {
    let control_plane = ControlPlane::start().await;
    let backends = [Backend::start("one").await, Backend::start("two").await];
    let [one, two] = &backends;
    let echo = || way.of(control_plane.service("echo:80"));
    let applied = echo().endpoint(one.address()).apply();
    let mesh = control_plane.mesh("leaks").await;
    let caller = way.caller(&mesh, "echo:80");
    let mut chat = Chat::open(&caller).await.expect("the stream opens");
    applied.acked().await;

    let service = echo().take_out(one.address()).endpoint(two.address());
    service.apply().acked().await;
    two.until("the new endpoint is connected", |counts| counts.open == 1)
        .await;
    assert_eq!(call(&caller).await.expect("the new one answers"), "two");

    chat.say().await.expect("the stream is open");
    assert_eq!(one.counts().open, 1, "a stream is open on it");
    chat.finish().await.expect("the stream ends well");
    one.until("the old one is closed", |counts| counts.open == 0)
        .await;

    // The same without a stream in the way.
    echo()
        .restore(one.address())
        .take_out(two.address())
        .apply();
    two.until("the new one is closed", |counts| counts.open == 0)
        .await;
    one.until("the old one is back", |counts| counts.open == 1)
        .await;
}

async fn many_losses_of_a_server_leave_nothing(way: Way) {
    // Plain HTTP shares most of it with gRPC: fewer show that.
    let cycles = if way == Way::Grpc { 1_000 } else { 200 };
    const SLACK: i64 = 64 << 10;

    let control_plane = ControlPlane::start().await;
    let mut backend = Backend::start("one").await;
    way.of(service(&control_plane, "echo:80", &backend)).apply();
    let mesh = Mesh::builder()
        .bootstrap(control_plane.bootstrap("leaks"))
        .options(|options| {
            options.connect_backoff_base = Duration::from_millis(1);
            options.connect_backoff_max = Duration::from_millis(5);
        })
        .build()
        .await
        .expect("a given bootstrap is all that a mesh needs");
    let echo = way.patient(&mesh, "echo:80");
    call(&echo).await.expect("the server is there");
    let usage = Usage::now(&control_plane, &backend);

    let mut lose = async |cycles: std::ops::Range<u64>| {
        for cycle in cycles {
            match cycle % 2 {
                // Hard, and connections are refused for a while.
                0 => {
                    backend.stop().await;
                    backend.open();
                }
                // Politely.
                _ => backend.go_away(),
            }
            let next = backend.counts().accepted;
            backend
                .until("it is connected anew", |counts| counts.accepted > next)
                .await;
            if cycle % 10 < 2 {
                call(&echo).await.expect("the server is back");
            }
        }
        usage.is_back(&control_plane, &backend).await;
        heap()
    };
    let before = lose(0..cycles / 10).await;
    let after = lose(cycles / 10..cycles + cycles / 10).await;
    let grown = after - before;
    assert!(grown < SLACK, "{grown} bytes more after {cycles} losses");
    call(&echo).await.expect("the server is there");
    assert_eq!(mesh.metrics().totals().failed(), 0);
}

every_way!(alone;
    the_last_handle_of_a_mesh_takes_everything_with_it,
    calls_end_by_themselves_when_their_caller_is_dropped,
    a_retired_endpoint_is_closed_once_its_streams_have_ended,
);
every_way!(grpc and http2, alone; many_losses_of_a_server_leave_nothing);

/// Under the incremental protocol, too.
#[test]
fn once_more_under_delta() {
    mesh_tests::once_more("MESH_TESTING_ADS", "delta", &[]);
}
