//! What plugs into the mesh without touching it: an HTTP filter, an endpoint-picking policy, a
//! recorder, and a source of configuration in place of xDS. Each is written here with public items
//! only, given to the builder, and used in a call.

mod support;

use std::{any::Any, collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use mesh_core::{
    Code, Mesh,
    balance::{Group, Pick, PickCx, Policy, PolicySpec, RoundRobin},
    config::{
        Address, Breakers, Cluster, Connections, Discovery, Domain, EndpointConfig, Endpoints,
        FilterConfig, Forward, Health, HttpManager, LbPolicy, Listener, Locality, LocalityId,
        PathMatcher, PolicyConfig, Resource, ResourceId, Route, RouteAction, RouteConfig,
        RouteMatch, RouteSource, VirtualHost, WeightedCluster,
    },
    control::{
        Delivery, Event, Inbox, Processed, Source, SourceError, SourceErrorKind, Watch,
        xds::{
            FilterDecoder, FilterRegistry, PolicyDecoder, PolicyRegistry,
            decode::{Extension, Field, FieldError, Message},
        },
    },
    filter::{Filter, FilterSpec, Reply, RequestHead, Verdict, replaced},
    telemetry::{Attempt, CallRecord, Cause, Instruments, Recorder, Series},
    testing::{ControlPlane, Fault, zone},
};
use orders::{
    INVENTORY,
    pb::{ReserveRequest, inventory_client::InventoryClient},
};
use parking_lot::Mutex;
use prost::{Message as _, Name};
use support::FakeInventory;
use tokio::{sync::watch, time::timeout};
use tonic::Status;

type Client = InventoryClient<mesh_tonic::Channel>;

fn client(mesh: &Mesh) -> Client {
    InventoryClient::new(mesh_tonic::channel(mesh, INVENTORY).unwrap())
}

/// Calls the inventory; tells which warehouse answered.
async fn reserve(client: &mut Client) -> Result<String, Status> {
    let reserved = client.reserve(ReserveRequest::default()).await?;
    Ok(reserved.into_inner().warehouse)
}

/// An HTTP filter: its message, the decoder, the value it decodes to, and what it does.
mod tenant {
    use super::*;

    /// On the wire: `example.v1.Tenant`, from a .proto of the filter's author.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Wire {
        #[prost(string, tag = "1")]
        pub(super) name: String,
    }

    impl Name for Wire {
        const PACKAGE: &'static str = "example.v1";
        const NAME: &'static str = "Tenant";
    }

    #[derive(Debug)]
    pub(super) struct Decoder;

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
}

#[tokio::test]
async fn a_filter_of_ones_own() {
    let inventory = FakeInventory::start("north").await;
    let control_plane = ControlPlane::start().await;
    let tenant = |name: &str| tenant::Wire { name: name.into() };
    control_plane
        .service(INVENTORY)
        .endpoint(inventory.address)
        .http_filter("tenant", &tenant("acme"))
        .apply();
    let mesh = Mesh::builder()
        .bootstrap(control_plane.bootstrap("orders"))
        .filters(FilterRegistry::standard().register(tenant::Decoder))
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

/// An endpoint-picking policy.
mod one_zone {
    use super::*;

    /// On the wire: `example.v1.OneZone`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Wire {
        #[prost(string, tag = "1")]
        pub(super) zone: String,
    }

    impl Name for Wire {
        const PACKAGE: &'static str = "example.v1";
        const NAME: &'static str = "OneZone";
    }

    #[derive(Debug)]
    pub(super) struct Decoder;

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
            let Wire { zone } =
                Wire::decode(&bytes[..]).map_err(|e| FieldError::new(e.to_string()))?;
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
}

#[tokio::test]
async fn a_policy_of_ones_own() {
    let control_plane = ControlPlane::start().await;
    let mut service = control_plane
        .service(INVENTORY)
        .lb_policy(&one_zone::Wire { zone: "b".into() });
    let mut inventories = Vec::new();
    for name in ["a", "b", "c"] {
        let inventory = FakeInventory::start(name).await;
        service = service.endpoint_in(zone(name), inventory.address);
        inventories.push(inventory);
    }
    service.apply();
    let mesh = Mesh::builder()
        .bootstrap(control_plane.bootstrap("orders"))
        .policies(PolicyRegistry::standard().register(one_zone::Decoder))
        .build()
        .await
        .unwrap();
    let mut client = client(&mesh);

    for _ in 0..30 {
        assert_eq!(reserve(&mut client).await.unwrap(), "b");
    }
    let other = one_zone::Wire { zone: "c".into() };
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

/// Writes a line for each call, where metrics would be counted.
#[derive(Debug, Default)]
struct Ledger {
    lines: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct Page {
    series: Series,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Recorder for Ledger {
    fn bind(&self, series: &Series) -> Arc<dyn Instruments> {
        Arc::new(Page {
            series: series.clone(),
            lines: Arc::clone(&self.lines),
        })
    }
}

impl Instruments for Page {
    fn started(&self) {}

    fn attempt(&self, _: &Attempt<'_>) {}

    fn finished(&self, call: &CallRecord<'_>) {
        let Series {
            target, cluster, ..
        } = &self.series;
        let (code, cause) = (call.code, call.cause);
        self.lines
            .lock()
            .push(format!("{target} {cluster} {code} {cause}"));
    }
}

#[tokio::test]
async fn a_recorder_of_ones_own() {
    let inventory = FakeInventory::start("north").await;
    let control_plane = ControlPlane::start().await;
    control_plane
        .service(INVENTORY)
        .version("v1")
        .endpoint(inventory.address)
        .apply();
    let ledger = Arc::new(Ledger::default());
    let mesh = Mesh::builder()
        .bootstrap(control_plane.bootstrap("orders"))
        .recorder(Arc::clone(&ledger) as _)
        .build()
        .await
        .unwrap();
    let mut client = client(&mesh);

    reserve(&mut client).await.unwrap();
    inventory.fail_next(Status::not_found("no such item"));
    reserve(&mut client).await.unwrap_err();
    let fault = Fault::new().abort(Code::Unavailable, 100.0);
    control_plane
        .service(INVENTORY)
        .fault(fault)
        .apply()
        .acked()
        .await;
    reserve(&mut client).await.unwrap_err();

    assert_eq!(
        *ledger.lines.lock(),
        [
            "inventory.shop:8080 inventory.shop:8080/v1 OK response",
            "inventory.shop:8080 inventory.shop:8080/v1 NOT_FOUND response",
            "inventory.shop:8080 inventory.shop:8080/v1 UNAVAILABLE fault",
        ]
    );
    assert_eq!(mesh.metrics().totals().started(), 0);
}

/// Configuration from a table in this process: what a file, a database or another control plane's
/// protocol would fill.
#[derive(Debug, Clone, Default)]
struct Table(Arc<watch::Sender<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    resources: HashMap<ResourceId, Resource>,
    watchers: HashMap<u64, (ResourceId, Inbox)>,
    watched: u64,
}

impl Table {
    /// Puts a resource, and tells those who watch it.
    fn set(&self, name: &str, resource: Resource) {
        let id = ResourceId::new(resource.kind(), name);
        self.0.send_modify(|rows| {
            for (watched, inbox) in rows.watchers.values() {
                if *watched == id {
                    deliver(inbox, &id, Event::Update(resource.clone()));
                }
            }
            rows.resources.insert(id, resource);
        });
    }
}

fn deliver(inbox: &Inbox, id: &ResourceId, event: Event) {
    // The watcher may be gone already.
    let _ = inbox.send(Delivery {
        id: id.clone(),
        event,
        processed: Processed::default(),
    });
}

impl Source for Table {
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        let mut key = 0;
        self.0.send_modify(|rows| {
            let event = match rows.resources.get(&id) {
                Some(resource) => Event::Update(resource.clone()),
                None => Event::Gone(SourceError {
                    kind: SourceErrorKind::DoesNotExist,
                    text: format!("{id} is not in the table").into(),
                }),
            };
            deliver(&inbox, &id, event);
            rows.watched += 1;
            key = rows.watched;
            rows.watchers.insert(key, (id, inbox));
        });
        let Self(table) = self.clone();
        Watch::new(move || table.send_modify(|rows| drop(rows.watchers.remove(&key))))
    }
}

fn listener() -> Resource {
    let everything = Route {
        name: "all".into(),
        matcher: RouteMatch {
            path: PathMatcher::Prefix {
                prefix: "/".to_owned(),
                ignore_case: false,
            },
            headers: Vec::new(),
            query: Vec::new(),
            fraction: None,
        },
        action: RouteAction::Forward(Forward {
            clusters: vec![WeightedCluster {
                name: "inventory".into(),
                weight: 1,
                overrides: Default::default(),
            }],
            retry: None,
            max_stream_duration: None,
            grpc_timeout_header_max: None,
        }),
        overrides: Default::default(),
    };
    let routes = RouteConfig {
        name: "".into(),
        virtual_hosts: vec![VirtualHost {
            name: "all".into(),
            domains: vec![Domain::Any],
            routes: vec![everything],
            overrides: Default::default(),
        }],
    };
    Resource::Listener(Arc::new(Listener {
        name: INVENTORY.into(),
        http: HttpManager {
            routes: RouteSource::Inline(Arc::new(routes)),
            filters: Arc::new([]),
            max_stream_duration: None,
        },
    }))
}

fn cluster() -> Resource {
    Resource::Cluster(Arc::new(Cluster {
        name: "inventory".into(),
        discovery: Discovery::Eds("inventory".into()),
        lb: LbPolicy::Endpoints(PolicyConfig(Arc::new(RoundRobin))),
        breakers: Breakers::default(),
        connections: Connections::default(),
        tls: None,
        report_load: false,
    }))
}

fn endpoints(address: SocketAddr) -> Resource {
    Resource::Endpoints(Arc::new(Endpoints {
        name: "inventory".into(),
        localities: vec![Locality {
            id: Arc::new(LocalityId::default()),
            priority: 0,
            weight: 1,
            endpoints: vec![EndpointConfig {
                address: Address::Socket(address),
                weight: 1,
                health: Health::Healthy,
                hostname: None,
            }],
        }],
        drops: Vec::new(),
    }))
}

#[tokio::test]
async fn a_source_of_ones_own() {
    let [north, south] = [
        FakeInventory::start("north").await,
        FakeInventory::start("south").await,
    ];
    let table = Table::default();
    table.set("inventory", cluster());
    table.set("inventory", endpoints(north.address));
    // No bootstrap: there is no control plane to find.
    let mesh = Mesh::builder()
        .source(Arc::new(table.clone()))
        .build()
        .await
        .unwrap();

    let status = reserve(&mut client(&mesh)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("is not in the table"), "{status}");

    table.set(INVENTORY, listener());
    // What was set is in force once the mesh has taken it: a call can wait for that.
    let channel = mesh_tonic::channel(&mesh, INVENTORY).unwrap();
    let mut client = Client::new(channel.wait_for_ready(true));
    assert_eq!(reserve(&mut client).await.unwrap(), "north");

    table.set("inventory", endpoints(south.address));
    while reserve(&mut client).await.unwrap() == "north" {}

    drop((client, mesh));
    let mut rows = table.0.subscribe();
    let none = rows.wait_for(|rows| rows.watchers.is_empty());
    timeout(Duration::from_secs(10), none)
        .await
        .unwrap()
        .unwrap();
}
