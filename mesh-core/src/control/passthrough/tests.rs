use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use super::*;
use crate::control::SourceError;
use crate::control::SourceErrorKind;

/// Far longer than anything here takes: time is paused.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mesh that says what the test says.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<(ResourceId, Inbox)>>);

impl Told {
    fn tell(&self, event: Event) {
        for (id, inbox) in self.0.lock().iter() {
            let _ = inbox.send(Delivery {
                id: id.clone(),
                event: event.clone(),
                processed: Processed::default(),
            });
        }
    }

    fn watched(&self) -> Vec<String> {
        let open = self.0.lock();
        let open = open.iter().filter(|(_, inbox)| !inbox.is_closed());
        open.map(|(id, _)| id.to_string()).collect()
    }
}

/// As the test sees it, beside the source that has it.
#[derive(Debug, Clone, Default)]
struct Mesh(Arc<Told>);

impl Source for Mesh {
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        self.0.0.lock().push((id.clone(), inbox));
        let Self(told) = self.clone();
        Watch::new(move || told.0.lock().retain(|(watched, _)| *watched != id))
    }
}

fn host(tls: bool, name: &str, port: u16) -> OutsideHost {
    OutsideHost {
        tls,
        name: name.into(),
        port,
    }
}

fn id(kind: Kind, name: &str) -> ResourceId {
    ResourceId::new(kind, name)
}

fn error(kind: SourceErrorKind) -> SourceError {
    SourceError {
        kind,
        text: "told so".into(),
    }
}

fn other_listener() -> Resource {
    Resource::Listener(Arc::new(Listener {
        name: "api.test:80".into(),
        ..listener()
    }))
}

/// The name of the listener in the next delivery, or the kind of its trouble.
async fn next(news: &mut mpsc::UnboundedReceiver<Delivery>) -> Result<String, SourceErrorKind> {
    let delivery = timeout(PATIENCE, news.recv()).await.unwrap().unwrap();
    match delivery.event {
        Event::Update(Resource::Listener(listener)) => Ok(listener.name.to_string()),
        Event::Ambient(error) | Event::Gone(error) => Err(error.kind),
        other => panic!("{other:?}"),
    }
}

fn tls_of(host: &OutsideHost) -> Arc<UpstreamTls> {
    let source = Passthrough::to(host);
    source.cluster.tls.clone().unwrap()
}

#[test]
fn without_a_mesh_everything_is_answered_at_once() {
    let source = Passthrough::to(&host(false, "api.test", 8080));
    let (inbox, mut news) = mpsc::unbounded_channel();
    let mut watches = Vec::new();
    let mut ask = |id: ResourceId| {
        watches.push(source.watch(id, inbox.clone()));
        match news.try_recv().unwrap().event {
            Event::Update(resource) => resource,
            other => panic!("{other:?}"),
        }
    };
    let Resource::Listener(listener) = ask(id(Kind::Listener, PASSTHROUGH_CLUSTER)) else {
        panic!("no listener");
    };
    let RouteSource::Inline(routes) = &listener.http.routes else {
        panic!("its routes are elsewhere");
    };
    let RouteAction::Forward(forward) = &routes.virtual_hosts[0].routes[0].action else {
        panic!("it does not forward");
    };
    assert_eq!(forward.retry, None);
    let name = &forward.clusters[0].name;
    let Resource::Cluster(cluster) = ask(id(Kind::Cluster, name)) else {
        panic!("no cluster");
    };
    assert_eq!(cluster.connections.protocol, HttpProtocol::Http1);
    assert_eq!(cluster.tls, None);
    let Discovery::Eds(name) = &cluster.discovery else {
        panic!("{}", cluster.discovery);
    };
    let Resource::Endpoints(endpoints) = ask(id(Kind::Endpoints, name)) else {
        panic!("no endpoints");
    };
    let endpoint = &endpoints.localities[0].endpoints[0];
    assert_eq!(endpoint.address, Address::Name("api.test".into(), 8080));
}

#[test]
fn hosts_do_not_share_a_cluster() {
    let names: std::collections::BTreeSet<_> = [
        host(false, "api.test", 80),
        host(true, "api.test", 80),
        host(true, "api.test", 443),
        host(true, "b.test", 443),
    ]
    .iter()
    .map(|host| Passthrough::to(host).cluster.name.clone())
    .collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn tls_wants_the_name_that_was_asked_for() {
    let tls = tls_of(&host(true, "api.test", 443));
    assert_eq!(tls.roots, CaSource::System);
    assert_eq!(tls.sni.as_deref(), Some("api.test"));
    let [san] = &tls.sans[..] else {
        panic!("{:?}", tls.sans);
    };
    assert_eq!(san.kind, SanKind::Dns);
    assert!(san.matcher.is_match(b"api.test"));
    assert!(!san.matcher.is_match(b"other.test"));
}

#[test]
fn tls_to_an_address_sends_no_name_and_wants_the_address() {
    let address = host(true, "2001:db8:0::1", 443);
    let tls = tls_of(&address);
    assert_eq!(tls.sni, None);
    assert_eq!(tls.sans[0].kind, SanKind::Ip);
    assert!(tls.sans[0].matcher.is_match(b"2001:db8::1"));
    let endpoint = &Passthrough::to(&address).endpoints.localities[0].endpoints[0];
    let socket = "[2001:db8::1]:443".parse().unwrap();
    assert_eq!(endpoint.address, Address::Socket(socket));
}

#[tokio::test(start_paused = true)]
async fn what_the_mesh_has_wins_whenever_it_comes() {
    let mesh = Mesh::default();
    let source = Passthrough::unless(Arc::new(mesh.clone()), &host(false, "api.test", 80));
    let (inbox, mut news) = mpsc::unbounded_channel();
    let listener = source.watch(id(Kind::Listener, "api.test:80"), inbox.clone());
    assert_eq!(mesh.0.watched(), [r#"listener "api.test:80""#]);

    // Trouble is no reason to go out.
    mesh.0
        .tell(Event::Ambient(error(SourceErrorKind::Unreachable)));
    assert_eq!(next(&mut news).await, Err(SourceErrorKind::Unreachable));
    mesh.0.tell(Event::Gone(error(SourceErrorKind::Invalid)));
    assert_eq!(next(&mut news).await, Err(SourceErrorKind::Invalid));
    // That it is not there is.
    mesh.0
        .tell(Event::Gone(error(SourceErrorKind::DoesNotExist)));
    assert_eq!(next(&mut news).await.as_deref(), Ok(PASSTHROUGH_CLUSTER));
    mesh.0.tell(Event::Update(other_listener()));
    assert_eq!(next(&mut news).await.as_deref(), Ok("api.test:80"));
    // One that was there stays when it is deleted.
    mesh.0
        .tell(Event::Ambient(error(SourceErrorKind::DoesNotExist)));
    assert_eq!(next(&mut news).await, Err(SourceErrorKind::DoesNotExist));

    // What is not ours is the mesh's.
    let routes = source.watch(id(Kind::Route, "routes"), inbox.clone());
    assert_eq!(mesh.0.watched().len(), 2);
    drop((listener, routes));
    assert!(mesh.0.watched().is_empty());
    // Nobody is left to tell: the relay has ended.
    drop(inbox);
    assert!(timeout(PATIENCE, news.recv()).await.unwrap().is_none());
}
