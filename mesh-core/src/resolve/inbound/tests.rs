use std::collections::HashMap;

use parking_lot::Mutex;

use super::{fixtures::*, *};
use crate::{
    config::{Kind, Resource, ResourceId},
    control::{Delivery, Event, Inbox, Processed, SourceErrorKind, Watch},
    telemetry::{Metrics, Series},
};

/// A source that says what the test says.
#[derive(Debug, Default)]
struct Script {
    watches: Arc<Mutex<HashMap<ResourceId, Inbox>>>,
    changed: Arc<Notify>,
}

impl Source for Script {
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        self.watches.lock().insert(id.clone(), inbox);
        self.changed.notify_waiters();
        let (watches, changed) = (Arc::clone(&self.watches), Arc::clone(&self.changed));
        Watch::new(move || {
            watches.lock().remove(&id);
            changed.notify_waiters();
        })
    }
}

impl Script {
    /// Waits until exactly these are watched.
    async fn watched(&self, names: &[&str]) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut now: Vec<_> = self.watches.lock().keys().cloned().collect();
            now.sort();
            if now.iter().map(|id| &*id.name).eq(names.iter().copied()) {
                return;
            }
            changed.await;
        }
    }

    /// Delivers, and waits until it is processed.
    async fn tell(&self, kind: Kind, name: &str, event: Event) {
        let id = ResourceId::new(kind, name);
        let inbox = self.watches.lock()[&id].clone();
        let (token, mut processed) = tokio::sync::mpsc::channel(1);
        let delivery = Delivery {
            id,
            event,
            processed: Processed::new(token),
        };
        inbox.send(delivery).expect("somebody listens");
        assert!(processed.recv().await.is_none());
    }

    async fn listener(&self, listener: crate::config::ServerListener) {
        let event = Event::Update(resource(listener));
        self.tell(Kind::Listener, NAME, event).await;
    }

    async fn routes(&self, name: &str, routes: Resource) {
        self.tell(Kind::Route, name, Event::Update(routes)).await;
    }
}

fn open() -> (Arc<Script>, Inbound) {
    let script = Arc::new(Script::default());
    let inbound = Inbound::open(spec(), Arc::clone(&script) as _, None);
    (script, inbound)
}

fn served(inbound: &Inbound) -> Result<String, String> {
    match &**inbound.load() {
        InboundState::Serving(snapshot) => ask(snapshot.chain(any_ends()).unwrap(), "a", "/"),
        other => Err(format!("{other:?}")),
    }
}

#[tokio::test]
async fn serves_once_its_routes_are_known() {
    let (script, inbound) = open();
    script.watched(&[NAME]).await;
    assert!(matches!(**inbound.load(), InboundState::Waiting));
    assert!(!inbound.status().ready);
    script.listener(listener(vec![chain(0, named("a"))])).await;
    script.watched(&[NAME, "a"]).await;
    assert!(matches!(**inbound.load(), InboundState::Waiting));
    script.routes("a", routes(serving("a", "first"))).await;
    inbound.ready().await.unwrap();
    assert_eq!(served(&inbound).as_deref(), Ok("first"));
    script.routes("a", routes(serving("a", "second"))).await;
    assert_eq!(served(&inbound).as_deref(), Ok("second"));
    let status = inbound.status();
    assert!(status.ready);
    assert_eq!(&*status.spec.authority, "10.0.0.1:80");
    assert_eq!(status.trouble, None);
}

#[tokio::test]
async fn removed_means_not_serving_and_unreachable_does_not() {
    let (script, inbound) = open();
    script.watched(&[NAME]).await;
    let one = || listener(vec![chain(0, inline(serving("i", "r")))]);
    script.listener(one()).await;
    assert_eq!(served(&inbound).as_deref(), Ok("r"));

    let away = error(SourceErrorKind::Unreachable, "away");
    let event = Event::Ambient(away.clone());
    script.tell(Kind::Listener, NAME, event).await;
    assert_eq!(served(&inbound).as_deref(), Ok("r"));
    assert_eq!(inbound.status().trouble, Some(away));

    let gone = || Event::Gone(missing());
    script.tell(Kind::Listener, NAME, gone()).await;
    assert!(matches!(&**inbound.load(), InboundState::NotServing(error) if *error == missing()));
    assert_eq!(inbound.ready().await, Err(missing()));
    script.listener(one()).await;
    assert_eq!(served(&inbound).as_deref(), Ok("r"));
}

#[tokio::test]
async fn nothing_is_published_twice() {
    let (script, inbound) = open();
    script.watched(&[NAME]).await;
    let one = || listener(vec![chain(0, inline(serving("i", "r")))]);
    for event in [
        Event::Gone(missing()),
        Event::Update(resource(one())),
        Event::Update(resource(listener(vec![]))),
    ] {
        script.tell(Kind::Listener, NAME, event.clone()).await;
        let before = inbound.load().clone();
        script.tell(Kind::Listener, NAME, event).await;
        assert!(Arc::ptr_eq(&before, &inbound.load()));
    }
}

#[tokio::test]
async fn every_change_is_announced() {
    let (script, inbound) = open();
    script.watched(&[NAME]).await;
    for name in ["first", "second"] {
        let changed = inbound.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let next = listener(vec![chain(0, inline(serving("i", name)))]);
        script.listener(next).await;
        changed.await;
        assert_eq!(served(&inbound).as_deref(), Ok(name));
    }
}

#[tokio::test]
async fn routes_that_no_chain_names_are_not_watched() {
    let (script, inbound) = open();
    script.watched(&[NAME]).await;
    script.listener(listener(vec![chain(0, named("a"))])).await;
    script.watched(&[NAME, "a"]).await;
    script.routes("a", routes(serving("a", "first"))).await;
    script.listener(listener(vec![chain(0, named("b"))])).await;
    script.watched(&[NAME, "a", "b"]).await;
    assert_eq!(served(&inbound).as_deref(), Ok("first"));
    script.routes("b", routes(serving("b", "second"))).await;
    script.watched(&[NAME, "b"]).await;
    assert_eq!(served(&inbound).as_deref(), Ok("second"));
}

#[tokio::test]
async fn dropping_it_ends_its_watches() {
    let (script, inbound) = open();
    script.watched(&[NAME]).await;
    script.listener(listener(vec![chain(0, named("a"))])).await;
    script.watched(&[NAME, "a"]).await;
    drop(inbound);
    script.watched(&[]).await;
}

#[tokio::test]
async fn what_is_fixed_follows_nothing() {
    let tls = Arc::new(DownstreamTls {
        identity: crate::config::IdentitySource::Secret("s".into()),
        roots: None,
        require_client_certificate: false,
        sans: vec![],
    });
    for tls in [None, Some(tls)] {
        let inbound = Inbound::fixed(spec(), tls.clone(), None);
        inbound.ready().await.unwrap();
        let state = inbound.load();
        let InboundState::Serving(snapshot) = &**state else {
            panic!("{state:?}");
        };
        let chain = snapshot.chain(any_ends()).unwrap();
        assert_eq!(chain.tls(), tls.as_ref());
        for (authority, path) in [("a", "/"), ("", "/x/y"), ("b:1", "*")] {
            assert_eq!(ask(chain, authority, path).as_deref(), Ok("#0"));
        }
    }
}

#[tokio::test]
async fn requests_are_recorded_as_those_of_the_listener() {
    let metrics = Metrics::new();
    let script = Arc::new(Script::default());
    let recorder = Some(Arc::clone(&metrics) as _);
    let inbound = Inbound::open(spec(), Arc::clone(&script) as _, recorder);
    script.watched(&[NAME]).await;
    let one = listener(vec![chain(0, inline(serving("i", "r")))]);
    script.listener(one).await;
    let state = inbound.load();
    let InboundState::Serving(snapshot) = &**state else {
        panic!("{state:?}");
    };
    let route = find(snapshot.chain(any_ends()).unwrap(), "a", "/").unwrap();
    route.instruments.as_ref().unwrap().started();
    // Those that no route takes are counted apart.
    let series = ["r", ""].map(|route| Series::server(NAME, route, Semantics::Grpc));
    let all = metrics.snapshot();
    assert_eq!(all.len(), series.len());
    let started = series.map(|series| {
        let of_it = all.iter().find(|one| one.series == series);
        of_it.unwrap().counts().started()
    });
    assert_eq!(started, [1, 0]);
}
