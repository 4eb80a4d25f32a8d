//! Services as resources, and the builder's refusals.

use std::{panic::catch_unwind, time::Duration};

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{Cluster, cluster::LbPolicy},
        core::v3::{HealthStatus, address::Address as WireAddress, socket_address::PortSpecifier},
        endpoint::v3::{ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier},
        listener::v3::Listener,
        route::v3::{
            RouteAction, RouteConfiguration, route::Action, route_action::ClusterSpecifier,
        },
    },
    extensions::filters::{
        http::fault::v3::{HttpFault, fault_abort::ErrorType},
        network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier, http_filter::ConfigType,
        },
    },
};
use prost::{Message, Name};

use super::{NODE, address};
use crate::{
    Code,
    config::Kind,
    testing::{
        ControlPlane, Endpoint, EndpointHealth, Fault, Retry, Route, locality, render::type_url,
        store::Names, zone,
    },
};

/// What a client would be sent.
pub(super) fn served<M: Message + Name + Default>(control_plane: &ControlPlane, name: &str) -> M {
    let names = [name.to_owned()].into();
    let found = control_plane.peek(NODE, &M::type_url(), Names::These(&names));
    M::decode(&found[0].value[..]).unwrap()
}

fn port(endpoint: &LbEndpoint) -> u32 {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
        panic!("no endpoint");
    };
    match endpoint.address.as_ref().unwrap().address.as_ref().unwrap() {
        WireAddress::SocketAddress(socket) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => port,
            _ => panic!("no port"),
        },
        _ => 0,
    }
}

/// Priority, zone, weight, and port, health and weight of each endpoint.
type Place = (u32, String, u32, Vec<(u32, HealthStatus, Option<u32>)>);

fn places(assignment: &ClusterLoadAssignment) -> Vec<Place> {
    let localities = assignment.endpoints.iter();
    localities
        .map(|locality| {
            let endpoints = locality.lb_endpoints.iter();
            (
                locality.priority,
                locality.locality.as_ref().unwrap().zone.clone(),
                locality.load_balancing_weight.unwrap().value,
                endpoints
                    .map(|e| {
                        let weight = e.load_balancing_weight.map(|weight| weight.value);
                        (port(e), e.health_status(), weight)
                    })
                    .collect(),
            )
        })
        .collect()
}

fn action(routes: &RouteConfiguration, index: usize) -> &RouteAction {
    match &routes.virtual_hosts[0].routes[index].action {
        Some(Action::Route(action)) => action,
        _ => panic!("no route action"),
    }
}

#[test]
fn a_plain_service_is_four_resources() {
    let control_plane = ControlPlane::in_memory();
    let push = control_plane.service("s").endpoint(address(7)).apply();
    // All but secrets.
    assert_eq!(push.kinds().len(), Kind::ALL.len() - 1);
    assert!(!push.kinds().contains(&Kind::Secret));

    let listener: Listener = served(&control_plane, "s");
    let manager = listener.api_listener.unwrap().api_listener.unwrap();
    let manager = HttpConnectionManager::decode(&manager.value[..]).unwrap();
    let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier else {
        panic!("no rds");
    };
    assert_eq!(manager.http_filters.len(), 1);
    let routes: RouteConfiguration = served(&control_plane, &rds.route_config_name);
    let Some(ClusterSpecifier::Cluster(name)) = &action(&routes, 0).cluster_specifier else {
        panic!("no cluster");
    };
    let cluster: Cluster = served(&control_plane, name);
    assert_eq!(cluster.lb_policy(), LbPolicy::RoundRobin);
    let name = cluster.eds_cluster_config.unwrap().service_name;
    let assignment: ClusterLoadAssignment = served(&control_plane, &name);
    let endpoint = (7, HealthStatus::Healthy, None);
    assert_eq!(places(&assignment), [(0, String::new(), 1, vec![endpoint])]);
    assert_eq!(assignment.policy, None);
}

#[test]
fn endpoints_have_places_weights_and_health() {
    let control_plane = ControlPlane::in_memory();
    let service = || control_plane.service("s");
    let assignment = || served::<ClusterLoadAssignment>(&control_plane, "s/v1");
    service()
        .version("v1")
        .endpoint_in(zone("b"), address(1))
        .endpoint(Endpoint::new(address(2)).locality(zone("b")).weight(5))
        .endpoint(
            Endpoint::unix("/run/x")
                .locality(locality("r", "a", "s"))
                .priority(1)
                .health(EndpointHealth::Unhealthy)
                .hostname("x"),
        )
        .locality_weight(zone("b"), 3)
        .drop_percent("throttle", 12.5)
        .apply();
    let healthy = |port| (port, HealthStatus::Healthy, None);
    let b = |endpoints| (0, "b".to_owned(), 3, endpoints);
    let a = || {
        let unhealthy = vec![(0, HealthStatus::Unhealthy, None)];
        (1, "a".to_owned(), 1, unhealthy)
    };
    let weighted = (2, HealthStatus::Healthy, Some(5));
    assert_eq!(places(&assignment()), [b(vec![healthy(1), weighted]), a()]);
    let drops = assignment().policy.unwrap().drop_overloads;
    let share = drops[0].drop_percentage.unwrap();
    assert_eq!(
        (&*drops[0].category, share.numerator),
        ("throttle", 125_000)
    );

    service().drain(address(1)).take_out(address(2)).apply();
    let draining = (1, HealthStatus::Draining, None);
    assert_eq!(places(&assignment()), [b(vec![draining]), a()]);
    // The locality stays: its priority must not leave a gap.
    service().take_out(address(1)).apply();
    assert_eq!(places(&assignment()), [b(vec![]), a()]);
    service().restore(address(1)).restore(address(2)).apply();
    assert_eq!(places(&assignment()), [b(vec![healthy(1), weighted]), a()]);

    service()
        .drop_percent("throttle", 0.0)
        .clear_endpoints()
        .apply();
    assert_eq!(places(&assignment()), []);
    assert_eq!(assignment().policy, None);
}

#[test]
fn routes_come_before_the_split_with_policies_of_their_own() {
    let control_plane = ControlPlane::in_memory();
    let second = Duration::from_secs(1);
    let retry = |times| Retry::on([Code::Unavailable, Code::ResourceExhausted]).times(times);
    control_plane
        .service("s")
        .version("v1")
        .weight(3)
        .version("v2")
        .route(
            Route::path("/a/b")
                .header("user", "x")
                .header_regex("n", "[0-9]+")
                .header_present("absent", false)
                .percent(50.0)
                .to("v2")
                .retry(retry(4))
                .max_stream_duration(3 * second),
        )
        .route(Route::prefix("/c").split(&[("v1", 1), ("v2", 2)]))
        .route(Route::regex("/[de]").grpc_timeout_header_max(second))
        .retry(retry(2).backoff(second, 2 * second))
        .max_stream_duration(2 * second)
        .apply();
    let routes: RouteConfiguration = served(&control_plane, "route/s");
    let host = &routes.virtual_hosts[0];
    assert_eq!(host.routes.len(), 4);
    let first = host.routes[0].r#match.as_ref().unwrap();
    assert_eq!(first.headers.len(), 3);
    let share = first.runtime_fraction.as_ref().unwrap().default_value;
    assert_eq!(share.unwrap().numerator, 500_000);

    let of_host = host.retry_policy.as_ref().unwrap();
    assert_eq!(of_host.retry_on, "unavailable,resource-exhausted");
    assert_eq!(of_host.num_retries.unwrap().value, 2);
    let own = action(&routes, 0).retry_policy.as_ref().unwrap();
    assert_eq!(own.num_retries.unwrap().value, 4);

    let limits = |index| {
        let limits = action(&routes, index).max_stream_duration.unwrap();
        (
            limits.max_stream_duration.map(|d| d.seconds),
            limits.grpc_timeout_header_max.map(|d| d.seconds),
        )
    };
    assert_eq!(limits(0), (Some(3), None));
    assert_eq!(limits(1), (Some(2), None));
    assert_eq!(limits(2), (Some(2), Some(1)));

    let split = |index| match action(&routes, index).cluster_specifier.clone() {
        Some(ClusterSpecifier::Cluster(name)) => vec![(name, 0)],
        Some(ClusterSpecifier::WeightedClusters(split)) => split
            .clusters
            .into_iter()
            .map(|cluster| (cluster.name, cluster.weight.unwrap().value))
            .collect(),
        _ => panic!("no cluster"),
    };
    let both = |v1, v2| vec![("s/v1".to_owned(), v1), ("s/v2".to_owned(), v2)];
    assert_eq!(split(0), [("s/v2".to_owned(), 0)]);
    assert_eq!(split(1), both(1, 2));
    assert_eq!(split(2), both(3, 1));
    assert_eq!(split(3), both(3, 1));
}

#[test]
fn clusters_have_limits_and_listeners_faults() {
    let control_plane = ControlPlane::in_memory();
    let fault = Fault::new()
        .abort(Code::Unavailable, 100.0)
        .delay(Duration::from_millis(1500), 0.5)
        .max_active(9);
    let service = || control_plane.service("s");
    service()
        .version("v1")
        .version("v2")
        .max_requests(1)
        .apply();
    // No version is named: all are meant.
    service()
        .least_request(4)
        .max_requests(2)
        .fault(fault)
        .apply();
    service().version("v2").max_connections_per_host(3).apply();
    for (name, per_host) in [("s/v1", 0), ("s/v2", 1)] {
        let cluster: Cluster = served(&control_plane, name);
        assert_eq!(cluster.lb_policy(), LbPolicy::LeastRequest);
        let breakers = cluster.circuit_breakers.unwrap();
        assert_eq!(breakers.thresholds[0].max_requests.unwrap().value, 2);
        assert_eq!(breakers.per_host_thresholds.len(), per_host);
    }
    let listener: Listener = served(&control_plane, "s");
    let manager = listener.api_listener.unwrap().api_listener.unwrap();
    let manager = HttpConnectionManager::decode(&manager.value[..]).unwrap();
    assert_eq!(manager.http_filters.len(), 2);
    let Some(ConfigType::TypedConfig(any)) = &manager.http_filters[0].config_type else {
        panic!("no filter configuration");
    };
    let fault = HttpFault::decode(&any.value[..]).unwrap();
    let abort = fault.abort.unwrap();
    assert_eq!(abort.error_type, Some(ErrorType::GrpcStatus(14)));
    assert_eq!(abort.percentage.unwrap().numerator, 1_000_000);
    let delay = fault.delay.unwrap();
    assert_eq!(delay.percentage.unwrap().numerator, 5_000);
}

#[test]
fn mistakes_are_named() {
    let of = |mistake: fn(&ControlPlane)| {
        let panic = catch_unwind(|| {
            let control_plane = ControlPlane::in_memory();
            let service = control_plane.service("s").version("v1").version("v2");
            service.endpoint(address(2)).apply();
            mistake(&control_plane);
        });
        *panic.unwrap_err().downcast::<String>().unwrap()
    };
    let text = of(|c| drop(c.service("s").split(&[("v3", 1)]).apply()));
    assert_eq!(text, r#""s" has no version "v3"; it has "v1", "v2""#);
    let text = of(|c| drop(c.service("s").route(Route::prefix("").to("v9")).apply()));
    assert!(text.contains("v9"), "{text}");
    let text = of(|c| drop(c.service("s").drain(address(1)).apply()));
    assert!(text.contains("it has 127.0.0.1:2"), "{text}");
    let text = of(|c| drop(c.service("s").endpoint(address(1)).apply()));
    assert!(text.contains("which version"), "{text}");
    let text = of(|c| {
        let _ = c.corrupt(Kind::Route, "nix", crate::testing::Corruption::Truncated);
    });
    assert!(text.contains("nix"), "{text}");
}

#[test]
fn a_service_that_is_removed_leaves_nothing() {
    let control_plane = ControlPlane::in_memory();
    control_plane.service("s").endpoint(address(1)).apply();
    control_plane.service("t").endpoint(address(1)).apply();
    let left = |kind| {
        let left = control_plane.peek(NODE, type_url(kind), Names::All);
        left.len()
    };
    let left = || Kind::ALL.map(left);
    assert_eq!(left(), [2, 2, 2, 2, 0]);
    control_plane.service("s").remove();
    assert_eq!(left(), [1, 1, 1, 1, 0]);
    control_plane.view(NODE).service("t").remove();
    assert_eq!(left(), [0; 5]);
}
