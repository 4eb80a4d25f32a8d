//! Who this process is, in the words of the protocol.

use envoy_types::pb::{
    envoy::config::core::v3 as core,
    google::protobuf::{ListValue, Struct, Value, value},
};

use crate::bootstrap::Node;

/// Features that every control plane is told of (gRFC A27).
const CLIENT_FEATURES: [&str; 2] = [
    "envoy.lb.does_not_support_overprovisioning",
    // A resource may come wrapped in `envoy.service.discovery.v3.Resource`.
    "xds.config.resource-in-sotw",
];

/// The node as it is sent: the bootstrap's words verbatim, the user agent and features our own.
pub(super) fn encode(node: &Node) -> core::Node {
    let place = &node.locality;
    core::Node {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        locality: (*place != Default::default()).then(|| core::Locality {
            region: place.region.clone(),
            zone: place.zone.clone(),
            sub_zone: place.sub_zone.clone(),
        }),
        metadata: (!node.metadata.is_empty()).then(|| encode_object(&node.metadata)),
        user_agent_name: env!("CARGO_PKG_NAME").to_owned(),
        user_agent_version_type: Some(core::node::UserAgentVersionType::UserAgentVersion(
            env!("CARGO_PKG_VERSION").to_owned(),
        )),
        client_features: CLIENT_FEATURES.map(str::to_owned).to_vec(),
        ..Default::default()
    }
}

fn encode_object(object: &serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct {
        fields: object
            .iter()
            .map(|(key, value)| (key.clone(), encode_value(value)))
            .collect(),
    }
}

fn encode_value(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    use value::Kind;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        // `Struct` has no other number; integers past 2^53 lose digits, as they do in JSON.
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Json::String(value) => Kind::StringValue(value.clone()),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.iter().map(encode_value).collect(),
        }),
        Json::Object(object) => Kind::StructValue(encode_object(object)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::LocalityId;

    #[test]
    fn node_carries_the_bootstrap_verbatim_and_our_own_user_agent() {
        let serde_json::Value::Object(metadata) = json!({
            "GENERATOR": "grpc", "INSTANCE_IPS": ["10.0.0.1", null],
            "LABELS": {"app": "a", "n": 1.5, "on": true},
        }) else {
            unreachable!("an object")
        };
        let node = encode(&Node {
            id: "sidecar~10.0.0.1~a.b~b.svc".into(),
            cluster: "c".into(),
            locality: LocalityId {
                region: "r".into(),
                zone: "z".into(),
                sub_zone: String::new(),
            },
            metadata,
        });
        assert_eq!(node.id, "sidecar~10.0.0.1~a.b~b.svc");
        assert_eq!(node.cluster, "c");
        assert_eq!(node.locality.as_ref().map(|l| l.zone.as_str()), Some("z"));
        assert_eq!(node.client_features, CLIENT_FEATURES);
        assert_eq!(node.user_agent_name, "mesh-core");
        assert!(node.user_agent_version_type.is_some());
        let fields = node.metadata.expect("metadata").fields;
        assert_eq!(fields["GENERATOR"], encode_value(&json!("grpc")));
        assert_eq!(
            fields["LABELS"].kind,
            encode_value(&json!({"app": "a", "n": 1.5, "on": true})).kind
        );
        let Some(value::Kind::ListValue(ips)) = &fields["INSTANCE_IPS"].kind else {
            panic!("a list")
        };
        assert_eq!(ips.values[1].kind, Some(value::Kind::NullValue(0)));
    }

    #[test]
    fn an_empty_locality_and_empty_metadata_are_left_out() {
        let node = encode(&Node::default());
        assert_eq!((node.locality, node.metadata), (None, None));
    }
}
