use super::{super::fixtures::*, *};
use crate::config::Listener;

fn id(kind: Kind, name: &str) -> ResourceId {
    ResourceId::new(kind, name)
}

type Outcome = Option<Result<Arc<InboundConfig>, SourceError>>;

struct Fixture(InboundDependencies);

impl Fixture {
    fn new() -> Self {
        let mut deps = InboundDependencies::new(&spec());
        assert!(deps.settle().is_none());
        Self(deps)
    }

    /// Follows a listener with one chain and the routes `a`.
    fn settled() -> Self {
        let mut deps = Self::new();
        deps.listener(listener(vec![chain(0, named("a"))]));
        deps.update(Kind::Route, "a", routes(serving("a", "first")));
        deps
    }

    fn event(&mut self, kind: Kind, name: &str, event: Event) -> Outcome {
        self.0.handle(&id(kind, name), event);
        self.0.settle()
    }

    fn update(&mut self, kind: Kind, name: &str, value: Resource) -> Outcome {
        self.event(kind, name, Event::Update(value))
    }

    fn listener(&mut self, listener: ServerListener) -> Outcome {
        self.update(Kind::Listener, NAME, resource(listener))
    }

    fn config(&mut self) -> Arc<InboundConfig> {
        self.0.settle().expect("known").expect("served")
    }

    fn wanted(&self) -> Vec<&str> {
        self.0.slots.ids().map(|id| &*id.name).collect()
    }
}

fn refused(outcome: Outcome) -> SourceError {
    outcome.expect("known").expect_err("not served")
}

#[test]
fn multiple_route_configurations() {
    let mut deps = Fixture::new();
    assert_eq!(deps.wanted(), [NAME]);
    let inline = inline(serving("inline", "r"));
    let wire = ServerListener {
        default_chain: Some(chain(0, named("c"))),
        ..listener(vec![
            chain(1, named("a")),
            chain(2, named("b")),
            chain(3, inline),
            chain(4, named("a")),
        ])
    };
    assert!(deps.listener(wire).is_none());
    assert_eq!(deps.wanted(), [NAME, "a", "b", "c"]);
    let value = |name| routes(serving(name, "r"));
    assert!(deps.update(Kind::Route, "a", value("a")).is_none());
    // An attempt that failed counts.
    let gone = Event::Gone(missing());
    assert!(deps.event(Kind::Route, "b", gone).is_none());
    let config = deps.update(Kind::Route, "c", value("c")).unwrap().unwrap();
    let names: Vec<_> = config.routes.keys().map(|name| &**name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(config.routes["b"], Err(missing()));
    for chain in &config.listener.chains {
        let found = config.routes_of(chain);
        assert_eq!(found.is_err(), chain.http.routes == named("b"));
    }
    assert_eq!(config.ambient, None);
}

#[test]
fn route_configuration_resource_not_found_or_nacked() {
    for kind in [SourceErrorKind::DoesNotExist, SourceErrorKind::Invalid] {
        let trouble = error(kind, "trouble");
        // Both before it was there and after.
        for mut deps in [Fixture::new(), Fixture::settled()] {
            deps.listener(listener(vec![chain(0, named("a"))]));
            let gone = Event::Gone(trouble.clone());
            let config = deps.event(Kind::Route, "a", gone).unwrap().unwrap();
            assert_eq!(config.routes["a"], Err(trouble.clone()));
        }
        // A refused update leaves the last one in force.
        let mut deps = Fixture::settled();
        let before = deps.config();
        let ambient = Event::Ambient(trouble.clone());
        let config = deps.event(Kind::Route, "a", ambient).unwrap().unwrap();
        assert_eq!(config.routes, before.routes);
        assert_eq!(config.ambient, Some(trouble));
    }
}

#[test]
fn mismatched_address_listener() {
    let at = |address: &str| ServerListener {
        address: address.parse().unwrap(),
        ..listener(vec![chain(0, inline(serving("i", "r")))])
    };
    for address in ["10.0.0.1:80", "10.0.0.1:0", "[::ffff:10.0.0.1]:80"] {
        let outcome = Fixture::new().listener(at(address));
        outcome.unwrap().expect(address);
    }
    for address in [
        "10.0.0.1:81",
        "10.0.0.2:80",
        "0.0.0.0:80",
        "[::]:80",
        "10.0.0.2:0",
    ] {
        // What was served before does not go on.
        for mut deps in [Fixture::new(), Fixture::settled()] {
            let error = refused(deps.listener(at(address)));
            assert_eq!(error.kind, SourceErrorKind::Invalid);
            let text = format!(
                "listener \"inbound\" is for {address}, and the server is bound to 10.0.0.1:80"
            );
            assert!(error.text.starts_with(&text), "{error}");
            assert_eq!(deps.wanted(), [NAME]);
            deps.listener(at("10.0.0.1:80")).unwrap().unwrap();
        }
    }
}

#[test]
fn client_side_listener_received_on_server() {
    let of_clients = Resource::Listener(Arc::new(Listener {
        name: NAME.into(),
        http: chain(0, named("a")).http,
    }));
    for mut deps in [Fixture::new(), Fixture::settled()] {
        let error = refused(deps.update(Kind::Listener, NAME, of_clients.clone()));
        assert_eq!(error.kind, SourceErrorKind::Invalid);
        let text = "listener \"inbound\" is for clients";
        assert!(error.text.starts_with(text), "{error}");
        assert_eq!(deps.wanted(), [NAME]);
    }
}

#[test]
fn redundant_update_suppression() {
    let mut deps = Fixture::settled();
    let before = deps.config();
    let same = deps.listener(listener(vec![chain(0, named("a"))]));
    assert!(Arc::ptr_eq(&same.unwrap().unwrap(), &before));
    let same = deps.update(Kind::Route, "a", routes(serving("a", "first")));
    assert!(Arc::ptr_eq(&same.unwrap().unwrap(), &before));
    let other = deps.update(Kind::Route, "a", routes(serving("a", "second")));
    assert!(!Arc::ptr_eq(&other.unwrap().unwrap(), &before));
}

#[test]
fn listener_resource_removed() {
    let mut deps = Fixture::settled();
    let error = refused(deps.event(Kind::Listener, NAME, Event::Gone(missing())));
    assert_eq!(error, missing());
    assert_eq!(deps.wanted(), [NAME]);
    // Back again, with its routes to be attempted again.
    let back = listener(vec![chain(0, named("a"))]);
    assert!(deps.listener(back).is_none());
    let value = routes(serving("a", "first"));
    deps.update(Kind::Route, "a", value).unwrap().unwrap();
}

#[test]
fn trouble_with_the_control_plane_leaves_the_configuration_in_force() {
    let away = error(SourceErrorKind::Unreachable, "the server is away");
    let mut deps = Fixture::new();
    let unreachable = || Event::Ambient(away.clone());
    assert_eq!(
        refused(deps.event(Kind::Listener, NAME, unreachable())),
        away
    );

    let mut deps = Fixture::settled();
    let before = deps.config();
    let outcome = deps.event(Kind::Listener, NAME, unreachable());
    let config = outcome.unwrap().unwrap();
    assert_eq!(config.ambient, Some(away.clone()));
    assert_eq!(config.listener, before.listener);
    assert_eq!(config.routes, before.routes);
    let over = deps.listener(listener(vec![chain(0, named("a"))]));
    assert_eq!(over.unwrap().unwrap().ambient, None);
}

#[test]
fn a_listener_waits_for_its_routes() {
    let mut deps = Fixture::settled();
    let before = deps.config();
    let next = listener(vec![chain(0, named("b"))]);
    let config = deps.listener(next.clone()).unwrap().unwrap();
    assert!(Arc::ptr_eq(&config, &before));
    assert_eq!(deps.wanted(), [NAME, "a", "b"]);
    // Until then, the old routes stay current.
    let newer = routes(serving("a", "newer"));
    let config = deps.update(Kind::Route, "a", newer).unwrap().unwrap();
    assert_eq!(config.listener, before.listener);
    assert_eq!(*config.routes["a"].clone().unwrap(), serving("a", "newer"));
    // A listener that goes meanwhile takes the old one with it.
    let config = deps.update(Kind::Route, "b", routes(serving("b", "r")));
    assert_eq!(*config.unwrap().unwrap().listener, next);
    assert_eq!(deps.wanted(), [NAME, "b"]);
}
