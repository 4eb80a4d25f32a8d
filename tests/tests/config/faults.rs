//! A control plane that does what it must not: on a stream that is answered by hand, it leaves the
//! configuration in force, the connections and the calls of its client as they were.
//!
//! Under both variants of the protocol, as all tests here; those of words that the incremental one
//! alone has ask for it. Which fault is tested where: `tests/README.md`.

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{CircuitBreakers, Cluster, circuit_breakers::Thresholds},
            route::v3::{
                WeightedCluster, route_action::ClusterSpecifier, weighted_cluster::ClusterWeight,
            },
        },
        service::discovery::v3::{DeltaDiscoveryResponse, Resource},
    },
    google::protobuf::{Any, Duration},
};
use futures_util::future::join_all;
use mesh_core::{
    Code,
    bootstrap::{Bootstrap, ServerConfig},
    config::Kind,
    control::xds::{AcceptedDump, ResourceStatus},
    testing::{ControlPlane, Corruption, RawStream, Request, cluster_name, route_name, zone},
};
use mesh_tests::{
    load::{call, until_from},
    narrow::Narrow,
    way::Way,
    xds::{self, uint32},
};
use prost::{Message, Name};

use crate::{NODE, SERVICE, World, assert_text, assert_unavailable, backends, steady::Steady};

/// Waits until the client has asked for all that its target consists of.
async fn asked(stream: &mut RawStream) {
    let mut missing = vec![Kind::Listener, Kind::Route, Kind::Cluster, Kind::Endpoints];
    while !missing.is_empty() {
        let request = stream.recv().await;
        missing.retain(|kind| Some(*kind) != request.kind);
    }
}

/// The answer to a response of this nonce.
async fn answer(stream: &mut RawStream, nonce: &str) -> Request {
    loop {
        let request = stream.recv().await;
        if request.nonce == nonce {
            return request;
        }
    }
}

#[track_caller]
fn assert_acked(request: &Request) {
    assert_eq!(request.error, None, "{request}");
}

/// The one cluster in force.
async fn cluster_in_force(steady: &Steady) -> AcceptedDump {
    let mut clusters = steady.in_force(Kind::Cluster).await;
    assert_eq!(clusters.len(), 1);
    clusters.remove(0).1
}

/// The same cluster with another limit.
fn changed(cluster: &AcceptedDump) -> Any {
    let mut cluster = Cluster::decode(&cluster.raw.value[..]).expect("it is in force");
    cluster.circuit_breakers = Some(CircuitBreakers {
        thresholds: vec![Thresholds {
            max_requests: Some(uint32(777)),
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    });
    xds::pack(&cluster)
}

#[tokio::test]
async fn streams_that_end_before_a_response() {
    let codes = [
        Code::Ok,
        Code::Unknown,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::Unauthenticated,
    ];
    let ends = codes.map(|code| async move {
        let steady = Steady::new().await;
        steady
            .survives(&code.to_string(), async |raw, stream| {
                stream.close(code, "go away").await;
                let again = raw.accept().await;
                let parts = &["before the first response", &code.to_string()];
                assert_text(&steady.world.trouble(), parts);
                again
            })
            .await;
        steady.finish().await;
    });
    join_all(ends).await;
}

#[tokio::test]
async fn resources_that_are_never_sent() {
    let steady = Steady::new().await;
    steady
        .survives("silence", async |_, mut stream| {
            asked(&mut stream).await;
            stream
        })
        .await;
    steady.finish().await;
}

/// Routes lead to a cluster that does not come: until that is known for certain, they wait for it
/// (gRFC A74).
#[tokio::test]
async fn a_cluster_that_is_never_sent() {
    let steady = Steady::new().await;
    let before = steady.read().await;
    let good = steady.in_force(Kind::Route).await.remove(0).1;
    let nowhere = vec![xds::route_to("nowhere")];
    let nowhere = xds::pack(&xds::routes(&route_name(SERVICE), SERVICE, nowhere));
    steady
        .survives("no cluster", async |_, mut stream| {
            asked(&mut stream).await;
            stream.send(Kind::Route, "9", "1", [nowhere]).await;
            let mut wanted = false;
            loop {
                let request = stream.recv().await;
                wanted |= request.names.iter().any(|name| name == "nowhere");
                if wanted && request.nonce == "1" {
                    assert_acked(&request);
                    break;
                }
            }
            steady.load.more(50).await;
            let meanwhile = steady.read().await;
            assert_ne!(meanwhile.hash, before.hash, "the routes were accepted");
            assert_eq!(meanwhile.connections, before.connections);
            assert_eq!(meanwhile.failed, before.failed);
            let raw = Any::clone(&good.raw);
            stream.send(Kind::Route, &good.version, "2", [raw]).await;
            assert_acked(&answer(&mut stream, "2").await);
            stream
        })
        .await;
    steady.finish().await;
}

#[tokio::test]
async fn unknown_types() {
    let steady = Steady::new().await;
    let good = cluster_in_force(&steady).await;
    steady
        .survives("unknown types", async |_, mut stream| {
            asked(&mut stream).await;
            let large = Any {
                type_url: String::new(),
                value: vec![7; 1 << 20],
            };
            for number in 0..100 {
                // Nobody knows it; nobody asked for it; it is no URL at all.
                let url = match number % 3 {
                    0 => "type.googleapis.com/envoy.config.nonsense.v9.Nonsense",
                    1 => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
                    _ => "",
                };
                let resources = [Any::default(), large.clone()];
                stream.send_type(url, "9", "x", resources).await;
            }
            // The stream goes on.
            let raw = Any::clone(&good.raw);
            stream.send(Kind::Cluster, &good.version, "n", [raw]).await;
            let request = stream.recv().await;
            assert_eq!(request.nonce, "n", "nothing is said of the others");
            assert_acked(&request);
            stream
        })
        .await;
    steady.finish().await;
}

/// Nonces are the control plane's own affair: each answer has that of its response.
#[tokio::test]
async fn stale_nonces() {
    let steady = Steady::new().await;
    let good = cluster_in_force(&steady).await;
    steady
        .survives("nonces", async |_, mut stream| {
            asked(&mut stream).await;
            let long = "n".repeat(10_000);
            for nonce in ["7", "3", "7", "7", "", "7", &*long] {
                let raw = Any::clone(&good.raw);
                stream
                    .send(Kind::Cluster, &good.version, nonce, [raw])
                    .await;
                let request = stream.recv().await;
                assert_eq!(
                    (request.kind, &*request.nonce),
                    (Some(Kind::Cluster), nonce)
                );
                assert_acked(&request);
            }
            stream
        })
        .await;
    steady.finish().await;
}

/// The first of the same name counts; that there are more is refused.
#[tokio::test]
async fn duplicate_names() {
    let steady = Steady::new().await;
    let good = cluster_in_force(&steady).await;
    steady
        .survives("duplicates", async |_, mut stream| {
            asked(&mut stream).await;
            let resources = [Any::clone(&good.raw), changed(&good), changed(&good)];
            stream.send(Kind::Cluster, "9", "n", resources).await;
            let refusal = answer(&mut stream, "n").await.error;
            let text = refusal.expect("it is refused").message;
            assert_text(&text, &["resource 1: duplicate", "resource 2: duplicate"]);
            stream
        })
        .await;
    steady.finish().await;
}

/// What counts is the content, not what it is called.
#[tokio::test]
async fn the_same_version_with_other_content() {
    let steady = Steady::new().await;
    let before = steady.read().await;
    let good = cluster_in_force(&steady).await;
    let mut stream = steady.raw_stream().await;
    asked(&mut stream).await;
    let new = changed(&good);
    stream
        .send(Kind::Cluster, &good.version, "n", [new.clone()])
        .await;
    assert_acked(&answer(&mut stream, "n").await);
    let now = cluster_in_force(&steady).await;
    assert_eq!((&now.version, &*now.raw), (&good.version, &new));
    steady.load.more(20).await;
    let after = steady.read().await;
    assert_eq!(after.connections, before.connections);
    assert_eq!(after.failed, before.failed);
    drop(stream);
    steady.takes_a_change(&after).await;
    steady.finish().await;
}

/// Clusters and listeners that are taken away stay in force, and the target says so (gRFC A53, A88).
#[tokio::test]
async fn everything_deleted() {
    let steady = Steady::new().await;
    let cluster = cluster_name(SERVICE, "v1");
    steady
        .survives("deletions", async |_, mut stream| {
            asked(&mut stream).await;
            for (kind, name) in [(Kind::Cluster, &*cluster), (Kind::Listener, SERVICE)] {
                let nonce = kind.to_string();
                match stream.is_delta() {
                    true => stream.send_removed(kind, "9", &nonce, &[name]).await,
                    false => stream.send(kind, "9", &nonce, []).await,
                }
                assert_acked(&answer(&mut stream, &nonce).await);
            }
            assert_text(&steady.world.trouble(), &[SERVICE, "deleted"]);
            stream
        })
        .await;
    steady.finish().await;
}

/// Responses without an end, and no answer is read.
#[tokio::test]
async fn a_control_plane_that_only_talks() {
    const RESPONSES: usize = 2_000;
    let steady = Steady::new().await;
    let good = cluster_in_force(&steady).await;
    steady
        .survives("talk", async |_, mut stream| {
            asked(&mut stream).await;
            for number in 1..=RESPONSES {
                let raw = Any::clone(&good.raw);
                let nonce = number.to_string();
                stream
                    .send(Kind::Cluster, &good.version, &nonce, [raw])
                    .await;
            }
            // All is read, and the last one has its answer.
            assert_acked(&answer(&mut stream, &RESPONSES.to_string()).await);
            stream
        })
        .await;
    steady.finish().await;
}

/// A hundred changes there and back, none of which waits for the answer to another. They come as
/// fast as calls end: faster than fifty a second, unless a call takes ten milliseconds.
#[tokio::test]
async fn flapping() {
    let steady = Steady::new().await;
    let before = steady.read().await;
    let contents = async || {
        let mut all = Vec::new();
        for kind in [Kind::Listener, Kind::Route, Kind::Cluster, Kind::Endpoints] {
            let values = steady.in_force(kind).await.into_iter();
            all.extend(values.map(|(name, value)| (name, value.raw)));
        }
        all
    };
    let service = || steady.world.service();
    service().max_requests(1_000).apply().acked().await;
    let contents_before = contents().await;
    let [third] = backends(["third"]).await;
    for _ in 0..50 {
        let more = service().max_requests(2_000);
        more.endpoint_in(zone("a"), third.address()).apply();
        steady.load.more(2).await;
        let less = service().max_requests(1_000);
        less.take_out(third.address()).apply();
        steady.load.more(2).await;
    }
    steady.takes_a_change(&before).await;
    service().max_requests(1_000).apply().acked().await;
    assert_eq!(contents().await, contents_before);
    third.until("it is let go", |counts| counts.open == 0).await;
    steady.finish().await;
}

/// A control plane whose words come byte by byte is waited for, and one that breaks off in the
/// middle has said nothing.
#[tokio::test]
async fn slow_trickles() {
    let control_plane = ControlPlane::start().await;
    let narrow = Narrow::start(control_plane.address().expect("it listens")).await;
    let server = ServerConfig::insecure(narrow.address().to_string());
    let bootstrap = Bootstrap::builder()
        .server(server.features(control_plane.features()))
        .node_id(NODE)
        .build()
        .expect("an address is enough");
    let world = World::of(Way::Grpc, control_plane, bootstrap, |_| {}).await;
    let steady = Steady::of(world).await;

    let before = steady.read().await;
    narrow.close();
    let push = steady.world.service().max_requests(99).apply();
    let mut bytes = 0;
    let mut changed_at = None;
    let acked = push.acked();
    tokio::pin!(acked);
    loop {
        tokio::select! {
            biased;
            () = &mut acked => break,
            () = narrow.pass_one() => bytes += 1,
        }
        let now = steady.read().await;
        assert_eq!(now.connections, before.connections, "after {bytes} bytes");
        assert_eq!(now.failed, before.failed, "after {bytes} bytes");
        if now.hash != before.hash {
            changed_at.get_or_insert(bytes);
        }
    }
    let bytes = changed_at.unwrap_or(bytes);
    assert!(bytes > 50, "a cluster is longer than {bytes} bytes");
    narrow.open();

    let before = steady.read().await;
    narrow.close();
    let push = steady.world.service().max_requests(98).apply();
    for _ in 0..bytes / 2 {
        narrow.pass_one().await;
    }
    narrow.cut();
    steady.load.more(20).await;
    assert_eq!(steady.read().await, before, "after half a response");
    narrow.open();
    push.acked().await;
    steady.takes_a_change(&before).await;
    steady.finish().await;
}

/// What only the incremental protocol has: removals of what is not there, wrappers of what nobody
/// asked for, aliases, times to live, signs of life of versions that nobody has.
#[tokio::test]
async fn incremental_words_that_mean_nothing() {
    let steady = Steady::under(true).await;
    let good = cluster_in_force(&steady).await;
    let cluster = cluster_name(SERVICE, "v1");
    steady
        .survives("incremental", async |_, mut stream| {
            asked(&mut stream).await;
            let long = "x".repeat(1 << 20);
            let unknown = ["nobody", "", &long];
            stream.send_removed(Kind::Cluster, "9", "1", &unknown).await;
            assert_acked(&answer(&mut stream, "1").await);
            // Routes and endpoints go with what refers to them.
            stream
                .send_removed(Kind::Endpoints, "9", "2", &[&cluster])
                .await;
            assert_acked(&answer(&mut stream, "2").await);
            let stranger = Resource {
                name: "nobody".to_owned(),
                aliases: vec!["no one".to_owned()],
                version: "9".to_owned(),
                resource: Some(changed(&good)),
                ..Resource::default()
            };
            let sign_of_life = Resource {
                name: cluster.clone(),
                version: "of another time".to_owned(),
                ttl: Some(Duration {
                    seconds: -1,
                    nanos: 0,
                }),
                ..Resource::default()
            };
            let response = DeltaDiscoveryResponse {
                resources: vec![stranger, sign_of_life],
                type_url: Cluster::type_url(),
                nonce: "3".to_owned(),
                ..DeltaDiscoveryResponse::default()
            };
            stream.send_bytes(response.encode_to_vec()).await;
            let refusal = answer(&mut stream, "3").await.error;
            let text = refusal.expect("there is nothing in it").message;
            assert_text(&text, &[&cluster]);
            assert!(!text.contains("nobody"), "{text}");
            stream
        })
        .await;
    steady.finish().await;
}

/// One bad resource costs the ninety-nine others of its response nothing (gRFC A46).
#[tokio::test]
async fn one_bad_among_a_hundred_good() {
    const BAD: &str = "many-37";
    let steady = Steady::new().await;
    let control_plane = &steady.world.control_plane;
    let names: Vec<_> = (0..100).map(|number| format!("many-{number}")).collect();
    let endpoints = |index: usize, weight: u32| {
        let server = steady.servers[index % 2].address();
        let mut endpoints = xds::endpoints(&names[index], &[server]);
        endpoints.endpoints[0].load_balancing_weight = Some(uint32(weight));
        endpoints
    };
    control_plane.hold();
    for (index, name) in names.iter().enumerate() {
        control_plane.set(&xds::cluster(name, ""));
        control_plane.set(&endpoints(index, 1));
    }
    let weights = names.iter().map(|name| ClusterWeight {
        name: name.clone(),
        weight: Some(uint32(1)),
        ..ClusterWeight::default()
    });
    let weights = ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: weights.collect(),
        ..WeightedCluster::default()
    });
    let routes = vec![xds::route("", xds::forward(weights))];
    let push = control_plane.set(&xds::routes(&route_name(SERVICE), SERVICE, routes));
    control_plane.release();
    push.acked().await;
    for server in &steady.servers {
        let ready =
            |counts: &mesh_tests::backend::Counts| (counts.open, counts.accepted) == (50, 51);
        server.until("all clusters are connected", ready).await;
    }

    let before = steady.read().await;
    let version = |values: &[(String, AcceptedDump)], name: &str| {
        let found = values.iter().find(|(one, _)| one == name);
        found.expect("it is in force").1.version.clone()
    };
    let old = version(&steady.in_force(Kind::Endpoints).await, BAD);
    control_plane.hold();
    for index in 0..names.len() {
        control_plane.set(&endpoints(index, 2));
    }
    let push = control_plane.corrupt(Kind::Endpoints, BAD, Corruption::Truncated);
    control_plane.release();
    let nack = push.nacked().await;
    assert_text(&nack.message, &[BAD]);
    for good in names.iter().filter(|name| **name != BAD) {
        assert!(
            !nack.message.contains(&format!("{good:?}")),
            "{}",
            nack.message
        );
    }
    steady.load.more(200).await;
    let after = steady.read().await;
    assert_eq!(after.connections, before.connections);
    assert_eq!(after.failed, before.failed);

    let dump = steady.world.mesh.config_dump().await;
    let (mut acked, mut nacked) = (0, Vec::new());
    for resource in &dump.resources {
        if resource.id.kind == Kind::Endpoints {
            let accepted = resource.accepted.as_ref().expect("all have a value");
            match resource.status {
                ResourceStatus::Acked if accepted.version != old => acked += 1,
                ResourceStatus::Nacked if accepted.version == old => {
                    nacked.push(resource.id.name.to_string());
                }
                status => panic!("{}: {status:?} at {}", resource.id, accepted.version),
            }
        }
    }
    assert_eq!((acked, nacked), (99, vec![BAD.to_owned()]));
    let push = control_plane.repair(Kind::Endpoints, BAD);
    steady.recovers(&push).await;
    steady.finish().await;
}

/// No endpoints are as valid as ten thousand, and mean that nothing can be reached: at once, and
/// only as long as there are none.
#[tokio::test]
async fn no_endpoints_after_ten_thousand() {
    let world = World::over(Way::Grpc).await;
    let servers = backends(["one", "two"]).await;
    world.service().version("").apply();
    let name = cluster_name(SERVICE, "");
    // Those that answer come first: the others are not connected as long as they do.
    let mut many = xds::endpoints(&name, &servers.each_ref().map(|server| server.address()));
    let spare: Vec<_> = (0..10_000u16)
        .map(|number| ([127, 1, (number >> 8) as u8, number as u8], 9).into())
        .collect();
    many.endpoints.push(xds::locality("b", 1, &spare));
    let empty = xds::endpoints(&name, &[]);
    for _ in 0..3 {
        world.control_plane.set(&many).acked().await;
        until_from(&world.channel, &["one", "two"]).await;
        world.control_plane.set(&empty).acked().await;
        assert_unavailable(call(&world.channel).await, &["no endpoints"]);
        for server in &servers {
            server
                .until("it is let go", |counts| counts.open == 0)
                .await;
        }
    }
    world.control_plane.set(&many).acked().await;
    until_from(&world.channel, &["one", "two"]).await;
}
