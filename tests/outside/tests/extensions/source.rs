//! A source of configuration in place of xDS.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use mesh_core::{
    Mesh,
    balance::RoundRobin,
    config::{
        Address, Breakers, Cluster, Connections, Discovery, Domain, EndpointConfig, Endpoints,
        Forward, Health, HttpManager, LbPolicy, Listener, Locality, LocalityId, PathMatcher,
        PolicyConfig, Resource, ResourceId, Route, RouteAction, RouteConfig, RouteMatch,
        RouteSource, VirtualHost, WeightedCluster,
    },
    control::{Delivery, Event, Inbox, Processed, Source, SourceError, SourceErrorKind, Watch},
};
use orders::INVENTORY;
use tokio::{sync::watch, time::timeout};

use crate::{Client, client, reserve, support::FakeInventory};

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
                headers: Default::default(),
                host_rewrite: None,
            }],
            retry: None,
            max_stream_duration: None,
            grpc_timeout_header_max: None,
            http: Default::default(),
        }),
        overrides: Default::default(),
        headers: Default::default(),
    };
    let routes = RouteConfig {
        name: "".into(),
        virtual_hosts: vec![VirtualHost {
            name: "all".into(),
            domains: vec![Domain::Any],
            routes: vec![everything.into()],
            overrides: Default::default(),
            headers: Default::default(),
        }],
        headers: Default::default(),
        most_specific_wins: false,
        ignore_port: false,
    };
    Resource::Listener(Arc::new(Listener {
        name: INVENTORY.into(),
        http: HttpManager {
            routes: RouteSource::Inline(Arc::new(routes)),
            filters: Arc::new([]),
            max_stream_duration: None,
            stream_idle_timeout: None,
            upgrades: Vec::new(),
            strip_port: Default::default(),
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
        report_load: None,
        service: None,
        panic_threshold: 50.0,
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
                more: Box::default(),
                address: Address::Socket(address),
                weight: 1,
                health: Health::Healthy,
                hostname: None,
                workload: None,
            }],
        }],
        drops: Vec::new(),
        overprovisioning_factor: 140,
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
