//! An HTTP filter: its message, the decoder, the value it decodes to, and what it does.

use std::{any::Any, sync::Arc};

use http::{HeaderName, HeaderValue};
use mesh_core::{
    Code, Mesh,
    config::FilterConfig,
    control::xds::{
        FilterDecoder, FilterRegistry,
        decode::{Extension, Field, FieldError, Message},
    },
    filter::{Filter, FilterSpec, Reply, RequestHead, Verdict, replaced},
    telemetry::Cause,
    testing::ControlPlane,
};
use orders::{INVENTORY, pb::ReserveRequest};
use prost::{Message as _, Name};

use crate::{client, reserve, support::FakeInventory};

/// On the wire: `example.v1.Tenant`, from a .proto of the filter's author.
#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(string, tag = "1")]
    name: String,
}

impl Name for Wire {
    const PACKAGE: &'static str = "example.v1";
    const NAME: &'static str = "Tenant";
}

#[derive(Debug)]
struct Decoder;

/// Which of its fields are in force: what is set and not listed is reported in the config dump.
static TENANT: Message = Message {
    name: "example.v1.Tenant",
    fields: &[Field::enforced(1, "name")],
};

impl FilterDecoder for Decoder {
    fn messages(&self) -> &'static [&'static Message] {
        const { &[&TENANT] }
    }

    fn decode(&self, _: &str, config: &Extension) -> Result<FilterConfig, FieldError> {
        let Extension::Message(bytes) = config else {
            return Err(FieldError::new("must be an example.v1.Tenant"));
        };
        let wire = Wire::decode(&bytes[..]).map_err(|e| FieldError::new(e.to_string()))?;
        let value = match HeaderValue::from_str(&wire.name) {
            Ok(value) if !value.is_empty() => value,
            _ => return Err(FieldError::new("must be a header value").field("name")),
        };
        Ok(FilterConfig(Arc::new(Tenant { value })))
    }
}

/// Tells the server on whose behalf a call is made; refuses calls that say so themselves.
#[derive(Debug, Clone, PartialEq)]
struct Tenant {
    value: HeaderValue,
}

const HEADER: HeaderName = HeaderName::from_static("x-tenant");

impl FilterSpec for Tenant {
    fn build(&self, over: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
        Some(Arc::new(replaced(self, over).clone()))
    }

    fn equals(&self, other: &dyn FilterSpec) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

impl Filter for Tenant {
    fn request(&self, head: &mut RequestHead<'_>) -> Verdict {
        if head.headers.contains_key(HEADER) {
            return Verdict::Reply(Reply {
                http: http::StatusCode::FORBIDDEN,
                grpc: Code::PermissionDenied,
                message: "x-tenant is set by the platform".into(),
                cause: Cause::Filter,
            });
        }
        head.headers.insert(HEADER, self.value.clone());
        Verdict::Continue
    }
}

#[tokio::test]
async fn a_filter_of_ones_own() {
    let inventory = FakeInventory::start("north").await;
    let control_plane = ControlPlane::start().await;
    let tenant = |name: &str| Wire { name: name.into() };
    control_plane
        .service(INVENTORY)
        .endpoint(inventory.address)
        .http_filter("tenant", &tenant("acme"))
        .apply();
    let mesh = Mesh::builder()
        .bootstrap(control_plane.bootstrap("orders"))
        .filters(FilterRegistry::standard().register(Decoder))
        .build()
        .await
        .unwrap();
    let mut client = client(&mesh);

    reserve(&mut client).await.unwrap();
    assert_eq!(inventory.calls()[0].get("x-tenant").unwrap(), "acme");

    // What it answers itself never leaves the process.
    let mut forged = tonic::Request::new(ReserveRequest::default());
    forged
        .metadata_mut()
        .insert("x-tenant", "root".parse().unwrap());
    let status = client.reserve(forged).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert_eq!(inventory.calls().len(), 1);

    // It is configured like any other filter: changed, and refused with the path of the field.
    let push = |name| {
        control_plane
            .service(INVENTORY)
            .http_filter("tenant", &tenant(name))
            .apply()
    };
    push("umbrella").acked().await;
    reserve(&mut client).await.unwrap();
    assert_eq!(inventory.calls()[1].get("x-tenant").unwrap(), "umbrella");

    let nack = push("").nacked().await;
    assert!(
        nack.message.contains("name: must be a header value"),
        "{}",
        nack.message
    );
    reserve(&mut client).await.unwrap();
    assert_eq!(inventory.calls()[2].get("x-tenant").unwrap(), "umbrella");

    control_plane
        .service(INVENTORY)
        .clear_http_filters()
        .apply()
        .acked()
        .await;
    reserve(&mut client).await.unwrap();
    assert!(inventory.calls()[3].get("x-tenant").is_none());
}
