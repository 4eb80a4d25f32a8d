//! References to what is in no file.

use super::*;

/// The way of a call, with one resource missing at each step.
#[test]
fn check_sees_references_to_what_is_in_no_file() {
    let scratch = Scratch::new("dangling");
    scratch.put(
        "listener.yaml",
        r#"- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: greeter
  api_listener:
    api_listener:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      rds: {config_source: {ads: {}}, route_config_name: routes}
      http_filters:
      - name: router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"#,
    );
    let errors = |checker: Checker| -> Vec<String> {
        let report = checker.check(&scratch.0).unwrap();
        assert_eq!(report.is_good(), report.errors().next().is_none());
        report.errors().map(ToString::to_string).collect()
    };
    let missing = |to: &str| format!("refers to {to}, which is in no file that is good");
    assert_eq!(
        errors(Checker::new()),
        [format!(
            "listener.yaml:6:58: listener \"greeter\": api_listener.api_listener.rds.route_config_name: {}",
            missing("route configuration \"routes\"")
        )]
    );
    let routes = r#"
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: routes
  virtualHosts:
  - name: all
    domains: ["*"]
    routes:
    - match: {prefix: /one}
      route: {cluster: one}
    - match: {prefix: ""}
      route:
        weightedClusters:
          clusters:
          - {name: two, weight: 1}
          - {name: never, weight: 0}
          - {name: all, weight: 1}
"#;
    scratch.put("routes.yaml", routes);
    let expected = [
        ("9:24", "one", "virtualHosts[0].routes[0].route.cluster"),
        (
            "14:20",
            "two",
            "virtualHosts[0].routes[1].route.weightedClusters.clusters[0].name",
        ),
        (
            "16:20",
            "all",
            "virtualHosts[0].routes[1].route.weightedClusters.clusters[2].name",
        ),
    ];
    let expected = expected.map(|(at, cluster, field)| {
        let missing = missing(&format!("cluster {cluster:?}"));
        format!("routes.yaml:{at}: route configuration \"routes\": {field}: {missing}")
    });
    assert_eq!(errors(Checker::new()), expected);

    let clusters = r#"
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: one
  type: EDS
  eds_cluster_config: {eds_config: {ads: {}}}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: two
  type: EDS
  eds_cluster_config: {eds_config: {ads: {}}, service_name: two-endpoints}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: all
  lb_policy: CLUSTER_PROVIDED
  cluster_type:
    name: envoy.clusters.aggregate
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig
      clusters: [one, three]
"#;
    scratch.put("clusters.yaml", clusters);
    assert_eq!(
        errors(Checker::new()),
        [
            format!(
                "clusters.yaml:2:3: cluster \"one\": {}",
                missing("endpoints \"one\"")
            ),
            format!(
                "clusters.yaml:9:61: cluster \"two\": eds_cluster_config.service_name: {}",
                missing("endpoints \"two-endpoints\"")
            ),
            format!(
                "clusters.yaml:17:23: cluster \"all\": cluster_type.typed_config.clusters[1]: {}",
                missing("cluster \"three\"")
            ),
        ]
    );

    // What is given in code is there, too; a file that is bad is not.
    let endpoints = |name: &str| {
        format!(
            "- \"@type\": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\n  cluster_name: {name}\n"
        )
    };
    let static_cluster = "- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: three\n  type: STATIC\n  load_assignment: {cluster_name: three}\n";
    scratch.put("one.yaml", &endpoints("one"));
    let given = || {
        let texts = Checker::new().resources("two", endpoints("two-endpoints"));
        texts.resources("three", static_cluster)
    };
    assert_eq!(errors(given()), [""; 0]);
    scratch.put("one.yaml", "a: [");
    let errors = errors(given());
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("one.yaml:"), "{errors:?}");
    assert!(errors[1].starts_with("clusters.yaml:2:3:"), "{errors:?}");
}
