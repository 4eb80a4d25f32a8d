//! The control plane goes away before it has sent all of what is to come into force.

use super::*;

/// What works goes on as it was, says what is waited for, and gives way once that is there.
fn kept_until_whole(missing: Kind, name: &str, arrives: Resource) {
    let mut deps = Fixture::settled(&["old"]);
    let old = deps.config();
    deps.update(Kind::Route, "r", routes("r", &["new"]));
    if missing == Kind::Endpoints {
        deps.update(Kind::Cluster, "new", cluster("new"));
    }
    // All that is watched hears of it, in whatever order.
    for id in deps.0.wanted().cloned().collect::<Vec<_>>() {
        let outcome = deps.event(id.kind, &id.name, Event::Ambient(unreachable()));
        let config = outcome.unwrap().unwrap();
        assert_eq!(config.routes, old.routes);
        assert_eq!(config.clusters["old"].as_ref().unwrap().cluster, {
            let old = old.clusters["old"].as_ref().unwrap();
            Arc::clone(&old.cluster)
        });
    }
    assert_eq!(deps.config().ambient, Some(unreachable()));

    if missing == Kind::Cluster {
        let outcome = deps.update(Kind::Cluster, "new", arrives);
        assert_eq!(outcome.unwrap().unwrap().routes, old.routes);
        deps.update(Kind::Endpoints, "eds-new", endpoints("new", 0));
    } else {
        deps.update(missing, name, arrives);
    }
    let new = deps.config();
    assert!(new.clusters["new"].is_ok());
    assert!(!new.clusters.contains_key("old"));
}

#[test]
fn a_cluster_that_has_not_arrived() {
    kept_until_whole(Kind::Cluster, "new", cluster("new"));
}

#[test]
fn endpoints_that_have_not_arrived() {
    kept_until_whole(Kind::Endpoints, "eds-new", endpoints("new", 0));
}

/// The control plane says that there is no such cluster: that is an answer, and calls to it fail.
#[test]
fn what_does_not_exist_is_not_waited_for() {
    let mut deps = Fixture::settled(&["old"]);
    deps.update(Kind::Route, "r", routes("r", &["new"]));
    deps.event(Kind::Cluster, "new", Event::Ambient(unreachable()));
    assert!(deps.config().clusters.contains_key("old"));
    let outcome = deps.event(Kind::Cluster, "new", Event::Gone(missing()));
    let config = outcome.unwrap().unwrap();
    assert_eq!(*config.clusters["new"].as_ref().unwrap_err(), missing());
}

/// With nothing in force there is nothing to keep: what is there serves, and the rest says why not.
#[test]
fn at_the_first_start_each_cluster_stands_for_itself() {
    let mut deps = Fixture::new();
    deps.update(Kind::Listener, TARGET, named("r"));
    deps.update(Kind::Route, "r", routes("r", &["there", "away"]));
    deps.update(Kind::Cluster, "there", cluster("there"));
    deps.update(Kind::Endpoints, "eds-there", endpoints("there", 0));
    let outcome = deps.event(Kind::Cluster, "away", Event::Ambient(unreachable()));
    let config = outcome.unwrap().unwrap();
    assert!(config.clusters["there"].is_ok());
    assert_eq!(
        *config.clusters["away"].as_ref().unwrap_err(),
        unreachable()
    );
    // It stays so while more of the same is heard.
    let outcome = deps.event(Kind::Route, "r", Event::Ambient(unreachable()));
    let config = outcome.unwrap().unwrap();
    assert_eq!(
        *config.clusters["away"].as_ref().unwrap_err(),
        unreachable()
    );
    deps.update(Kind::Cluster, "away", cluster("away"));
    deps.update(Kind::Endpoints, "eds-away", endpoints("away", 0));
    assert!(deps.config().clusters["away"].is_ok());
}
