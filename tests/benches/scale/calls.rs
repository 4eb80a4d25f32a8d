//! Calls while what they follow changes.

use std::{net::SocketAddr, thread, time::Duration};

use hdrhistogram::Histogram;
use mesh_core::testing::{ControlPlane, cluster_name};
use mesh_tests::{
    backend::Backend,
    bench::Spread,
    load::{call, until_from},
    xds::{self, uint32},
};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{block_on, judge, resources::SERVICE};

const PUSHES_PER_SECOND: u32 = 20;
const BAR: f64 = 1.1;

pub(crate) fn run(quick: bool) {
    let (rounds, time) = match quick {
        true => (7, Duration::from_secs(1)),
        false => (15, Duration::from_secs(2)),
    };
    let far = Far::start();
    let ratio = block_on(async {
        let mesh = far.control_plane.mesh("scale").await;
        let channel = mesh_tonic::channel(&mesh, SERVICE).expect("it is valid");
        until_from(&channel, &["one"]).await;
        let mut p99s = [Vec::new(), Vec::new()];
        for round in 0..2 * rounds {
            let pushed = round % 2 == 1;
            let pushes = pushed.then(|| far.push());
            let mut histogram = Histogram::<u64>::new(3).expect("three digits are few");
            let end = Instant::now() + time;
            while Instant::now() < end {
                let start = Instant::now();
                call(&channel).await.expect("calls go on");
                histogram += start.elapsed().as_nanos() as u64;
            }
            drop(pushes);
            p99s[usize::from(pushed)].push(histogram.value_at_quantile(0.99) as f64 / 1e3);
        }
        let [idle, pushed] = p99s.map(Spread::of);
        println!(
            "p99: {:.0} us without a push, {:.0} us under {PUSHES_PER_SECOND} a second \
             (medians of {rounds} rounds each, spread {:.0} % and {:.0} %)",
            idle.median,
            pushed.median,
            100.0 * idle.spread,
            100.0 * pushed.spread
        );
        pushed.median / idle.median
    });
    judge("p99 under pushes / without", ratio, BAR, "x");
}

/// Control plane and server, in a thread of their own.
struct Far {
    control_plane: ControlPlane,
    address: SocketAddr,
    runtime: tokio::runtime::Handle,
    _end: oneshot::Sender<()>,
}

impl Far {
    fn start() -> Self {
        let (end, ended) = oneshot::channel::<()>();
        let (give, taken) = std::sync::mpsc::channel();
        thread::spawn(move || {
            block_on(async {
                let control_plane = ControlPlane::start().await;
                let backend = Backend::start("one").await;
                control_plane
                    .service(SERVICE)
                    .endpoint(backend.address())
                    .apply();
                let handle = tokio::runtime::Handle::current();
                let _ = give.send((control_plane, backend.address(), handle));
                // The other end is dropped in the end.
                let _ = ended.await;
            });
        });
        let (control_plane, address, runtime) = taken.recv().expect("it starts");
        Self {
            control_plane,
            address,
            runtime,
            _end: end,
        }
    }

    /// Changes the cluster and its endpoints in turn until what is returned is dropped.
    fn push(&self) -> oneshot::Sender<()> {
        let (end, mut ended) = oneshot::channel();
        let (control_plane, address) = (self.control_plane.clone(), self.address);
        self.runtime.spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / PUSHES_PER_SECOND);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for number in 1.. {
                tokio::select! {
                    _ = &mut ended => return,
                    _ = ticks.tick() => {}
                }
                if number % 2 == 0 {
                    let service = control_plane.service(SERVICE);
                    service.max_requests(1_000 + number).apply();
                } else {
                    let name = cluster_name(SERVICE, "");
                    let mut endpoints = xds::endpoints(&name, &[address]);
                    let endpoint = &mut endpoints.endpoints[0].lb_endpoints[0];
                    endpoint.load_balancing_weight = Some(uint32(number));
                    control_plane.set(&endpoints);
                }
            }
        });
        end
    }
}
