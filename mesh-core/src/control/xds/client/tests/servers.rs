//! Several servers: who is asked for what, and when the next one is.

use super::*;
use crate::{
    Semantics,
    bootstrap::ChannelCreds,
    config::{Endpoints, Resource},
};

/// Two servers for plain names, one for those of `other`.
fn federated() -> Arc<Bootstrap> {
    let server = |uri: &str| crate::bootstrap::ServerConfig::insecure(uri);
    let other = crate::bootstrap::AuthorityConfig::builder().server(server("other.test:1"));
    let bootstrap = Bootstrap::builder()
        .server(server("xds.test:1"))
        .server(server("backup.test:1"))
        .authority("other", other)
        .authority("same", crate::bootstrap::AuthorityConfig::builder())
        .node_id("node-7")
        .build();
    Arc::new(bootstrap.expect("a valid bootstrap"))
}

#[tokio::test(start_paused = true)]
async fn a_target_that_waits_does_not_take_others_along() {
    let mut world = World::of(federated());
    let (second, mut second_deliveries) = mpsc::unbounded_channel();
    let _has = world.watch(Kind::Listener, "has");
    let mut stream = world.accept().await;
    stream.request().await;
    stream.respond(Kind::Listener, "1", &[("has", "it")]).await;
    assert_eq!(world.update().await, "it");
    stream.end(Code::Unavailable, "restart").await;

    let lacks = ResourceId::new(Kind::Listener, "lacks");
    let _lacks = world.client.watch(lacks, second);
    world.calls.recv().await.expect("an attempt").refuse("down");
    // The one with everything is told, and stays; the other one falls back.
    let Event::Ambient(error) = world.delivery().await.event else {
        panic!("not ambient");
    };
    assert_eq!(error.kind, SourceErrorKind::Unreachable);
    let call = world.calls.recv().await.expect("an attempt");
    assert_eq!(call.server, "backup.test:1");
    let mut backup = call.accept();
    assert_eq!(backup.request().await.resource_names, ["lacks"]);
    backup
        .respond(Kind::Listener, "1", &[("lacks", "it no more")])
        .await;
    let delivery = second_deliveries.recv().await.expect("a delivery");
    assert!(matches!(delivery.event, Event::Update(value) if content(&value) == "it no more"));
    drop(delivery.processed);

    // The first server is back: the second one is left.
    let call = world.calls.recv().await.expect("an attempt");
    assert_eq!(call.server, "xds.test:1");
    let mut stream = call.accept();
    let mut names = stream.request().await.resource_names;
    names.sort();
    assert_eq!(names, ["has", "lacks"]);
    stream
        .respond(Kind::Listener, "2", &[("has", "it"), ("lacks", "now")])
        .await;
    let delivery = second_deliveries.recv().await.expect("a delivery");
    assert!(matches!(delivery.event, Event::Update(value) if content(&value) == "now"));
    backup.closed().await;
}

#[tokio::test(start_paused = true)]
async fn names_are_asked_of_the_servers_of_their_authority_in_one_form() {
    let mut world = World::of(federated());
    let cluster = "xdstp://other/envoy.config.cluster.v3.Cluster/c";
    let _first = world.watch(Kind::Cluster, &format!("{cluster}?b=1&a=2"));
    let _second = world.watch(Kind::Cluster, &format!("{cluster}?a=2&b=1"));
    let call = world.calls.recv().await.expect("an attempt");
    assert_eq!(call.server, "other.test:1");
    let mut stream = call.accept();
    let name = format!("{cluster}?a=2&b=1");
    assert_eq!(stream.request().await.resource_names, [&*name]);
    // Fake resources end their names with `=`, so this one is known by its canonical form.
    let _same = world.watch(
        Kind::Cluster,
        "xdstp://same/envoy.config.cluster.v3.Cluster/c",
    );
    let call = world.calls.recv().await.expect("an attempt");
    assert_eq!(call.server, "xds.test:1");
    let dump = world.client.dump().await;
    let servers: Vec<_> = dump.resources.iter().map(|r| &*r.server).collect();
    assert_eq!(servers, ["other.test:1", "xds.test:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_of_an_unknown_authority_is_refused_at_once() {
    let mut world = World::of(federated());
    let _watch = world.watch(
        Kind::Cluster,
        "xdstp://unknown/envoy.config.cluster.v3.Cluster/c",
    );
    let Event::Gone(error) = world.delivery().await.event else {
        panic!("not gone");
    };
    assert_eq!(
        &*error.text,
        "cluster \"xdstp://unknown/envoy.config.cluster.v3.Cluster/c\": authority \"unknown\" is \
         not in the bootstrap's `authorities`, which has [\"other\", \"same\"]; add it there, or \
         name a target of the default authority as `xds:///name` (node \"node-7\")"
    );
}

#[tokio::test(start_paused = true)]
async fn scopes_end_with_their_watches() {
    let world = World::of(federated());
    for round in 0..3 {
        let watches: Vec<Watch> = (0..100)
            .map(|n| {
                let (inbox, _) = mpsc::unbounded_channel();
                let id = ResourceId::new(Kind::Listener, format!("{round}-{n}"));
                world.client.watch(id, inbox)
            })
            .collect();
        assert_eq!(world.client.scopes.lock().len(), 100);
        drop(watches);
    }
    let _last = world.watch(Kind::Listener, "last");
    assert_eq!(world.client.scopes.lock().len(), 1);
}

/// What is known of one control plane is never told to another: they may be at one place, with other
/// credentials.
#[tokio::test(start_paused = true)]
async fn loads_are_reported_to_who_sent_the_cluster_with_its_own_credentials() {
    let at = "xds.test:1";
    let other = crate::bootstrap::AuthorityConfig::builder().server(ServerConfig::tls(at));
    let bootstrap = Bootstrap::builder()
        .server(ServerConfig::insecure(at))
        .authority("other", other)
        .build();
    let mut world = World::of(Arc::new(bootstrap.expect("a valid bootstrap")));
    let (calls, mut reports) = mpsc::unbounded_channel();
    let loads = Loads::default();
    let options = XdsOptions::default();
    (world.client).report_loads(&loads, Arc::new(FakeCalls(calls)), &options);

    let mut counting = Vec::new();
    let mut told = Vec::new();
    for name in ["c", "xdstp://other/envoy.config.cluster.v3.Cluster/c"] {
        let _watch = world.watch(Kind::Cluster, name);
        let call = world.calls.recv().await.expect("an attempt");
        let sender = call.config.clone();
        let mut stream = call.accept();
        stream.request().await;
        let resources = [(name, testing::REPORTED)];
        stream.respond(Kind::Cluster, "1", &resources).await;
        let Event::Update(Resource::Cluster(cluster)) = world.delivery().await.event else {
            panic!("a cluster");
        };
        counting.push(loads.counting(Semantics::Grpc, &cluster, &Endpoints::none("e")));
        let report = reports.recv().await.expect("a stream of load reports");
        assert_eq!(report.config, sender);
        told.push((report.config.channel_creds.clone(), report));
    }
    let creds: Vec<_> = told.iter().map(|(creds, _)| creds).collect();
    assert_eq!(*creds[0], ChannelCreds::Insecure);
    assert!(matches!(creds[1], ChannelCreds::Tls { .. }));
}
