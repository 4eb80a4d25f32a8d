//! What clusters say for HTTP semantics.

use super::*;

#[test]
fn limits_of_http_semantics() {
    let limited = |max: u32| {
        decode_resource(
            Kind::Cluster,
            &edited(|wire| {
                set_breakers(
                    wire,
                    vec![Thresholds {
                        max_connections: u32_value(max),
                        max_pending_requests: u32_value(max + 1),
                        max_retries: u32_value(max + 2),
                        ..Default::default()
                    }],
                    vec![],
                );
            }),
        )
        .unwrap()
        .value
    };
    for max in [0, 7] {
        let Resource::Cluster(cluster) = limited(max) else {
            panic!("a cluster")
        };
        let expected = Breakers {
            max_connections: max,
            max_pending_requests: max + 1,
            max_retries: max + 2,
            ..Default::default()
        };
        assert_eq!(cluster.breakers, expected);
    }
}

#[test]
fn the_panic_threshold_is_a_percentage() {
    let decode = |value: Option<f64>| {
        let wire = edited(|wire| {
            wire.common_lb_config = Some(CommonLbConfig {
                healthy_panic_threshold: value.map(|value| Percent { value }),
                ..Default::default()
            });
        });
        decode_resource(Kind::Cluster, &wire).map(|decoded| match decoded.value {
            Resource::Cluster(cluster) => cluster.panic_threshold,
            other => panic!("{other:?}"),
        })
    };
    for (value, expected) in [
        (None, 50.0),
        (Some(0.0), 0.0),
        (Some(12.5), 12.5),
        (Some(100.0), 100.0),
    ] {
        assert_eq!(decode(value), Ok(expected));
    }
    for value in [-1.0, 100.5, f64::NAN, f64::INFINITY] {
        let error = decode(Some(value)).unwrap_err();
        assert_eq!(error.path, "common_lb_config.healthy_panic_threshold.value");
    }
}
