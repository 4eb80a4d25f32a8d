use std::any::Any as StdAny;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{Cluster, load_balancing_policy::Policy},
            core::v3::{Metadata, TypedExtensionConfig},
        },
        extensions::load_balancing_policies::{
            common::v3::SlowStartConfig, least_request::v3::LeastRequest as WireLeastRequest,
            ring_hash::v3::RingHash, round_robin::v3::RoundRobin as WireRoundRobin,
        },
    },
    google::protobuf::{BoolValue, Struct, Value, value::Kind as ValueKind},
};
use prost::Message as _;

use super::{
    super::{Decode as _, test_support::*},
    *,
};
use crate::{
    balance::{self, LeastRequest, PolicySpec, RoundRobin},
    config::{Kind, Resource},
};

/// A policy that this crate does not have: registered, it is decoded, compared and reported on
/// without any other change.
#[derive(Debug, PartialEq)]
struct Loudest {
    volume: u32,
}

#[derive(Debug)]
struct LoudestDecoder;

static LOUDEST: Message = Message {
    name: "myorg.Loudest",
    fields: &[
        Field::enforced(1, "volume"),
        Field::ignored(2, "pitch", "only volume counts"),
    ],
};

impl PolicyDecoder for LoudestDecoder {
    fn messages(&self) -> &'static [&'static Message] {
        const { &[&LOUDEST] }
    }

    fn accepts_struct(&self) -> bool {
        true
    }

    fn decode(&self, _: &str, config: &Extension) -> Result<PolicyConfig, FieldError> {
        let volume = match config {
            Extension::Message(value) => value.len() as u32,
            Extension::Struct(fields) => match fields.get("volume").and_then(|v| v.as_f64()) {
                Some(volume) => volume as u32,
                None => return Err(FieldError::new("must be a number").field("volume")),
            },
        };
        Ok(PolicyConfig(Arc::new(Loudest { volume })))
    }
}

impl PolicySpec for Loudest {
    fn name(&self) -> &'static str {
        "loudest"
    }

    fn build(&self, group: &Arc<balance::Group>) -> Box<dyn balance::Policy> {
        RoundRobin.build(group)
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn StdAny).downcast_ref() == Some(self)
    }
}

fn list(configs: impl IntoIterator<Item = Any>) -> LoadBalancingPolicy {
    let policy = |config| Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: "p".into(),
            typed_config: Some(config),
        }),
    };
    LoadBalancingPolicy {
        policies: configs.into_iter().map(policy).collect(),
    }
}

fn round_robin() -> Any {
    any(&WireRoundRobin::default())
}

fn localities(child: LoadBalancingPolicy) -> Any {
    any(&WrrLocality {
        endpoint_picking_policy: Some(child),
    })
}

fn loudest(value: &[u8]) -> Any {
    Any {
        type_url: "type.googleapis.com/myorg.Loudest".into(),
        value: value.to_vec(),
    }
}

/// A `TypedStruct`: type URL 1, value 2.
fn typed_struct(url: &str, fields: &[(&str, f64)]) -> Any {
    let fields = fields.iter().map(|(key, number)| {
        let value = Value {
            kind: Some(ValueKind::NumberValue(*number)),
        };
        (key.to_string(), value)
    });
    // The key and value of an `Any` have the same numbers as those of a `TypedStruct`.
    let value = Any {
        type_url: url.to_owned(),
        value: Struct {
            fields: fields.collect(),
        }
        .encode_to_vec(),
    };
    Any {
        type_url: "type.googleapis.com/xds.type.v3.TypedStruct".into(),
        value: value.encode_to_vec(),
    }
}

fn with_loudest() -> PolicyRegistry {
    PolicyRegistry::standard().register(LoudestDecoder)
}

fn spec(policy: impl PolicySpec) -> PolicyConfig {
    PolicyConfig(Arc::new(policy))
}

#[test]
fn the_first_supported_entry_counts() {
    let ring_hash = any(&RingHash::default());
    let all = list([ring_hash, round_robin(), any(&WireLeastRequest::default())]);
    assert_eq!(
        decode(&all, &PolicyRegistry::standard()),
        Ok(LbPolicy::Endpoints(spec(RoundRobin)))
    );
}

#[test]
fn localities_by_weight() {
    let request = WireLeastRequest {
        choice_count: u32_value(3),
        ..Default::default()
    };
    let wrapped = list([localities(list([any(&request)]))]);
    assert_eq!(
        decode(&wrapped, &PolicyRegistry::standard()),
        Ok(LbPolicy::Localities(spec(LeastRequest::new(3))))
    );
}

#[test]
fn a_policy_of_someone_else() {
    for (config, volume) in [
        (loudest(&[8, 1]), 2),
        (typed_struct("x/myorg.Loudest", &[("volume", 7.0)]), 7),
    ] {
        let first = list([config, round_robin()]);
        assert_eq!(
            decode(&first, &with_loudest()),
            Ok(LbPolicy::Endpoints(spec(Loudest { volume })))
        );
        // Without it the next one counts.
        assert_eq!(
            decode(&first, &PolicyRegistry::standard()),
            Ok(LbPolicy::Endpoints(spec(RoundRobin)))
        );
    }
}

#[test]
fn a_struct_for_a_policy_that_takes_messages_is_skipped() {
    let name = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest";
    let first = list([typed_struct(name, &[]), round_robin()]);
    assert_eq!(
        decode(&first, &PolicyRegistry::standard()),
        Ok(LbPolicy::Endpoints(spec(RoundRobin)))
    );
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| {
        (0..levels).fold(list([round_robin()]), |inner, _| list([localities(inner)]))
    };
    let registry = PolicyRegistry::standard();
    let deepest = MAX_POLICY_DEPTH - 1;
    assert_eq!(
        decode(&nested(deepest), &registry),
        Ok(LbPolicy::Localities(spec(RoundRobin)))
    );
    let error = decode(&nested(deepest + 1), &registry).unwrap_err();
    assert_eq!(error.problem(), "policies are nested deeper than 16 levels");
}

#[test]
fn refusals() {
    let picking = "policies[0].typed_extension_config";
    let choice = |count| {
        any(&WireLeastRequest {
            choice_count: u32_value(count),
            ..Default::default()
        })
    };
    let malformed = Any {
        value: vec![0xff],
        ..round_robin()
    };
    let no_config = LoadBalancingPolicy {
        policies: vec![Policy {
            typed_extension_config: Some(TypedExtensionConfig::default()),
        }],
    };
    let nothing = LoadBalancingPolicy {
        policies: vec![Policy::default()],
    };
    let cases = [
        (list([]), "policies: must not be empty".to_owned()),
        (nothing, format!("{picking}: must be set")),
        (no_config, format!("{picking}.typed_config: must be set")),
        (
            list([any(&RingHash::default()), typed_struct("x/b.C", &[])]),
            "policies: none of the policies is supported: \
             envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash, b.C"
                .to_owned(),
        ),
        // A later entry does not make up for one that is supported and invalid.
        (
            list([choice(1), round_robin()]),
            format!("{picking}.typed_config.choice_count: must be at least 2, not 1"),
        ),
        (
            list([localities(list([choice(0)]))]),
            format!(
                "{picking}.typed_config.endpoint_picking_policy.{picking}.typed_config.\
                 choice_count: must be at least 2, not 0"
            ),
        ),
        (
            list([any(&WrrLocality::default())]),
            format!("{picking}.typed_config.endpoint_picking_policy: must be set"),
        ),
        (
            list([typed_struct("x/myorg.Loudest", &[])]),
            format!("{picking}.typed_config.volume: must be a number"),
        ),
    ];
    for (policies, expected) in cases {
        let error = decode(&policies, &with_loudest()).expect_err(&expected);
        assert_eq!(error.to_string(), expected);
    }
    let error = decode(&list([malformed]), &with_loudest()).unwrap_err();
    assert_eq!(
        error.path(),
        "policies[0].typed_extension_config.typed_config"
    );
    assert!(error.problem().starts_with("not a valid envoy.extensions"));
}

#[test]
#[expect(deprecated, reason = "deprecated fields are reported too")]
fn findings_go_through_extensions() {
    let request = WireLeastRequest {
        slow_start_config: Some(SlowStartConfig::default()),
        active_request_bias: Some(Default::default()),
        enable_full_scan: Some(BoolValue { value: false }),
        ..Default::default()
    };
    let wire = Cluster {
        load_balancing_policy: Some(list([
            any(&Metadata::default()),
            typed_struct("x/nobodys.Policy", &[]),
            typed_struct("x/myorg.Loudest", &[("volume", 1.0)]),
            loudest(&[8, 1, 16, 1, 24, 1]),
            localities(list([any(&request)])),
        ])),
        ..minimal()
    };
    let decoded = decoder_with(with_loudest())
        .decode(Kind::Cluster, &resource(Kind::Cluster, &wire))
        .unwrap();
    let at = |index| {
        format!("load_balancing_policy.policies[{index}].typed_extension_config.typed_config")
    };
    let inner = format!(
        "{}.endpoint_picking_policy.policies[0].typed_extension_config.typed_config",
        at(4)
    );
    assert_eq!(
        lines(&decoded.findings),
        [
            format!(
                "{} - extension \"envoy.config.core.v3.Metadata\" is not known here",
                at(0)
            ),
            format!("{} - extension \"nobodys.Policy\" is not known here", at(1)),
            format!("{}.pitch - only volume counts", at(3)),
            format!("{}.#3 - not known to this version", at(3)),
            format!(
                "{inner}.active_request_bias - endpoints are compared by their requests in \
                 flight alone (gRFC A48)"
            ),
            format!("{inner}.slow_start_config - a new endpoint gets its full share at once"),
            format!(
                "{inner}.enable_full_scan - choice_count endpoints are drawn and compared \
                 (gRFC A48)"
            ),
        ]
    );
    match decoded.value {
        Resource::Cluster(cluster) => {
            assert_eq!(cluster.lb, LbPolicy::Endpoints(spec(Loudest { volume: 1 })));
        }
        other => panic!("{other:?}"),
    }
}

/// A cluster without a policy.
fn minimal() -> Cluster {
    use envoy_types::pb::envoy::config::cluster::v3::cluster::{
        ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
    };
    Cluster {
        name: "c".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: String::new(),
        }),
        ..Default::default()
    }
}
