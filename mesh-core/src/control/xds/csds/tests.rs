use std::time::Duration;

use envoy_types::pb::envoy::r#type::matcher::v3::NodeMatcher;

use super::*;
use crate::{
    config::{Kind, ResourceId},
    control::xds::dump::AcceptedDump,
};

const AT: Duration = Duration::new(1_700_000_000, 5);

fn any(value: &[u8]) -> Arc<Any> {
    Arc::new(Any {
        type_url: type_url(Kind::Cluster).into(),
        value: value.to_vec(),
    })
}

fn accepted() -> AcceptedDump {
    AcceptedDump {
        version: "1".into(),
        last_updated: SystemTime::UNIX_EPOCH + AT,
        raw: any(b"good"),
        findings: Arc::new([]),
        stale: false,
    }
}

fn resource(name: &str, server: &str, status: ResourceStatus) -> ResourceDump {
    ResourceDump {
        id: ResourceId::new(Kind::Cluster, name),
        server: server.into(),
        status,
        accepted: None,
        failure: None,
    }
}

fn ask(request: wire::ClientStatusRequest, dump: &ConfigDump) -> Vec<wire::ClientConfig> {
    let request = StatusRequest::decode(&request.encode_to_vec()).expect("a request");
    let node = Node {
        id: "me".into(),
        ..Default::default()
    };
    let answer = request.answer(&node, dump);
    let answer = wire::ClientStatusResponse::decode(&*answer).expect("a response");
    for config in &answer.config {
        let node = config.node.as_ref().expect("always");
        assert_eq!((&*node.id, &*node.user_agent_name), ("me", "mesh-core"));
    }
    answer.config
}

#[test]
fn every_state_is_told_with_what_is_known() {
    let mut refused = resource("refused", "xds:1", ResourceStatus::Nacked);
    refused.accepted = Some(accepted());
    refused.failure = Some(FailureDump {
        version: "2".into(),
        at: SystemTime::UNIX_EPOCH + 2 * AT,
        details: "field: bad".into(),
        raw: Some(any(b"bad")),
    });
    let mut good = resource("good", "xds:1", ResourceStatus::Acked);
    good.accepted = Some(accepted());
    let dump = ConfigDump {
        server: "xds:1".into(),
        node_id: "me".into(),
        resources: vec![
            good,
            resource("asked", "xds:1", ResourceStatus::Requested),
            resource("none", "xds:1", ResourceStatus::DoesNotExist),
            resource("late", "xds:1", ResourceStatus::Timeout),
            resource("error", "xds:1", ResourceStatus::ReceivedError),
            refused,
        ],
    };
    let [config] = &ask(Default::default(), &dump)[..] else {
        panic!("one control plane")
    };
    assert_eq!(config.client_scope, "");
    let told: Vec<_> = config
        .generic_xds_configs
        .iter()
        .map(|c| (&*c.name, c.client_status(), &*c.version_info))
        .collect();
    assert_eq!(
        told,
        [
            ("good", ClientResourceStatus::Acked, "1"),
            ("asked", ClientResourceStatus::Requested, ""),
            ("none", ClientResourceStatus::DoesNotExist, ""),
            ("late", ClientResourceStatus::Timeout, ""),
            ("error", ClientResourceStatus::ReceivedError, ""),
            ("refused", ClientResourceStatus::Nacked, "1"),
        ]
    );
    let refused = &config.generic_xds_configs[5];
    assert_eq!(refused.type_url, type_url(Kind::Cluster));
    assert_eq!(refused.xds_config.as_ref(), Some(&*any(b"good")));
    let updated = refused.last_updated.expect("there is a value");
    assert_eq!((updated.seconds, updated.nanos), (1_700_000_000, 5));
    let error = refused.error_state.as_ref().expect("it was refused");
    assert_eq!((&*error.version_info, &*error.details), ("2", "field: bad"));
    assert_eq!(error.failed_configuration.as_ref(), Some(&*any(b"bad")));
    let attempt = error.last_update_attempt.expect("there was one");
    assert_eq!(attempt.seconds, 3_400_000_000);
    assert_eq!(config.generic_xds_configs[1].last_updated, None);
    assert_eq!(config.generic_xds_configs[1].error_state, None);
}

#[test]
fn what_an_earlier_process_has_saved_is_told_as_stale() {
    let mut saved = resource("saved", "xds:1", ResourceStatus::Requested);
    saved.accepted = Some(AcceptedDump {
        stale: true,
        ..accepted()
    });
    let dump = ConfigDump {
        server: "xds:1".into(),
        node_id: "me".into(),
        resources: vec![saved],
    };
    let told = ask(Default::default(), &dump);
    let [told] = &told[0].generic_xds_configs[..] else {
        panic!("one resource")
    };
    assert_eq!(told.client_status(), ClientResourceStatus::Requested);
    assert_eq!(told.xds_config.as_ref(), Some(&*any(b"good")));
    let error = told.error_state.as_ref().expect("it is marked");
    assert!(error.details.starts_with("stale: "), "{error:?}");
    assert_eq!(error.version_info, "1");
}

#[test]
fn contents_are_left_out_on_request() {
    let mut refused = resource("refused", "xds:1", ResourceStatus::Nacked);
    refused.accepted = Some(accepted());
    refused.failure = Some(FailureDump {
        version: "2".into(),
        at: SystemTime::UNIX_EPOCH,
        details: "bad".into(),
        raw: Some(any(b"bad")),
    });
    let dump = ConfigDump {
        server: "xds:1".into(),
        resources: vec![refused],
        ..Default::default()
    };
    let request = wire::ClientStatusRequest {
        exclude_resource_contents: true,
        ..Default::default()
    };
    let configs = ask(request, &dump);
    let told = &configs[0].generic_xds_configs[0];
    assert_eq!((&*told.version_info, &told.xds_config), ("1", &None));
    let error = told.error_state.as_ref().expect("it was refused");
    assert_eq!(
        (&*error.details, &error.failed_configuration),
        ("bad", &None)
    );
}

#[test]
fn each_of_several_control_planes_has_its_own_config() {
    let dump = ConfigDump {
        server: "primary:1".into(),
        resources: vec![
            resource("a", "backup:1", ResourceStatus::Acked),
            resource("b", "primary:1", ResourceStatus::Requested),
            resource("b", "backup:1", ResourceStatus::Acked),
        ],
        ..Default::default()
    };
    let configs = ask(Default::default(), &dump);
    let told: Vec<_> = configs
        .iter()
        .map(|config| {
            let names = config.generic_xds_configs.iter().map(|c| &*c.name);
            (&*config.client_scope, names.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        told,
        [("primary:1", vec!["b"]), ("backup:1", vec!["a", "b"])]
    );

    // Only an authority's control plane was asked for anything.
    let dump = ConfigDump {
        server: "primary:1".into(),
        resources: vec![resource("a", "backup:1", ResourceStatus::Acked)],
        ..Default::default()
    };
    let configs = ask(Default::default(), &dump);
    assert_eq!(configs.len(), 1);
    assert_eq!(configs[0].client_scope, "");
    assert_eq!(configs[0].generic_xds_configs.len(), 1);
}

#[test]
fn without_resources_the_node_is_told() {
    let configs = ask(Default::default(), &ConfigDump::default());
    assert_eq!(configs.len(), 1);
    assert_eq!(configs[0].generic_xds_configs, []);
}

#[test]
fn what_cannot_be_answered_is_an_error() {
    let request = wire::ClientStatusRequest {
        node_matchers: vec![NodeMatcher::default()],
        ..Default::default()
    };
    assert_eq!(
        StatusRequest::decode(&request.encode_to_vec()),
        Err(StatusRequestError::NodeMatchers)
    );
    let error = StatusRequest::decode(&[0x0a, 0xff]).expect_err("truncated");
    assert!(matches!(error, StatusRequestError::Malformed(_)), "{error}");
}

#[test]
fn a_clock_before_1970_is_1970() {
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(timestamp(before), Timestamp::default());
}
