//! Those who follow the control plane, and what they see.

use std::{collections::BTreeSet, net::SocketAddr};

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, address,
                config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
                http_filter,
            },
        },
    },
    google::protobuf::Any,
};
use mesh_core::{
    bootstrap::ServerFeatures,
    config::{HttpProtocol, Kind},
    testing::{ControlPlane, ReportedCluster, Service, cluster_name, route_name},
};
use mesh_peers::{
    Answer, Call, Client, PATIENCE, PlainServer, Side,
    envoy::{Envoy, config::Variant},
    until,
};
use prost::{Message, Name};

pub(super) const SERVICE: &str = "greeter";

/// What Envoy has to be told that the servers speak. gRPC knows.
pub(super) const GRPC: HttpProtocol = HttpProtocol::Http2;

/// Who answers a call that fails.
pub(super) const NOBODY: &str = "nobody";

/// Calls that tell who answers: so many that both of two who share them have some.
const CALLS: u32 = 30;

/// Those who have listeners of their own, which a gRPC client would refuse.
const ENVOYS: [(&str, Variant); 2] = [("envoy", Variant::Sotw), ("envoy-delta", Variant::Delta)];

/// A control plane, servers, and all who follow the one to the others.
pub(super) struct World {
    pub(super) control_plane: ControlPlane,
    servers: Vec<PlainServer>,
    followers: Vec<Follower>,
    /// Who answered after the last step.
    before: BTreeSet<String>,
}

struct Follower {
    node: &'static str,
    way: Way,
    calls: u64,
}

enum Way {
    Grpc(Client),
    Envoy(Box<Envoy>),
}

impl World {
    /// With servers of these names.
    pub(super) async fn start<const N: usize>(names: [&str; N]) -> Self {
        let control_plane = ControlPlane::start().await;
        control_plane.set_patience(PATIENCE);
        let mut servers = Vec::new();
        for name in names {
            servers.push(PlainServer::start(name).await);
        }
        Self {
            control_plane,
            servers,
            followers: Vec::new(),
            before: BTreeSet::new(),
        }
    }

    /// Where the servers are.
    pub(super) fn addresses<const N: usize>(&self) -> [SocketAddr; N] {
        let addresses: Vec<_> = self.servers.iter().map(PlainServer::address).collect();
        addresses.try_into().expect("as many as were started")
    }

    /// The service that all call.
    pub(super) fn service(&self) -> Service {
        self.control_plane.service(SERVICE)
    }

    /// Starts all followers. `strict`: those of gRPC do without what is removed, as Envoy does, where
    /// ours would go on with it (gRFC A88).
    pub(super) async fn follow(&mut self, strict: bool) {
        self.set_listeners();
        for (node, side, delta) in [
            ("core", Side::Core, false),
            ("ours", Side::Ours, false),
            ("ours-delta", Side::Ours, true),
        ] {
            let mut features = ServerFeatures::default();
            features.delta = delta;
            features.fail_on_data_errors = strict;
            let client = Client::with_features(side, &self.control_plane, node, features).await;
            self.followers.push(Follower::new(node, Way::Grpc(client)));
        }
        for (node, variant) in ENVOYS {
            let envoy = Envoy::follow(&self.control_plane, node, variant).await;
            self.followers
                .push(Follower::new(node, Way::Envoy(Box::new(envoy))));
        }
    }

    fn set_listeners(&self) {
        for (node, _) in ENVOYS {
            self.control_plane.view(node).set(&listener());
        }
    }

    /// Puts the listener of each dialect back, and waits until all have taken it.
    pub(super) async fn put_listener(&self) {
        self.set_listeners();
        self.acked(&[Kind::Listener]).await;
    }

    /// Removes the listener of each dialect, and waits until all have taken note.
    pub(super) async fn remove_listener(&self) {
        for (node, _) in ENVOYS {
            let view = self.control_plane.view(node);
            view.remove(Kind::Listener, SERVICE);
        }
        self.control_plane.remove(Kind::Listener, SERVICE);
        self.acked(&[Kind::Listener]).await;
    }

    /// Waits until all have accepted what there is of these kinds.
    pub(super) async fn acked(&self, kinds: &[Kind]) {
        for follower in &self.followers {
            let view = self.control_plane.view(follower.node);
            for &kind in kinds {
                view.acked(kind).await;
            }
        }
    }

    /// Waits until all have refused a response of this kind.
    pub(super) async fn refused(&self, kind: Kind) {
        for follower in &self.followers {
            let nack = self.control_plane.view(follower.node).nacked(kind).await;
            assert!(!nack.message.is_empty(), "{nack:?}");
        }
    }

    /// Waits until the calls of all are answered by these. Unless somebody was or is answered by
    /// nobody, no call fails on the way.
    pub(super) async fn answered_by(&mut self, step: &str, servers: &[&str]) {
        let expected: BTreeSet<_> = servers.iter().map(ToString::to_string).collect();
        let may_fail = [&self.before, &expected]
            .iter()
            .any(|servers| servers.is_empty() || servers.contains(NOBODY));
        for follower in &mut self.followers {
            let node = follower.node;
            let what = format!("{step}: {node} is answered by {servers:?}");
            until(&what, async || {
                let (found, failures) = follower.ask().await;
                let first = failures.first();
                assert!(
                    may_fail || first.is_none(),
                    "{what}: a call fails on the way: {first:?}"
                );
                found == expected
            })
            .await;
        }
        self.before = expected;
    }

    /// Waits until every Envoy has reported on the cluster: what it has done before, it keeps to
    /// itself.
    pub(super) async fn envoys_report(&self) {
        let cluster = cluster_name(SERVICE, "");
        for (node, _) in ENVOYS {
            let view = self.control_plane.view(node);
            let reports = |view: &ControlPlane| {
                let reports = view.load_reports();
                let mut clusters = reports.iter().flat_map(|report| &report.clusters);
                clusters.any(|one| one.name == cluster)
            };
            view.until("the Envoy reports on the cluster", reports)
                .await;
        }
    }

    /// Waits until all have reported the loads of their calls, which these places have answered.
    pub(super) async fn report(&self, zones: &[&str]) {
        let cluster = cluster_name(SERVICE, "");
        for follower in &self.followers {
            let view = self.control_plane.view(follower.node);
            let (node, calls) = (follower.node, follower.calls);
            let what = format!("{node} has reported its {calls} calls");
            let mut load: ReportedCluster = view.loads(&cluster);
            until(&what, async || {
                load = view.loads(&cluster);
                load.sum().succeeded >= calls
            })
            .await;
            let sum = load.sum();
            assert_eq!(
                (sum.issued, sum.succeeded, sum.failed, sum.in_progress),
                (calls, calls, 0, 0),
                "{node}"
            );
            assert_eq!(load.service, cluster, "{node}");
            let places: Vec<_> = load.localities.keys().map(|id| &*id.zone).collect();
            assert_eq!(places, zones, "{node}");
            let reports = view.load_reports();
            let feature = "envoy.lrs.supports_send_all_clusters";
            for report in &reports {
                assert!(report.features.iter().any(|has| has == feature), "{node}");
            }
        }
    }
}

impl Follower {
    fn new(node: &'static str, way: Way) -> Self {
        Self {
            node,
            way,
            calls: 0,
        }
    }

    /// Makes calls: who answers them, and how they fail.
    async fn ask(&mut self) -> (BTreeSet<String>, Vec<Answer>) {
        let target = format!("xds:///{SERVICE}");
        let call = Call::to(target).times(CALLS);
        let answers = match &mut self.way {
            Way::Grpc(client) => client.call(&call).await,
            Way::Envoy(envoy) => match envoy.call(SERVICE, &call).await {
                Some(answers) => answers,
                None => return ([NOBODY.to_owned()].into(), Vec::new()),
            },
        };
        self.calls += u64::from(CALLS);
        let found = answers.iter().map(|answer| match answer {
            Ok(reply) => reply.server.clone(),
            Err(_) => NOBODY.to_owned(),
        });
        let found = found.collect();
        let failures = answers.into_iter().filter(Result::is_err);
        (found, failures.collect())
    }
}

/// The listener of an Envoy, on a port of the system's choice: it has no API listeners from a
/// control plane.
fn listener() -> Listener {
    let ads = ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: SERVICE.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads),
            route_config_name: route_name(SERVICE),
        })),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(pack(
                &Router::default(),
            ))),
            ..HttpFilter::default()
        }],
        ..HttpConnectionManager::default()
    };
    Listener {
        name: SERVICE.to_owned(),
        address: Some(Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                address: "127.0.0.1".to_owned(),
                port_specifier: Some(PortSpecifier::PortValue(0)),
                ..SocketAddress::default()
            })),
        }),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(filter::ConfigType::TypedConfig(pack(&manager))),
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}

fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}
