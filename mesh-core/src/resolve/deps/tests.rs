use super::*;
use crate::{
    balance::RoundRobin,
    config::{
        Breakers, Connections, Domain, Forward, HttpManager, LbPolicy, PathMatcher, PolicyConfig,
        Route, RouteMatch, VirtualHost, WeightedCluster,
    },
};

const TARGET: &str = "greeter:80";

fn id(kind: Kind, name: &str) -> ResourceId {
    ResourceId::new(kind, name)
}

fn listener(routes: RouteSource) -> Resource {
    let http = HttpManager {
        routes,
        filters: Arc::new([]),
        max_stream_duration: None,
        stream_idle_timeout: None,
        upgrades: Vec::new(),
        strip_port: Default::default(),
    };
    Resource::Listener(Arc::new(Listener {
        name: TARGET.into(),
        http,
    }))
}

fn named(route: &str) -> Resource {
    listener(RouteSource::Named(route.into()))
}

/// Routes for `domain`, one per cluster.
fn routes_for(name: &str, domain: Domain, clusters: &[&str]) -> Arc<RouteConfig> {
    let route = |cluster: &&str| Route {
        name: "".into(),
        matcher: RouteMatch {
            path: PathMatcher::Prefix {
                prefix: "/".into(),
                ignore_case: false,
            },
            headers: vec![],
            query: vec![],
            fraction: None,
        },
        action: RouteAction::Forward(Forward {
            clusters: vec![WeightedCluster {
                name: (*cluster).into(),
                weight: 1,
                overrides: Default::default(),
                headers: Default::default(),
                host_rewrite: None,
            }],
            retry: None,
            max_stream_duration: None,
            grpc_timeout_header_max: None,
            http: Default::default(),
        }),
        overrides: Default::default(),
        headers: Default::default(),
    };
    Arc::new(RouteConfig {
        name: name.into(),
        virtual_hosts: vec![VirtualHost {
            name: "host".into(),
            domains: vec![domain],
            routes: clusters.iter().map(route).map(Arc::new).collect(),
            overrides: Default::default(),
            headers: Default::default(),
        }],
        headers: Default::default(),
        most_specific_wins: false,
        ignore_port: false,
    })
}

fn routes(name: &str, clusters: &[&str]) -> Resource {
    Resource::Route(routes_for(name, Domain::Any, clusters))
}

fn cluster(name: &str) -> Resource {
    Resource::Cluster(Arc::new(Cluster {
        name: name.into(),
        discovery: Discovery::Eds(format!("eds-{name}").into()),
        lb: LbPolicy::Localities(PolicyConfig(Arc::new(RoundRobin))),
        breakers: Breakers::default(),
        connections: Connections::default(),
        tls: None,
        report_load: None,
        service: None,
        panic_threshold: 50.0,
    }))
}

fn endpoints(name: &str, drops: usize) -> Resource {
    let drop = crate::config::Drop {
        category: "d".into(),
        share: crate::config::Fraction::per_million(1),
    };
    Resource::Endpoints(Arc::new(Endpoints {
        name: format!("eds-{name}").into(),
        localities: vec![],
        drops: vec![drop; drops],
        overprovisioning_factor: 140,
    }))
}

fn error(kind: SourceErrorKind, text: &str) -> SourceError {
    SourceError {
        kind,
        text: text.into(),
    }
}

fn missing() -> SourceError {
    error(SourceErrorKind::DoesNotExist, "no such resource")
}

fn unreachable() -> SourceError {
    error(SourceErrorKind::Unreachable, "the server is away")
}

/// A dependency manager and the shorthand to feed it.
struct Fixture(Dependencies);

impl Fixture {
    fn new() -> Self {
        let mut deps = Dependencies::new(TARGET, TARGET);
        assert!(deps.settle().is_none());
        Self(deps)
    }

    /// Follows `clusters` through `routes`, all known.
    fn settled(clusters: &[&str]) -> Self {
        let mut deps = Self::new();
        deps.update(Kind::Listener, TARGET, named("r"));
        deps.update(Kind::Route, "r", routes("r", clusters));
        for name in clusters {
            deps.update(Kind::Cluster, name, cluster(name));
            deps.update(Kind::Endpoints, &format!("eds-{name}"), endpoints(name, 0));
        }
        deps
    }

    fn event(&mut self, kind: Kind, name: &str, event: Event) -> Outcome {
        self.0.handle(&id(kind, name), event);
        self.0.settle()
    }

    fn update(&mut self, kind: Kind, name: &str, value: Resource) -> Outcome {
        self.event(kind, name, Event::Update(value))
    }

    fn config(&mut self) -> Arc<TargetConfig> {
        self.0
            .settle()
            .expect("something to follow")
            .expect("not an error")
    }

    fn wanted(&self) -> Vec<String> {
        self.0.wanted().map(|id| id.name.to_string()).collect()
    }
}

type Outcome = Option<Result<Arc<TargetConfig>, SourceError>>;

#[test]
fn happy_case() {
    let mut deps = Fixture::new();
    assert_eq!(deps.wanted(), [TARGET]);
    assert!(deps.update(Kind::Listener, TARGET, named("r")).is_none());
    assert_eq!(deps.wanted(), [TARGET, "r"]);
    assert!(deps.update(Kind::Route, "r", routes("r", &["a"])).is_none());
    assert_eq!(deps.wanted(), [TARGET, "r", "a"]);
    assert!(deps.update(Kind::Cluster, "a", cluster("a")).is_none());
    assert_eq!(deps.wanted(), [TARGET, "r", "a", "eds-a"]);
    let config = deps
        .update(Kind::Endpoints, "eds-a", endpoints("a", 0))
        .unwrap()
        .unwrap();
    assert_eq!(config.routes.name.as_ref(), "r");
    assert_eq!(config.clusters.len(), 1);
    assert_eq!(config.ambient, None);
}

#[test]
fn inline_route_config() {
    let mut deps = Fixture::new();
    let inline = listener(RouteSource::Inline(routes_for(
        "inline",
        Domain::Any,
        &["a"],
    )));
    deps.update(Kind::Listener, TARGET, inline);
    deps.update(Kind::Cluster, "a", cluster("a"));
    deps.update(Kind::Endpoints, "eds-a", endpoints("a", 0));
    assert_eq!(deps.config().routes.name.as_ref(), "inline");
    assert_eq!(deps.wanted(), [TARGET, "a", "eds-a"]);
}

#[test]
fn route_resource_change_to_inline() {
    let mut deps = Fixture::settled(&["a"]);
    let inline = listener(RouteSource::Inline(routes_for(
        "inline",
        Domain::Any,
        &["b"],
    )));
    let config = deps
        .update(Kind::Listener, TARGET, inline)
        .unwrap()
        .unwrap();
    assert_eq!(
        config.routes.name.as_ref(),
        "r",
        "the old routes hold until the new are complete"
    );
    assert_eq!(
        deps.wanted(),
        [TARGET, "a", "b", "eds-a"],
        "and what they rest on stays watched"
    );
    deps.update(Kind::Cluster, "b", cluster("b"));
    let config = deps
        .update(Kind::Endpoints, "eds-b", endpoints("b", 0))
        .unwrap()
        .unwrap();
    assert_eq!(config.routes.name.as_ref(), "inline");
    assert_eq!(deps.wanted(), [TARGET, "b", "eds-b"]);
}

#[test]
fn listener_resource_not_found_error() {
    let mut deps = Fixture::new();
    let outcome = deps.event(Kind::Listener, TARGET, Event::Gone(missing()));
    assert_eq!(outcome.unwrap().unwrap_err(), missing());
    // And it recovers.
    deps.update(Kind::Listener, TARGET, named("r"));
    assert_eq!(deps.wanted(), [TARGET, "r"]);
}

#[test]
fn no_virtual_host() {
    let mut deps = Fixture::new();
    deps.update(Kind::Listener, TARGET, named("r"));
    let other = Resource::Route(routes_for("r", Domain::Exact("other".into()), &["a"]));
    let error = deps.update(Kind::Route, "r", other).unwrap().unwrap_err();
    assert!(
        error.text.contains("no virtual host for \"greeter:80\""),
        "{error}"
    );
    assert_eq!(
        deps.wanted(),
        [TARGET, "r"],
        "nothing is watched for a host of others"
    );
}

#[test]
fn no_virtual_host_with_existing_resource_keeps_the_last_good_routes() {
    let mut deps = Fixture::settled(&["a"]);
    let good = deps.config();
    let other = Resource::Route(routes_for("r", Domain::Exact("other".into()), &["a"]));
    let config = deps.update(Kind::Route, "r", other).unwrap().unwrap();
    assert_eq!(config.routes, good.routes);
    assert!(
        config
            .ambient
            .as_ref()
            .unwrap()
            .text
            .contains("no virtual host")
    );
    // What the last good routes rest on stays current.
    let config = deps
        .update(Kind::Endpoints, "eds-a", endpoints("a", 1))
        .unwrap()
        .unwrap();
    assert_eq!(
        config.clusters["a"].as_ref().unwrap().endpoints.drops.len(),
        1
    );
}

#[test]
fn ambient_errors_leave_the_configuration_in_force() {
    for (kind, name) in [(Kind::Listener, TARGET), (Kind::Route, "r")] {
        let mut deps = Fixture::settled(&["a"]);
        let good = deps.config();
        let config = deps
            .event(kind, name, Event::Ambient(unreachable()))
            .unwrap()
            .unwrap();
        assert_eq!(config.routes, good.routes);
        assert_eq!(config.clusters, good.clusters);
        assert_eq!(config.ambient, Some(unreachable()));
    }
}

#[test]
fn ambient_errors_without_a_resource_are_errors_until_it_comes() {
    let mut deps = Fixture::new();
    let outcome = deps.event(Kind::Listener, TARGET, Event::Ambient(unreachable()));
    assert_eq!(outcome.unwrap().unwrap_err(), unreachable());
    assert!(deps.update(Kind::Listener, TARGET, named("r")).is_none());
}

#[test]
fn deletion_that_is_not_ambient_takes_the_target_down() {
    for (kind, name) in [(Kind::Listener, TARGET), (Kind::Route, "r")] {
        let mut deps = Fixture::settled(&["a"]);
        assert_eq!(
            deps.event(kind, name, Event::Gone(missing()))
                .unwrap()
                .unwrap_err(),
            missing()
        );
    }
}

#[test]
fn a_new_route_name_that_does_not_exist_is_ambient() {
    let mut deps = Fixture::settled(&["a"]);
    let good = deps.config();
    assert_eq!(
        deps.update(Kind::Listener, TARGET, named("r2"))
            .unwrap()
            .unwrap(),
        good
    );
    let config = deps
        .event(Kind::Route, "r2", Event::Gone(missing()))
        .unwrap()
        .unwrap();
    assert_eq!(config.routes, good.routes);
    assert_eq!(config.ambient, Some(missing()));
}

#[test]
fn cluster_resource_error_fails_that_cluster_only() {
    let mut deps = Fixture::new();
    deps.update(Kind::Listener, TARGET, named("r"));
    deps.update(Kind::Route, "r", routes("r", &["a", "b"]));
    deps.update(Kind::Cluster, "a", cluster("a"));
    deps.update(Kind::Endpoints, "eds-a", endpoints("a", 0));
    let config = deps
        .event(Kind::Cluster, "b", Event::Gone(missing()))
        .unwrap()
        .unwrap();
    assert!(config.clusters["a"].is_ok());
    assert_eq!(config.clusters["b"], Err(missing()));
}

#[test]
fn cluster_ambient_error_is_a_note() {
    let mut deps = Fixture::settled(&["a"]);
    let config = deps
        .event(Kind::Cluster, "a", Event::Ambient(unreachable()))
        .unwrap()
        .unwrap();
    assert_eq!(
        config.clusters["a"].as_ref().unwrap().note,
        Some(unreachable())
    );
    assert_eq!(config.ambient, None);
}

#[test]
fn endpoint_errors_leave_a_cluster_without_endpoints_and_a_note() {
    let mut deps = Fixture::new();
    deps.update(Kind::Listener, TARGET, named("r"));
    deps.update(Kind::Route, "r", routes("r", &["a"]));
    deps.update(Kind::Cluster, "a", cluster("a"));
    let config = deps
        .event(Kind::Endpoints, "eds-a", Event::Gone(missing()))
        .unwrap()
        .unwrap();
    let a = config.clusters["a"].as_ref().unwrap();
    assert!(a.endpoints.localities.is_empty());
    assert_eq!(a.note, Some(missing()));
}

#[test]
fn endpoint_ambient_error_keeps_the_endpoints() {
    let mut deps = Fixture::settled(&["a"]);
    deps.update(Kind::Endpoints, "eds-a", endpoints("a", 2));
    let event = Event::Ambient(unreachable());
    let config = deps
        .event(Kind::Endpoints, "eds-a", event)
        .unwrap()
        .unwrap();
    let a = config.clusters["a"].as_ref().unwrap();
    assert_eq!(
        (a.endpoints.drops.len(), a.note.as_ref()),
        (2, Some(&unreachable()))
    );
}

#[test]
fn cluster_subscription_lifecycle() {
    let mut deps = Fixture::settled(&["a", "b"]);
    // A route that leaves takes its cluster's watches with it, and a new one waits for its own.
    let config = deps
        .update(Kind::Route, "r", routes("r", &["b", "c"]))
        .unwrap()
        .unwrap();
    assert!(
        config.clusters.contains_key("a"),
        "c is not complete: a still serves"
    );
    assert_eq!(
        deps.wanted(),
        [TARGET, "r", "a", "b", "c", "eds-a", "eds-b"]
    );
    deps.update(Kind::Cluster, "c", cluster("c"));
    let config = deps
        .update(Kind::Endpoints, "eds-c", endpoints("c", 0))
        .unwrap()
        .unwrap();
    assert_eq!(
        config
            .clusters
            .keys()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        ["b", "c"]
    );
    assert_eq!(deps.wanted(), [TARGET, "r", "b", "c", "eds-b", "eds-c"]);
}

#[test]
fn a_cluster_that_leaves_and_comes_back_is_fresh() {
    let mut deps = Fixture::settled(&["a", "b"]);
    deps.update(Kind::Endpoints, "eds-a", endpoints("a", 3));
    deps.update(Kind::Route, "r", routes("r", &["b"]));
    assert_eq!(deps.wanted(), [TARGET, "r", "b", "eds-b"]);
    deps.update(Kind::Route, "r", routes("r", &["a"]));
    deps.update(Kind::Cluster, "a", cluster("a"));
    let config = deps.config();
    assert!(
        config.clusters.contains_key("b"),
        "nothing old stands in for the new endpoints"
    );
    let config = deps
        .update(Kind::Endpoints, "eds-a", endpoints("a", 1))
        .unwrap()
        .unwrap();
    assert_eq!(
        config.clusters["a"].as_ref().unwrap().endpoints.drops.len(),
        1
    );
}

#[test]
fn a_cluster_that_moves_to_other_endpoints_serves_from_the_old_until_they_come() {
    let mut deps = Fixture::settled(&["a"]);
    let old = deps.config();
    let Resource::Cluster(moved) = cluster("a") else {
        unreachable!()
    };
    let moved = Cluster {
        discovery: Discovery::Eds("eds-new".into()),
        ..(*moved).clone()
    };
    let config = deps.update(Kind::Cluster, "a", Resource::Cluster(Arc::new(moved)));
    assert_eq!(config.unwrap().unwrap(), old);
    let new = Resource::Endpoints(Arc::new(Endpoints {
        name: "eds-new".into(),
        localities: vec![],
        drops: vec![],
        overprovisioning_factor: 140,
    }));
    let config = deps
        .update(Kind::Endpoints, "eds-new", new)
        .unwrap()
        .unwrap();
    assert_eq!(
        config.clusters["a"]
            .as_ref()
            .unwrap()
            .endpoints
            .name
            .as_ref(),
        "eds-new"
    );
    assert_eq!(deps.wanted(), [TARGET, "r", "a", "eds-new"]);
}

#[test]
fn an_equal_update_is_the_same_configuration() {
    let mut deps = Fixture::settled(&["a"]);
    let before = deps.config();
    let after = deps
        .update(Kind::Endpoints, "eds-a", endpoints("a", 0))
        .unwrap()
        .unwrap();
    assert!(Arc::ptr_eq(&before, &after));
}

#[test]
fn news_of_what_is_not_wanted_is_ignored() {
    let mut deps = Fixture::settled(&["a"]);
    let before = deps.config();
    let after = deps
        .update(Kind::Cluster, "z", cluster("z"))
        .unwrap()
        .unwrap();
    assert!(Arc::ptr_eq(&before, &after));
}

mod endpoints_only;
mod outage;
mod servers;
