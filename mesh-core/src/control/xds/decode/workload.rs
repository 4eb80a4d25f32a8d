//! What runs where, as Istio's control plane says it: for telemetry alone.
//!
//! Sources: the metadata exchange of istio/proxy (`metadata_object.cc`), and what istiod puts into
//! `filter_metadata` under `istio` for endpoints (`workload`) and clusters (`services`).

use std::sync::Arc;

use envoy_types::pb::{
    envoy::config::core::v3::Metadata,
    google::protobuf::{Struct, Value, value::Kind},
};
use serde_json::{Map, Value as Json};

use crate::config::{Service, Workload};

/// What becomes of the field `metadata`.
pub(super) const FOR_TELEMETRY: &str = "what Istio says in it of workloads is told in metrics";

const ISTIO: &str = "istio";

/// Parts of `workload` beside an endpoint: name, namespace, canonical service, canonical revision,
/// cluster.
const PARTS: usize = 5;

/// What runs at an endpoint. `None`: it is not told, or not in that form.
pub(super) fn of_endpoint(metadata: &Metadata) -> Option<Workload> {
    let text = text(metadata.filter_metadata.get(ISTIO)?, "workload")?;
    let mut parts = [""; 7];
    let mut given = text.split(';');
    for part in &mut parts[..PARTS] {
        *part = given.next()?;
    }
    Some(Workload::new(parts))
}

/// The service that a cluster is of: the first, as in Istio. `None`: it is not told.
pub(super) fn of_cluster(metadata: &Metadata) -> Option<Service> {
    let services = metadata
        .filter_metadata
        .get(ISTIO)?
        .fields
        .get("services")?;
    let Some(Kind::ListValue(services)) = &services.kind else {
        return None;
    };
    let Some(Kind::StructValue(first)) = &services.values.first()?.kind else {
        return None;
    };
    let part = |name| text(first, name).unwrap_or_default();
    Some(Service::new(part("host"), part("name"), part("namespace")))
}

/// What runs in this process, by its node's metadata: `WORKLOAD_NAME`, `NAMESPACE`, `CLUSTER_ID`
/// and the labels `service.istio.io/canonical-name`, `service.istio.io/canonical-revision`,
/// `app.kubernetes.io/name`, `app`, `app.kubernetes.io/version` and `version`.
pub(crate) fn of_node(metadata: &Map<String, Json>) -> Arc<Workload> {
    let text = |name: &str| metadata.get(name).and_then(Json::as_str).unwrap_or("");
    let labels = metadata.get("LABELS").and_then(Json::as_object);
    let label = |names: &[&str]| {
        let value = |name: &&str| labels?.get(*name)?.as_str();
        names.iter().find_map(value).unwrap_or("")
    };
    let name = text("WORKLOAD_NAME");
    let service = label(&[
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ]);
    let revision = label(&[
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ]);
    Arc::new(Workload::new([
        name,
        text("NAMESPACE"),
        if service.is_empty() { name } else { service },
        // As Istio has it where a workload has none.
        if revision.is_empty() {
            "latest"
        } else {
            revision
        },
        text("CLUSTER_ID"),
        label(&["app"]),
        label(&["version"]),
    ]))
}

fn text<'a>(of: &'a Struct, name: &str) -> Option<&'a str> {
    match of.fields.get(name)? {
        Value {
            kind: Some(Kind::StringValue(text)),
        } => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(name: &str, value: Kind) -> Metadata {
        let value = Value { kind: Some(value) };
        let fields = [(name.to_owned(), value)].into();
        Metadata {
            filter_metadata: [(ISTIO.to_owned(), Struct { fields })].into(),
            ..Default::default()
        }
    }

    #[test]
    fn beside_an_endpoint() {
        let workload = |text: &str| {
            let text = Kind::StringValue(text.to_owned());
            of_endpoint(&metadata("workload", text))
        };
        let greeter = workload("greeter-v2;shop;greeter;v2;west").unwrap();
        let parts = [
            "greeter-v2",
            "shop",
            "greeter",
            "v2",
            "west",
            "greeter",
            "v2",
        ];
        assert_eq!(greeter, Workload::new(parts));
        assert_eq!(workload("greeter;shop"), None);
        assert_eq!(
            of_endpoint(&metadata("workload", Kind::BoolValue(true))),
            None
        );
        assert_eq!(of_endpoint(&Metadata::default()), None);
        let other = workload("greeter-v;2shop;greeter;v2;west").unwrap();
        assert_ne!(greeter.fingerprint(), other.fingerprint());
    }

    #[test]
    fn of_a_clusters_metadata() {
        let field = |(name, text): (&str, &str)| {
            let kind = Some(Kind::StringValue(text.to_owned()));
            (name.to_owned(), Value { kind })
        };
        let fields = [("host", "a.b.svc"), ("name", "a"), ("namespace", "b")];
        let fields = fields.map(field).into();
        let service = Value {
            kind: Some(Kind::StructValue(Struct { fields })),
        };
        let services = Kind::ListValue(envoy_types::pb::google::protobuf::ListValue {
            values: vec![service],
        });
        let service = of_cluster(&metadata("services", services)).unwrap();
        assert_eq!(service, Service::new("a.b.svc", "a", "b"));
        assert_eq!(
            of_cluster(&metadata("services", Kind::BoolValue(true))),
            None
        );
    }

    #[test]
    fn of_a_nodes_metadata() {
        let metadata = json!({
            "WORKLOAD_NAME": "web-v1", "NAMESPACE": "shop", "CLUSTER_ID": "east",
            "LABELS": {"app": "web", "version": "v1", "service.istio.io/canonical-name": "front"},
        });
        let parts = ["web-v1", "shop", "front", "v1", "east", "web", "v1"];
        let workload = of_node(metadata.as_object().unwrap());
        assert_eq!(*workload, Workload::new(parts));
        let nothing = Workload::new(["", "", "", "latest", "", "", "latest"]);
        assert_eq!(*of_node(&Map::new()), nothing);
    }
}
