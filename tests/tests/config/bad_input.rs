//! Bad input changes nothing but what is said about it: the configuration in force, the open
//! connections and the calls are as before.

use envoy_types::pb::{
    envoy::config::route::v3::{
        Route, RouteConfiguration, RouteMatch, WeightedCluster, route_action::ClusterSpecifier,
        route_match::PathSpecifier, weighted_cluster::ClusterWeight,
    },
    envoy::r#type::matcher::v3::RegexMatcher,
    google::protobuf::Any,
};
use mesh_core::{
    Mesh,
    bootstrap::Bootstrap,
    config::Kind,
    testing::{Corruption, cluster_name, route_name},
};
use mesh_tests::{
    every_way,
    load::until_from,
    way::Way,
    xds::{self, uint32},
};

use crate::{SERVICE, assert_text, backends, steady::Steady};

fn resources() -> [(Kind, String); 4] {
    let cluster = cluster_name(SERVICE, "v1");
    [
        (Kind::Listener, SERVICE.to_owned()),
        (Kind::Route, route_name(SERVICE)),
        (Kind::Cluster, cluster.clone()),
        (Kind::Endpoints, cluster),
    ]
}

async fn refuses_corrupted(way: Way, corruption: Corruption, parts: &[&str]) {
    let steady = Steady::over(way).await;
    let control_plane = &steady.world.control_plane;
    for (kind, name) in resources() {
        let mut parts = parts.to_vec();
        parts.push(&name);
        let what = format!("{corruption:?} {kind}");
        let send = || control_plane.corrupt(kind, &name, corruption);
        match corruption {
            // Which of the two is wrong, nobody knows.
            Corruption::Duplicated => {
                steady.refuses_response(&what, &parts, send).await;
            }
            _ => steady.refuses(&what, &parts, send).await,
        }
        steady.recovers(&control_plane.repair(kind, &name)).await;
    }
    steady.finish().await;
}

async fn truncated_protobuf(way: Way) {
    refuses_corrupted(way, Corruption::Truncated, &["truncated"]).await;
}

#[tokio::test]
async fn wrong_type_url() {
    refuses_corrupted(
        Way::Grpc,
        Corruption::WrongType,
        &["type_url: must be", "Secret"],
    )
    .await;
}

#[tokio::test]
async fn duplicate_names() {
    refuses_corrupted(
        Way::Grpc,
        Corruption::Duplicated,
        &["duplicate resource name"],
    )
    .await;
}

#[tokio::test]
async fn weights_that_overflow() {
    let steady = Steady::new().await;
    let control_plane = &steady.world.control_plane;
    let cluster = cluster_name(SERVICE, "v1");
    let [one, two] = [0, 1].map(|index: usize| steady.servers[index].address());

    let clusters = [1, u32::MAX].map(|weight| ClusterWeight {
        name: cluster.clone(),
        weight: Some(uint32(weight)),
        ..ClusterWeight::default()
    });
    let clusters = ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: clusters.into(),
        ..WeightedCluster::default()
    });
    let weights_of_clusters = routes(vec![xds::route("", xds::forward(clusters))]);
    let path = "virtual_hosts[0].routes[0].route.weighted_clusters";
    steady
        .refuses("clusters", &[path, "4294967295"], || {
            control_plane.set(&weights_of_clusters)
        })
        .await;
    steady.recovers(&steady.world.service().apply()).await;

    let mut endpoints = xds::endpoints(&cluster, &[one, two]);
    for endpoint in &mut endpoints.endpoints[0].lb_endpoints {
        endpoint.load_balancing_weight = Some(uint32(u32::MAX));
    }
    let path = "endpoints[0].lb_endpoints[1].load_balancing_weight";
    steady
        .refuses("endpoints", &[path, "4294967295"], || {
            control_plane.set(&endpoints)
        })
        .await;
    steady.recovers(&steady.world.service().apply()).await;

    endpoints.endpoints = vec![xds::locality("a", 0, &[one]), xds::locality("b", 0, &[two])];
    for locality in &mut endpoints.endpoints {
        locality.load_balancing_weight = Some(uint32(u32::MAX));
    }
    let path = "endpoints[1].load_balancing_weight";
    steady
        .refuses("localities", &[path, "priority 0", "4294967295"], || {
            control_plane.set(&endpoints)
        })
        .await;
    steady.recovers(&steady.world.service().apply()).await;
    steady.finish().await;
}

#[tokio::test]
async fn priority_gaps() {
    let steady = Steady::new().await;
    let cluster = cluster_name(SERVICE, "v1");
    let mut endpoints = xds::endpoints(&cluster, &[]);
    for gap in [vec![1], vec![0, 2], vec![0, 1, u32::MAX]] {
        let localities = gap.iter().map(|&priority| {
            let addresses = [([127, 0, 0, 1], 1 + priority as u16 % 1000).into()];
            xds::locality("a", priority, &addresses)
        });
        endpoints.endpoints = localities.collect();
        steady
            .refuses(
                &format!("{gap:?}"),
                &[&cluster, "endpoints: priority"],
                || steady.world.control_plane.set(&endpoints),
            )
            .await;
    }
    steady.recovers(&steady.world.service().apply()).await;
    steady.finish().await;
}

#[tokio::test]
async fn endpoints_that_are_there_twice() {
    let steady = Steady::new().await;
    let cluster = cluster_name(SERVICE, "v1");
    let [one, two] = [0, 1].map(|index: usize| steady.servers[index].address());
    let mut endpoints = xds::endpoints(&cluster, &[one, two, one]);
    let path = "endpoints[0].lb_endpoints[2].endpoint.address";
    steady
        .refuses("an address", &[path, &one.to_string()], || {
            steady.world.control_plane.set(&endpoints)
        })
        .await;
    endpoints.endpoints = vec![xds::locality("a", 0, &[one]), xds::locality("a", 0, &[two])];
    steady
        .refuses("a locality", &["endpoints[1].locality", "twice"], || {
            steady.world.control_plane.set(&endpoints)
        })
        .await;
    steady.recovers(&steady.world.service().apply()).await;
    steady.finish().await;
}

#[tokio::test]
async fn exploding_regexes() {
    let steady = Steady::new().await;
    let cluster = cluster_name(SERVICE, "v1");
    for (what, expression) in [
        ("repetitions", "((a{100}){100}){100}".to_owned()),
        ("classes", r"(\pL{100}){100}".to_owned()),
        (
            "depth",
            format!("{}a{}", "(".repeat(5000), ")".repeat(5000)),
        ),
        ("length", "a|".repeat(1 << 20)),
        ("not a regex", "(".to_owned()),
    ] {
        let regex = RegexMatcher {
            regex: expression,
            ..RegexMatcher::default()
        };
        let route = Route {
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::SafeRegex(regex)),
                ..RouteMatch::default()
            }),
            ..xds::route_to(&cluster)
        };
        let exploding = routes(vec![route]);
        let path = "virtual_hosts[0].routes[0].match.safe_regex";
        steady
            .refuses(what, &[path], || steady.world.control_plane.set(&exploding))
            .await;
    }
    steady.recovers(&steady.world.service().apply()).await;
    steady.finish().await;
}

/// A response beyond the limit is not read to its end: its stream is, and the error names both.
#[tokio::test]
async fn a_response_of_100_mb() {
    let steady = Steady::new().await;
    let before = steady.read().await;
    let stream = steady.raw_stream().await;
    stream.send_bytes(vec![0; 100 << 20]).await;
    let control_plane = &steady.world.control_plane;
    // Raw mode is over: the next stream is served as usual.
    control_plane
        .until("it has opened another stream", |c| c.streams() == 1)
        .await;
    steady.load.more(20).await;
    assert_eq!(steady.read().await, before);
    drop(stream);

    // And as long as that goes on, the target says why there is no news.
    let mut raw = control_plane.raw();
    control_plane.drop_streams();
    let stream = raw.accept().await;
    stream.send_bytes(vec![0; 100 << 20]).await;
    let stream = raw.accept().await;
    let parts = &["RESOURCE_EXHAUSTED", "67108864", "104857600"];
    assert_text(&steady.world.trouble(), parts);
    drop((raw, stream));
    control_plane
        .until("it is served again", |c| c.streams() == 1)
        .await;
    steady.load.more(20).await;
    assert_eq!(steady.read().await, before);
    let push = steady.world.service().max_requests(99).apply();
    steady.recovers(&push).await;
    assert_eq!(steady.world.trouble(), "");
    steady.finish().await;
}

/// What is no response to anything is passed over, and the stream goes on.
#[tokio::test]
async fn messages_that_are_no_response() {
    let steady = Steady::new().await;
    let before = steady.read().await;
    let mut stream = steady.raw_stream().await;
    // A response to what was not asked for yet would be passed over as well.
    while stream.recv().await.kind != Some(Kind::Cluster) {}
    stream.send_bytes(&b"\xff\xff\xff"[..]).await;
    let unknown = "type.googleapis.com/envoy.config.nonsense.v9.Nonsense";
    stream.send_type(unknown, "9", "n9", [Any::default()]).await;
    // A resource without a name, of a kind that is asked for.
    let nameless = xds::pack(&xds::cluster("", ""));
    stream.send(Kind::Cluster, "10", "n10", [nameless]).await;
    let nack = loop {
        let request = stream.recv().await;
        if let Some(error) = request.error {
            break error;
        }
    };
    assert_text(&nack.message, &["resource 0: name: must not be empty"]);
    steady.load.more(20).await;
    assert_eq!(steady.read().await, before);
    drop(stream);
    steady
        .world
        .control_plane
        .until("it is served again", |c| c.streams() == 1)
        .await;
    let push = steady.world.service().max_requests(99).apply();
    steady.recovers(&push).await;
    steady.finish().await;
}

/// One bad resource is no reason not to take the good ones of the same response (gRFC A46).
#[tokio::test]
async fn one_bad_among_good() {
    let steady = Steady::new().await;
    let [third] = backends(["third"]).await;
    let other = "other.shop:8080";
    let control_plane = &steady.world.control_plane;
    let service = control_plane.service(other);
    service.endpoint(steady.servers[0].address()).apply();
    let channel = mesh_tonic::channel(&steady.world.mesh, other).expect("it is valid");
    until_from(&channel, &["one"]).await;
    let before = steady.read().await;

    control_plane.hold();
    let name = cluster_name(SERVICE, "v1");
    let bad = control_plane.corrupt(Kind::Endpoints, &name, Corruption::Truncated);
    let service = control_plane.service(other).clear_endpoints();
    let push = service.endpoint(third.address()).apply();
    control_plane.release();
    drop(bad);
    let nack = push.nacked().await;
    assert_text(&nack.message, &[&name]);
    assert!(!nack.message.contains(other), "{}", nack.message);
    until_from(&channel, &["third"]).await;
    steady.load.more(20).await;
    let after = steady.read().await;
    assert_ne!(after.hash, before.hash, "the good one is in force");
    assert_eq!(after.failed, before.failed);
    drop(channel);
    steady.finish().await;
}

#[tokio::test]
async fn a_missing_bootstrap_file() {
    let steady = Steady::new().await;
    let before = steady.read().await;
    let path = std::env::temp_dir().join("no-such-directory/bootstrap.json");
    let text = path.display().to_string();
    let lookup = |name: &str| match name {
        "GRPC_XDS_BOOTSTRAP" => Some(text.clone()),
        // The file wins, even if it is not there.
        "GRPC_XDS_BOOTSTRAP_CONFIG" => Some(steady.world.control_plane.bootstrap_json("other")),
        _ => None,
    };
    let error = Bootstrap::from_lookup(lookup).expect_err("there is no such file");
    assert_text(&error.to_string(), &["GRPC_XDS_BOOTSTRAP", &text]);
    let json = steady.world.control_plane.bootstrap_json("other");
    let bad = json.replace("insecure", "secret");
    let error = Bootstrap::from_json(&bad).expect_err("there are no such credentials");
    assert_text(
        &error.to_string(),
        &["xds_servers[0].channel_creds", "secret"],
    );
    // The good one works beside all that.
    let good = Bootstrap::from_json(&json).expect("it is good");
    let mesh = Mesh::builder().bootstrap(good).build().await;
    let mesh = mesh.expect("a bootstrap is enough");
    let channel = mesh_tonic::channel(&mesh, SERVICE).expect("it is valid");
    until_from(&channel, &["one", "two"]).await;
    drop((mesh, channel));
    for server in &steady.servers {
        server
            .until("the other mesh is gone", |counts| counts.open == 1)
            .await;
    }
    let mut after = steady.read().await;
    // What the other mesh has connected is let go again.
    for (after, before) in after.connections.iter_mut().zip(&before.connections) {
        assert_eq!(after.0, before.0 + 1);
        *after = *before;
    }
    assert_eq!(after, before);
    steady.finish().await;
}

fn routes(routes: Vec<Route>) -> RouteConfiguration {
    xds::routes(&route_name(SERVICE), SERVICE, routes)
}

every_way!(truncated_protobuf);
