//! An audit logger, which hears what an RBAC policy decides at a server.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    Mesh,
    authz::{AuditEvent, AuditLogger},
    control::xds::{
        FilterRegistry, RbacDecoder,
        decode::{AuditLoggerDecoder, Extension, Field, FieldError, Message},
    },
    identity::{InCode, Trust},
    testing::{
        CertificateAuthority, ControlPlane, ListenerTls, Permission, Principal, Rbac, SanMatch,
        Tls,
        envoy_types::pb::{
            envoy::config::{
                core::v3::TypedExtensionConfig,
                rbac::v3::rbac::{
                    AuditLoggingOptions,
                    audit_logging_options::{AuditCondition, AuditLoggerConfig},
                },
            },
            google::protobuf::Any,
        },
    },
};
use orders::INVENTORY;
use parking_lot::Mutex;
use prost::{Message as _, Name};
use tokio::time::timeout;

use crate::{
    client, reserve,
    server::{MeshInventory, port},
};

const ORDERS: &str = "spiffe://shop/orders";
const WEB: &str = "spiffe://shop/web";
const STOCK: &str = "spiffe://shop/inventory";

/// On the wire: `example.v1.AuditTopic`.
#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(string, tag = "1")]
    topic: String,
}

impl Name for Wire {
    const PACKAGE: &'static str = "example.v1";
    const NAME: &'static str = "AuditTopic";
}

static TOPIC: Message = Message {
    name: "example.v1.AuditTopic",
    fields: &[Field::enforced(1, "topic")],
};

/// What was published, in order.
type Published = Arc<Mutex<Vec<String>>>;

#[derive(Debug, Default)]
struct Decoder(Published);

/// Publishes events to a topic.
struct Topic {
    name: String,
    published: Published,
}

impl AuditLoggerDecoder for Decoder {
    fn message(&self) -> &'static Message {
        &TOPIC
    }

    fn decode(&self, config: &Extension) -> Result<Arc<dyn AuditLogger>, FieldError> {
        let Extension::Message(bytes) = config else {
            return Err(FieldError::new("must be an example.v1.AuditTopic"));
        };
        let Wire { topic } =
            Wire::decode(&bytes[..]).map_err(|e| FieldError::new(e.to_string()))?;
        if topic.is_empty() {
            return Err(FieldError::new("must not be empty").field("topic"));
        }
        Ok(Arc::new(Topic {
            name: topic,
            published: Arc::clone(&self.0),
        }))
    }
}

impl AuditLogger for Topic {
    fn log(&self, event: &AuditEvent<'_>) {
        let AuditEvent {
            rpc_method,
            principal,
            matched_rule,
            authorized,
            ..
        } = event;
        let name = &self.name;
        self.published.lock().push(format!(
            "{name}: {principal} {rpc_method} {matched_rule:?} {authorized}"
        ));
    }
}

/// Whoever takes orders may reserve stock; every decision goes to this topic.
fn rules(topic: &str) -> Rbac {
    let config = Wire {
        topic: topic.to_owned(),
    };
    let logger = TypedExtensionConfig {
        name: "topic".to_owned(),
        typed_config: Some(Any {
            type_url: Wire::type_url(),
            value: config.encode_to_vec(),
        }),
    };
    let options = AuditLoggingOptions {
        audit_condition: AuditCondition::OnDenyAndAllow.into(),
        logger_configs: vec![AuditLoggerConfig {
            audit_logger: Some(logger),
            is_optional: false,
        }],
    };
    let inventory = Permission::path_prefix("/shop.v1.Inventory/");
    Rbac::allow()
        .policy("orders", inventory, Principal::identity(ORDERS))
        .audit(options)
}

#[tokio::test]
async fn an_audit_logger_of_ones_own() {
    let authority = CertificateAuthority::new("root");
    let certificates = |id: &str| {
        let certificates = InCode::new();
        certificates.present(authority.identity(id));
        certificates.trust_in(Trust::Roots(authority.roots()));
        Arc::new(certificates)
    };
    let control_plane = ControlPlane::start().await;
    let (listener, address) = port().await;
    control_plane
        .server(address)
        .tls(ListenerTls::present("default").require_client("default"))
        .rbac(rules("shop"))
        .apply();
    control_plane
        .service(INVENTORY)
        .endpoint(address)
        .tls(
            Tls::trust("default")
                .present("default")
                .san(SanMatch::uri(STOCK)),
        )
        .apply();
    let published = Published::default();
    let rbac = RbacDecoder::standard().with_logger(Decoder(Arc::clone(&published)));
    let served = Mesh::builder()
        .bootstrap(control_plane.bootstrap("inventory"))
        .filters(FilterRegistry::standard().register(rbac))
        .certificates("default", certificates(STOCK))
        .build()
        .await
        .unwrap();
    let _running = MeshInventory::start(&served, listener).await;
    let caller = async |id: &str| {
        let mesh = Mesh::builder()
            .bootstrap(control_plane.bootstrap(id))
            .certificates("default", certificates(id));
        client(&mesh.build().await.unwrap())
    };
    let mut orders = caller(ORDERS).await;
    let mut web = caller(WEB).await;

    assert!(reserve(&mut orders).await.unwrap().starts_with(ORDERS));
    let denied = reserve(&mut web).await.unwrap_err();
    assert_eq!(denied.code(), tonic::Code::PermissionDenied);
    let method = "/shop.v1.Inventory/Reserve";
    assert_eq!(
        published.lock().split_off(0),
        [
            format!("shop: {ORDERS} {method} \"orders\" true"),
            format!("shop: {WEB} {method} \"\" false"),
        ]
    );

    // It is configured by the control plane: refused with the path of the field, and changed.
    let push = |topic| control_plane.server(address).rbac(rules(topic)).apply();
    let nack = push("").nacked().await;
    assert!(
        nack.message.contains("topic: must not be empty"),
        "{}",
        nack.message
    );
    reserve(&mut orders).await.unwrap();
    assert!(published.lock().pop().unwrap().starts_with("shop: "));
    push("audit").acked().await;
    let changed = async {
        loop {
            reserve(&mut orders).await.unwrap();
            if published.lock().pop().unwrap().starts_with("audit: ") {
                break;
            }
        }
    };
    timeout(Duration::from_secs(10), changed).await.unwrap();
}
