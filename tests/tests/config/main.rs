//! Whole-mesh tests of configuration: a control plane, real servers on loopback, and generated
//! clients over [`mesh_tonic::channel`] in between.
//!
//! # The conformance lists
//! Tests have the names of the behaviours that they cover in the lists of gRPC's own tests, in
//! snake case. Those without a test here:
//!
//! | list | behaviour | why |
//! |---|---|---|
//! | DepMgr | AggregateCluster MaxDepth | unit tests of `mesh_core::resolve` |
//! | Resolver | RequestHash | ring hash is refused until its issue |
//! | Resolver | Resolver_AutoHostRewrite | gRFC A81, until its issue |
//! | Resolver | RouteMatching_IgnoreIncomingMetadata | no call carries the metadata of another one implicitly |
//! | Priority | InitTimeout, InitTimerNotRestarted_OnConnectingToConnecting, HighPriorityInitIdle | ten seconds, or an idle policy: unit tests of `mesh_core::balance` with paused time |
//! | ClusterImpl | CircuitBreakingLogicalDNS | limits are those of a cluster, wherever its endpoints come from: those of `circuit_breaking` |
//! | ClusterImpl | ReResolutionAfterTransientFailure | names are looked up on time alone, not when connections fail |
//! | ClusterImpl | AuthorityOverriding(WithTLS) | gRFC A81 |
//! | Deletion | ListenerResourceDeletionOnServer{Ignored, NotIgnored} | `tests/security/listeners.rs` |
//!
//! | list | module |
//! |---|---|
//! | DepMgr | [`dep_mgr`] |
//! | Resolver/selector, Deletion | [`resolver`] |
//! | CDS/EDS LB, LeastRequest | [`eds`] |
//! | Priority | [`priority`] |
//! | ClusterImpl | [`cluster_impl`] |
//! | Fallback, Authority | [`fallback`] |
//! | Federation | [`federation`] |
//! | CDS/EDS LB, DepMgr: aggregates, DNS, several addresses | [`clusters`], [`leaves`] |
//! | LRS: ReportLoad, ConcurrentReportLoad, UpdateLRSServerToNil | [`loads`] |
//! | LRS: LoadReporting_CustomMetricsPropagation | [`endpoint_loads`] |
//!
//! What no list has is in [`cold_start`], [`connections`], [`control_plane`], [`csds`],
//! [`bad_input`], [`faults`], [`files`], [`in_memory`] and [`mid_update`].
//!
//! # Ways
//! Tests in a module of their own name run for gRPC, and for plain HTTP over HTTP/1.1 and HTTP/2
//! ([`mesh_tests::every_way`]). Of HTTP/2 alone, over which gRPC runs, are those of GOAWAY, of streams
//! on one connection, and of how many connections there are. Of gRPC alone are:
//!
//! | tests | why |
//! |---|---|
//! | `eds_endpoints_health`, `no_failover_on_partial_failure` | overprovisioning shares calls among priorities and degraded endpoints under HTTP semantics |
//! | `config_selector_failure_cases`, `max_stream_duration` | what gRPC does not support, or alone has |
//! | `unknown_authority_in_dial_target` and the rest of [`federation`] but for two | targets `xds://authority/name` are gRPC's; a URL's authority is a host |
//! | [`csds`] | its service is gRPC's, and who calls is of no concern to it |
//! | [`faults`], and [`bad_input`] but for one | configuration, before there is a call |
//!
//! # Waiting
//! An update that is acknowledged is in force: the ACK is sent when its watchers have processed it.

mod bad_input;
mod cluster_impl;
mod clusters;
mod cold_start;
mod connections;
mod control_plane;
mod csds;
mod dep_mgr;
mod eds;
mod endpoint_loads;
mod fallback;
mod faults;
mod federation;
mod files;
mod in_memory;
mod leaves;
mod loads;
mod mid_update;
mod priority;
mod resolver;
mod steady;

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use mesh_core::{
    Mesh, Options,
    bootstrap::{Bootstrap, ServerConfig},
    testing::{ControlPlane, Service},
};
use mesh_tests::{
    backend::Backend,
    way::{Caller, Way},
    xds,
};
use tonic::{Code, Status};

const SERVICE: &str = "greeter.shop:8080";
const NODE: &str = "test-node";

/// A control plane and a client of it.
struct World {
    control_plane: ControlPlane,
    mesh: Mesh,
    way: Way,
    channel: Caller,
}

impl World {
    async fn over(way: Way) -> Self {
        Self::over_with(way, |_| {}).await
    }

    /// A client with other options.
    async fn over_with(way: Way, options: impl FnOnce(&mut Options)) -> Self {
        let control_plane = ControlPlane::start().await;
        let bootstrap = control_plane.bootstrap(NODE);
        Self::of(way, control_plane, bootstrap, options).await
    }

    /// A client that gives up resources whose deletion, or whose refusal, it is told.
    async fn failing_on_data_errors(way: Way) -> Self {
        let control_plane = ControlPlane::start().await;
        let address = control_plane.address().expect("it listens");
        let mut features = control_plane.features();
        features.fail_on_data_errors = true;
        let bootstrap = Bootstrap::builder()
            .server(ServerConfig::insecure(address.to_string()).features(features))
            .node_id(NODE)
            .build()
            .expect("an address is enough");
        Self::of(way, control_plane, bootstrap, |_| {}).await
    }

    async fn of(
        way: Way,
        control_plane: ControlPlane,
        bootstrap: Bootstrap,
        options: impl FnOnce(&mut Options),
    ) -> Self {
        let mesh = Mesh::builder()
            .bootstrap(bootstrap)
            .options(|all| {
                all.connect_backoff_base = Duration::from_millis(10);
                all.connect_backoff_max = Duration::from_millis(50);
                options(all);
            })
            .build()
            .await
            .expect("a bootstrap is enough");
        let channel = way.caller(&mesh, SERVICE);
        Self {
            way,
            control_plane,
            mesh,
            channel,
        }
    }

    /// The service that the channel is of.
    fn service(&self) -> Service {
        self.way.of(self.control_plane.service(SERVICE))
    }

    /// A cluster by hand, whose endpoints are called `endpoints`.
    fn cluster(&self, name: &str, endpoints: &str) -> Cluster {
        self.way.cluster(xds::cluster(name, endpoints))
    }

    /// What leaves an older configuration in force.
    fn trouble(&self) -> String {
        let targets = self.mesh.targets();
        let trouble = targets.first().and_then(|target| target.trouble.clone());
        trouble.map_or_else(String::new, |error| error.to_string())
    }
}

/// Servers of these names.
async fn backends<const N: usize>(names: [&str; N]) -> [Backend; N] {
    let mut backends = Vec::with_capacity(N);
    for name in names {
        backends.push(Backend::start(name).await);
    }
    backends.try_into().expect("one for each name")
}

/// Asserts that so many calls at a time have not made more connections than they need.
#[track_caller]
fn assert_connections(way: Way, backend: &Backend, calls: u64) {
    let accepted = backend.counts().accepted;
    let most = way.connections(calls);
    assert!((1..=most).contains(&accepted), "{accepted} of {most}");
}

/// Asserts that a call failed with UNAVAILABLE and a text that has all `parts`.
#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, Status>, parts: &[&str]) {
    let status = result.expect_err("the call fails");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_text(status.message(), parts);
}

#[track_caller]
fn assert_text(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
}

/// Asserts that a count is what chance makes likely: within `tolerance` of what is expected.
#[track_caller]
fn assert_about(what: &str, count: usize, expected: usize, tolerance: usize) {
    assert!(
        count.abs_diff(expected) <= tolerance,
        "{what}: {count}, expected {expected} +- {tolerance}"
    );
}

/// Under the incremental protocol, too.
#[test]
fn once_more_under_delta() {
    mesh_tests::once_more("MESH_TESTING_ADS", "delta", &[]);
}
