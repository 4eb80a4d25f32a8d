//! An endpoint-picking policy.

use std::{any::Any, sync::Arc};

use mesh_core::{
    Mesh,
    balance::{Group, Pick, PickCx, Policy, PolicySpec},
    config::PolicyConfig,
    control::xds::{
        PolicyDecoder, PolicyRegistry,
        decode::{Extension, Field, FieldError, Message},
    },
    testing::{ControlPlane, zone},
};
use orders::INVENTORY;
use prost::{Message as _, Name};

use crate::{client, reserve, support::FakeInventory};

/// On the wire: `example.v1.OneZone`.
#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(string, tag = "1")]
    zone: String,
}

impl Name for Wire {
    const PACKAGE: &'static str = "example.v1";
    const NAME: &'static str = "OneZone";
}

#[derive(Debug)]
struct Decoder;

static ONE_ZONE: Message = Message {
    name: "example.v1.OneZone",
    fields: &[Field::enforced(1, "zone")],
};

impl PolicyDecoder for Decoder {
    fn messages(&self) -> &'static [&'static Message] {
        const { &[&ONE_ZONE] }
    }

    fn decode(&self, _: &str, config: &Extension) -> Result<PolicyConfig, FieldError> {
        let Extension::Message(bytes) = config else {
            return Err(FieldError::new("must be an example.v1.OneZone"));
        };
        let Wire { zone } = Wire::decode(&bytes[..]).map_err(|e| FieldError::new(e.to_string()))?;
        Ok(PolicyConfig(Arc::new(OneZone { zone })))
    }
}

/// Picks endpoints of one zone, and no others even if those are the only ones ready.
#[derive(Debug, PartialEq)]
struct OneZone {
    zone: String,
}

#[derive(Debug)]
struct Picker {
    group: Arc<Group>,
    /// The members of the zone.
    members: Vec<usize>,
}

impl PolicySpec for OneZone {
    fn name(&self) -> &'static str {
        "one_zone"
    }

    fn build(&self, group: &Arc<Group>) -> Box<dyn Policy> {
        let links = group.links().iter().enumerate();
        let members = links
            .filter(|(_, link)| link.locality().zone == self.zone)
            .map(|(index, _)| index)
            .collect();
        let group = Arc::clone(group);
        Box::new(Picker { group, members })
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

impl Policy for Picker {
    fn pick(&self, _: &PickCx<'_>) -> Pick {
        let ready = self.group.ready();
        let mut members = self.members.iter();
        match members.find(|&&index| ready.contains(index)) {
            Some(&index) => Pick::Endpoint(index),
            None => Pick::None,
        }
    }
}

#[tokio::test]
async fn a_policy_of_ones_own() {
    let control_plane = ControlPlane::start().await;
    let mut service = control_plane
        .service(INVENTORY)
        .lb_policy(&Wire { zone: "b".into() });
    let mut inventories = Vec::new();
    for name in ["a", "b", "c"] {
        let inventory = FakeInventory::start(name).await;
        service = service.endpoint_in(zone(name), inventory.address);
        inventories.push(inventory);
    }
    service.apply();
    let mesh = Mesh::builder()
        .bootstrap(control_plane.bootstrap("orders"))
        .policies(PolicyRegistry::standard().register(Decoder))
        .build()
        .await
        .unwrap();
    let mut client = client(&mesh);

    for _ in 0..30 {
        assert_eq!(reserve(&mut client).await.unwrap(), "b");
    }
    let other = Wire { zone: "c".into() };
    control_plane
        .service(INVENTORY)
        .lb_policy(&other)
        .apply()
        .acked()
        .await;
    for _ in 0..30 {
        assert_eq!(reserve(&mut client).await.unwrap(), "c");
    }
}
