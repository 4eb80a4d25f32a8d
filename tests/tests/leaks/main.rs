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
    eventually,
    pb::{EchoRequest, echo_client::EchoClient},
};
use mesh_tonic::Channel;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
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

    /// Waits until what is in use is this again.
    async fn is_back(&self, control_plane: &ControlPlane, backend: &Backend) {
        let now = || Self::now(control_plane, backend);
        eventually(
            || (now() == *self).then_some(()),
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

#[test]
fn the_last_handle_of_a_mesh_takes_everything_with_it() {
    alone(async {
        let control_plane = ControlPlane::start().await;
        let backend = Backend::start("one").await;
        service(&control_plane, "a", &backend).apply();
        service(&control_plane, "b", &backend).apply();
        let usage = Usage::now(&control_plane, &backend);

        let mesh = control_plane.mesh("leaks").await;
        let (mut a, mut b) = (client(&mesh, "a"), client(&mesh, "b"));
        a.unary(request()).await.expect("a works");
        b.unary(request()).await.expect("b works");
        // One that waits for a configuration that never comes.
        let mut nothing = client(&mesh, "nothing");
        let waiting = tokio::spawn(async move { nothing.unary(request()).await });
        control_plane
            .until("all targets are watched", |control_plane| {
                control_plane.subscriptions(Kind::Listener).len() == 3
            })
            .await;
        assert_eq!((control_plane.streams(), backend.counts().open), (1, 2));

        // Whatever handle is the last: channels keep the mesh.
        drop(mesh);
        b.unary(request())
            .await
            .expect("the channel keeps the mesh");
        drop((a, b));
        waiting.abort();
        usage.is_back(&control_plane, &backend).await;
        assert_eq!(control_plane.connections(), 0);
    });
}

#[test]
fn calls_end_by_themselves_when_their_channel_is_dropped() {
    alone(async {
        let control_plane = ControlPlane::start().await;
        let backend = Backend::start("one").await;
        service(&control_plane, "echo", &backend).apply();
        let usage = Usage::now(&control_plane, &backend);

        let mesh = control_plane.mesh("leaks").await;
        let mut echo = client(&mesh, "echo");
        let (say, words) = mpsc::channel(1);
        let mut chat = echo
            .chat(ReceiverStream::new(words))
            .await
            .expect("the stream opens")
            .into_inner();
        backend.hold();
        let held = tokio::spawn({
            let mut echo = echo.clone();
            async move { echo.unary(request()).await }
        });
        backend
            .until("the server has both calls", |counts| counts.active == 2)
            .await;
        let metrics = std::sync::Arc::clone(mesh.metrics());
        drop((mesh, echo));

        for _ in 0..3 {
            say.send(request()).await.expect("the stream is open");
            let reply = chat.message().await.expect("the stream is open");
            assert!(reply.is_some());
        }
        backend.release();
        let reply = held.await.expect("no panic").expect("the call ends well");
        assert_eq!(reply.into_inner().server, "one");
        drop(say);
        assert_eq!(chat.message().await.expect("the stream ends well"), None);
        drop(chat);
        let counts = metrics.totals();
        assert_eq!((counts.started(), counts.code(mesh_core::Code::Ok)), (2, 2));
        usage.is_back(&control_plane, &backend).await;
    });
}

#[test]
fn a_retired_endpoint_is_closed_once_its_streams_have_ended() {
    alone(async {
        let control_plane = ControlPlane::start().await;
        let backends = [Backend::start("one").await, Backend::start("two").await];
        let [one, two] = &backends;
        let applied = control_plane
            .service("echo")
            .endpoint(one.address())
            .apply();
        let mesh = control_plane.mesh("leaks").await;
        let mut echo = client(&mesh, "echo");
        let (say, words) = mpsc::channel(1);
        let mut chat = echo
            .chat(ReceiverStream::new(words))
            .await
            .expect("the stream opens")
            .into_inner();
        applied.acked().await;

        let applied = control_plane
            .service("echo")
            .take_out(one.address())
            .endpoint(two.address())
            .apply();
        applied.acked().await;
        two.until("the new endpoint is connected", |counts| counts.open == 1)
            .await;
        let reply = echo.unary(request()).await.expect("the new one answers");
        assert_eq!(reply.into_inner().server, "two");

        say.send(request()).await.expect("the stream is open");
        assert!(chat.message().await.expect("the stream is open").is_some());
        assert_eq!(one.counts().open, 1, "a stream is open on it");
        drop(say);
        assert_eq!(chat.message().await.expect("the stream ends well"), None);
        one.until("the old one is closed", |counts| counts.open == 0)
            .await;

        // The same without a stream in the way.
        control_plane
            .service("echo")
            .restore(one.address())
            .take_out(two.address())
            .apply();
        two.until("the new one is closed", |counts| counts.open == 0)
            .await;
        one.until("the old one is back", |counts| counts.open == 1)
            .await;
    });
}

#[test]
fn a_thousand_losses_of_a_server_leave_nothing() {
    alone(async {
        const CYCLES: u64 = 1_000;
        const SLACK: i64 = 64 << 10;

        let control_plane = ControlPlane::start().await;
        let mut backend = Backend::start("one").await;
        service(&control_plane, "echo", &backend).apply();
        let mesh = Mesh::builder()
            .bootstrap(control_plane.bootstrap("leaks"))
            .options(|options| {
                options.connect_backoff_base = Duration::from_millis(1);
                options.connect_backoff_max = Duration::from_millis(5);
            })
            .build()
            .await
            .expect("a given bootstrap is all that a mesh needs");
        let channel = mesh_tonic::channel(&mesh, "echo").expect("a valid target");
        let mut echo = EchoClient::new(channel.wait_for_ready(true));
        echo.unary(request()).await.expect("the server is there");
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
                    echo.unary(request()).await.expect("the server is back");
                }
            }
            usage.is_back(&control_plane, &backend).await;
            heap()
        };
        let before = lose(0..CYCLES / 10).await;
        let after = lose(CYCLES / 10..CYCLES + CYCLES / 10).await;
        let grown = after - before;
        assert!(grown < SLACK, "{grown} bytes more after {CYCLES} losses");
        echo.unary(request()).await.expect("the server is there");
        assert_eq!(mesh.metrics().totals().failed(), 0);
    });
}
