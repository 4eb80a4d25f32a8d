//! Random histories against a model that is simple enough to be right.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{any, *};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Watch(Kind, u8),
    /// Ends one of the running watches.
    Unwatch(u8),
    /// Reports the outcome of the attempt under way.
    Connect(bool),
    Close(Option<Code>),
    Respond {
        kind: Kind,
        version: u8,
        resources: Vec<(u8, Content)>,
    },
    Garbage(Vec<u8>),
    /// All watchers are done with the last response.
    Process,
    Wait(u16),
}

#[derive(Debug, Clone, Copy)]
enum Content {
    Good(u8),
    Bad,
    Nameless,
}

/// What a control plane and watchers see of the client, and what must be true of it.
struct World {
    client: Client,
    live: BTreeMap<WatcherId, ResourceId>,
    ended: BTreeSet<WatcherId>,
    connecting: bool,
    open: Option<Stream>,
    /// The last accepted version of each kind.
    versions: BTreeMap<Kind, String>,
    /// The last content that each live watcher was told, if it was not told that it is gone.
    values: BTreeMap<WatcherId, String>,
    nonces: u64,
}

/// What the control plane knows of the open stream.
#[derive(Default)]
struct Stream {
    introduced: bool,
    names: BTreeMap<Kind, Vec<String>>,
    nonces: BTreeMap<Kind, String>,
    /// The response that is to be answered next, and whether by an ACK.
    owed: Option<(Kind, String, String, bool)>,
}

impl World {
    fn new(features: ServerFeatures) -> Self {
        let mut client = Client::with(features);
        client.hold_processed = true;
        Self {
            client,
            live: BTreeMap::new(),
            ended: BTreeSet::new(),
            connecting: false,
            open: None,
            versions: BTreeMap::new(),
            values: BTreeMap::new(),
            nonces: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Watch(kind, name) => {
                let name = name.to_string();
                let watcher = self.client.watch_later(*kind, &name);
                self.live.insert(watcher, ResourceId::new(*kind, name));
            }
            Step::Unwatch(index) => {
                let Some(&watcher) = self.live.keys().nth(usize::from(*index)) else {
                    return;
                };
                self.live.remove(&watcher);
                self.values.remove(&watcher);
                self.ended.insert(watcher);
                let now = self.client.now;
                self.client.ads.handle(Input::Unwatch(watcher), now);
            }
            Step::Connect(works) if self.connecting => {
                self.connecting = false;
                let now = self.client.now;
                if *works {
                    self.open = Some(Stream::default());
                    self.client.ads.handle(Input::Connected, now);
                } else {
                    let input = Input::ConnectFailed("refused".into());
                    self.client.ads.handle(input, now);
                }
            }
            Step::Close(code) if self.open.is_some() && self.client.reads == 1 => {
                self.open = None;
                self.client.closed(code.map(|code| (code, "closed")));
            }
            Step::Respond {
                kind,
                version,
                resources,
            } if self.open.is_some() && self.client.reads == 1 => {
                self.respond(*kind, &format!("v{version}"), resources);
            }
            // Whatever happens to be a message of the protocol is another step's affair.
            Step::Garbage(bytes)
                if self.open.is_some()
                    && self.client.reads == 1
                    && DiscoveryResponse::decode(bytes.as_slice()).is_err() =>
            {
                self.client.receive(bytes.clone().into());
            }
            Step::Process if self.client.unprocessed => self.client.processed(),
            Step::Wait(millis) => {
                let end = self.client.now + Duration::from_millis(u64::from(*millis));
                while let Some(at) = self.client.ads.wake_at().filter(|at| *at <= end) {
                    self.client.now = self.client.now.max(at);
                    self.client.step(Input::Timer);
                    self.check();
                }
                self.client.now = end;
            }
            _ => {}
        }
    }

    fn respond(&mut self, kind: Kind, version: &str, resources: &[(u8, Content)]) {
        self.nonces += 1;
        let nonce = format!("n{}", self.nonces);
        let stream = self.open.as_mut().expect("an open stream");
        let mut names = BTreeSet::new();
        let mut good = true;
        for (name, content) in resources {
            let watched = self.client.ads.cache.get(kind, &name.to_string()).is_some();
            good &= match content {
                Content::Nameless => false,
                _ if !watched => true,
                Content::Good(_) => names.insert(*name),
                Content::Bad => {
                    names.insert(*name);
                    false
                }
            };
        }
        if stream.names.contains_key(&kind) {
            stream.owed = Some((kind, version.to_owned(), nonce.clone(), good));
        }
        let resources = resources.iter().map(|(name, content)| match content {
            Content::Good(content) => any(kind, &name.to_string(), &content.to_string()),
            Content::Bad => any(kind, &name.to_string(), "!bad"),
            Content::Nameless => Any::default(),
        });
        let message = response(kind, version, &nonce, resources.collect());
        self.client.respond_raw(message);
    }

    /// Takes in what the client did, which must be right at all times.
    fn check(&mut self) {
        self.client.act();
        if std::mem::take(&mut self.client.closes) > 0 {
            self.open = None;
            self.connecting = false;
        }
        // Nothing is known any more that the versions could stand for.
        if self.live.is_empty() && self.open.is_none() && !self.connecting {
            self.versions.clear();
        }
        match std::mem::take(&mut self.client.connects) {
            0 => {}
            1 => assert!(
                !std::mem::replace(&mut self.connecting, true) && self.open.is_none(),
                "one attempt at a time"
            ),
            n => panic!("{n} attempts"),
        }
        if self.open.is_some() {
            assert!(self.client.reads <= 1);
            assert!(
                self.client.reads == 0 || !self.client.unprocessed,
                "nothing is read before all is processed"
            );
            assert!(
                self.client.reads == 1 || self.client.unprocessed,
                "something is read unless watchers are waited for"
            );
        }
        let requests = std::mem::take(&mut self.client.requests);
        if let Some(stream) = &self.open {
            match &stream.owed {
                _ if self.client.unprocessed => {
                    assert!(requests.is_empty(), "what is not in force is not answered");
                }
                Some((kind, ..)) => {
                    let last = requests.back().map(|request| request.kind);
                    assert_eq!(
                        last,
                        Some(*kind),
                        "what is processed is answered, last of all"
                    );
                }
                None => {}
            }
        }
        for request in requests {
            self.check_request(request);
        }
        for (watcher, id, seen) in std::mem::take(&mut self.client.events) {
            assert!(!self.ended.contains(&watcher), "no news for an ended watch");
            assert_eq!(self.live.get(&watcher), Some(&id));
            let before = self.values.remove(&watcher);
            match seen {
                Seen::Update(content) => drop(self.values.insert(watcher, content)),
                // It leaves the value in force.
                Seen::Ambient(..) => self.values.extend(before.map(|value| (watcher, value))),
                Seen::Gone(..) => {}
            }
        }
        // Watchers of one resource that has a value all have that value.
        for (watcher, id) in &self.live {
            let entry = self.client.dump(id.kind, &id.name);
            if id.kind == Kind::Secret {
                // The dump does not show what may be a private key.
                let has_value = self.values.contains_key(watcher);
                assert_eq!(has_value, entry.accepted.is_some(), "{id}");
                continue;
            }
            let value = entry.accepted.map(|accepted| {
                let text = String::from_utf8(accepted.raw.value.clone()).expect("text");
                text.split_once('=').expect("a name").1.to_owned()
            });
            assert_eq!(self.values.get(watcher), value.as_ref(), "{id}");
        }
    }

    fn check_request(&mut self, request: Request) {
        let Some(stream) = &mut self.open else {
            return;
        };
        let Request {
            kind,
            version,
            nonce,
            names,
            error,
            node,
        } = request;
        assert_eq!(node, !std::mem::replace(&mut stream.introduced, true));
        assert!(names.is_sorted());
        if !stream.names.contains_key(&kind) {
            assert!(!names.is_empty(), "an initial empty request asks for all");
        }
        if let Some((_, owed_version, owed_nonce, good)) =
            stream.owed.take_if(|owed| owed.0 == kind)
        {
            assert_eq!(
                (nonce.as_str(), error.is_none()),
                (owed_nonce.as_str(), good)
            );
            if good {
                self.versions.insert(kind, owed_version);
            }
            stream.nonces.insert(kind, owed_nonce);
        } else {
            assert!(error.is_none());
            assert_ne!(stream.names.get(&kind), Some(&names), "asks for something");
        }
        let last_nonce = stream.nonces.get(&kind).map_or("", String::as_str);
        let last_version = self.versions.get(&kind).map_or("", String::as_str);
        assert_eq!(nonce, last_nonce);
        assert!(version == last_version || nonce.is_empty() && version.is_empty());
        stream.names.insert(kind, names);
    }

    /// Lets everything come to rest, and compares what is asked for with what is watched.
    fn settle(&mut self) {
        for _ in 0..4 {
            self.step(&Step::Process);
            self.check();
            if self.connecting {
                self.step(&Step::Connect(true));
            } else if self.open.is_none() && !self.live.is_empty() {
                let at = self.client.ads.wake_at().expect("an attempt");
                self.client.now = self.client.now.max(at);
                self.client.step(Input::Timer);
            }
            self.check();
        }
        let mut watched: BTreeMap<Kind, BTreeSet<String>> = BTreeMap::new();
        for id in self.live.values() {
            watched
                .entry(id.kind)
                .or_default()
                .insert(id.name.to_string());
        }
        let asked: BTreeMap<Kind, BTreeSet<String>> = match &self.open {
            Some(stream) => stream
                .names
                .iter()
                .filter(|(_, names)| !names.is_empty())
                .map(|(kind, names)| (*kind, names.iter().cloned().collect()))
                .collect(),
            None => BTreeMap::new(),
        };
        assert_eq!(asked, watched);
        // And nothing is kept for anybody who is gone.
        for watcher in std::mem::take(&mut self.live).into_keys() {
            self.client
                .ads
                .handle(Input::Unwatch(watcher), self.client.now);
        }
        self.check();
        assert_eq!(self.client.ads.cache.sizes(), [0; 4]);
        assert_eq!(self.client.ads.wake_at(), None);
        assert!(self.open.is_none() && !self.connecting);
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    let content = prop_oneof![
        6 => (0..3_u8).prop_map(Content::Good),
        1 => Just(Content::Bad),
        1 => Just(Content::Nameless),
    ];
    let code = prop::option::of(prop::sample::select(vec![
        Code::Unavailable,
        Code::Unauthenticated,
        Code::ResourceExhausted,
    ]));
    prop_oneof![
        4 => (kind(), 0..4_u8).prop_map(|(kind, name)| Step::Watch(kind, name)),
        2 => (0..8_u8).prop_map(Step::Unwatch),
        4 => prop::bool::weighted(0.8).prop_map(Step::Connect),
        1 => code.prop_map(Step::Close),
        8 => (kind(), 0..4_u8, prop::collection::vec((0..4_u8, content), 0..4)).prop_map(
            |(kind, version, resources)| Step::Respond { kind, version, resources }
        ),
        1 => prop::collection::vec(any_byte(), 0..8).prop_map(Step::Garbage),
        6 => Just(Step::Process),
        3 => (0..20_000_u16).prop_map(Step::Wait),
    ]
}

fn any_byte() -> impl Strategy<Value = u8> {
    proptest::num::u8::ANY
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_protocol(
        seed: u64,
        fail_on_data_errors: bool,
        resource_timer_is_transient_error: bool,
        steps in prop::collection::vec((step(), prop::bool::weighted(0.8)), 1..80),
    ) {
        fastrand::seed(seed);
        let mut world = World::new(ServerFeatures {
            fail_on_data_errors,
            resource_timer_is_transient_error,
            ..ServerFeatures::default()
        });
        for (step, act) in &steps {
            // Some inputs come together, before the client is asked what to do.
            let may_wait = matches!(step, Step::Watch(..) | Step::Unwatch(_));
            world.step(step);
            if *act || !may_wait {
                world.check();
            }
        }
        world.check();
        world.settle();
    }
}
